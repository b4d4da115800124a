import type { Flag } from "../config/flags.ts";

/** Flags of `culvert update`. */
export const UPDATE_FLAGS = [
  {
    name: "from",
    env: ["CULVERT_UPDATE_FROM"],
    type: "string",
    value: "PLACE",
    help: "Where releases are: an http(s) address, a folder, or one binary with its .minisig beside it",
  },
  { name: "check", type: "bool", help: "Only say whether there is another version" },
  {
    name: "version",
    type: "string",
    value: "V",
    help: "Take this version instead of the newest, also one that was taken back here",
  },
  {
    name: "services",
    type: "bool",
    help: "Have the services of this program take the new version (systemd); one that does not serve is taken back",
  },
  { name: "rollback", type: "bool", help: "Go back to the version before the last update" },
  {
    name: "update-key",
    env: ["CULVERT_UPDATE_KEY"],
    type: "list",
    value: "KEY",
    help: "Trust this minisign public key too: a .pub file or its second line; may be repeated",
  },
  {
    name: "cacert",
    env: ["CULVERT_CACERT"],
    type: "string",
    value: "FILE",
    help: "Authorities (PEM) to check the server's certificate with, such as ca.pem of an edge with --tls-internal",
  },
  { name: "allow-downgrade", type: "bool", help: "Take an older version than the one that runs" },
] as const satisfies readonly Flag[];
