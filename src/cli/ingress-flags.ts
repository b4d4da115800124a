import type { Flag } from "../config/flags.ts";

/** Flags of `tunnel ingress validate` (surface: section 4). */
export const VALIDATE_FLAGS = [
  {
    name: "json",
    aliases: ["j"],
    env: ["TUNNEL_INGRESS_VALIDATE_JSON"],
    type: "string",
    value: "DATA",
    help: "Check this JSON, as an edge would push it, instead of the config file",
  },
] as const satisfies readonly Flag[];

/** Flags of `tunnel ingress explain`. */
export const EXPLAIN_FLAGS = [{ name: "json", type: "bool", help: "Print JSON" }] as const satisfies readonly Flag[];
