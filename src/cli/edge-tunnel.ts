import { randomBytes } from "node:crypto";
import { statSync } from "node:fs";
import { join } from "node:path";
import type { Flag } from "../config/flags.ts";
import { Values } from "../config/values.ts";
import { systemClock } from "../core/clock.ts";
import { describe, systemCode, TunnelError } from "../core/errors.ts";
import { formatPublicKey } from "../core/es256.ts";
import { printable } from "../core/printable.ts";
import { createEdgeControl } from "../edge/control/client.ts";
import type { EdgeControl, LocationCount } from "../edge/control/port.ts";
import { managementKey } from "../edge/management-token.ts";
import { nameProblem, TunnelName } from "../edge/names.ts";
import { type EdgeState, loadAdvertised, openStateDir } from "../edge/state-dir.ts";
import { newTunnel, routesTo } from "../edge/store/new-tunnel.ts";
import { type HostnameRoute, type Store, type StoredTunnel, sameTarget } from "../edge/store/port.ts";
import { openSqliteStore } from "../edge/store/sqlite/index.ts";
import { createTunnelToken } from "../edge/tunnel-token.ts";
import { formatCreated, formatLocations, renderTunnelInfo } from "./active-connectors.ts";
import { type Context, EXIT } from "./command.ts";
import { ADVERTISE_FLAG, STATE_DIR_FLAG } from "./edge-flags.ts";
import { readHostname } from "./edge-pick.ts";
import { stateDirOf } from "./edge-state.ts";
import { reportError, reportFailure } from "./failure.ts";
import { UsageError } from "./management.ts";
import { operator } from "./operator.ts";

const SECRET_BYTES = 32;

export const EDGE_TUNNEL_FLAGS = [
  STATE_DIR_FLAG,
  ADVERTISE_FLAG,
  { name: "json", type: "bool", help: "Print JSON" },
  { name: "all", aliases: ["a"], type: "bool", help: "Quick tunnels, too" },
] as const satisfies readonly Flag[];

/** `culvert edge tunnel add NAME HOSTNAME…`: prints the tunnel's token and nothing else on standard output. */
export async function add(context: Context): Promise<number> {
  const [name, ...hostnames] = context.positionals;
  const normalised = hostnames.flatMap((hostname) => readHostname(hostname) ?? []);
  const bad = hostnames.find((hostname) => readHostname(hostname) === undefined);
  if (name === undefined || hostnames.length === 0) {
    return usage(context, "add", "Give the tunnel's name and at least one hostname");
  }
  const wrong = nameProblem(TunnelName, "tunnel", name);
  if (bad !== undefined) return usage(context, "add", `"${bad}" is not a hostname (no scheme, port or path)`);
  const absent: Absent = wrong === undefined ? { kind: "made" } : { kind: "refused", why: wrong };
  return await withStore(context, "add", absent, (store, values, state) => {
    const nowMs = systemClock.wallMs();
    const { tag } = store.accounts.own();
    const known = store.tunnels.byName(tag, name);
    // Tunnels that are there may have names from before there was a rule.
    if (known === undefined && wrong !== undefined) throw new UsageError(wrong);
    const tunnel = known ?? newTunnel(name, tag, nowMs);
    const routes = routesTo(store, tunnel, normalised, nowMs);
    if (known === undefined) {
      store.tunnels.add(tunnel, randomBytes(SECRET_BYTES), operator(), routes);
      context.note(`Added tunnel ${name} with id ${tunnel.id}`);
    } else addHostnames(store, routes);
    const asked = values.list("advertise");
    const addresses = asked.length > 0 ? asked : loadAdvertised(state);
    if (addresses.length === 0) {
      context.note(
        "The edge has not run yet, so the token does not say where it is: give --advertise HOST:PORT, or --edge to connectors",
      );
    }
    const key = formatPublicKey(managementKey(state.sealingKey));
    const token = createTunnelToken(store, tunnel, { addresses, ca: state.authority.cert, managementKey: key });
    if (token === undefined) throw new TunnelError("store.failed", `Tunnel "${printable(name)}" is gone`);
    context.print(token);
  });
}

/** All or none, as far as nobody else routes at the same moment. */
function addHostnames(store: Store, routes: readonly HostnameRoute[]): void {
  const outcomes = routes.map((route) => ({ route, known: store.hostnames.get(route.hostname)?.target }));
  for (const { route, known } of outcomes) {
    if (known !== undefined && !sameTarget(known, route.target)) {
      throw new TunnelError("store.conflict", `Cannot route "${route.hostname}": another ${known.kind} has it`);
    }
  }
  for (const route of routes) store.hostnames.put(route, false, operator());
}

/** The living tunnels, by name. `all`: not only those of the edge's own account, but quick tunnels as well. */
function livingTunnels(store: Store, all: boolean): readonly StoredTunnel[] {
  const { items } = store.tunnels.find({
    ...(all ? {} : { accountTag: store.accounts.own().tag }),
    deleted: false,
  });
  return items.toSorted((a, b) => (a.name < b.name ? -1 : 1));
}

/**
 * `culvert edge tunnel list`: tunnels, their hostnames and, while the edge runs, where they are connected. With `--all` quick
 * tunnels as well, and when each is over.
 */
export async function list(context: Context): Promise<number> {
  return await withStore(context, "list", NEEDED, async (store, values, { dir }) => {
    const hostnamesOf = ({ id }: StoredTunnel): string[] =>
      store.hostnames.find({ tunnelId: id }).items.map(({ hostname }) => hostname);
    const all = values.bool("all");
    const tunnels = livingTunnels(store, all);
    if (values.bool("json")) {
      const shown = tunnels.map((tunnel) => {
        const { id, name, accountTag, createdAtMs, expiresAtMs } = tunnel;
        return {
          ...{ id, name, accountTag, hostnames: hostnamesOf(tunnel) },
          createdAt: new Date(createdAtMs).toISOString(),
          ...(expiresAtMs === undefined ? {} : { expiresAt: new Date(expiresAtMs).toISOString() }),
        };
      });
      context.print(JSON.stringify(shown));
      return;
    }
    if (tunnels.length === 0) {
      context.note("There are no tunnels yet: add one with culvert edge tunnel add NAME HOSTNAME");
      return;
    }
    const served = await whereServed(context, createEdgeControl(dir, { clock: systemClock }));
    const rows = tunnels.map((tunnel) => {
      const { id, name, createdAtMs, expiresAtMs } = tunnel;
      const where = formatLocations(served.get(id) ?? []);
      const ends = all ? [expiresAtMs === undefined ? "" : formatCreated(expiresAtMs)] : [];
      return [id, printable(name), formatCreated(createdAtMs), ...ends, where, hostnamesOf(tunnel).join(", ")];
    });
    const table = [["ID", "NAME", "CREATED", ...(all ? ["ENDS"] : []), "CONNECTIONS", "HOSTNAMES"], ...rows];
    const widths = (table[0] ?? [])
      .slice(0, -1)
      .map((_, column) => Math.max(...table.map((row) => row[column]?.length ?? 0)));
    for (const row of table) context.print(row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join("  "));
  });
}

/** `culvert edge tunnel info NAME`: the connectors of a tunnel that are connected now. NAME may be an id. */
export async function info(context: Context): Promise<number> {
  const [asked, ...more] = context.positionals;
  if (asked === undefined || more.length > 0) return usage(context, "info", "Give one tunnel, by name or id");
  return await withStore(context, "info", NEEDED, async (store, values, { dir }) => {
    const tunnels = [...livingTunnels(store, false), ...livingTunnels(store, true)];
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

/** What becomes of a state directory that is not there yet. */
type Absent =
  | { readonly kind: "made" }
  | { readonly kind: "needed" }
  | { readonly kind: "refused"; readonly why: string };

const NEEDED: Absent = { kind: "needed" };

async function withStore(
  context: Context,
  command: string,
  absent: Absent,
  work: (store: Store, values: Values, state: EdgeState) => void | Promise<void>,
): Promise<number> {
  const values = new Values(EDGE_TUNNEL_FLAGS, { args: context.args, env: context.host.env });
  const dir = stateDirOf(values, context.host);
  try {
    if (absent.kind !== "made" && isMissing(join(dir, "culvert.db"))) {
      if (absent.kind === "refused") throw new UsageError(absent.why);
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
    return error instanceof UsageError ? usage(context, command, error.message) : reportError(context, error);
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
