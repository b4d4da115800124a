import { loadConfigFile } from "../config/file.ts";
import { ALL_RUN_FLAGS } from "../config/tunnel-flags.ts";
import { Values } from "../config/values.ts";
import { parseTunnelId } from "../core/ids.ts";
import type { Context } from "./command.ts";

/** Flags that say by themselves who the tunnel is. */
export const IDENTITY_FLAGS = ["token", "token-file", "credentials-file", "credentials-contents"] as const;

/**
 * The name by which a run names its tunnel, where it takes the tunnel's id to find the credentials, which are filed under
 * that. Only the API knows it; whoever gives credentials needs neither, and then this is undefined.
 */
export function nameWithoutId({ host, args, positionals }: Context): string | undefined {
  const loaded = loadConfigFile(host, args.get("config")?.at(-1));
  const file = loaded.kind === "loaded" ? loaded.file : undefined;
  const values = new Values(ALL_RUN_FLAGS, { args, env: host.env, file });
  const inFile = file?.top["tunnel"];
  const name = positionals[0] ?? (typeof inFile === "string" ? inFile : undefined);
  const isName = name !== undefined && parseTunnelId(name) === undefined;
  return isName && IDENTITY_FLAGS.every((flag) => values.string(flag) === undefined) ? name : undefined;
}
