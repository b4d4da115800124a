import { randomBytes } from "node:crypto";
import { statSync } from "node:fs";
import { join } from "node:path";
import type { Flag } from "../config/flags.ts";
import { Values } from "../config/values.ts";
import { systemClock } from "../core/clock.ts";
import { describe, systemCode, TunnelError } from "../core/errors.ts";
import { newTunnelId } from "../core/ids.ts";
import { createEdgeControl } from "../edge/control/client.ts";
import type { EdgeControl, LocationCount } from "../edge/control/port.ts";
import { type EdgeState, loadAdvertised, openStateDir } from "../edge/state-dir.ts";
import type { Store } from "../edge/store/port.ts";
import { openSqliteStore } from "../edge/store/sqlite.ts";
import { createTunnelToken } from "../edge/tunnel-token.ts";
import { formatCreated, formatLocations, renderTunnelInfo } from "./active-connectors.ts";
import { type Context, EXIT } from "./command.ts";
import { ADVERTISE_FLAG, STATE_DIR_FLAG } from "./edge-flags.ts";
import { reportError, reportFailure } from "./failure.ts";

const SECRET_BYTES = 32;

export const EDGE_TUNNEL_FLAGS = [
  STATE_DIR_FLAG,
  ADVERTISE_FLAG,
  { name: "json", type: "bool", help: "Print JSON" },
] as const satisfies readonly Flag[];

/** A hostname, or `*.` and one. */
const HOSTNAME = /^(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/;

/** `culvert edge tunnel add NAME HOSTNAME…`: prints the tunnel's token and nothing else on standard output. */
export async function add(context: Context): Promise<number> {
  const [name, ...hostnames] = context.positionals;
  const normalised = hostnames.map((hostname) => hostname.toLowerCase().replace(/\.$/, ""));
  const bad = normalised.find((hostname) => hostname.length > 253 || !HOSTNAME.test(hostname));
  if (name === undefined || hostnames.length === 0) {
    return usage(context, "add", "Give the tunnel's name and at least one hostname");
  }
  if (bad !== undefined) return usage(context, "add", `"${bad}" is not a hostname (no scheme, port or path)`);
  return await withStore(context, "add", (store, values, state) => {
    let tunnel = store.tunnelByName(name);
    if (tunnel === undefined) {
      tunnel = {
        id: newTunnelId(),
        name,
        accountTag: randomBytes(16).toString("hex"),
        createdAtMs: systemClock.wallMs(),
      };
      store.addTunnel(tunnel, randomBytes(SECRET_BYTES), normalised);
      context.note(`Added tunnel ${name} with id ${tunnel.id}`);
    } else store.addHostnames(tunnel.id, normalised);
    const asked = values.list("advertise");
    const addresses = asked.length > 0 ? asked : loadAdvertised(state);
    if (addresses.length === 0) {
      context.note(
        "The edge has not run yet, so the token does not say where it is: give --advertise HOST:PORT, or --edge to connectors",
      );
    }
    const token = createTunnelToken(store, tunnel, { addresses, ca: state.authority.cert });
    if (token === undefined) throw new TunnelError("store.failed", `Tunnel "${name}" is gone`);
    context.print(token);
  });
}

/** `culvert edge tunnel list`: tunnels, their hostnames and, while the edge runs, where they are connected. */
export async function list(context: Context): Promise<number> {
  return await withStore(context, "list", async (store, values, { dir }) => {
    const tunnels = store.tunnels();
    if (values.bool("json")) {
      context.print(
        JSON.stringify(
          tunnels.map(({ createdAtMs, ...rest }) => ({ ...rest, createdAt: new Date(createdAtMs).toISOString() })),
        ),
      );
      return;
    }
    if (tunnels.length === 0) {
      context.note("There are no tunnels yet: add one with culvert edge tunnel add NAME HOSTNAME");
      return;
    }
    const served = await whereServed(context, createEdgeControl(dir, { clock: systemClock }));
    const rows = tunnels.map(({ id, name, createdAtMs, hostnames }) => [
      ...[id, name, formatCreated(createdAtMs), formatLocations(served.get(id) ?? []), hostnames.join(", ")],
    ]);
    const table = [["ID", "NAME", "CREATED", "CONNECTIONS", "HOSTNAMES"], ...rows];
    const widths = [0, 1, 2, 3].map((column) => Math.max(...table.map((row) => row[column]?.length ?? 0)));
    for (const row of table) context.print(row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join("  "));
  });
}

/** `culvert edge tunnel info NAME`: the connectors of a tunnel that are connected now. NAME may be an id. */
export async function info(context: Context): Promise<number> {
  const [asked, ...more] = context.positionals;
  if (asked === undefined || more.length > 0) return usage(context, "info", "Give one tunnel, by name or id");
  return await withStore(context, "info", async (store, values, { dir }) => {
    const tunnels = store.tunnels();
    const tunnel = tunnels.find(({ id }) => id === asked.toLowerCase()) ?? tunnels.find(({ name }) => name === asked);
    if (tunnel === undefined) {
      throw new TunnelError(
        "store.failed",
        `There is no tunnel "${asked}": see those there are with culvert edge tunnel list --state-dir ${dir}`,
      );
    }
    const connectors = await createEdgeControl(dir, { clock: systemClock }).connectors(tunnel.id);
    if (connectors === undefined) {
      throw new TunnelError(
        "dial.failed",
        `The edge is not running, and only it knows who is connected: start it with culvert edge run --state-dir ${dir}`,
      );
    }
    const { id, name, createdAtMs } = tunnel;
    if (values.bool("json")) {
      context.print(JSON.stringify({ id, name, createdAt: new Date(createdAtMs).toISOString(), conns: connectors }));
    } else for (const line of renderTunnelInfo(tunnel, connectors)) context.print(line);
  });
}

/** A list of tunnels is worth having without it. */
async function whereServed(
  context: Context,
  control: EdgeControl,
): Promise<ReadonlyMap<string, readonly LocationCount[]>> {
  try {
    return (await control.served()) ?? new Map();
  } catch (error) {
    context.note(`culvert: ${describe(error)}`);
    return new Map();
  }
}

async function withStore(
  context: Context,
  command: string,
  work: (store: Store, values: Values, state: EdgeState) => void | Promise<void>,
): Promise<number> {
  const values = new Values(EDGE_TUNNEL_FLAGS, { args: context.args, env: context.host.env });
  const dir = values.string("state-dir");
  if (dir === undefined)
    return usage(context, command, "Nothing says where the edge keeps its state: give --state-dir DIR");
  try {
    if (command !== "add" && isMissing(join(dir, "culvert.db"))) {
      throw new TunnelError(
        "store.failed",
        `There is no edge in "${dir}": start one with culvert edge run --state-dir ${dir}`,
      );
    }
    const state = openStateDir(dir, systemClock.wallMs());
    const store = openSqliteStore(state.databasePath, state.sealingKey);
    try {
      await work(store, values, state);
    } finally {
      store.close();
    }
    return EXIT.ok;
  } catch (error) {
    return reportError(context, error);
  }
}

function usage(context: Context, command: string, message: string): number {
  return reportFailure(context, [message], { usage: true, command: `culvert edge tunnel ${command}` });
}

/** A file that is there and out of reach is not missing: opening it says why. */
function isMissing(path: string): boolean {
  try {
    statSync(path);
    return false;
  } catch (error) {
    return systemCode(error) === "ENOENT";
  }
}
