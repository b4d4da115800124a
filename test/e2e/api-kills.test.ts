import { expect, test } from "bun:test";
import { parseTunnelId, type TunnelId } from "../../src/core/ids.ts";
import { openStateDir } from "../../src/edge/state-dir.ts";
import type { Store } from "../../src/edge/store/port.ts";
import { openSqliteStore } from "../../src/edge/store/sqlite/index.ts";
import { type ManagedEdge, startManagedEdge } from "../support/managed-edge.ts";
import { pollUntil } from "../support/poll-until.ts";
import { seededRandom } from "../support/seeded-random.ts";

const KILLS = Number(process.env["CULVERT_EDGE_KILLS"] ?? 5);
/** Callers that write at once. */
const WRITERS = 8;
/** The edge is killed within this time after its first acknowledged write, in ms. */
const MAX_LIFE_MS = 150;

/** What the API has acknowledged of one tunnel. */
interface Acknowledged {
  readonly hostnames: string[];
  version: number;
  /** `asked`: it may be gone, or not. */
  removal: "no" | "asked" | "done";
}

test(
  `${KILLS} times kill -9 while the API writes lose nothing that was acknowledged`,
  async () => {
    await using edge = await startManagedEdge();
    const known = new Map<TunnelId, Acknowledged>();
    const random = seededRandom(20_261_121);
    for (let round = 0; round < KILLS; round += 1) {
      const before = known.size;
      const over = new AbortController();
      const writers = Array.from({ length: WRITERS }, (_, i) => write(edge, `${round}-${i}`, known, over.signal));
      await pollUntil(() => known.size > before, { what: "a write is acknowledged", everyMs: 1 });
      const dueMs = performance.now() + random() * MAX_LIFE_MS;
      await pollUntil(() => performance.now() >= dueMs, { what: "its time is up", everyMs: 1 });
      await edge.stop("SIGKILL");
      over.abort();
      await Promise.all(writers);
      const state = openStateDir(edge.stateDir, Date.now());
      const store = openSqliteStore(state.databasePath, state.sealingKey);
      try {
        expect([round, store.check()]).toEqual([round, []]);
        expect([round, lost(store, known)]).toEqual([round, []]);
      } finally {
        store.close();
      }
      await edge.start();
    }
    expect(known.size).toBeGreaterThan(KILLS * 2);
    console.log(`${KILLS} kills: ${known.size} tunnels acknowledged, none lost`);
  },
  60_000 + KILLS * 4_000,
);

/** Makes, routes, configures and deletes tunnels until the edge is gone. */
async function write(
  edge: ManagedEdge,
  name: string,
  known: Map<TunnelId, Acknowledged>,
  signal: AbortSignal,
): Promise<void> {
  const { accountId, zoneId, apiToken } = edge.cert;
  const call = async (method: string, path: string, body?: unknown): Promise<Record<string, unknown>> => {
    const answer = await fetch(edge.apiUrl + path, {
      ...{ method, signal },
      headers: { authorization: `Bearer ${apiToken}`, "content-type": "application/json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const envelope = (await answer.json()) as { readonly success: boolean; readonly result: Record<string, unknown> };
    if (!envelope.success) throw new Error(`${method} ${path}: ${JSON.stringify(envelope)}`);
    return envelope.result;
  };
  try {
    for (let i = 0; ; i += 1) {
      const made = await call("POST", `/accounts/${accountId}/cfd_tunnel`, { name: `t-${name}-${i}` });
      const id = parseTunnelId(String(made["id"]));
      if (id === undefined) throw new Error("The API gave no id");
      const own: Acknowledged = { hostnames: [], version: 0, removal: "no" };
      known.set(id, own);
      const hostname = `t-${name}-${i}.lab.example`;
      await call("PUT", `/zones/${zoneId}/tunnels/${id}/routes`, { type: "dns", user_hostname: hostname });
      own.hostnames.push(hostname);
      const config = { ingress: [{ service: `http_status:${200 + (i % 100)}` }] };
      const put = await call("PUT", `/accounts/${accountId}/cfd_tunnel/${id}/configurations`, { config });
      own.version = Number(put["version"]);
      if (i % 3 !== 2) continue;
      own.removal = "asked";
      await call("DELETE", `/accounts/${accountId}/cfd_tunnel/${id}`);
      own.removal = "done";
    }
  } catch (error) {
    // The edge is gone in the middle of a call; anything that it said itself is a fault.
    if (error instanceof Error && error.message.includes("/accounts/")) throw error;
  }
}

function lost(store: Store, known: ReadonlyMap<TunnelId, Acknowledged>): string[] {
  return [...known].flatMap(([id, { hostnames, version, removal }]) => {
    const kept = store.tunnels.get(id);
    if (kept === undefined) return [`tunnel ${id}`];
    const gone = kept.deletedAtMs !== undefined;
    if (gone ? removal === "no" : removal === "done") return [`the removal of ${id}: ${removal}, gone: ${gone}`];
    const problems: string[] = [];
    if ((store.configurations.current(id)?.version ?? 0) < version) problems.push(`version ${version} of ${id}`);
    for (const hostname of hostnames) {
      const target = store.hostnames.lookUp(hostname);
      if ((target?.kind === "tunnel" && target.tunnelId === id) === gone) problems.push(`${hostname} of ${id}`);
    }
    if (store.audit.find({ subject: id }, { offset: 0, limit: 1 }).total === 0) problems.push(`the audit of ${id}`);
    return problems;
  });
}
