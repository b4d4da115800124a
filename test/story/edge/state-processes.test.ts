import { expect, test } from "bun:test";
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { openStateDir } from "../../../src/edge/state-dir.ts";
import { openSqliteStore } from "../../../src/edge/store/sqlite/index.ts";
import { pollUntil } from "../../support/poll-until.ts";
import { storeTunnel } from "../../support/stored.ts";
import { makeTempDir } from "../../support/temp-dir.ts";

const src = join(import.meta.dir, "../../../src");

/** Runs a module in a process of its own; gives what it printed. Fails when it does. */
function runElsewhere(code: string, ...args: string[]): Promise<string> {
  const script = `
    import { storeTunnel } from ${JSON.stringify(join(import.meta.dir, "../../support/stored.ts"))};
    import { openStateDir } from ${JSON.stringify(join(src, "edge/state-dir.ts"))};
    import { openSqliteStore } from ${JSON.stringify(join(src, "edge/store/sqlite/index.ts"))};
    const [dir, ...args] = process.argv.slice(-${args.length});
    ${code}`;
  const child = spawn(process.execPath, ["-e", script, "--", ...args], { stdio: ["ignore", "pipe", "pipe"] });
  let out = "";
  let err = "";
  child.stdout.on("data", (chunk) => {
    out += chunk;
  });
  child.stderr.on("data", (chunk) => {
    err += chunk;
  });
  return new Promise((resolve, reject) => {
    child.on("close", (code) => (code === 0 ? resolve(out.trim()) : reject(new Error(err))));
  });
}

const ADD = `
  const state = openStateDir(dir, Date.now());
  const store = openSqliteStore(state.databasePath, state.sealingKey);
  const { id } = storeTunnel(store, args[0], { hostnames: [args[0] + ".example.com"], secret: new Uint8Array(32).fill(5) });
  store.close();
  console.log(JSON.stringify({ id, key: Buffer.from(state.sealingKey).toString("hex"), ca: state.authority.cert }));`;

test("a tunnel that another process adds is served by the running edge at once", async () => {
  using dir = makeTempDir();
  const state = openStateDir(dir.path, Date.now());
  const store = openSqliteStore(state.databasePath, state.sealingKey);
  expect(store.hostnames.lookUp("late.example.com")).toBeUndefined();
  const { id } = JSON.parse(await runElsewhere(ADD, dir.path, "late"));
  expect(store.hostnames.lookUp("late.example.com")).toEqual({ kind: "tunnel", tunnelId: id });
  expect(store.tunnels.credentials(id)?.secret[0]).toBe(5);
  store.close();
});

test("processes that start together on an empty directory agree on its keys and lose no write", async () => {
  using dir = makeTempDir();
  const path = join(dir.path, "edge");
  const names = ["a", "b", "c", "d", "e", "f"];
  const results = await Promise.all(names.map((name) => runElsewhere(ADD, path, name)));
  const parsed = results.map((text) => JSON.parse(text) as { key: string; ca: string });
  expect(new Set(parsed.map((result) => result.key)).size).toBe(1);
  expect(new Set(parsed.map((result) => result.ca)).size).toBe(1);
  const state = openStateDir(path, Date.now());
  const store = openSqliteStore(state.databasePath, state.sealingKey);
  const { items } = store.tunnels.find({});
  expect(items.map((tunnel) => tunnel.name).toSorted()).toEqual(names);
  expect(new Set(items.map((tunnel) => tunnel.accountTag))).toEqual(new Set([store.accounts.own().tag]));
  for (const { id } of items) expect(store.tunnels.credentials(id)).toBeDefined();
  store.close();
});

test("a writer waits for another process that holds the file, instead of failing", async () => {
  using dir = makeTempDir();
  const state = openStateDir(dir.path, Date.now());
  const store = openSqliteStore(state.databasePath, state.sealingKey);
  const holding = runElsewhere(
    `const { DatabaseSync } = await import("node:sqlite");
     const db = new DatabaseSync(dir + "/culvert.db");
     db.exec("BEGIN IMMEDIATE; PRAGMA user_version");
     require("node:fs").writeFileSync(dir + "/held", "");
     Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300);
     db.exec("COMMIT");`,
    dir.path,
  );
  await pollUntil(() => existsSync(join(dir.path, "held")), { what: "the file is held" });
  const { id } = storeTunnel(store, "t");
  await holding;
  expect(store.tunnels.get(id)?.name).toBe("t");
  store.close();
});
