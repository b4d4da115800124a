import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import tls from "node:tls";
import { systemClock } from "../../src/core/clock.ts";
import { dialBun } from "../../src/net/bun-sockets.ts";
import { dialNode } from "../../src/net/node-sockets.ts";
import type { Connection, DialAddress, DialOptions } from "../../src/net/sockets.ts";
import { OriginPool } from "../../src/origin/http/pool.ts";
import { makeTestCertificate, type TestCertificate } from "../support/certificate.ts";
import { GET, post, Recorder } from "../unit/origin/http/scripted.ts";
import { bytesOf } from "../unit/wire/h1/recorder.ts";

const MIB = 1024 * 1024;
const DEADLINE_MS = 5_000;

/** An origin on a real socket that does with each request what its script says. */
class HostileOrigin {
  readonly sockets: net.Socket[] = [];
  readonly #server: net.Server;

  constructor(script: (socket: net.Socket, request: string, connection: number) => void, secure?: TestCertificate) {
    const accept = (socket: net.Socket): void => {
      const connection = this.sockets.push(socket) - 1;
      let head = "";
      socket.on("error", () => {});
      socket.on("data", (chunk: Uint8Array) => {
        head += Buffer.from(chunk).toString("latin1");
        if (!head.includes("\r\n\r\n")) return;
        const request = head;
        head = "";
        script(socket, request, connection);
      });
    };
    this.#server =
      secure === undefined
        ? net.createServer({ allowHalfOpen: true }, accept)
        : tls.createServer({ key: secure.key, cert: secure.cert }, accept);
  }

  async listen(path?: string): Promise<DialAddress> {
    await new Promise<void>((resolve) => {
      if (path === undefined) this.#server.listen(0, "127.0.0.1", resolve);
      else this.#server.listen(path, resolve);
    });
    const address = this.#server.address();
    if (typeof address === "string" || address === null) return { path: path ?? "" };
    return { host: "127.0.0.1", port: address.port };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** Asks again each turn of the loop until it holds or the deadline passes. */
async function until(condition: () => boolean): Promise<void> {
  const deadline = performance.now() + DEADLINE_MS;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error("condition not reached in time");
    await new Promise((resolve) => void setImmediate(resolve));
  }
}

/** Bytes no longer move: the value stays the same over many turns of the loop and some real time. */
async function settled(value: () => number): Promise<number> {
  let last = value();
  let sinceMs = performance.now();
  await until(() => {
    if (value() !== last) {
      last = value();
      sinceMs = performance.now();
    }
    return performance.now() - sinceMs > 200;
  });
  return last;
}

type Dial = (address: DialAddress, options: DialOptions) => Promise<Connection>;

let certificate: TestCertificate;
let dir: string;

beforeAll(async () => {
  certificate = await makeTestCertificate(["origin.test"]);
  dir = mkdtempSync(join(tmpdir(), "culvert-origin-"));
});

afterAll(() => rmSync(dir, { recursive: true }));

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

describe.each([
  { runtime: "Bun sockets", dial: dialBun as Dial },
  { runtime: "Node sockets", dial: dialNode as Dial },
])("an origin that misbehaves, over $runtime", ({ dial }) => {
  function poolFor(address: DialAddress, options: DialOptions = {}): OriginPool {
    return new OriginPool({ dial: ({ signal }) => dial(address, { ...options, signal }), clock: systemClock });
  }

  async function ask(pool: OriginPool, method = "GET"): Promise<Recorder> {
    const events = new Recorder();
    pool.exchange({ ...GET, method }, events);
    await events.done;
    return events;
  }

  test.each<{ name: string; script: (socket: net.Socket) => void; log: string[]; body?: string; kept?: number }>([
    { name: "behaves", script: (socket) => socket.write(OK), log: ["200", "end"], body: "ok", kept: 1 },
    {
      name: "closes after an answer that lasts until then",
      script: (socket) => socket.end("HTTP/1.1 200 OK\r\n\r\nuntil close"),
      log: ["200", "end"],
      body: "until close",
    },
    {
      name: "closes in the middle of a body",
      script: (socket) => socket.end("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\npartial"),
      log: ["200", "origin.truncated"],
      body: "partial",
    },
    {
      name: "closes in the middle of a chunk",
      script: (socket) => socket.end("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\npartial"),
      log: ["200", "origin.truncated"],
      body: "partial",
    },
    { name: "closes in the head", script: (socket) => socket.end("HTTP/1.1 200"), log: ["origin.truncated"] },
    { name: "closes at once", script: (socket) => socket.end(), log: ["origin.reset"] },
    { name: "resets at once", script: (socket) => socket.resetAndDestroy(), log: ["origin.reset"] },
    {
      name: "sends two lengths",
      script: (socket) => socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nokk"),
      log: ["origin.malformed"],
    },
    {
      name: "sends length and encoding",
      script: (socket) =>
        socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
      log: ["origin.malformed"],
    },
    { name: "sends bare LF", script: (socket) => socket.write("HTTP/1.1 200 OK\n\n"), log: ["origin.malformed"] },
    { name: "speaks ssh", script: (socket) => socket.write("SSH-2.0-OpenSSH_9\r\n"), log: ["origin.malformed"] },
    {
      name: "sends an endless head",
      script: (socket) => socket.write(`HTTP/1.1 200 OK\r\nX: ${"a".repeat(300_000)}`),
      log: ["origin.malformed"],
    },
    {
      name: "sends a second answer nobody asked for",
      script: (socket) => socket.write(OK + OK),
      log: ["200", "end"],
      body: "ok",
      kept: 0,
    },
    {
      name: "sends interim answers for ever",
      script: (socket) => socket.write("HTTP/1.1 102 Processing\r\n\r\n".repeat(40)),
      log: [...Array.from({ length: 32 }, () => "102"), "origin.malformed"],
    },
  ])("$name", async ({ script, log, body = "", kept = 0 }) => {
    await using origin = new HostileOrigin(script);
    const pool = poolFor(await origin.listen());
    const events = await ask(pool);
    expect(events.log).toEqual(log);
    expect(events.body).toBe(body);
    expect(pool.idleCount).toBe(kept);
    expect(origin.sockets).toHaveLength(1);
    pool.close();
  });

  test("sends its answer byte by byte", async () => {
    const answer =
      "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nX-T: 1\r\n\r\n";
    await using origin = new HostileOrigin(async (socket) => {
      for (const char of answer) {
        socket.write(char);
        await new Promise((resolve) => void setImmediate(resolve));
      }
    });
    const pool = poolFor(await origin.listen());
    const events = await ask(pool);
    expect(events.log).toEqual(["103 Link,a", "200", "end X-T,1"]);
    expect(events.body).toBe("abc");
    pool.close();
  });

  test("answers HEAD with a length, and keeps to it", async () => {
    await using origin = new HostileOrigin((socket, request) =>
      socket.write(request.startsWith("HEAD") ? "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" : OK),
    );
    const pool = poolFor(await origin.listen());
    expect((await ask(pool, "HEAD")).log).toEqual(["200 bodyless", "end"]);
    expect((await ask(pool)).log).toEqual(["200", "end"]);
    expect(origin.sockets).toHaveLength(1);
    pool.close();
  });

  test.each(["end", "resetAndDestroy"] as const)("drops kept connections on the next request (%s)", async (how) => {
    let served = 0;
    await using origin = new HostileOrigin((socket, _request, connection) => {
      served += 1;
      if (connection === 0 && served > 1) socket[how]();
      else socket.write(OK);
    });
    const pool = poolFor(await origin.listen());
    await ask(pool);
    const events = await ask(pool);
    expect(events.log).toEqual(["200", "end"]);
    expect(origin.sockets).toHaveLength(2);
    const posted = new Recorder();
    await until(() => pool.idleCount === 1);
    pool.exchange(post("none"), posted);
    await posted.done;
    expect(posted.log).toEqual(["200", "end"]);
    pool.close();
  });

  test("closes an idle connection, which is then forgotten", async () => {
    await using origin = new HostileOrigin((socket) => socket.write(OK));
    const pool = poolFor(await origin.listen());
    await ask(pool);
    expect(pool.idleCount).toBe(1);
    origin.sockets[0]?.end();
    await until(() => pool.idleCount === 0);
    pool.close();
  });

  test("does not listen at all", async () => {
    const origin = new HostileOrigin(() => {});
    const address = await origin.listen();
    await origin[Symbol.asyncDispose]();
    expect((await ask(poolFor(address))).log).toEqual(["origin.dial"]);
    expect((await ask(poolFor({ path: join(dir, "nobody.sock") }))).log).toEqual(["origin.dial"]);
  });

  test("is reached over a unix socket and over TLS, and not with a wrong name", async () => {
    await using plain = new HostileOrigin((socket) => socket.write(OK));
    const unix = poolFor(await plain.listen(join(dir, `${dial.name}.sock`)));
    expect((await ask(unix)).log).toEqual(["200", "end"]);
    unix.close();

    await using secure = new HostileOrigin((socket) => socket.write(OK), certificate);
    const address = await secure.listen();
    const trusted = poolFor(address, { tls: { serverName: "origin.test", ca: certificate.cert } });
    expect((await ask(trusted)).log).toEqual(["200", "end"]);
    expect((await ask(trusted)).log).toEqual(["200", "end"]);
    trusted.close();
    const wrong = poolFor(address, { tls: { serverName: "other.test", ca: certificate.cert } });
    expect((await ask(wrong)).log).toEqual(["origin.tls"]);
  });

  test("refuses an upload early and hangs up", async () => {
    await using origin = new HostileOrigin((socket) => {
      socket.write("HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno");
    });
    const pool = poolFor(await origin.listen());
    const events = new Recorder();
    const exchange = pool.exchange(post(100 * MIB), events);
    exchange.write(new Uint8Array(1000));
    await events.done;
    expect(events.log).toEqual(["413", "end"]);
    expect(exchange.write(new Uint8Array(1000))).toBe(true);
    expect(pool.idleCount).toBe(0);
  });

  test("switches protocols: bytes pass both ways, those behind the answer first", async () => {
    await using origin = new HostileOrigin((socket) => {
      socket.removeAllListeners("data");
      socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\nHI");
      socket.on("data", (chunk) => socket.write(chunk));
      socket.on("end", () => socket.end("BYE"));
    });
    const pool = poolFor(await origin.listen());
    const events = new Recorder();
    pool.exchange(
      { ...GET, kind: "websocket", headers: ["Host", "a", "Connection", "Upgrade", "Upgrade", "raw"] },
      events,
    );
    await events.done;
    const channel = events.upgraded;
    if (channel === undefined) throw new Error(`no upgrade: ${events.log.join()}`);
    let received = "";
    const closed = Promise.withResolvers<unknown>();
    channel.listen({
      onData: (chunk) => {
        received += Buffer.from(chunk).toString("latin1");
      },
      onEnd: () => {},
      onDrain: () => {},
      onClose: closed.resolve,
    });
    channel.write(bytesOf("PING"));
    await until(() => received === "HIPING");
    channel.end();
    expect(await closed.promise).toBeUndefined();
    expect(received).toBe("HIPINGBYE");
  });

  test("is held back by a slow reader, and nothing is lost", async () => {
    const total = 32 * MIB;
    let sent = 0;
    await using origin = new HostileOrigin((socket) => {
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${total}\r\n\r\n`);
      const chunk = new Uint8Array(64 * 1024);
      const more = (): void => {
        while (sent < total) {
          sent += chunk.length;
          if (!socket.write(chunk)) return;
        }
      };
      socket.on("drain", more);
      more();
    });
    const pool = poolFor(await origin.listen());
    const events = new Recorder();
    const exchange = pool.exchange(GET, events);
    await until(() => events.bodyBytes > 0);
    exchange.pause();
    expect(await settled(() => sent)).toBeLessThan(total - 8 * MIB);
    expect(await settled(() => events.bodyBytes)).toBeLessThan(8 * MIB);
    exchange.resume();
    await events.done;
    expect(events.log).toEqual(["200", "end"]);
    expect(events.bodyBytes).toBe(total);
    pool.close();
  });

  test("does not read the body: the writer is held back, then let go", async () => {
    const total = 32 * MIB;
    let readOn = (): void => {};
    await using origin = new HostileOrigin((socket, request) => {
      let received = request.length - request.indexOf("\r\n\r\n") - 4;
      socket.removeAllListeners("data");
      socket.pause();
      readOn = () => {
        socket.on("data", (chunk: Uint8Array) => {
          received += chunk.length;
          if (received === total) socket.write(OK);
        });
        socket.resume();
      };
    });
    const pool = poolFor(await origin.listen());
    const events = new Recorder();
    const exchange = pool.exchange(post(total), events);
    const chunk = new Uint8Array(64 * 1024);
    let written = 0;
    const more = (): void => {
      while (written < total) {
        written += chunk.length;
        if (!exchange.write(chunk)) return;
      }
    };
    events.onDrain = more;
    more();
    expect(await settled(() => written)).toBeLessThan(total - 8 * MIB);
    readOn();
    await events.done;
    expect(events.log).toEqual(["200", "end"]);
    expect(pool.idleCount).toBe(1);
    pool.close();
  });
});
