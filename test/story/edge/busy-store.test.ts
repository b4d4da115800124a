import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { newApiToken } from "../../../src/edge/api-token.ts";
import { openStateDir } from "../../../src/edge/state-dir.ts";
import { newTunnel } from "../../../src/edge/store/new-tunnel.ts";
import { openSqliteStore } from "../../../src/edge/store/sqlite/index.ts";
import { type ManagedEdge, startManagedEdge } from "../../support/managed-edge.ts";
import { type OwnedProcess, startProcess } from "../../support/processes.ts";
import { ACTOR, storeTunnel } from "../../support/stored.ts";
import { makeTempDir } from "../../support/temp-dir.ts";
import { visit } from "../../support/visitors.ts";

/** Half of what a writer waits that is not told otherwise: who takes less did not wait for that. */
const SHORT_MS = 2_500;
const DOMAIN = "edge.example.test";

const stack = new AsyncDisposableStack();
let edge: ManagedEdge;
beforeAll(async () => {
  edge = stack.use(await startManagedEdge({ edgeFlags: ["--domain", DOMAIN, "--quick-tunnels"] }));
}, 30_000);
afterAll(() => stack.disposeAsync());

/** A process that has the database for itself until it is killed. */
async function holdDatabase(dir: string): Promise<OwnedProcess> {
  const code = `
    import { DatabaseSync } from "node:sqlite";
    const db = new DatabaseSync(${JSON.stringify(join(dir, "culvert.db"))});
    db.exec("BEGIN IMMEDIATE");
    console.log("held");
    setInterval(() => db, 1_000);`;
  const holder = startProcess([process.execPath, "-e", code]);
  await holder.outputLine(/^held$/m);
  return holder;
}

interface Called {
  readonly status: number;
  readonly retryAfter: string | null;
  readonly ms: number;
  readonly text: string;
}

async function call(token: string, method: string, body?: unknown): Promise<Called> {
  const beganMs = performance.now();
  const answer = await fetch(`${edge.apiUrl}/accounts/${edge.cert.accountId}/cfd_tunnel`, {
    method,
    headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await answer.text();
  const retryAfter = answer.headers.get("retry-after");
  return { status: answer.status, retryAfter, ms: performance.now() - beganMs, text };
}

test("while another process writes, the edge serves, reads and says that it is to be tried again", async () => {
  const token = await edge.token("first use", "--scope", "tunnels:write");
  const { publicPort } = edge.edge;
  await using holder = await holdDatabase(edge.stateDir);
  // Its use cannot be noted down.
  const read = await call(token, "GET");
  expect({ ...read, quick: read.ms < SHORT_MS }).toMatchObject({ status: 200, quick: true });

  let slowestMs = 0;
  let visits = 0;
  const over = new AbortController();
  const visiting = (async () => {
    while (!over.signal.aborted) {
      const beganMs = performance.now();
      expect((await visit(publicPort, { host: DOMAIN })).status).toBe(200);
      slowestMs = Math.max(slowestMs, performance.now() - beganMs);
      visits += 1;
    }
  })();
  const write = await call(token, "POST", { name: "busy" });
  const quick = await visit(publicPort, { host: DOMAIN, target: "/tunnel", method: "POST" });
  over.abort();
  await visiting;
  expect({ ...write, quick: write.ms < SHORT_MS }).toMatchObject({ status: 503, retryAfter: "1", quick: true });
  expect(JSON.parse(write.text)).toMatchObject({
    success: false,
    errors: [{ message: expect.stringMatching(/busy/) }],
  });
  expect([quick.status, quick.body.toString()]).toEqual([503, expect.stringContaining("busy")]);
  expect(visits).toBeGreaterThan(0);
  expect(slowestMs).toBeLessThan(SHORT_MS);

  await holder.kill();
  expect(await call(token, "POST", { name: "busy" })).toMatchObject({ status: 200 });
}, 60_000);

test("a store with a short wait says that the same may be tried again; noting a token's use waits for nobody", async () => {
  using dir = makeTempDir();
  const state = openStateDir(dir.path, Date.now());
  const patient = openSqliteStore(state.databasePath, state.sealingKey);
  const account = patient.accounts.own().tag;
  const { token } = newApiToken({
    accountTag: account,
    name: "t",
    scopes: ["admin"],
    nowMs: 0,
    expiresAtMs: undefined,
  });
  patient.tokens.add(token, "secret", ACTOR);
  const hasty = openSqliteStore(state.databasePath, state.sealingKey, undefined, { busyTimeoutMs: 100 });
  await using holder = await holdDatabase(dir.path);
  const timed = (work: () => unknown): { readonly ms: number; readonly result: unknown } => {
    const beganMs = performance.now();
    try {
      return { result: work(), ms: performance.now() - beganMs };
    } catch (error) {
      return { result: error, ms: performance.now() - beganMs };
    }
  };
  const failed = timed(() => hasty.tunnels.add(newTunnel("t", account, 0), new Uint8Array(32), ACTOR, []));
  expect(failed.result).toMatchObject({ code: "store.failed", retry: "same" });
  expect(failed.ms).toBeWithin(50, SHORT_MS);
  // The longer wait of commands is no matter here.
  const used = timed(() => patient.tokens.find("secret", Date.now()));
  expect(used.result).toMatchObject({ id: token.id });
  expect(used.ms).toBeLessThan(SHORT_MS);
  await holder.kill();
  expect(storeTunnel(hasty, "t").name).toBe("t");
  const nowMs = Date.now();
  expect(patient.tokens.find("secret", nowMs)).toMatchObject({ lastUsedAtMs: nowMs });
  hasty.close();
  patient.close();
}, 30_000);
