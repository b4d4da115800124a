import type { Flag } from "../config/flags.ts";

/** Flags of `culvert bundle`. */
export const BUNDLE_FLAGS = [
  {
    name: "from",
    env: ["CULVERT_UPDATE_FROM"],
    type: "string",
    value: "PLACE",
    help: "Folder of releases to take binaries from: an http(s) address or a path; default: this program alone, unsigned",
  },
  { name: "version", type: "string", value: "V", help: "Take this version instead of the newest" },
  {
    name: "target",
    type: "list",
    value: "TARGET",
    help: "Only the binary for this machine type, such as linux-arm64; may be repeated; default: all",
  },
  {
    name: "output",
    aliases: ["o"],
    type: "string",
    value: "FILE",
    help: "Default: culvert-VERSION-bundle.tar.gz here",
  },
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
] as const satisfies readonly Flag[];
