import { BUILD_DATE, VERSION } from "../core/version.ts";
import { type Context, EXIT } from "./command.ts";

/** The line `--version` prints. */
export function versionLine(): string {
  return `culvert version ${VERSION} (built ${BUILD_DATE})`;
}

/** `culvert version`. */
export async function run(context: Context): Promise<number> {
  const { args, print } = context;
  if (args.has("licenses")) {
    const { default: text } = await import("./licenses.txt", { with: { type: "text" } });
    print(text.trimEnd());
  } else print(args.has("short") ? VERSION : versionLine());
  return EXIT.ok;
}
