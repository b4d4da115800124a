import { expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { newApiToken } from "../../src/edge/api-token.ts";
import { openStateDir } from "../../src/edge/state-dir.ts";
import { newTunnel } from "../../src/edge/store/new-tunnel.ts";
import { openSqliteStore } from "../../src/edge/store/sqlite/index.ts";
import { culvertCommand } from "../support/binary.ts";
import { cleanEnvironment } from "../support/lab.ts";
import { runProcess } from "../support/processes.ts";
import { makeTempDir } from "../support/temp-dir.ts";

const ESCAPE = "\x1b[31m";
const OPERATOR = { kind: "operator", id: "test", from: "" } as const;

async function inHome(
  work: (run: (...args: readonly string[]) => ReturnType<typeof runProcess>, home: string) => Promise<void>,
) {
  using dir = makeTempDir();
  const home = dir.path;
  const env = { ...cleanEnvironment(), HOME: home, CULVERT_STATE_DIR: join(home, "edge") };
  await work((...args) => runProcess([...culvertCommand(), "edge", ...args], { env, cwd: home }), home);
}

const REFUSED = [
  { name: "", why: "must not be empty" },
  { name: "x".repeat(101), why: "must have at most 100 characters" },
  { name: `x${ESCAPE}`, why: "must not hold control or formatting characters" },
  { name: "👩\u200d💻 lab", why: "must not hold control or formatting characters" },
  { name: "a\nb", why: "must not hold control or formatting characters" },
];

test("a token is only made with a name that the API takes as well", async () => {
  await inHome(async (run) => {
    expect((await run("init")).code).toBe(0);
    const before = (await run("token", "list", "--json")).stdout;
    for (const { name, why } of REFUSED) {
      expect(await run("token", "create", name)).toMatchObject({
        code: 255,
        stdout: "",
        stderr: `culvert: The token's name ${why}\nSee 'culvert edge token create --help'.\n`,
      });
    }
    expect((await run("token", "list", "--json")).stdout).toBe(before);
    expect((await run("token", "create", "x".repeat(100))).code).toBe(0);
  });
}, 60_000);

test("a tunnel is only added with a name that the API takes as well", async () => {
  await inHome(async (run, home) => {
    const id = { name: "2F1C7A80-5d0e-4f5c-9d55-0c7a6c2f4b11", why: "must not look like a tunnel's id" };
    for (const { name, why } of [...REFUSED, id]) {
      expect(await run("tunnel", "add", name, "h.example.test")).toMatchObject({
        code: 255,
        stdout: "",
        stderr: `culvert: The tunnel's name ${why}\nSee 'culvert edge tunnel add --help'.\n`,
      });
    }
    expect(readdirSync(home)).not.toContain("edge");
    const added = await run("tunnel", "add", "größe 1", "H.example.test.", "*.h.example.test", "München.example.test");
    expect(added.code).toBe(0);
    const listed = await run("tunnel", "list");
    expect(listed.stdout).toMatch(/ größe 1 .*h\.example\.test/);
    expect(listed.stdout).toContain("*.h.example.test");
    expect(listed.stdout).toContain("xn--mnchen-3ya.example.test");
    expect((await run("tunnel", "add", "all", "*")).stderr).toStartWith('culvert: "*" is not a hostname');
  });
}, 60_000);

test("a tunnel whose name no new one may have is served like others", async () => {
  await inHome(async (run, home) => {
    const name = "👩\u200d💻 lab";
    const state = openStateDir(join(home, "edge"), Date.now());
    const store = openSqliteStore(state.databasePath, state.sealingKey);
    store.tunnels.add(newTunnel(name, store.accounts.own().tag, Date.now()), randomBytes(32), OPERATOR);
    store.close();
    const added = await run("tunnel", "add", name, "h.example.test");
    expect([added.code, added.stdout]).toEqual([0, expect.stringMatching(/^\S{100,}\n$/)]);
    expect((await run("tunnel", "list")).stdout).toContain("h.example.test");
    const other = await run("tunnel", "add", `${name} 2`, "h2.example.test");
    expect(other).toMatchObject({ code: 255, stdout: "" });
    expect(other.stderr).toEndWith("formatting characters\nSee 'culvert edge tunnel add --help'.\n");
  });
}, 60_000);

test("names that are in the store already do not steer the terminal", async () => {
  await inHome(async (run, home) => {
    const nowMs = Date.now();
    const state = openStateDir(join(home, "edge"), nowMs);
    const store = openSqliteStore(state.databasePath, state.sealingKey);
    const { tag } = store.accounts.own();
    const tunnel = newTunnel(`x${ESCAPE}`, tag, nowMs);
    store.tunnels.add(tunnel, randomBytes(32), OPERATOR);
    const scopes = ["audit:read"] as const;
    const made = newApiToken({ accountTag: tag, name: `y${ESCAPE}`, scopes, nowMs, expiresAtMs: undefined });
    store.tokens.add(made.token, made.secret, OPERATOR);
    store.close();
    for (const args of [
      ["tunnel", "list"],
      ["token", "list"],
      ["token", "revoke", made.token.id],
      ["tunnel", "delete", tunnel.id],
    ]) {
      const { code, stdout, stderr } = await run(...args);
      const said = stdout + stderr;
      expect({ args, code, raw: said.includes("\x1b"), shown: /[xy]\\u001b\[31m/.test(said) }).toEqual({
        ...{ args, code: 0 },
        ...{ raw: false, shown: true },
      });
    }
  });
}, 60_000);
