import type { Host } from "../../../src/config/host.ts";

/** A host whose disk is a map; a text of `!CODE` stands for a file whose reading fails with that system error. */
export function memoryHost(
  files: Readonly<Record<string, string>> = {},
  env: Readonly<Record<string, string>> = {},
  platform = "linux",
): Host {
  return {
    env,
    platform,
    homeDir: "/home/me",
    exists: (path) => files[path] !== undefined,
    readFile: (path) => {
      const text = files[path];
      const code = text === undefined ? "ENOENT" : text.startsWith("!") ? text.slice(1) : undefined;
      if (code !== undefined) throw Object.assign(new Error(`${code}: made up`), { code });
      return text as string;
    },
  };
}
