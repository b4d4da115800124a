import type { Flag } from "../config/flags.ts";
import { INIT_KINDS } from "../service/init.ts";
import { EDGE_RUN_FLAGS } from "./edge-flags.ts";

const NAME_FLAG = {
  name: "name",
  aliases: ["n"],
  type: "string",
  value: "NAME",
  help: "Instance, for a second tunnel on this machine; default: the first one",
} as const satisfies Flag;

const EDGE_FLAG = {
  name: "edge",
  type: "bool",
  help: "The service of an edge instead of a tunnel's",
} as const satisfies Flag;

const INIT_FLAG = {
  name: "init",
  type: "string",
  value: "KIND",
  help: `Init system: ${INIT_KINDS.join(", ")}; default: the one that runs`,
} as const satisfies Flag;

const DRY_RUN_FLAG = {
  name: "dry-run",
  type: "bool",
  help: "Say what would be done, and do nothing",
} as const satisfies Flag;

const COMMON = [NAME_FLAG, EDGE_FLAG, INIT_FLAG] as const;

/** Settings of an edge that its service can be installed with. */
export const SERVICE_EDGE_FLAGS: readonly Flag[] = EDGE_RUN_FLAGS.map(({ ...flag }) => ({ ...flag, hidden: true }));

export const SERVICE_INSTALL_FLAGS: readonly Flag[] = [
  ...COMMON,
  {
    name: "config",
    type: "string",
    value: "FILE",
    help: "Configuration to copy to where the service reads it; may name the tunnel's credentials file instead of a token",
  },
  {
    name: "token-file",
    type: "string",
    value: "FILE",
    help: "File that holds the token, - = standard input: keeps it off the command line",
  },
  {
    name: "user",
    type: "string",
    value: "NAME",
    help: "Run as this account; default: as it is installed, else one of its own; --user '' = one of its own again",
  },
  { name: "replace", type: "bool", help: "Take the place of another tunnel or configuration installed before" },
  {
    name: "migrate",
    type: "bool",
    help: "Take over cloudflared's token or credentials and configuration, and stop its service once ours is connected",
  },
  {
    name: "wait",
    type: "duration",
    default: "30s",
    value: "TIME",
    help: "How long to wait until it is connected; 0s = not at all",
  },
  DRY_RUN_FLAG,
  ...SERVICE_EDGE_FLAGS,
];

export const SERVICE_UNINSTALL_FLAGS: readonly Flag[] = [
  ...COMMON,
  { name: "purge", type: "bool", help: "Remove configuration, token and state too" },
  DRY_RUN_FLAG,
];

export const SERVICE_STATUS_FLAGS: readonly Flag[] = [...COMMON, { name: "json", type: "bool", help: "Print JSON" }];

export const SERVICE_RESTART_FLAGS: readonly Flag[] = COMMON;

export const SERVICE_RUN_FLAGS: readonly Flag[] = [NAME_FLAG, EDGE_FLAG];

export const SERVICE_LOGS_FLAGS: readonly Flag[] = [
  ...COMMON,
  { name: "follow", aliases: ["f"], type: "bool", help: "Go on with what comes" },
  { name: "lines", type: "int", default: "100", value: "N", help: "How many lines to begin with" },
];
