import { expect, test } from "bun:test";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { TunnelError } from "../../../../src/core/errors.ts";
import { newTunnelId, type TunnelId } from "../../../../src/core/ids.ts";
import type { Store, StoredTunnel } from "../../../../src/edge/store/port.ts";
import { openSqliteStore } from "../../../../src/edge/store/sqlite.ts";
import { makeTempDir } from "../../../support/temp-dir.ts";
import { VirtualClock } from "../../../support/virtual-clock.ts";

const KEY = new Uint8Array(32).fill(7);
const SECRET = Uint8Array.from({ length: 32 }, (_, i) => 200 - i);

function tunnel(name: string): StoredTunnel {
  return { id: newTunnelId(), name, accountTag: "acct", createdAtMs: 1_700_000_000_000 };
}

function add(store: Store, name: string, ...hostnames: string[]): TunnelId {
  const added = tunnel(name);
  store.addTunnel(added, SECRET);
  store.addHostnames(added.id, hostnames);
  return added.id;
}

function failure(work: () => unknown): TunnelError {
  try {
    work();
  } catch (error) {
    if (error instanceof TunnelError) return error;
    throw error;
  }
  throw new Error("It did not fail");
}

test("a tunnel comes back by name and id, with its secret", () => {
  const store = openSqliteStore(":memory:", KEY);
  const added = tunnel("shop");
  store.addTunnel(added, SECRET);
  expect(store.tunnelByName("shop")).toEqual(added);
  const credentials = store.credentials(added.id);
  expect(credentials?.tunnel).toEqual(added);
  expect(Uint8Array.from(credentials?.secret ?? [])).toEqual(SECRET);
  expect(store.tunnelByName("Shop")).toBeUndefined();
  expect(store.credentials(newTunnelId())).toBeUndefined();
});

test("a name is given once", () => {
  const store = openSqliteStore(":memory:", KEY);
  store.addTunnel(tunnel("shop"), SECRET);
  expect(failure(() => store.addTunnel(tunnel("shop"), SECRET)).code).toBe("store.failed");
  expect(store.tunnels()).toHaveLength(1);
});

test.each([
  ["a.example.com", "exact"],
  ["b.example.com", "example"],
  ["x.y.example.com", "example"],
  ["deep.a.example.com", "deep"],
  ["x.deep.a.example.com", "deep"],
  ["example.com", undefined],
  ["notexample.com", undefined],
  ["", undefined],
  ["*.example.com", "example"],
])("%j belongs to %p: exact before the longest wildcard", (hostname, owner) => {
  const store = openSqliteStore(":memory:", KEY);
  const ids = {
    exact: add(store, "exact", "a.example.com"),
    example: add(store, "example", "*.example.com"),
    deep: add(store, "deep", "*.a.example.com"),
  };
  expect(store.tunnelForHostname(hostname)).toBe(owner === undefined ? undefined : ids[owner as keyof typeof ids]);
});

test("hostnames are routed all or none, and stay with their tunnel", () => {
  const store = openSqliteStore(":memory:", KEY);
  const first = add(store, "first", "a.example.com");
  const second = add(store, "second");
  const error = failure(() => store.addHostnames(second, ["new.example.com", "a.example.com"]));
  expect(error.code).toBe("store.failed");
  expect(error.message).toContain('"a.example.com"');
  expect(store.tunnelForHostname("new.example.com")).toBeUndefined();
  expect(store.tunnelForHostname("a.example.com")).toBe(first);
  store.addHostnames(first, ["a.example.com", "b.example.com"]);
  expect(store.tunnels()).toMatchObject([
    { name: "first", hostnames: ["a.example.com", "b.example.com"] },
    { name: "second", hostnames: [] },
  ]);
});

test("a tunnel nobody added gets no hostnames", () => {
  const store = openSqliteStore(":memory:", KEY);
  expect(failure(() => store.addHostnames(newTunnelId(), ["a.example.com"])).code).toBe("store.failed");
  expect(store.tunnelForHostname("a.example.com")).toBeUndefined();
});

test("what another connection to the file writes shows at once where nothing was, and soon where something was", () => {
  using dir = makeTempDir();
  const path = join(dir.path, "culvert.db");
  const clock = new VirtualClock();
  const edge = openSqliteStore(path, KEY, clock);
  const wildcard = add(edge, "wildcard", "*.example.com");
  expect(edge.tunnelForHostname("a.example.com")).toBe(wildcard);
  expect(edge.tunnelForHostname("other.example.net")).toBeUndefined();
  const command = openSqliteStore(path, KEY);
  const added = add(command, "added", "a.example.com", "other.example.net");
  command.close();
  expect(edge.tunnelForHostname("other.example.net")).toBe(added);
  // The miss above already made it look; a hit alone would have within a tenth of a second.
  expect(edge.tunnelForHostname("a.example.com")).toBe(added);
  expect(Uint8Array.from(edge.credentials(added)?.secret ?? [])).toEqual(SECRET);
  edge.close();
});

test("secrets are sealed at rest, for this key and this tunnel only", () => {
  using dir = makeTempDir();
  const path = join(dir.path, "culvert.db");
  const store = openSqliteStore(path, KEY);
  const first = add(store, "first");
  const second = tunnel("second");
  store.addTunnel(second, new Uint8Array(32).fill(9));
  store.close();
  for (const name of readdirSync(dir.path)) {
    expect(readFileSync(join(dir.path, name)).includes(Buffer.from(SECRET))).toBe(false);
  }
  const other = openSqliteStore(path, new Uint8Array(32).fill(8));
  expect(failure(() => other.credentials(first)).message).toContain("seal.key");
  other.close();
  // Somebody who can write the file but has no key must not be able to give one tunnel another's secret.
  const db = new DatabaseSync(path);
  db.exec(`UPDATE tunnels SET sealed_secret = (SELECT sealed_secret FROM tunnels WHERE id = '${first}')`);
  db.close();
  const swapped = openSqliteStore(path, KEY);
  expect(Uint8Array.from(swapped.credentials(first)?.secret ?? [])).toEqual(SECRET);
  expect(failure(() => swapped.credentials(second.id)).code).toBe("store.failed");
  swapped.close();
});

test("a new database logs ahead, so that readers and a writer do not wait for each other", () => {
  using dir = makeTempDir();
  const path = join(dir.path, "culvert.db");
  openSqliteStore(path, KEY).close();
  expect(readdirSync(dir.path)).toEqual(["culvert.db"]);
  const db = new DatabaseSync(path);
  expect(db.prepare("PRAGMA journal_mode").get()).toEqual({ journal_mode: "wal" });
  db.close();
});

test("the database and its companions are for their owner only", () => {
  using dir = makeTempDir();
  const store = openSqliteStore(join(dir.path, "culvert.db"), KEY);
  add(store, "t", "a.example.com");
  for (const name of readdirSync(dir.path))
    expect([name, statSync(join(dir.path, name)).mode & 0o777]).toEqual([name, 0o600]);
  expect(readdirSync(dir.path).length).toBeGreaterThan(1);
  store.close();
});

test.each([
  { name: "a newer version wrote", write: (path: string) => new DatabaseSync(path).exec("PRAGMA user_version = 99") },
  {
    name: "is no database",
    write: (path: string) => writeFileSync(path, "not a database at all, but long enough to tell"),
  },
])("a file that $name is refused with its path", ({ write }) => {
  using dir = makeTempDir();
  const path = join(dir.path, "culvert.db");
  write(path);
  const error = failure(() => openSqliteStore(path, KEY));
  expect(error.code).toBe("store.failed");
});

test("a folder that does not exist is refused with its path", () => {
  expect(failure(() => openSqliteStore("/nonexistent/culvert.db", KEY)).message).toContain("/nonexistent/culvert.db");
});

test("a tunnel whose hostname is taken is not made at all", () => {
  const store = openSqliteStore(":memory:", KEY);
  add(store, "first", "a.example.com");
  const error = failure(() => store.addTunnel(tunnel("second"), SECRET, ["b.example.com", "a.example.com"]));
  expect(error.message).toBe('Cannot route "a.example.com": another tunnel has it');
  expect(store.tunnelByName("second")).toBeUndefined();
  expect(store.tunnelForHostname("b.example.com")).toBeUndefined();
});
