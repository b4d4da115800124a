import { BUILD_DATE, VERSION } from "../core/version.ts";
import { type Context, EXIT } from "./command.ts";

/** The line `--version` prints. */
export function versionLine(): string {
  return `culvert version ${VERSION} (built ${BUILD_DATE})`;
}

/** `culvert version`. */
export function run(context: Context): Promise<number> {
  context.print(context.args.has("short") ? VERSION : versionLine());
  return Promise.resolve(EXIT.ok);
}
