import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { culvertCommand } from "../support/binary.ts";
import { addTunnel, cleanEnvironment, type EdgeProcess, HOST, served, startEdgeProcess } from "../support/lab.ts";
import { startOrigin } from "../support/origins.ts";
import { pollUntil } from "../support/poll-until.ts";
import { runProcess, startProcess } from "../support/processes.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { startTerminal } from "../support/terminal.ts";
import { visit } from "../support/visitors.ts";

const ENTER = "\u001b[?1049h";
const LEAVE = "\u001b[?1049l";

const stack = new AsyncDisposableStack();
let stateDir: string;
let edge: EdgeProcess;
let options: { cwd: string; env: Record<string, string>; command: readonly string[] };

beforeAll(async () => {
  const dir = stack.use(makeTempDir());
  stateDir = join(dir.path, "state");
  options = { cwd: dir.path, env: cleanEnvironment(), command: culvertCommand() };
  const origin = stack.use(await startOrigin());
  await addTunnel(stateDir, "idle", ["idle.lab.example"], options);
  edge = await startEdgeProcess(
    stateDir,
    {},
    { ...options, flags: ["--metrics", "127.0.0.1:0", "--api-listen", "off"] },
  );
  stack.use(edge.process);
  const token = await addTunnel(stateDir, "web", [HOST], options);
  const argv = [...culvertCommand(), "tunnel", "--metrics", "127.0.0.1:0", "run", "--token", token];
  const connector = stack.use(startProcess([...argv, "--url", `http://127.0.0.1:${origin.port}`], options));
  await connector.errorLine(/Registered tunnel connection/);
  await served(edge.publicPort);
}, 30_000);
afterAll(() => stack.disposeAsync());

describe("culvert edge top", () => {
  const top = (...flags: readonly string[]) => [...culvertCommand(), "edge", "top", "--state-dir", stateDir, ...flags];

  test("shows what happens on a screen of its own, frame over frame, and leaves at q", async () => {
    await using terminal = await startTerminal(top("--interval", "200ms"), { rows: 24, columns: 80 }, options);
    const seen = (pattern: RegExp) =>
      pollUntil(() => pattern.test(terminal.screen), { what: `${pattern} on the screen`, deadlineMs: 15_000 });
    await seen(/culvert edge LAB, up /);
    await seen(/TUNNEL +STATE +CONN/);
    await seen(/web +healthy +1\/4 /);
    const load = setInterval(() => void visit(edge.publicPort, { host: HOST, target: "/hello" }).catch(() => {}), 20);
    try {
      await seen(/web +healthy +1\/4 +[1-9][\d.]* +0% +\d+ms/);
    } finally {
      clearInterval(load);
    }
    await terminal.resize(24, 60);
    terminal.type("x");
    await pollUntil(() => frames(terminal.screen).length > 12, { what: "more frames", deadlineMs: 10_000 });
    const { screen } = terminal;
    // Each is drawn over the one before: the screen is never cleared first.
    expect(screen).not.toContain("\u001b[2J");
    for (const frame of frames(screen)) {
      const lines = frame.split("\r\n");
      expect(lines.length).toBeLessThanOrEqual(24);
      expect(frame.startsWith("\u001b[H") && lines.every((line) => line.includes("\u001b[K"))).toBe(true);
    }
    terminal.type("q");
    expect(await terminal.process.exitCode(10_000)).toBe(0);
    expect([count(terminal.screen, ENTER), count(terminal.screen, LEAVE)]).toEqual([1, 1]);
    expect(terminal.screen.trimEnd().endsWith(LEAVE)).toBe(true);
  }, 40_000);

  test.each([
    { rows: 8, columns: 20, shown: { rows: 7, columns: 20 } },
    { rows: 3, columns: 30, shown: { rows: 3, columns: 30 } },
    // What a serial line knows of its size.
    { rows: 0, columns: 0, shown: { rows: 7, columns: 80 } },
  ])(
    "fits on $rows lines of $columns cells",
    async ({ rows, columns, shown }) => {
      await using terminal = await startTerminal(top("--interval", "200ms"), { rows, columns }, options);
      await pollUntil(() => frames(terminal.screen).length > 2, { what: "frames", deadlineMs: 15_000 });
      for (const frame of frames(terminal.screen).slice(0, 2)) {
        const lines = frame.split("\r\n").map((line) => Bun.stripANSI(line));
        expect(lines).toHaveLength(shown.rows);
        expect(Math.max(...lines.map((line) => Bun.stringWidth(line)))).toBe(shown.columns);
      }
      terminal.type("q");
      expect(await terminal.process.exitCode(10_000)).toBe(0);
    },
    30_000,
  );

  test("leaves the terminal as it was at SIGTERM, too", async () => {
    await using terminal = await startTerminal(top(), { rows: 24, columns: 80 }, options);
    await pollUntil(() => terminal.screen.includes("q quits"), { what: "the first frame", deadlineMs: 15_000 });
    terminal.type("\u0003");
    expect(await terminal.process.exitCode(10_000)).toBe(0);
    expect(terminal.screen).toContain(LEAVE);
  }, 30_000);

  test("prints once into a pipe, and says when no edge runs", async () => {
    const once = await runProcess(top("--interval", "200ms"), options);
    expect([once.code, once.stderr]).toEqual([0, ""]);
    expect(once.stdout).toMatch(/^culvert edge LAB, up .*\n(.*\n)+web +healthy/);
    expect(once.stdout).not.toMatch(/\u001b/);
    const none = await runProcess([...culvertCommand(), "edge", "top", "--state-dir", `${stateDir}-none`], options);
    expect([none.code, none.stdout]).toEqual([1, ""]);
    expect(none.stderr).toContain("No edge runs here");
    expect((await runProcess(top("--interval", "1ms"), options)).stderr).toContain("--interval must be");
  }, 30_000);
});

test("culvert edge status shows the same, as a table and as JSON", async () => {
  const argv = [...culvertCommand(), "edge", "status", "--state-dir", stateDir];
  await visit(edge.publicPort, { host: HOST, target: "/hello" });
  const table = await runProcess(argv, options);
  expect(table.stdout).toMatch(/Running: +yes, LAB for \d\d:\d\d:\d\d, version \d/);
  expect(table.stdout).toMatch(/TUNNEL +STATE +CONNECTORS .*\nweb +healthy +1 +4 +[1-9]\d* +0 /);
  const json = JSON.parse((await runProcess([...argv, "--json"], options)).stdout);
  expect(json).toMatchObject({
    ...{ running: true, tunnels: 2, connectedTunnels: 1, hostnames: 2 },
    edge: {
      addresses: { http: `127.0.0.1:${edge.publicPort}`, api: null, metrics: expect.any(String) },
      tunnels: { total: 2, connected: 1, connections: 4, hostnames: 2 },
      list: [{ name: "web", status: "healthy", connectors: 1, connections: 4 }],
    },
  });
}, 30_000);

test("the edge's metrics pass promtool, and count by tunnel", async () => {
  const text = await (await fetch(`http://127.0.0.1:${edge.metricsPort}/metrics`)).text();
  expect(text).toMatch(/^culvert_edge_tunnel_responses_total\{tunnel="[0-9a-f-]{36}",class="2xx"\} [1-9]/m);
  expect(text).toMatch(/^culvert_edge_dispatch_streams_total\{protocol="(quic|http2)"\} [1-9]/m);
  expect(text).toMatch(/^culvert_edge_lookups_total\{outcome="tunnel"\} [1-9]/m);
  expect(text).toMatch(/^culvert_edge_store_tunnels 2$/m);
  if (Bun.which("promtool") === null) return;
  const checked = Bun.spawnSync(["promtool", "check", "metrics"], { stdin: Buffer.from(text) });
  expect([checked.exitCode, checked.stderr.toString()]).toEqual([0, ""]);
});

function frames(screen: string): readonly string[] {
  return screen
    .split("\u001b[?2026h")
    .slice(1)
    .map((part) => part.split("\u001b[?2026l")[0] ?? "");
}

function count(text: string, part: string): number {
  return text.split(part).length - 1;
}
