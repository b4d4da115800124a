import { describe, expect, test } from "bun:test";
import { chmodSync, copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { builtBinary, culvertCommand } from "../support/binary.ts";
import { addTunnel, cleanEnvironment, metricsPort, startEdgeProcess } from "../support/lab.ts";
import { runProcess, startProcess } from "../support/processes.ts";
import { makeTempDir } from "../support/temp-dir.ts";

const USAGE = 255;
const NOBODY = 65_534;
const binary = builtBinary();
/** A token of the right shape for a tunnel that no edge knows; nothing is dialled with it. */
const TOKEN = tokenOf({ a: "0".repeat(32), s: btoa("0".repeat(32)), t: "01234567-89ab-cdef-0123-456789abcdef" });

function tokenOf(fields: object): string {
  return btoa(JSON.stringify(fields));
}

async function culvert(args: readonly string[], options: { readonly deadlineMs?: number } = {}) {
  return await runProcess([...culvertCommand(), ...args], { env: cleanEnvironment(), ...options });
}

/** One line that says what is wrong, perhaps one that says where help is, and nothing of the program's inside. */
function expectClear(
  result: { code: number | null; stdout: string; stderr: string },
  code: number,
  says: RegExp,
): void {
  const lines = result.stderr.trim().split("\n");
  expect({ code: result.code, stderr: result.stderr }).toEqual({ code, stderr: expect.stringMatching(says) });
  expect(lines.filter((line) => /^\s+at /.test(line))).toEqual([]);
  expect(lines.filter((line) => says.test(line)).length).toBe(1);
  // Behind all that led to it; of a run it is in the log, and nowhere else.
  expect(lines.filter((line) => !line.startsWith("See '")).at(-1)).toMatch(says);
  expect(lines.filter((line) => !/ (INF|WRN|ERR) |^See '/.test(line)).length).toBeLessThanOrEqual(1);
}

/** Keeps a port taken. */
async function takePort(): Promise<{ readonly address: string } & AsyncDisposable> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("No port");
  return {
    address: `127.0.0.1:${address.port}`,
    [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(() => resolve())),
  };
}

describe("what is asked for cannot be", () => {
  test.each([
    { what: "an unknown command", args: ["tunel"], says: /tunel/ },
    { what: "an unknown flag", args: ["edge", "run", "--statedir", "x"], says: /statedir/ },
    { what: "no token", args: ["tunnel", "run"], says: /token/ },
    { what: "a token that is none", args: ["tunnel", "run", "--token", "nonsense"], says: /token/i },
    {
      what: "an address that is none",
      args: ["edge", "run", "--state-dir", "x", "--http-listen", "nowhere"],
      says: /nowhere/,
    },
    {
      what: "an edge address without a port",
      args: ["tunnel", "run", "--token", TOKEN, "--hello-world", "--edge", "edge.example"],
      says: /HOST:PORT/,
    },
  ])("$what", async ({ args, says }) => {
    const result = await culvert(args);
    expect([USAGE, 1]).toContain(result.code ?? -1);
    expectClear(result, result.code ?? -1, says);
  });
});

describe("config files", () => {
  const catchAll = "  - service: http_status:404\n";
  const run = async (config: string, dir: string, command: readonly string[]) => {
    const path = join(dir, "config.yml");
    writeFileSync(path, config);
    return await culvert(["tunnel", "--config", path, ...command]);
  };

  test.each([
    {
      what: "a missing catch-all",
      config: "ingress:\n  - hostname: a.example\n    service: http_status:200\n",
      says: /catch-all|last/i,
    },
    {
      what: "a bad regular expression",
      config: `ingress:\n  - hostname: a.example\n    path: "("\n    service: http_status:200\n${catchAll}`,
      says: /path|regular|\(/,
    },
    {
      what: "a look-ahead",
      config: `ingress:\n  - hostname: a.example\n    path: "(?=x)"\n    service: http_status:200\n${catchAll}`,
      says: /path|\(\?=/,
    },
    { what: "an unknown service", config: "ingress:\n  - service: gopher://x\n", says: /gopher/ },
    { what: "broken YAML", config: "ingress: [\n", says: /config\.yml/ },
  ])("$what ends it", async ({ config, says }) => {
    using dir = makeTempDir();
    expectClear(await run(config, dir.path, ["--edge", "127.0.0.1:1", "run", "--token", TOKEN]), 1, says);
  });

  test("an unknown key is a warning with the key that was perhaps meant", async () => {
    using dir = makeTempDir();
    const { code, stderr } = await run(`ingres:\n  - x\ningress:\n${catchAll}`, dir.path, ["ingress", "validate"]);
    expect(code).not.toBe(0);
    expect(stderr).toMatch(/ingres\b.*ingress/);
    const path = join(dir.path, "config.yml");
    await using running = startProcess(
      [...culvertCommand(), "tunnel", "--config", path, "--edge", "127.0.0.1:1", "run", "--token", TOKEN],
      { env: cleanEnvironment() },
    );
    await running.errorLine(/WRN .*ingres\b.*ingress/);
    expect(running.end).toBeUndefined();
  });

  test("a config file that is not there", async () => {
    expectClear(
      await culvert(["tunnel", "--config", "/nonexistent/config.yml", "run", "--token", TOKEN]),
      1,
      /\/nonexistent\/config\.yml/,
    );
  });
});

describe("ports that are taken", () => {
  test.each(["--http-listen", "--tunnel-listen"])("edge run %s", async (flag) => {
    using dir = makeTempDir();
    await using taken = await takePort();
    const other = flag === "--http-listen" ? "--tunnel-listen" : "--http-listen";
    const result = await culvert([
      "edge",
      "run",
      "--state-dir",
      join(dir.path, "s"),
      flag,
      taken.address,
      other,
      "127.0.0.1:0",
    ]);
    expectClear(result, 1, new RegExp(` ERR .*${taken.address}`, "m"));
  });

  test("tunnel run --metrics", async () => {
    await using taken = await takePort();
    const args = [
      "tunnel",
      "--edge",
      "127.0.0.1:1",
      "--metrics",
      taken.address,
      "run",
      "--token",
      TOKEN,
      "--hello-world",
    ];
    expectClear(await culvert(args), 1, new RegExp(` ERR .*${taken.address}`, "m"));
  });

  test("up --port", async () => {
    await using taken = await takePort();
    expectClear(await culvert(["up", "--port", taken.address.split(":")[1] ?? ""]), 1, new RegExp(taken.address));
  });
});

describe("state directories", () => {
  const listen = ["--http-listen", "127.0.0.1:0", "--tunnel-listen", "127.0.0.1:0"];

  test("a file in its place", async () => {
    using dir = makeTempDir();
    const path = join(dir.path, "file");
    writeFileSync(path, "");
    expectClear(await culvert(["edge", "run", "--state-dir", path, ...listen]), 1, new RegExp(path));
    expectClear(await culvert(["edge", "tunnel", "add", "x", "x.example", "--state-dir", path]), 1, new RegExp(path));
  });

  test("a folder that cannot be made", async () => {
    expectClear(await culvert(["edge", "run", "--state-dir", "/proc/culvert", ...listen]), 1, /\/proc\/culvert/);
  });

  test("a database that is none", async () => {
    using dir = makeTempDir();
    const path = join(dir.path, "state");
    await using edge = await startEdgeProcess(path).then(({ process }) => process);
    await edge.kill();
    for (const name of ["culvert.db", "culvert.db-wal", "culvert.db-shm"])
      writeFileSync(join(path, name), "this is no database");
    expectClear(await culvert(["edge", "run", "--state-dir", path, ...listen]), 1, /database|culvert\.db/i);
  });

  test("one that an edge runs on, until that is killed", async () => {
    using dir = makeTempDir();
    const path = join(dir.path, "state");
    await using edge = await startEdgeProcess(path).then(({ process }) => process);
    const refused = new RegExp(`${path}.*another edge runs on it \\(process ${edge.pid}\\)`);
    expectClear(await culvert(["edge", "run", "--state-dir", path, ...listen]), 1, refused);
    expectClear(await culvert(["up", "--once", "--state-dir", path]), 1, refused);
    // Other commands work beside it.
    await addTunnel(path, "beside", ["beside.example"]);
    await edge.kill();
    await using next = await startEdgeProcess(path).then(({ process }) => process);
    expect(next.end).toBeUndefined();
  });

  // Root may read everything, so it asks as nobody: with a copy of the binary, which nobody may run wherever this is.
  test.skipIf(binary === undefined)("a folder that may not be read", async () => {
    using dir = makeTempDir();
    const copy = join(dir.path, "culvert");
    copyFileSync(binary ?? "", copy);
    const path = join(dir.path, "closed");
    mkdirSync(path);
    chmodSync(path, 0);
    chmodSync(dir.path, 0o755);
    const nobody = process.getuid?.() === 0 ? { uid: NOBODY } : {};
    const result = await runProcess([copy, "edge", "run", "--state-dir", path, ...listen], { env: {}, ...nobody });
    expectClear(result, 1, new RegExp(path));
    expect(result.stderr).toContain("permission denied");
  });
});

describe("an edge that does not want us", () => {
  test("a wrong secret ends the connector with the reason, once", async () => {
    using dir = makeTempDir();
    const stateDir = join(dir.path, "state");
    await using edge = await startEdgeProcess(stateDir).then(({ process }) => process);
    const token = await addTunnel(stateDir, "wrong", ["wrong.example"]);
    const fields = JSON.parse(atob(token)) as Record<string, string>;
    const wrong = tokenOf({ ...fields, s: btoa("another secret of 32 bytes......") });
    const result = await culvert(["tunnel", "--metrics", "127.0.0.1:0", "run", "--token", wrong, "--hello-world"], {
      deadlineMs: 20_000,
    });
    expectClear(result, 1, / ERR The edge does not accept .*secret/);
    expect(result.stderr).toMatch(/Invalid tunnel secret/);
    expect(edge.end).toBeUndefined();
  });

  test("a token for a tunnel that the edge does not know", async () => {
    using dir = makeTempDir();
    const stateDir = join(dir.path, "state");
    await using edge = await startEdgeProcess(stateDir).then(({ process }) => process);
    const token = await addTunnel(stateDir, "known", ["known.example"]);
    const fields = JSON.parse(atob(token)) as Record<string, string>;
    const unknown = tokenOf({ ...fields, t: "01234567-89ab-cdef-0123-456789abcdef" });
    const result = await culvert(["tunnel", "--metrics", "127.0.0.1:0", "run", "--token", unknown, "--hello-world"], {
      deadlineMs: 20_000,
    });
    expect(result.code).toBe(1);
    expect(result.stderr.split("\n").filter((line) => /^\s+at /.test(line))).toEqual([]);
    expect(edge.end).toBeUndefined();
  });

  test("an edge that is not there is tried again and again, a line each", async () => {
    await using connector = startProcess(
      [
        ...culvertCommand(),
        "tunnel",
        "--edge",
        "127.0.0.1:1",
        "--metrics",
        "127.0.0.1:0",
        "run",
        "--token",
        TOKEN,
        "--hello-world",
      ],
      { env: cleanEnvironment() },
    );
    await metricsPort(connector);
    await connector.errorLine(/(ERR|WRN) .*127\.0\.0\.1:1/);
    expect(connector.stderr).not.toMatch(/^\s+at /m);
    connector.signal("SIGTERM");
    expect(await connector.exitCode()).toBe(0);
  });
});
