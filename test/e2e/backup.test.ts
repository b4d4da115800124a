import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, copyFileSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openStateDir } from "../../src/edge/state-dir.ts";
import { openSqliteStore } from "../../src/edge/store/sqlite/index.ts";
import { CULVERT, HOST, startConnector } from "../support/lab.ts";
import { type ManagedEdge, startManagedEdge } from "../support/managed-edge.ts";
import { startOrigin } from "../support/origins.ts";
import { pollUntil } from "../support/poll-until.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { visit } from "../support/visitors.ts";

const stack = new AsyncDisposableStack();
let edge: ManagedEdge;
let dir: string;
beforeAll(async () => {
  edge = stack.use(await startManagedEdge());
  dir = stack.use(makeTempDir()).path;
}, 30_000);
afterAll(() => stack.disposeAsync());

const backup = (path: string) => edge.culvert("edge", "backup", path, "--state-dir", edge.stateDir);
const restore = (path: string, into: string) => edge.culvert("edge", "restore", path, "--state-dir", into);

/** Every file below a folder with its bytes, so that a change shows. */
function contents(folder: string): Record<string, string> {
  const names = existsSync(folder) ? readdirSync(folder).filter((name) => name !== "edge.lock") : [];
  return Object.fromEntries(names.map((name) => [name, readFileSync(join(folder, name)).toString("base64")]));
}

test("an edge made of a backup serves the tokens, the connectors and the certificates of the old one", async () => {
  await using origin = await startOrigin();
  expect((await edge.culvert("tunnel", "create", "web")).code).toBe(0);
  expect((await edge.culvert("tunnel", "route", "dns", "web", HOST)).code).toBe(0);
  const token = (await edge.culvert("tunnel", "token", "web")).stdout.trim();
  const { tunnelPort, caPath } = edge.edge;
  await using connector = startConnector(CULVERT, {
    ...{ token, tunnelPort, caPath },
    url: `http://127.0.0.1:${origin.port}`,
  });
  const served = () =>
    pollUntil(async () => (await visit(edge.edge.publicPort, { host: HOST, target: "/hello" })).status === 200, {
      what: "the hostname is served",
      deadlineMs: 30_000,
    });
  await served();
  const file = join(dir, "first.backup");
  expect(await backup(file)).toMatchObject({ code: 0 });
  expect(statSync(file).mode & 0o777).toBe(0o600);

  const refused = await restore(file, edge.stateDir);
  expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining("another edge runs on it")]);

  await edge.stop();
  const { code, stderr } = await restore(file, edge.stateDir);
  expect([code, stderr]).toEqual([0, expect.stringContaining("Moved what was there to")]);
  const aside = /Moved what was there to (\S+)/.exec(stderr)?.[1] ?? "";
  expect(readdirSync(aside)).toContain("culvert.db");
  expect(statSync(edge.stateDir).mode & 0o777).toBe(0o700);
  for (const name of ["culvert.db", "seal.key", "ca.key"]) {
    expect([name, statSync(join(edge.stateDir, name)).mode & 0o777]).toEqual([name, 0o600]);
  }
  await edge.start();
  // The connector has not been told anything: its token and its trust in the edge still hold.
  await served();
  expect(connector.end).toBeUndefined();
  // Nor has who manages it.
  expect((await edge.culvert("tunnel", "list")).stdout).toMatch(/ web .*1xLAB|[1-9]xLAB/);
  expect((await edge.culvert("edge", "status", "--check", "--state-dir", edge.stateDir)).code).toBe(0);
}, 90_000);

test("backups while the API writes are whole, and each has what was acknowledged before it", async () => {
  const over = new AbortController();
  const names: string[] = [];
  const writing = (async () => {
    for (let i = 0; !over.signal.aborted; i += 1) {
      const answer = await fetch(`${edge.apiUrl}/accounts/${edge.cert.accountId}/cfd_tunnel`, {
        method: "POST",
        headers: { authorization: `Bearer ${edge.cert.apiToken}`, "content-type": "application/json" },
        body: JSON.stringify({ name: `busy-${i}` }),
      });
      if (answer.status === 200) names.push(`busy-${i}`);
      else break;
    }
  })();
  for (let round = 0; round < 3; round += 1) {
    const count = names.length;
    await pollUntil(() => names.length > count + 20, { what: "tunnels are made" });
    const known = [...names];
    const file = join(dir, `busy-${round}.backup`);
    expect(await backup(file)).toMatchObject({ code: 0 });
    const into = join(dir, `busy-${round}`);
    expect(await restore(file, into)).toMatchObject({ code: 0 });
    const state = openStateDir(into, Date.now());
    const store = openSqliteStore(state.databasePath, state.sealingKey);
    expect(store.check()).toEqual([]);
    const kept = new Set(store.tunnels.find({ deleted: false }).items.map(({ name }) => name));
    expect(known.filter((name) => !kept.has(name))).toEqual([]);
    store.close();
  }
  over.abort();
  await writing;
}, 60_000);

describe("a file that is no good backup changes nothing", () => {
  const cases: readonly (readonly [name: string, make: (file: string, good: Buffer) => void, why: RegExp])[] = [
    ["missing", () => undefined, /there is no such file/],
    ["empty", (file) => writeFileSync(file, ""), /not a backup/],
    ["text", (file) => writeFileSync(file, "not a database at all\n".repeat(200)), /not a backup/],
    ["half", (file, good) => writeFileSync(file, good.subarray(0, good.length / 2)), /not a backup|damaged|malformed/],
    ["damaged in its pages", (file, good) => writeFileSync(file, scratched(good)), /damaged|malformed|not a backup/],
  ];

  test.each(cases.map(([name, make, why]) => ({ name, make, why })))("$name", async ({ name, make, why }) => {
    const good = join(dir, "good.backup");
    if (!existsSync(good)) expect(await backup(good)).toMatchObject({ code: 0 });
    const file = join(dir, `${name}.backup`);
    make(file, readFileSync(good));
    const target = join(dir, "target");
    if (!existsSync(target)) expect(await restore(good, target)).toMatchObject({ code: 0 });
    const before = contents(target);
    const around = readdirSync(dir).filter((each) => !each.endsWith(".backup"));
    const { code, stderr } = await restore(file, target);
    expect([name, code, stderr]).toEqual([name, 1, expect.stringMatching(why)]);
    expect(contents(target)).toEqual(before);
    expect(readdirSync(dir).filter((each) => !each.endsWith(".backup"))).toEqual(around);
  });

  test("a database that is another program's, and one of ours that is no backup", async () => {
    const target = join(dir, "other-target");
    const file = join(dir, "raw.backup");
    copyFileSync(join(edge.stateDir, "culvert.db"), file);
    const { code, stderr } = await restore(file, target);
    expect([code, stderr]).toEqual([1, expect.stringContaining("not a backup that culvert edge backup wrote")]);
    expect(existsSync(target)).toBe(false);
  });

  test("a backup does not write over a file", async () => {
    const file = join(dir, "precious.backup");
    writeFileSync(file, "precious");
    expect(await backup(file)).toMatchObject({ code: 1, stderr: expect.stringContaining("the file exists") });
    expect(readFileSync(file, "utf8")).toBe("precious");
  });

  test("no key is left in the database that comes out of it", () => {
    const target = join(dir, "target");
    const database = readFileSync(join(target, "culvert.db"));
    for (const name of ["seal.key", "ca.key"]) {
      expect([name, database.indexOf(readFileSync(join(target, name)))]).toEqual([name, -1]);
    }
  });

  test("a backup that others may read is kept from them once it is restored", async () => {
    const good = join(dir, "good.backup");
    const file = join(dir, "loose.backup");
    copyFileSync(good, file);
    chmodSync(file, 0o644);
    const target = join(dir, "tight");
    expect(await restore(file, target)).toMatchObject({ code: 0 });
    expect(statSync(join(target, "culvert.db")).mode & 0o777).toBe(0o600);
  });
});

/** The same with noise in the middle of every page but the first. */
function scratched(good: Buffer): Buffer {
  const bytes = Buffer.from(good);
  for (let at = 4_096; at + 4_096 <= bytes.length; at += 4_096) bytes.fill(0xa5, at + 1_000, at + 1_400);
  return bytes;
}
