/**
 * Writes into a store until it is killed, and prints one line of JSON for each write that returned. Run as a process:
 * `store-writer.ts DATABASE KEY_HEX ROUND`.
 */
import { writeSync } from "node:fs";
import { openSqliteStore } from "../../src/edge/store/sqlite/index.ts";
import { ACTOR, storeHostnames, storeTunnel } from "./stored.ts";

/** What is there for sure once it is printed. */
export type Acknowledged =
  | { readonly kind: "tunnel"; readonly id: string; readonly hostnames: readonly string[] }
  | { readonly kind: "hostname"; readonly hostname: string; readonly id: string }
  | { readonly kind: "configuration"; readonly id: string; readonly version: number }
  | { readonly kind: "removed"; readonly id: string };

function acknowledge(line: Acknowledged): void {
  writeSync(1, `${JSON.stringify(line)}\n`);
}

if (import.meta.main) {
  const [path = "", key = "", round = ""] = process.argv.slice(2);
  const store = openSqliteStore(path, Buffer.from(key, "hex"));
  for (let i = 0; ; i += 1) {
    const name = `t-${round}-${i}`;
    const hostnames = [`${name}.example.com`, `*.${name}.example.com`];
    const tunnel = storeTunnel(store, name, { hostnames });
    acknowledge({ kind: "tunnel", id: tunnel.id, hostnames });
    const more = `more.${name}.example.com`;
    storeHostnames(store, tunnel, [more]);
    acknowledge({ kind: "hostname", hostname: more, id: tunnel.id });
    const { version } = store.configurations.put(tunnel.id, JSON.stringify({ i }), ACTOR);
    acknowledge({ kind: "configuration", id: tunnel.id, version });
    if (i % 3 === 2) {
      store.tunnels.remove(tunnel.id, ACTOR);
      acknowledge({ kind: "removed", id: tunnel.id });
    }
  }
}
