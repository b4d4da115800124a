import type { Flag } from "../config/flags.ts";
import { Values } from "../config/values.ts";
import { BUILD_DATE, VERSION } from "../core/version.ts";
import { type Context, EXIT } from "./command.ts";

export const VERSION_FLAGS: readonly Flag[] = [
  { name: "short", aliases: ["s"], type: "bool", help: "Only the number" },
  { name: "licenses", type: "bool", help: "Print the licences of what is in this program" },
];

/** The line `--version` prints. */
export function versionLine(): string {
  return `culvert version ${VERSION} (built ${BUILD_DATE})`;
}

/** `culvert version`. */
export async function run(context: Context): Promise<number> {
  const { args, print } = context;
  const values = new Values(VERSION_FLAGS, { args, env: {} });
  if (values.bool("licenses")) {
    const { default: text } = await import("./licenses.txt", { with: { type: "text" } });
    print(text.trimEnd());
  } else print(values.bool("short") ? VERSION : versionLine());
  return EXIT.ok;
}
