import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createHash, randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { culvertCommand } from "../support/binary.ts";
import {
  addTunnel,
  CONNECTORS,
  type ConnectorKind,
  cleanEnvironment,
  culvertConnector,
  type EdgeProcess,
  HOST,
  startConnector,
  startEdgeProcess,
} from "../support/lab.ts";
import { pollUntil } from "../support/poll-until.ts";
import { type OwnedProcess, runProcess, startProcess } from "../support/processes.ts";
import { startTcpOrigin } from "../support/tcp-origin.ts";
import { makeTempDir } from "../support/temp-dir.ts";

const MIB = 1024 * 1024;
const BULK_BYTES = 100 * MIB;
const BULK_DEADLINE_MS = 90_000;

interface StreamLab extends AsyncDisposable {
  readonly edge: EdgeProcess;
  /** The edge again, on its ports. */
  restartEdge(): Promise<void>;
  /** Arguments that reach the lab's hostname. */
  readonly access: readonly string[];
}

/** Edge and connector in processes of their own, before a TCP service. */
async function startStreamLab(kind: ConnectorKind, originPort: number): Promise<StreamLab> {
  await using stack = new AsyncDisposableStack();
  const dir = stack.use(makeTempDir());
  const stateDir = join(dir.path, "state");
  let edge = await startEdgeProcess(stateDir);
  stack.defer(() => edge.process[Symbol.asyncDispose]());
  const token = await addTunnel(stateDir, "lab", [HOST]);
  const { tunnelPort, publicPort, caPath } = edge;
  const url = `tcp://127.0.0.1:${originPort}`;
  const connector = stack.use(startConnector(kind, { token, tunnelPort, caPath, url }));
  await connector.errorLine(/Registered tunnel connection/);
  const owned = stack.move();
  return {
    get edge() {
      return edge;
    },
    restartEdge: async () => {
      edge = await startEdgeProcess(stateDir, { tunnelPort, publicPort });
    },
    access: ["--hostname", `http://${HOST}`, "--connect-to", `127.0.0.1:${publicPort}`],
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function access(...args: readonly string[]): readonly string[] {
  return [...culvertCommand(), "access", ...args];
}

/** `access tcp --url`: the process, and the port it forwards. */
async function startPort(...args: readonly string[]): Promise<{ process: OwnedProcess; port: number }> {
  const child = startProcess(access("tcp", "--url", "127.0.0.1:0", ...args), { env: cleanEnvironment() });
  try {
    const [, port] = await child.errorLine(/Forwarding 127\.0\.0\.1:(\d+)/);
    return { process: child, port: Number(port) };
  } catch (error) {
    await child[Symbol.asyncDispose]();
    throw error;
  }
}

/** `access tcp` between files, by way of a shell. */
function overStdio(
  args: readonly string[],
  script: string,
  deadlineMs?: number,
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const env = cleanEnvironment();
  return runProcess(["sh", "-c", script, ...access("tcp", ...args)], { env, ...(deadlineMs ? { deadlineMs } : {}) });
}

/** Sends all, reads all that comes back until `bytes` came or the peer ended; hashes of both. */
async function bulk(
  port: number,
  bytes: number,
  options: { halfClose: boolean },
): Promise<[sent: string, back: string]> {
  const socket = connect({ host: "127.0.0.1", port, allowHalfOpen: true });
  const sent = createHash("sha256");
  const back = createHash("sha256");
  let received = 0;
  const done = new Promise<void>((resolve, reject) => {
    socket.on("data", (chunk) => {
      back.update(chunk);
      received += chunk.length;
      if (!options.halfClose && received >= bytes) resolve();
    });
    socket.on("end", () => resolve());
    socket.on("error", reject);
  });
  const block = randomBytes(64 * 1024);
  for (let at = 0; at < bytes; at += block.length) {
    block.writeUInt32BE(at >>> 0, 0);
    const chunk = Buffer.from(block.subarray(0, Math.min(block.length, bytes - at)));
    sent.update(chunk);
    if (!socket.write(chunk)) await new Promise<void>((resolve) => socket.once("drain", () => resolve()));
  }
  if (options.halfClose) socket.end();
  await done;
  socket.destroy();
  return [sent.digest("hex"), back.digest("hex")];
}

function echo(socket: Socket): void {
  socket.pipe(socket);
}

for (const kind of CONNECTORS) {
  const suite = kind.missing === undefined ? describe : describe.skip;
  suite(`access tcp, ${kind.name}${kind.missing === undefined ? "" : ` (${kind.missing})`}`, () => {
    const stack = new AsyncDisposableStack();
    let lab: StreamLab;
    let forward: { process: OwnedProcess; port: number };

    beforeAll(async () => {
      const origin = stack.use(await startTcpOrigin(echo));
      lab = stack.use(await startStreamLab(kind, origin.port));
      forward = await startPort(...lab.access);
      stack.use(forward.process);
    });
    afterAll(() => stack.disposeAsync());

    test(
      "100 MiB both ways through a port arrive as they went, with bounded memory",
      async () => {
        const [sent, back] = await bulk(forward.port, BULK_BYTES, { halfClose: kind.ours });
        expect(back).toBe(sent);
        expect(forward.process.peakResidentBytes()).toBeLessThan(300 * MIB);
      },
      BULK_DEADLINE_MS,
    );

    test("50 connections at once keep their own bytes", async () => {
      const hashes = await Promise.all(
        Array.from({ length: 50 }, () => bulk(forward.port, 300_000, { halfClose: kind.ours })),
      );
      expect(hashes.length).toBe(50);
      for (const [sent, back] of hashes) expect(back).toBe(sent);
    });

    test("standard input and output: only the service's bytes, and exit code 0", async () => {
      using dir = makeTempDir();
      const file = join(dir.path, "bytes");
      writeFileSync(file, randomBytes(3 * MIB));
      // cloudflared's end drops what is under way when one side is done: the input must outlast the answer.
      const input = kind.ours
        ? `cat '${file}'`
        : `{ cat '${file}'; while [ ! -s '${file}.back' ] || [ $(wc -c <'${file}.back') -lt ${3 * MIB} ]; do sleep 0.05; done; }`;
      const { code, stderr } = await overStdio(lab.access, `${input} | "$0" "$@" >'${file}.back'`);
      expect([code, stderr]).toEqual([0, ""]);
      expect(readFileSync(`${file}.back`).equals(readFileSync(file))).toBe(true);
    });

    test("a hostname that nobody serves is told with its status, on standard error alone", async () => {
      const args = ["--hostname", "http://other.example", ...lab.access.slice(2)];
      const { code, stdout, stderr } = await overStdio(args, '"$0" "$@" </dev/null');
      expect([code, stdout]).toEqual([1, ""]);
      expect(stderr).toBe("culvert: http://other.example answered 404: no tunnel serves this hostname or path\n");
    });
  });
}

const OURS = culvertConnector("quic");

describe("access tcp", () => {
  test("the end of the input reaches the service, and its answer to all of it comes back", async () => {
    await using origin = await startTcpOrigin((socket) => {
      const hash = createHash("sha256");
      socket.on("data", (chunk) => hash.update(chunk));
      socket.on("end", () => void socket.end(hash.digest("hex")));
    });
    await using lab = await startStreamLab(OURS, origin.port);
    using dir = makeTempDir();
    const file = join(dir.path, "bytes");
    const bytes = randomBytes(20 * MIB);
    writeFileSync(file, bytes);
    const { code, stdout } = await overStdio(lab.access, `"$0" "$@" <'${file}'`);
    expect([code, stdout]).toEqual([0, createHash("sha256").update(bytes).digest("hex")]);
  });

  test("the service's end reaches the reader of the output while the input goes on", async () => {
    let received = 0;
    await using origin = await startTcpOrigin((socket) => {
      socket.end("goodbye");
      socket.on("data", (chunk) => {
        received += chunk.length;
      });
    });
    await using lab = await startStreamLab(OURS, origin.port);
    using dir = makeTempDir();
    const seen = join(dir.path, "seen");
    // The input ends only after the reader has seen the end of the output.
    const script = `{ while [ ! -e '${seen}' ]; do sleep 0.02; done; printf later; } | "$0" "$@" | { cat; touch '${seen}'; }`;
    const { stdout } = await overStdio(lab.access, script);
    expect(stdout).toBe("goodbye");
    await pollUntil(() => received === 5, { what: "what was sent after the end" });
  });

  test("a service that is down: the status, a hint, exit code 1", async () => {
    const origin = await startTcpOrigin(echo);
    await using lab = await startStreamLab(OURS, origin.port);
    await origin[Symbol.asyncDispose]();
    const { code, stdout, stderr } = await overStdio(lab.access, '"$0" "$@" </dev/null');
    expect([code, stdout]).toEqual([1, ""]);
    expect(stderr).toMatch(/answered 502: the tunnel is up, but its service cannot be reached/);
  });

  test("an edge that restarts: streams are cut, and connections made meanwhile are served afterwards", async () => {
    await using origin = await startTcpOrigin(echo);
    await using lab = await startStreamLab(OURS, origin.port);
    const forward = await startPort(...lab.access);
    await using _process = forward.process;
    const before = connect({ host: "127.0.0.1", port: forward.port });
    let cut = false;
    before.on("error", () => {});
    before.on("close", () => {
      cut = true;
    });
    before.write("x");
    await new Promise<void>((resolve) => before.once("data", () => resolve()));
    await lab.edge.process.kill();
    await pollUntil(() => cut, { what: "the open stream is cut" });
    const during = bulk(forward.port, 100_000, { halfClose: true });
    await forward.process.errorLine(/trying again/);
    await lab.restartEdge();
    const [sent, back] = await during;
    expect(back).toBe(sent);
  });

  test("a command line that is wrong ends with 255, and says why", async () => {
    const run = (...args: readonly string[]) => runProcess(access(...args), { env: cleanEnvironment() });
    for (const [args, why] of [
      [["tcp"], /--hostname is missing/],
      [["ssh", "--hostname", "ftp://a"], /--hostname has the scheme "ftp"/],
      [["tcp", "--hostname", "a", "--url", "nowhere"], /--url must be HOST:PORT/],
      [["tcp", "--hostname", "a", "--header", "Host: b"], /Host is set by the client itself/],
      [["tcp", "--hostname", "a", "--log-level", "loud"], /log-level must be one of/],
      [["forward"], /--config/],
    ] as const) {
      const { code, stdout, stderr } = await run(...args);
      expect([code, stdout]).toEqual([255, ""]);
      expect(stderr).toMatch(why);
    }
    const { code, stderr } = await run("tcp", "--hostname", "a", "--ca-file", "/does/not/exist");
    expect(code).toBe(1);
    expect(stderr).toContain("/does/not/exist");
  });

  test("settings come from the environment; flags win", async () => {
    await using origin = await startTcpOrigin(echo);
    await using lab = await startStreamLab(OURS, origin.port);
    const env = {
      ...cleanEnvironment(),
      TUNNEL_SERVICE_HOSTNAME: "http://other.example",
      TUNNEL_SERVICE_URL: "127.0.0.1:0",
    };
    await using child = startProcess(access("rdp", ...lab.access), { env });
    const [line, port] = await child.errorLine(/Forwarding 127\.0\.0\.1:(\d+) to \S+/);
    expect(line).toEndWith(`to http://${HOST}`);
    const [sent, back] = await bulk(Number(port), 1_000, { halfClose: true });
    expect(back).toBe(sent);
  });

  test("a file with several forwards serves all of them until SIGTERM", async () => {
    await using origin = await startTcpOrigin(echo);
    await using lab = await startStreamLab(OURS, origin.port);
    using dir = makeTempDir();
    const file = join(dir.path, "forwards.yml");
    const entry = `- hostname: http://${HOST}\n  url: 127.0.0.1:0\n`;
    writeFileSync(file, `${entry}  headers: {X-Team: blue}\n${entry}`);
    await using child = startProcess(access("forward", "--config", file, ...lab.access.slice(2)), {
      env: cleanEnvironment(),
    });
    const ports = await pollUntil(
      () => {
        const found = [...child.stderr.matchAll(/Forwarding 127\.0\.0\.1:(\d+)/g)].map((match) => Number(match[1]));
        return found.length === 2 ? found : undefined;
      },
      { what: "both ports" },
    );
    for (const port of ports) {
      const [sent, back] = await bulk(port, 10_000, { halfClose: true });
      expect(back).toBe(sent);
    }
    child.signal("SIGTERM");
    expect(await child.exitCode(2_000)).toBe(0);
    writeFileSync(file, `- hostname: http://${HOST}\n  ulr: 127.0.0.1:0\n`);
    const { code, stderr } = await runProcess(access("forward", "--config", file), { env: cleanEnvironment() });
    expect(code).toBe(1);
    expect(stderr).toContain(`culvert: ${file}:2:3: Unknown key "ulr": did you mean "url"?`);
  });
});

const PROXIES = [
  {
    program: "tinyproxy",
    start: (port: number, dir: string): OwnedProcess => {
      const file = join(dir, "tinyproxy.conf");
      writeFileSync(file, `Port ${port}\nListen 127.0.0.1\nTimeout 600\nBasicAuth culvert p4ss\n`);
      return startProcess(["tinyproxy", "-d", "-c", file]);
    },
    url: (port: number): string => `http://culvert:p4ss@127.0.0.1:${port}`,
  },
  {
    program: "microsocks",
    start: (port: number): OwnedProcess =>
      startProcess(["microsocks", "-i", "127.0.0.1", "-p", String(port), "-u", "culvert", "-P", "p4ss"]),
    url: (port: number): string => `socks5://culvert:p4ss@127.0.0.1:${port}`,
  },
] as const;

for (const proxy of PROXIES) {
  test.skipIf(Bun.which(proxy.program) === null)(`access tcp by way of ${proxy.program}`, async () => {
    await using origin = await startTcpOrigin(echo);
    await using lab = await startStreamLab(OURS, origin.port);
    using dir = makeTempDir();
    const holder = await startTcpOrigin(() => {});
    const { port } = holder;
    await holder[Symbol.asyncDispose]();
    const { code, stderr } = await overStdio([...lab.access, "--proxy", proxy.url(port)], '"$0" "$@" </dev/null');
    expect([code, stderr]).toEqual([1, expect.stringMatching(/connection refused/)]);
    await using child = proxy.start(port, dir.path);
    await pollUntil(
      async () => {
        const { stdout } = await overStdio([...lab.access, "--proxy", proxy.url(port)], 'printf hello | "$0" "$@"');
        return stdout === "hello";
      },
      { what: `an echo by way of ${child.name}`, everyMs: 100 },
    );
    const wrong = proxy.url(port).replace("p4ss", "other");
    const refused = await overStdio([...lab.access, "--proxy", wrong], 'printf hello | "$0" "$@"');
    expect([refused.code, refused.stdout]).toEqual([1, ""]);
    expect(refused.stderr).not.toContain("other");
  });
}
