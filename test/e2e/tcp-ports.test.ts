import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createHash, randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { culvertCommand } from "../support/binary.ts";
import { addTunnel, CONNECTORS, type EdgeProcess, startConnector, startEdgeProcess } from "../support/lab.ts";
import { pollUntil } from "../support/poll-until.ts";
import { runProcess, startProcess } from "../support/processes.ts";
import { startTcpOrigin } from "../support/tcp-origin.ts";
import { makeTempDir } from "../support/temp-dir.ts";

const MIB = 1024 * 1024;
const COPY_BYTES = 50 * MIB;
const LONG_MS = 60_000;
const HOOK_MS = 15_000;
const HAS_REDIS = Bun.which("redis-server") !== null && Bun.which("redis-benchmark") !== null;
/** Every connection of a test counts for this limit of the edge. */
const MAX_PER_IP = 40;

async function freePort(): Promise<number> {
  const holder = await startTcpOrigin(() => {});
  await holder[Symbol.asyncDispose]();
  return holder.port;
}

/** A connection to a public port, with what came on it. */
class Client implements Disposable {
  readonly socket: Socket;
  received = Buffer.alloc(0);
  end: "open" | "ended" | "closed" = "open";

  constructor(port: number) {
    this.socket = connect({ host: "127.0.0.1", port, allowHalfOpen: true });
    this.socket.on("data", (chunk: Buffer) => {
      this.received = Buffer.concat([this.received, chunk]);
    });
    this.socket.on("end", () => {
      this.end = "ended";
    });
    this.socket.on("error", () => {});
    this.socket.on("close", () => {
      this.end = "closed";
    });
  }

  async until(text: string): Promise<void> {
    await pollUntil(() => this.received.includes(text), { what: `${JSON.stringify(text)} from the port` });
  }

  async over(deadlineMs = 10_000): Promise<void> {
    await pollUntil(() => this.end !== "open", { what: "the end", deadlineMs });
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}

/** The services of this file, started once. */
const services = new AsyncDisposableStack();
const dir = services.use(makeTempDir());
const ports = { redis: 0, echo: 0, first: 0, sink: 0, gone: 0 };

beforeAll(async () => {
  ports.gone = await freePort();
  ports.echo = services.use(await startTcpOrigin((socket) => void socket.pipe(socket))).port;
  // Tells what it got first, whatever follows.
  ports.first = services.use(
    await startTcpOrigin((socket) => {
      socket.once("data", (chunk) => socket.end(`got ${JSON.stringify(chunk.toString("latin1"))}\n`));
    }),
  ).port;
  // Reads all, then says what it was: the end of one direction must leave the other.
  ports.sink = services.use(
    await startTcpOrigin((socket) => {
      const hash = createHash("sha256");
      socket.on("data", (chunk) => void hash.update(chunk));
      socket.on("end", () => socket.end(hash.digest("hex")));
    }),
  ).port;
  if (HAS_REDIS) {
    ports.redis = await freePort();
    const redis = ["redis-server", "--port", `${ports.redis}`, "--bind", "127.0.0.1", "--save", "", "--dir", dir.path];
    await services.use(startProcess(redis)).outputLine(/Ready to accept connections/);
  }
});
afterAll(() => services.disposeAsync(), HOOK_MS);

for (const kind of CONNECTORS) {
  const suite = kind.missing === undefined ? describe : describe.skip;
  suite(`public TCP ports, ${kind.name}${kind.missing === undefined ? "" : ` (${kind.missing})`}`, () => {
    const stack = new AsyncDisposableStack();
    let edge: EdgeProcess;
    let stateDir = "";

    const command = async (...args: readonly string[]) =>
      await runProcess([...culvertCommand(), "edge", "route", "tcp", ...args, "--state-dir", stateDir]);
    /** Opens a port that leads to a service by name; resolves once it takes connections. */
    const open = async (name: string, ...flags: readonly string[]): Promise<number> => {
      const port = await freePort();
      const { code, stderr } = await command(`${port}`, "lab", `${name}.lab.example`, ...flags);
      expect({ code, stderr }).toMatchObject({ code: 0 });
      await edge.process.errorLine(new RegExp(`Opened a TCP port .*port=${port} `));
      return port;
    };

    beforeAll(async () => {
      const own = stack.use(makeTempDir());
      stateDir = join(own.path, "state");
      const file = join(own.path, "config.yml");
      const rules = (["redis", "echo", "first", "sink", "gone"] as const).map(
        (name) => `  - {hostname: ${name}.lab.example, service: "tcp://127.0.0.1:${ports[name]}"}`,
      );
      writeFileSync(file, ["ingress:", ...rules, "  - {service: http_status:404}"].join("\n"));
      edge = await startEdgeProcess(stateDir, {}, { flags: ["--limit", `connections-per-ip=${MAX_PER_IP}`] });
      stack.use(edge.process);
      const token = await addTunnel(stateDir, "lab", ["lab.example"]);
      const { tunnelPort, caPath } = edge;
      const connector = stack.use(
        startConnector(kind, { token, tunnelPort, caPath, gracePeriod: "1s", flags: ["--config", file] }),
      );
      await connector.errorLine(/Registered tunnel connection/);
    });
    afterAll(() => stack.disposeAsync(), HOOK_MS);

    test.skipIf(!HAS_REDIS)(
      "redis answers pipelines of 20 clients",
      async () => {
        const port = await open("redis");
        const load = ["-n", "20000", "-c", "20", "-P", "16", "-d", "1000", "-r", "500", "-t", "set,get", "--csv"];
        const bench = await runProcess(["redis-benchmark", "-h", "127.0.0.1", "-p", `${port}`, ...load], {
          deadlineMs: 60_000,
        });
        expect(bench.stderr).toBe("");
        expect([...bench.stdout.matchAll(/^"(SET|GET)","([\d.]+)"/gm)].map(([, name]) => name)).toEqual(["SET", "GET"]);
      },
      LONG_MS,
    );

    test.each(["v1", "v2"] as const)("PROXY protocol %s tells the service who connects", async (version) => {
      const port = await open("first", "--proxy-protocol", version);
      using client = new Client(port);
      await pollUntil(() => client.socket.localPort !== undefined, { what: "a connection" });
      const source = client.socket.localPort ?? 0;
      await client.over();
      const got = JSON.parse(client.received.toString().slice(4)) as string;
      if (version === "v1") expect(got).toBe(`PROXY TCP4 127.0.0.1 127.0.0.1 ${source} ${port}\r\n`);
      else {
        const bytes = Buffer.from(got, "latin1");
        expect(bytes.subarray(0, 16).toString("hex")).toBe("0d0a0d0a000d0a515549540a2111000c");
        expect(bytes.subarray(16, 24).toString("hex")).toBe("7f0000017f000001");
        expect([bytes.readUInt16BE(24), bytes.readUInt16BE(26)]).toEqual([source, port]);
      }
    });

    test("what the visitor sends at once is not lost, and comes after nothing of ours", async () => {
      using client = new Client(await open("first"));
      client.socket.write("early");
      await client.over();
      expect(client.received.toString()).toBe('got "early"\n');
    });

    // cloudflared ends both directions when either ends (surface: section 13).
    test.skipIf(!kind.ours)(
      "the end of one direction leaves the other, behind many bytes",
      async () => {
        using client = new Client(await open("sink"));
        const block = randomBytes(MIB);
        const hash = createHash("sha256");
        for (let sent = 0; sent < COPY_BYTES; sent += block.length) {
          hash.update(block);
          if (!client.socket.write(block)) await new Promise<void>((resolve) => client.socket.once("drain", resolve));
        }
        client.socket.end();
        await client.over(30_000);
        expect(client.received.toString()).toBe(hash.digest("hex"));
      },
      LONG_MS,
    );

    test("a visitor that does not read holds the service back, not the edge's memory", async () => {
      using client = new Client(await open("echo"));
      client.socket.pause();
      const block = Buffer.alloc(MIB, 7);
      const before = edge.process.residentBytes();
      // Writes until nothing moves any more.
      let seen = -1;
      await pollUntil(
        () => {
          while (client.socket.writableLength < 4 * MIB) client.socket.write(block);
          const moved = client.socket.bytesWritten - client.socket.writableLength;
          const stands = moved === seen;
          seen = moved;
          return stands;
        },
        { what: "everything stands still", deadlineMs: 20_000, everyMs: 300 },
      );
      expect(edge.process.residentBytes() - before).toBeLessThan(64 * MIB);
    }, 30_000);

    test("a service that is not there: the visitor is cut, and the log says why", async () => {
      const port = await open("gone");
      using client = new Client(port);
      await client.over();
      expect(client.received).toHaveLength(0);
      await edge.process.errorLine(
        new RegExp(`Cannot take a TCP connection to its service .*status 502.* port=${port} `),
      );
    });

    test("further connections of one address than the limit allows are cut", async () => {
      const port = await open("echo");
      await using stack = new AsyncDisposableStack();
      const clients = Array.from({ length: MAX_PER_IP }, () => stack.use(new Client(port)));
      for (const client of clients) client.socket.write("x");
      for (const client of clients) await client.until("x");
      using refused = new Client(port);
      await refused.over();
      clients[0]?.socket.destroy();
      await pollUntil(
        async () => {
          using again = new Client(port);
          again.socket.write("y");
          await pollUntil(() => again.received.length > 0 || again.end !== "open", { what: "an answer or the end" });
          return again.received.length > 0;
        },
        { what: "a place is free again", deadlineMs: 10_000 },
      );
    }, 30_000);

    test("ports change while the edge runs: one is in use, others are not affected, one is taken away", async () => {
      await using holder = await startTcpOrigin(() => {});
      expect((await command(`${holder.port}`, "lab", "echo.lab.example")).code).toBe(0);
      await edge.process.errorLine(new RegExp(`Cannot open a TCP port .*port=${holder.port}\\b`));
      const port = await open("echo");
      using client = new Client(port);
      client.socket.write("here");
      await client.until("here");
      const listed = JSON.parse((await command("list", "--json")).stdout) as { port: number }[];
      expect(listed).toContainEqual(
        expect.objectContaining({ port, tunnel: "lab", hostname: "echo.lab.example", proxyProtocol: null }),
      );
      expect((await command("delete", `${port}`)).code).toBe(0);
      await client.over();
      await pollUntil(
        async () => {
          using late = new Client(port);
          await late.over();
          return late.received.length === 0;
        },
        { what: "the port is closed" },
      );
      expect((await command("delete", `${holder.port}`)).code).toBe(0);
      expect((await command("delete", `${holder.port}`)).code).not.toBe(0);
    }, 20_000);
  });
}
