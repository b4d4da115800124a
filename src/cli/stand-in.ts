import { parseTunnelId } from "../core/ids.ts";
import { formatToken } from "../wire/token.ts";
import type { Context } from "./command.ts";
import { IDENTITY_FLAGS } from "./tunnel-name.ts";

/**
 * The same arguments, with a token that can be read instead of whatever says who the tunnel is: what is wrong with them
 * then is wrong for any tunnel.
 */
export function withStandIn(args: Context["args"]): Context["args"] {
  const tunnelId = parseTunnelId("00000000-0000-4000-8000-000000000000");
  if (tunnelId === undefined) throw new Error("The stand-in has no valid id");
  const token = formatToken({
    accountTag: "none",
    tunnelSecret: new Uint8Array(32),
    tunnelId,
    endpoint: "",
    edges: [],
    ca: undefined,
  });
  const kept = [...args].filter(([name]) => !(IDENTITY_FLAGS as readonly string[]).includes(name));
  return new Map([...kept, ["token", [token]]]);
}
