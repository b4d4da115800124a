import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { culvertCommand, denoCommand } from "../support/binary.ts";
import { culvertConnector, startConnector } from "../support/lab.ts";
import { type ManagedEdge, startManagedEdge } from "../support/managed-edge.ts";
import { pollUntil } from "../support/poll-until.ts";
import { runProcess, startProcess } from "../support/processes.ts";
import { visit } from "../support/visitors.ts";

const HOST = "app.lost.example";
/** Their list is more than a pipe holds, which is 64 KiB on Linux. */
const MANY_TUNNELS = 800;
const LEFT = 141;

const quoted = (words: readonly string[]): string => words.map((word) => `'${word}'`).join(" ");

describe.skipIf(!existsSync("/dev/full"))("output that does not arrive", () => {
  const stack = new AsyncDisposableStack();
  let edge: ManagedEdge;
  /** In a shell, with `culvert` for the command under test. */
  const shell = (script: string, command = culvertCommand()) =>
    runProcess(["bash", "-c", `culvert() { ${quoted(command)} "$@"; }; ${script}`], { env: edge.env });
  beforeAll(async () => {
    edge = stack.use(await startManagedEdge({ edgeFlags: ["--management-hostname", "localhost"] }));
    expect((await edge.culvert("tunnel", "create", "web")).code).toBe(0);
    expect((await edge.culvert("tunnel", "route", "dns", "web", HOST)).code).toBe(0);
  }, 20_000);
  afterAll(() => stack.disposeAsync());

  test.each([
    "--version",
    "--help",
    "tunnel token web",
    "tunnel list",
    "tunnel info web",
    "tail token web",
    "edge status --state-dir STATE",
  ])("culvert %s at a full disk says so in a line, and fails", async (command) => {
    const { code, stderr } = await shell(`culvert ${command.replace("STATE", edge.stateDir)} >/dev/full`);
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: expect.stringMatching(/^culvert: Cannot write to standard output: [^\n]*no space left[^\n]*\n$/i),
    });
  });

  test("what a command says of its own failure stands, and a reader that has left is told nothing", async () => {
    const usage = await shell("culvert --nothing >/dev/full");
    expect(usage.code).toBe(255);
    // The reader has left before the first word.
    const left = await shell(`{ sleep 0.5; culvert tunnel list; echo "$?" >&2; } | true`);
    expect(left.stderr).toBe(`${LEFT}\n`);
  });

  const deno = denoCommand();
  test.skipIf(deno === undefined)("the second runtime, whose streams throw, does the same", async () => {
    const full = await shell("culvert --version >/dev/full", deno);
    expect(full).toMatchObject({ code: 1, stderr: expect.stringMatching(/^culvert: Cannot write [^\n]*\n$/) });
    const left = await shell(`{ sleep 0.5; culvert --version; echo "$?" >&2; } | true`, deno);
    expect(left.stderr).toBe(`${LEFT}\n`);
  });

  test("a log that nobody reads any more is followed no longer, so that another may", async () => {
    const token = (await edge.culvert("tunnel", "token", "web")).stdout.trim();
    const { publicPort, tunnelPort, caPath } = edge.edge;
    await using connector = startConnector(culvertConnector("http2"), {
      ...{ token, tunnelPort, caPath, url: "http://127.0.0.1:1", gracePeriod: "1s" },
    });
    await connector.errorLine(/Registered tunnel connection/);
    const script = `culvert() { ${quoted(culvertCommand())} "$@"; }; culvert tail web | head -1; echo "\${PIPESTATUS[0]}"`;
    await using tail = startProcess(["bash", "-c", script], { env: edge.env });
    await pollUntil(
      async () => {
        await visit(publicPort, { host: HOST, target: "/line" });
        return tail.end;
      },
      { what: "the command to end", deadlineMs: 20_000 },
    );
    const [line, code] = tail.stdout.trim().split("\n");
    expect({ line, code, stderr: tail.stderr }).toEqual({
      ...{ line: expect.stringContaining(" "), code: String(LEFT), stderr: "" },
    });
  }, 30_000);

  test("a reader that is slow gets all of it; one that does not read does not keep whoever was asked to end", async () => {
    const path = `${edge.apiUrl}/accounts/${edge.cert.accountId}/cfd_tunnel`;
    const names = Array.from({ length: MANY_TUNNELS }, (_one, i) => `tunnel-${i}`);
    const make = async (name: string): Promise<void> => {
      const body = JSON.stringify({ name, tunnel_secret: Buffer.alloc(32).toString("base64") });
      const headers = { authorization: `Bearer ${edge.cert.apiToken}`, "content-type": "application/json" };
      const answer = await fetch(path, { method: "POST", headers, body });
      expect([name, answer.ok]).toEqual([name, true]);
    };
    for (const name of names) await make(name);
    const list = await shell("set -o pipefail; culvert tunnel list --output json | (sleep 1; cat)");
    expect(list.code).toBe(0);
    expect(list.stdout.length).toBeGreaterThan(128 * 1024);
    expect((JSON.parse(list.stdout) as unknown[]).length).toBe(MANY_TUNNELS + 1);
    // 124 = ended within the five seconds behind SIGTERM; 137 = it had to be killed.
    const asked = `timeout --foreground --kill-after=5 2 ${quoted(culvertCommand())} tunnel list --output json`;
    const stuck = await shell(`{ ${asked}; echo "$?" >&2; } | sleep 8`);
    expect(stuck).toMatchObject({ stderr: "124\n" });
  }, 60_000);
});
