import manifest from "../../package.json" with { type: "json" };

/** Version of this program, from package.json. */
export const VERSION: string = manifest.version;

declare const CULVERT_BUILD_DATE: string | undefined;

/** Time of the commit this binary was built from; `DEV` when run from source. */
export const BUILD_DATE: string = typeof CULVERT_BUILD_DATE === "string" ? CULVERT_BUILD_DATE : "DEV";

declare const CULVERT_TARGET: string | undefined;

/** What this binary was built for, such as `linux-x64-musl`; undefined when run from source. */
export const BUILD_TARGET: string | undefined = typeof CULVERT_TARGET === "string" ? CULVERT_TARGET : undefined;
