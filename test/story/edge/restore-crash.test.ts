import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { restoreEdgeBackup, writeEdgeBackup } from "../../../src/edge/backup-file.ts";
import { RESTORE_JOURNAL } from "../../../src/edge/restore-journal.ts";
import { openStateDir } from "../../../src/edge/state-dir.ts";
import { openSqliteStore } from "../../../src/edge/store/sqlite/index.ts";
import { runProcess } from "../../support/processes.ts";
import { storeTunnel } from "../../support/stored.ts";
import { makeTempDir } from "../../support/temp-dir.ts";

const KEYS = ["ca.key", "ca.pem", "seal.key"] as const;
const MODULES = "backup-file.ts,restore-journal.ts,place-file.ts,whole-file.ts";
/** Far more changes than a restore makes. */
const MAX_STEPS = 200;
const AT_ONCE = 4;
/** For some forty processes on a machine that has other things to do. */
const DEADLINE_MS = 300_000;
const program = join(import.meta.dir, "../../../src/main.ts");
const preload = join(import.meta.dir, "../../support/kill-at.ts");

const temp = makeTempDir();
afterAll(() => temp[Symbol.dispose]());
const file = join(temp.path, "edge.backup");
const oldDir = join(temp.path, "old");
const newDir = join(temp.path, "new");

/** What an edge is: its keys, and which tunnels it has. */
function identity(dir: string): string {
  const state = openStateDir(dir, Date.now());
  const store = openSqliteStore(state.databasePath, state.sealingKey);
  try {
    const names = store.tunnels.find({}).items.map(({ id, name }) => [name, store.tunnels.credentials(id)?.secret[0]]);
    return JSON.stringify([names, KEYS.map((name) => readFileSync(join(dir, name), "utf8"))]);
  } finally {
    store.close();
  }
}

function make(dir: string, tunnel: string): string {
  const state = openStateDir(dir, Date.now());
  const store = openSqliteStore(state.databasePath, state.sealingKey);
  storeTunnel(store, tunnel, { secret: new Uint8Array(32).fill(7) });
  store.close();
  writeFileSync(join(dir, "edge.json"), JSON.stringify({ domain: `${tunnel}.example.test` }));
  return identity(dir);
}

let before: string;
let restored: string;

beforeAll(async () => {
  before = make(oldDir, "before");
  restored = make(newDir, "restored");
  const state = openStateDir(newDir, Date.now());
  const store = openSqliteStore(state.databasePath, state.sealingKey);
  await writeEdgeBackup(state, store, file);
  store.close();
});

/** `culvert edge restore`, killed right before its change number `at`. */
async function restore(dir: string, at?: number): Promise<{ killed: boolean; stderr: string }> {
  const argv = [process.execPath, "--preload", preload, program, "edge", "restore", file, "--state-dir", dir];
  const env = { ...process.env, KILL_IN: MODULES, ...(at === undefined ? {} : { KILL_AT: String(at) }) };
  const { code, stderr } = await runProcess(argv, { env });
  if (code !== null && code !== 0) throw new Error(`Step ${at}: ended with ${code}: ${stderr}`);
  return { killed: code === null, stderr };
}

/** What a start finds in the directory, which is then as it was. */
function start(dir: string): "before" | "restored" | "refused" | "empty" {
  const copy = `${dir}-look`;
  cpSync(dir, copy, { recursive: true });
  try {
    if (readdirSync(copy).length === 0) return "empty";
    const found = identity(copy);
    if (found === before) return "before";
    if (found === restored) return "restored";
  } catch (error) {
    expect(error).toMatchObject({ code: "store.failed" });
    expect(String(error)).toContain("run culvert edge restore FILE again");
    return "refused";
  } finally {
    rmSync(copy, { recursive: true });
  }
  throw new Error(`The edge is neither the old one nor the new one: ${readdirSync(dir).join(", ")}`);
}

/** Those of the folders that restores put things aside in which are the old edge, whole. */
function putAside(dir: string): readonly string[] {
  const folders = readdirSync(dir).filter((name) => name.startsWith("before-"));
  return folders.filter((name) => {
    const copy = `${dir}-aside`;
    cpSync(join(dir, name), copy, { recursive: true });
    try {
      return existsSync(join(copy, "culvert.db")) && identity(copy) === before;
    } finally {
      rmSync(copy, { recursive: true });
    }
  });
}

/** After a restore that was not killed: the new edge, the old one aside, and nothing else. */
function expectRestored(dir: string, step: string): void {
  const rest = readdirSync(dir).filter((name) => /^(\.restore-|restore\.pending|.*\.tmp$)/.test(name));
  expect({ step, found: start(dir), aside: putAside(dir).length, rest }).toEqual({
    ...{ step, found: "restored", aside: 1, rest: [] },
  });
}

/** Runs `step` with 1, 2 … until one of them says that its process lived to its end. */
async function eachStep(step: (at: number) => Promise<{ readonly killed: boolean }>): Promise<void> {
  for (let at = 1; at <= MAX_STEPS; at += AT_ONCE) {
    const ends = await Promise.all(Array.from({ length: AT_ONCE }, (_, i) => step(at + i)));
    if (ends.some(({ killed }) => !killed)) return;
  }
  throw new Error("It has more steps than it can");
}

/** The directory of the old edge with all of a restore done but its last step, and what the journal says of it. */
function makeHalf(dir: string): void {
  const aside = "before-20260101T000000Z";
  const fresh = ".restore-1";
  mkdirSync(dir);
  cpSync(newDir, dir, { recursive: true });
  cpSync(oldDir, join(dir, aside), { recursive: true });
  mkdirSync(join(dir, fresh));
  const moves = [
    ...readdirSync(oldDir).map((name) => [name, `${aside}/${name}`]),
    ...readdirSync(newDir).map((name) => [`${fresh}/${name}`, name]),
  ];
  writeFileSync(join(dir, RESTORE_JOURNAL), JSON.stringify({ moves }));
}

describe("a restore that is killed", () => {
  test(
    "leaves the old edge or the new one, or a directory that no edge starts on; the next one completes it",
    async () => {
      const seen = new Set<string>();
      await eachStep(async (at) => {
        const dir = join(temp.path, `killed-${at}`);
        cpSync(oldDir, dir, { recursive: true });
        const { killed } = await restore(dir, at);
        if (killed) {
          seen.add(start(dir));
          await restore(dir);
        }
        expectRestored(dir, `${at}`);
        return { killed };
      });
      expect([...seen].toSorted()).toEqual(["before", "refused", "restored"]);
    },
    DEADLINE_MS,
  );

  test(
    "may be killed again at any step of what the next one puts back",
    async () => {
      await eachStep(async (at) => {
        const dir = join(temp.path, `again-${at}`);
        makeHalf(dir);
        expect(start(dir)).toBe("refused");
        await restore(dir, at);
        // From there on it is as the test above has it.
        const putBack = !existsSync(join(dir, RESTORE_JOURNAL));
        expect({ at, found: start(dir) }).toEqual({ at, found: putBack ? "before" : "refused" });
        await restore(dir);
        expectRestored(dir, `again ${at}`);
        return { killed: !putBack };
      });
    },
    DEADLINE_MS,
  );

  test(
    "of a first restore into no directory leaves nothing that an edge starts on without a word",
    async () => {
      await eachStep(async (at) => {
        const dir = join(temp.path, `first-${at}`);
        const { killed } = await restore(dir, at);
        const found = existsSync(dir) ? start(dir) : "empty";
        expect({ at, found }).toEqual({
          at,
          found: expect.stringMatching(killed ? /empty|refused|restored/ : /restored/),
        });
        if (killed) await restore(dir);
        expect({ at, found: start(dir) }).toEqual({ at, found: "restored" });
        return { killed };
      });
    },
    DEADLINE_MS,
  );
});

test("what its owner moved back by hand is not taken for what was restored", async () => {
  const dir = join(temp.path, "by-hand");
  makeHalf(dir);
  for (const name of readdirSync(dir)) if (name !== RESTORE_JOURNAL) rmSync(join(dir, name), { recursive: true });
  cpSync(oldDir, dir, { recursive: true });
  await restore(dir);
  expectRestored(dir, "by hand");
});

test("two restores within a second each put aside what they find", async () => {
  const dir = join(temp.path, "twice");
  cpSync(oldDir, dir, { recursive: true });
  const prepare = () => undefined;
  const first = restoreEdgeBackup(file, dir, 1_000, prepare);
  const second = restoreEdgeBackup(file, dir, 1_000, prepare);
  expect(second).not.toBe(first);
  expect(readdirSync(second ?? "")).toContain("seal.key");
  expectRestored(dir, "twice");
});

test.each([
  ["no JSON", "{"],
  ["a way out of the directory", JSON.stringify({ moves: [["../x", "culvert.db"]] })],
  ["a path from the root", JSON.stringify({ moves: [["culvert.db", "/tmp/x"]] })],
])("a journal that nobody here wrote moves nothing: %s", async (_, text) => {
  const dir = join(temp.path, "strange");
  rmSync(dir, { recursive: true, force: true });
  mkdirSync(dir);
  cpSync(oldDir, dir, { recursive: true });
  writeFileSync(join(dir, RESTORE_JOURNAL), text);
  expect(() => openStateDir(dir, Date.now())).toThrow(/restore\.pending/);
  const argv = [process.execPath, program, "edge", "restore", file, "--state-dir", dir];
  expect(await runProcess(argv)).toMatchObject({ code: 1, stderr: expect.stringContaining(RESTORE_JOURNAL) });
  rmSync(join(dir, RESTORE_JOURNAL));
  expect(start(dir)).toBe("before");
});
