import { describe, expect, test } from "bun:test";
import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { TunnelError } from "../../../../src/core/errors.ts";
import { newTunnelId, type TunnelId } from "../../../../src/core/ids.ts";
import { type Change, KEPT_AUDIT_ENTRIES, type Store } from "../../../../src/edge/store/port.ts";
import { seal } from "../../../../src/edge/store/seal.ts";
import { openSqliteStore } from "../../../../src/edge/store/sqlite/index.ts";
import { ACTOR, storeHostnames, storeTunnel } from "../../../support/stored.ts";
import { makeTempDir } from "../../../support/temp-dir.ts";
import { VirtualClock } from "../../../support/virtual-clock.ts";

const KEY = new Uint8Array(32).fill(7);
const SECRET = Uint8Array.from({ length: 32 }, (_, i) => 200 - i);

function failure(work: () => unknown): TunnelError {
  try {
    work();
  } catch (error) {
    if (error instanceof TunnelError) return error;
    throw error;
  }
  throw new Error("It did not fail");
}

function secretOf(store: Store, id: TunnelId): Uint8Array {
  return Uint8Array.from(store.tunnels.credentials(id)?.secret ?? []);
}

/** Runs SQL on the file behind the store's back. */
function tamper(path: string, sql: string): void {
  const db = new DatabaseSync(path);
  db.exec(`PRAGMA foreign_keys = OFF; ${sql}`);
  db.close();
}

describe("a file that several processes use", () => {
  test("what another connection writes shows at once where nothing was, and soon where something was", async () => {
    using dir = makeTempDir();
    const path = join(dir.path, "culvert.db");
    const clock = new VirtualClock();
    const edge = openSqliteStore(path, KEY, clock);
    const wildcard = storeTunnel(edge, "wildcard", { hostnames: ["*.example.com"] });
    const target = (id: TunnelId) => ({ kind: "tunnel", tunnelId: id }) as const;
    expect(edge.hostnames.lookUp("a.example.com")).toEqual(target(wildcard.id));
    expect(edge.hostnames.lookUp("other.example.net")).toBeUndefined();
    const command = openSqliteStore(path, KEY);
    const added = storeTunnel(command, "added", { hostnames: ["a.example.com", "other.example.net"], secret: SECRET });
    expect(edge.hostnames.lookUp("a.example.com")).toEqual(target(wildcard.id));
    expect(edge.hostnames.lookUp("other.example.net")).toEqual(target(added.id));
    // The miss just now made it look.
    expect(edge.hostnames.lookUp("a.example.com")).toEqual(target(added.id));
    expect(secretOf(edge, added.id)).toEqual(SECRET);
    storeHostnames(command, added, ["b.example.com"]);
    await clock.advance(101);
    expect(edge.hostnames.lookUp("b.example.com")).toEqual(target(added.id));
    command.close();
    edge.close();
  });

  test("poll tells the watchers that another one wrote, once, and nothing of what this one wrote", () => {
    using dir = makeTempDir();
    const path = join(dir.path, "culvert.db");
    const edge = openSqliteStore(path, KEY);
    const changes: Change[] = [];
    edge.watch((change) => changes.push(change));
    storeTunnel(edge, "own");
    changes.length = 0;
    edge.poll();
    expect(changes).toEqual([]);
    const command = openSqliteStore(path, KEY);
    storeTunnel(command, "other", { hostnames: ["a.example.com"] });
    edge.poll();
    edge.poll();
    expect(changes).toEqual([{ kind: "unknown" }]);
    // A write of this one in between must not hide that of another one.
    storeTunnel(command, "more", { hostnames: ["b.example.com"] });
    storeTunnel(edge, "mine", { hostnames: ["c.example.com"] });
    changes.length = 0;
    edge.poll();
    expect(changes).toEqual([{ kind: "unknown" }]);
    for (const name of ["a", "b", "c"]) expect(edge.hostnames.lookUp(`${name}.example.com`)).toBeDefined();
    command.close();
    edge.close();
  });

  test("versions of a configuration go on after a restart", () => {
    using dir = makeTempDir();
    const path = join(dir.path, "culvert.db");
    const first = openSqliteStore(path, KEY);
    const { id } = storeTunnel(first, "t");
    first.configurations.put(id, "{}", ACTOR, 6);
    first.close();
    const second = openSqliteStore(path, KEY);
    expect(second.configurations.put(id, "{}", ACTOR).version).toBe(8);
    second.close();
  });
});

test("secrets are sealed at rest, for this key and this tunnel only, and check tells", () => {
  using dir = makeTempDir();
  const path = join(dir.path, "culvert.db");
  const store = openSqliteStore(path, KEY);
  const first = storeTunnel(store, "first", { secret: SECRET });
  const second = storeTunnel(store, "second", { secret: new Uint8Array(32).fill(9) });
  const third = storeTunnel(store, "third", { secret: SECRET });
  store.tunnels.remove(third.id, ACTOR);
  expect(store.check()).toEqual([]);
  store.close();
  for (const name of readdirSync(dir.path)) {
    expect(readFileSync(join(dir.path, name)).includes(Buffer.from(SECRET))).toBe(false);
  }
  const other = openSqliteStore(path, new Uint8Array(32).fill(8));
  expect(failure(() => other.tunnels.credentials(first.id)).message).toContain("seal.key");
  expect(other.check()).toHaveLength(2);
  other.close();
  // Somebody who can write the file but has no key must not be able to give one tunnel another's secret.
  tamper(path, `UPDATE tunnels SET sealed_secret = (SELECT sealed_secret FROM tunnels WHERE id = '${first.id}')`);
  const swapped = openSqliteStore(path, KEY);
  expect(secretOf(swapped, first.id)).toEqual(SECRET);
  expect(failure(() => swapped.tunnels.credentials(second.id)).code).toBe("store.failed");
  expect(swapped.check()).toContain(`the secret of tunnel ${second.id} does not open`);
  swapped.close();
});

test("a new database logs ahead, so that readers and a writer do not wait for each other", () => {
  using dir = makeTempDir();
  const path = join(dir.path, "culvert.db");
  openSqliteStore(path, KEY).close();
  expect(readdirSync(dir.path)).toEqual(["culvert.db"]);
  const db = new DatabaseSync(path);
  expect({ ...db.prepare("PRAGMA journal_mode").get() }).toEqual({ journal_mode: "wal" });
  db.close();
});

test("the database and its companions are for their owner only", () => {
  using dir = makeTempDir();
  const store = openSqliteStore(join(dir.path, "culvert.db"), KEY);
  storeTunnel(store, "t", { hostnames: ["a.example.com"] });
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
])("a file that $name is refused", ({ write }) => {
  using dir = makeTempDir();
  const path = join(dir.path, "culvert.db");
  write(path);
  expect(failure(() => openSqliteStore(path, KEY)).code).toBe("store.failed");
});

test("a folder that does not exist is refused with its path", () => {
  expect(failure(() => openSqliteStore("/nonexistent/culvert.db", KEY)).message).toContain("/nonexistent/culvert.db");
});

describe("a database of culvert 0.1.0", () => {
  const OLDEST = newTunnelId();
  const NEWER = newTunnelId();
  const TAGS = { oldest: "a1".repeat(16), newer: "b2".repeat(16) };

  function make(path: string): void {
    const db = new DatabaseSync(path);
    db.exec(`PRAGMA journal_mode = WAL;
      CREATE TABLE tunnels (
        id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, account_tag TEXT NOT NULL, sealed_secret BLOB NOT NULL,
        created_at_ms INTEGER NOT NULL
      ) STRICT;
      CREATE TABLE hostnames (
        hostname TEXT PRIMARY KEY, tunnel_id TEXT NOT NULL REFERENCES tunnels (id) ON DELETE CASCADE
      ) STRICT, WITHOUT ROWID;
      PRAGMA user_version = 1;`);
    const insert = db.prepare("INSERT INTO tunnels VALUES (?, ?, ?, ?, ?)");
    insert.run(NEWER, "newer", TAGS.newer, seal(KEY, new Uint8Array(32).fill(9), NEWER), 2_000);
    insert.run(OLDEST, "oldest", TAGS.oldest, seal(KEY, SECRET, OLDEST), 1_000);
    db.exec(`INSERT INTO hostnames VALUES ('a.example.com', '${OLDEST}'), ('*.example.com', '${NEWER}')`);
    db.close();
  }

  test("keeps its tunnels, secrets and hostnames, under one account", () => {
    using dir = makeTempDir();
    const path = join(dir.path, "culvert.db");
    make(path);
    for (let opened = 0; opened < 2; opened += 1) {
      const store = openSqliteStore(path, KEY);
      expect(store.accounts.own().tag).toBe(TAGS.oldest);
      expect(store.tunnels.find({ accountTag: TAGS.oldest }).items).toMatchObject([
        { id: OLDEST, name: "oldest", createdAtMs: 1_000, deletedAtMs: undefined, configSource: "local" },
        { id: NEWER, name: "newer", createdAtMs: 2_000, metadata: "{}", expiresAtMs: undefined },
      ]);
      expect(secretOf(store, OLDEST)).toEqual(SECRET);
      expect(secretOf(store, NEWER)).toEqual(new Uint8Array(32).fill(9));
      // Their tokens are out there, with the tags they were made with.
      expect(store.tunnels.credentials(OLDEST)?.formerAccountTag).toBeUndefined();
      expect(store.tunnels.credentials(NEWER)?.formerAccountTag).toBe(TAGS.newer);
      expect(store.hostnames.lookUp("a.example.com")).toEqual({ kind: "tunnel", tunnelId: OLDEST });
      expect(store.hostnames.lookUp("b.example.com")).toEqual({ kind: "tunnel", tunnelId: NEWER });
      expect(store.hostnames.get("a.example.com")?.createdAtMs).toBe(1_000);
      expect(store.accounts.zones(TAGS.oldest).map(({ name }) => name)).toEqual([""]);
      expect(store.check()).toEqual([]);
      store.close();
    }
  });

  test("has the same schema afterwards as a new one", () => {
    using dir = makeTempDir();
    const [old, fresh] = [join(dir.path, "old.db"), join(dir.path, "fresh.db")];
    make(old);
    const schemas = [old, fresh].map((path) => {
      openSqliteStore(path, KEY).close();
      const db = new DatabaseSync(path);
      const schema = db.prepare("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name").all();
      db.close();
      return schema;
    });
    expect(schemas[0]).toEqual(schemas[1] ?? []);
  });

  test("gets an account of its own when no tag fits", () => {
    using dir = makeTempDir();
    const path = join(dir.path, "culvert.db");
    make(path);
    tamper(path, "UPDATE tunnels SET account_tag = 'x'");
    const store = openSqliteStore(path, KEY);
    expect(store.accounts.own().tag).toMatch(/^[0-9a-f]{32}$/);
    expect(store.tunnels.credentials(OLDEST)?.formerAccountTag).toBe("x");
    store.close();
  });
});

describe("damage", () => {
  test("check names a row that refers to nothing", () => {
    using dir = makeTempDir();
    const path = join(dir.path, "culvert.db");
    const store = openSqliteStore(path, KEY);
    storeTunnel(store, "t", { hostnames: ["a.test"] });
    tamper(path, "DELETE FROM zones");
    expect(store.check()).toEqual(['a row of "hostnames" refers to a missing one of "zones"']);
    store.close();
  });

  test("a broken page is found by check, and at the start after a crash", () => {
    using dir = makeTempDir();
    const path = join(dir.path, "culvert.db");
    const store = openSqliteStore(path, KEY);
    const tunnel = storeTunnel(store, "t");
    storeHostnames(
      store,
      tunnel,
      Array.from({ length: 200 }, (_, i) => `host-${i}.example.com`),
    );
    store.close();
    const db = new DatabaseSync(path);
    const page = db.prepare("SELECT rootpage FROM sqlite_schema WHERE name = 'hostnames'").get() as {
      rootpage: number;
    };
    db.close();
    const file = openSync(path, "r+");
    writeSync(file, new Uint8Array(512).fill(0xa5), 0, 512, (page.rootpage - 1) * 4096);
    closeSync(file);
    const damaged = openSqliteStore(path, KEY);
    expect(damaged.check().length).toBeGreaterThan(0);
    // What a process leaves behind that did not come to its end.
    storeTunnelBehind(path);
    expect(existsSync(`${path}-wal`)).toBe(true);
    expect(failure(() => openSqliteStore(path, KEY)).message).toMatch(/damaged .*backup/);
    damaged.close();
  });

  /** Leaves something in the write-ahead log, as long as another connection is open. */
  function storeTunnelBehind(path: string): void {
    tamper(path, "UPDATE accounts SET name = 'renamed'");
  }
});

describe("backup", () => {
  test("is a whole store for its owner only, made while another process writes", async () => {
    using dir = makeTempDir();
    const [path, copy] = [join(dir.path, "culvert.db"), join(dir.path, "copy.db")];
    const store = openSqliteStore(path, KEY);
    const { id } = storeTunnel(store, "before", { hostnames: ["a.test"], secret: SECRET });
    store.configurations.put(id, '{"x":1}', ACTOR);
    const db = new DatabaseSync(path);
    db.exec("BEGIN IMMEDIATE; UPDATE accounts SET name = 'uncommitted'");
    await store.backup(copy);
    db.exec("COMMIT");
    db.close();
    storeTunnel(store, "after");
    expect(readdirSync(dir.path).filter((name) => name.startsWith("copy"))).toEqual(["copy.db"]);
    expect(statSync(copy).mode & 0o777).toBe(0o600);
    expect(await store.backup(copy).catch((error: unknown) => error)).toMatchObject({ code: "store.conflict" });
    store.close();
    const restored = openSqliteStore(copy, KEY);
    expect(restored.check()).toEqual([]);
    expect(restored.tunnels.find({}).items.map(({ name }) => name)).toEqual(["before"]);
    expect(restored.accounts.own().name).toBe("default");
    expect(secretOf(restored, id)).toEqual(SECRET);
    expect(restored.hostnames.lookUp("a.test")).toEqual({ kind: "tunnel", tunnelId: id });
    // Connectors have seen version 1; a restored edge may be told of later ones.
    expect(restored.configurations.put(id, "{}", ACTOR, 9).version).toBe(10);
    restored.close();
    const mode = new DatabaseSync(copy);
    expect({ ...mode.prepare("PRAGMA journal_mode").get() }).toEqual({ journal_mode: "wal" });
    mode.close();
  });

  test("into a folder that is not there is refused with its path", async () => {
    const store = openSqliteStore(":memory:", KEY);
    const error = await store.backup("/nonexistent/copy.db").catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "store.failed", message: expect.stringContaining("/nonexistent/copy.db") });
    store.close();
  });
});

test("the audit log keeps its newest entries", () => {
  using dir = makeTempDir();
  const path = join(dir.path, "culvert.db");
  const store = openSqliteStore(path, KEY);
  tamper(
    path,
    `INSERT INTO audit (at_ms, actor_kind, actor_id, actor_from, action, subject, details)
     WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < ${KEPT_AUDIT_ENTRIES})
     SELECT i, 'system', '', '', 'a', 's', '{}' FROM n`,
  );
  storeTunnel(store, "a");
  storeTunnel(store, "b");
  const found = store.audit.find({}, { offset: KEPT_AUDIT_ENTRIES - 1, limit: 1 });
  expect(found.total).toBe(KEPT_AUDIT_ENTRIES);
  expect(found.items.map(({ id }) => id)).toEqual([3]);
  store.close();
});
