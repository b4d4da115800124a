import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import type { AddressInfo } from "node:net";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../src/core/clock.ts";
import { DEFAULT_ORIGIN_SETTINGS, type OriginSettings } from "../../src/ingress/origin-request.ts";
import { parseService, type ServiceSpec } from "../../src/ingress/service.ts";
import { createOriginService } from "../../src/origin/index.ts";
import type { OriginExchange, OriginRequest, OriginService } from "../../src/origin/port.ts";
import { makeTestCertificate, type TestCertificate } from "../support/certificate.ts";
import { type GrpcOrigin, type GrpcOriginOptions, startGrpcOrigin } from "../support/grpc-origin.ts";
import { pollUntil } from "../support/poll-until.ts";
import { Recorder } from "../unit/origin/http/scripted.ts";
import { bytesOf } from "../unit/wire/h1/recorder.ts";

const MIB = 1024 * 1024;
const CALL: OriginRequest = {
  kind: "http",
  method: "POST",
  target: "/unary",
  headers: ["Host", "app.test", "Content-Type", "application/grpc", "Te", "trailers", "Connection", "keep-alive"],
  body: "chunked",
};

let certificate: TestCertificate;
let dir: string;

beforeAll(async () => {
  certificate = await makeTestCertificate(["localhost"]);
  dir = mkdtempSync(join(tmpdir(), "culvert-origin-"));
});

afterAll(() => rmSync(dir, { recursive: true }));

function service(text: string, settings: Partial<OriginSettings> = {}): OriginService {
  const spec = parseService(text) as ServiceSpec;
  const made = createOriginService(
    spec,
    { ...DEFAULT_ORIGIN_SETTINGS, connectTimeout: 5_000, ...settings },
    { clock: systemClock, readFile: () => certificate.cert },
  );
  if (made === undefined) throw new Error(`no service for ${text}`);
  return made;
}

interface Call {
  readonly exchange: OriginExchange;
  readonly events: Recorder;
}

function call(to: OriginService, target: string, change: Partial<OriginRequest> = {}): Call {
  const events = new Recorder();
  return { events, exchange: to.exchange({ ...CALL, target, ...change }, events) };
}

/** A call with one message, to its end. */
async function unary(to: OriginService, target = "/unary", message = "hello"): Promise<Recorder> {
  const { exchange, events } = call(to, target);
  exchange.write(bytesOf(message));
  exchange.end([]);
  await events.done;
  return events;
}

const OK = ["200", "end grpc-status,0,x-tail,t"];

interface Way {
  readonly way: string;
  open(options?: GrpcOriginOptions): Promise<{ origin: GrpcOrigin; to: OriginService } & AsyncDisposable>;
}

/** Both ways in which HTTP/2 is spoken, and what must hold on each. */
const WAYS: readonly Way[] = [
  {
    way: "h2c",
    open: async (options) => owned(await startGrpcOrigin(options), (port) => service(`h2c://127.0.0.1:${port}`)),
  },
  {
    way: "TLS",
    open: async (options) =>
      owned(await startGrpcOrigin({ ...options, tls: certificate }), (port) =>
        service(`https://127.0.0.1:${port}`, { http2Origin: true, caPool: "ca", originServerName: "localhost" }),
      ),
  },
];

function owned(
  origin: GrpcOrigin,
  make: (port: number) => OriginService,
): { origin: GrpcOrigin; to: OriginService } & AsyncDisposable {
  const to = make(origin.address.port);
  return {
    origin,
    to,
    [Symbol.asyncDispose]: async () => {
      await to.close();
      await origin[Symbol.asyncDispose]();
    },
  };
}

describe.each([...WAYS])("an HTTP/2 origin over $way", ({ open }) => {
  test("answers a unary call; fields and trailers travel both ways", async () => {
    await using lab = await open();
    const { exchange, events } = call(lab.to, "/unary?a=%2F");
    exchange.write(bytesOf("one"));
    exchange.write(bytesOf("two"));
    exchange.end(["X-Sum", "42", "Content-Length", "9"]);
    await events.done;
    expect(events.log).toEqual(OK);
    expect(events.body).toBe("onetwo");
    const seen = lab.origin.sessions[0]?.streams[0];
    expect(seen?.fields).toMatchObject({
      ":method": "POST",
      ":scheme": lab.to.label.startsWith("https") ? "https" : "http",
      ":authority": "app.test",
      ":path": "/unary?a=%2F",
      "content-type": "application/grpc",
      te: "trailers",
    });
    expect(seen?.fields).not.toHaveProperty("connection");
    expect(seen?.fields).not.toHaveProperty("host");
    expect(seen?.trailers).toEqual([expect.objectContaining({ "x-sum": "42" })]);
    expect(seen?.trailers[0]).not.toHaveProperty("content-length");
  });

  test("carries many messages both ways at once, each before the next is sent", async () => {
    await using lab = await open();
    const { exchange, events } = call(lab.to, "/bidi");
    let expected = "";
    for (let i = 0; i < 20; i++) {
      exchange.write(bytesOf(`message ${i};`));
      expected += `message ${i};`;
      await pollUntil(() => events.body === expected, { what: `echo of message ${i}` });
    }
    expect(events.log).toEqual(["200"]);
    exchange.end([]);
    await events.done;
    expect(events.log).toEqual(OK);
  });

  test("may answer with trailers only, and with hints in front", async () => {
    await using lab = await open();
    const only = await unary(lab.to, "/trailers-only");
    expect(only.log).toEqual(["200 bodyless", "end"]);
    expect([...only.headers]).toContain("grpc-status");
    const hinted = await unary(lab.to, "/hints");
    expect(hinted.log[0]).toStartWith("103 link,</a>");
    expect(hinted.log.slice(1)).toEqual(OK);
    expect(hinted.body).toBe("hinted");
  });

  test("is asked on one connection, which is closed with the service", async () => {
    await using lab = await open();
    const [first, second] = [call(lab.to, "/hold"), call(lab.to, "/hold")];
    await pollUntil(() => lab.origin.sessions[0]?.streams.length === 2, { what: "both streams" });
    await lab.to.close();
    lab.origin.release();
    first.exchange.end([]);
    second.exchange.end([]);
    await Promise.all([first.events.done, second.events.done]);
    expect([first.events.log, second.events.log]).toEqual([OK, OK]);
    expect(lab.origin.sessions).toHaveLength(1);
    await pollUntil(() => lab.origin.sessions[0]?.session.destroyed === true, { what: "the end of the connection" });
  });

  test("answers 2000 calls at once within its limit of streams", async () => {
    await using lab = await open({ maxConcurrentStreams: 100 });
    const answers = await Promise.all(
      Array.from({ length: 2000 }, async (_, i) => [i, (await unary(lab.to, "/unary", `m${i}`)).body] as const),
    );
    for (const [i, body] of answers) expect(body).toBe(`m${i}`);
    expect(lab.origin.sessions.length).toBeGreaterThan(1);
    expect(lab.origin.sessions.length).toBeLessThan(40);
  });

  test("is asked anew elsewhere when it says GOAWAY in front of a request", async () => {
    await using lab = await open();
    const held = call(lab.to, "/hold");
    await pollUntil(() => lab.origin.sessions[0]?.streams.length === 1, { what: "the first stream" });
    // What it has not seen it will not serve: stream 1 ends, everything later goes elsewhere.
    lab.origin.sessions[0]?.session.goaway(0, 1);
    const calls = await Promise.all(Array.from({ length: 10 }, () => unary(lab.to)));
    for (const events of calls) expect(events.log).toEqual(OK);
    lab.origin.release();
    held.exchange.end([]);
    await held.events.done;
    expect(held.events.log).toEqual(OK);
    expect(lab.origin.sessions.length).toBeGreaterThan(1);
    await pollUntil(() => lab.origin.sessions[0]?.session.destroyed === true, { what: "the end of the first" });
  });

  test("resets a call before and after the head of its answer", async () => {
    await using lab = await open();
    expect((await unary(lab.to, "/reset")).log).toEqual(["origin.reset"]);
    const { exchange, events } = call(lab.to, "/reset-after");
    await pollUntil(() => events.body === "begun", { what: "the first bytes" });
    exchange.write(bytesOf("x"));
    await events.done;
    expect(events.log).toEqual(["200", "origin.reset"]);
    expect((await unary(lab.to)).log).toEqual(OK);
    expect(lab.origin.sessions).toHaveLength(1);
  });

  test("hears of a visitor who gives up, and of nothing else", async () => {
    await using lab = await open();
    const { exchange, events } = call(lab.to, "/bidi");
    exchange.write(bytesOf("x"));
    await pollUntil(() => events.body === "x", { what: "the echo" });
    exchange.abort();
    const stream = lab.origin.sessions[0]?.streams[0];
    await pollUntil(() => stream?.closedWith !== undefined, { what: "the reset" });
    expect(stream?.closedWith).toBe(8);
    expect(events.log).toEqual(["200"]);
    expect((await unary(lab.to)).log).toEqual(OK);
    expect(lab.origin.sessions).toHaveLength(1);
  });

  test("is cut off: every call fails, the next one finds a new connection", async () => {
    await using lab = await open();
    const { events } = call(lab.to, "/hold");
    await pollUntil(() => lab.origin.sessions[0]?.streams.length === 1, { what: "the stream" });
    lab.origin.sessions[0]?.session.destroy();
    await events.done;
    expect(events.error?.code).toBe("origin.reset");
    expect((await unary(lab.to)).log).toEqual(OK);
  });

  test("is held back by a slow reader, whose neighbours go on, and nothing is lost", async () => {
    await using lab = await open();
    const total = 32 * MIB;
    const { exchange, events } = call(lab.to, `/download?bytes=${total}`);
    exchange.end([]);
    await pollUntil(() => events.bodyBytes > 0, { what: "the first bytes" });
    exchange.pause();
    const held = events.bodyBytes;
    for (let i = 0; i < 20; i++) expect((await unary(lab.to)).log).toEqual(OK);
    expect(events.bodyBytes).toBe(held);
    expect(held).toBeLessThan(total / 2);
    exchange.resume();
    await events.done;
    expect(events.log).toEqual(OK);
    expect(events.bodyBytes).toBe(total);
  });

  test("does not read a body: the writer is held back, then let go", async () => {
    await using lab = await open();
    const total = 16 * MIB;
    const { exchange, events } = call(lab.to, "/slow-upload", { body: total });
    const chunk = new Uint8Array(64 * 1024);
    let written = 0;
    const more = (): void => {
      while (written < total) {
        written += chunk.length;
        if (!exchange.write(chunk)) return;
      }
      exchange.end([]);
    };
    events.onDrain = more;
    more();
    await pollUntil(() => lab.origin.sessions[0]?.streams.length === 1, { what: "the stream" });
    for (let i = 0; i < 20; i++) expect((await unary(lab.to)).log).toEqual(OK);
    expect(written).toBeLessThan(4 * MIB);
    lab.origin.release();
    await events.done;
    expect(events.log).toEqual(OK);
    expect(events.body).toBe(String(total));
  });
});

describe("which version is spoken", () => {
  test("`http2Origin: h2c` is HTTP/2 for http and unix services", async () => {
    await using plain = await startGrpcOrigin();
    const over = service(`http://127.0.0.1:${plain.address.port}`, { http2Origin: "h2c" });
    expect((await unary(over)).log).toEqual(OK);
    await over.close();

    const path = join(dir, "h2c.sock");
    await using _local = await startGrpcOrigin({ path });
    const unix = service(`unix:${path}`, { http2Origin: "h2c" });
    expect((await unary(unix)).log).toEqual(OK);
    await unix.close();
  });

  test("a service with TLS that knows HTTP/1.1 alone is asked so, with the body that was waiting", async () => {
    const server = https.createServer({ ...certificate }, (request, response) => {
      let body = "";
      request.on("data", (chunk: Buffer) => {
        body += chunk.toString();
      });
      request.on("end", () => response.end(`HTTP/${request.httpVersion} ${body}`));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    const to = service(`https://127.0.0.1:${port}`, { http2Origin: true, noTLSVerify: true });
    const answers = await Promise.all(Array.from({ length: 5 }, (_, i) => unary(to, "/", `m${i}`)));
    expect(answers.map(({ body }) => body)).toEqual([
      "HTTP/1.1 m0",
      "HTTP/1.1 m1",
      "HTTP/1.1 m2",
      "HTTP/1.1 m3",
      "HTTP/1.1 m4",
    ]);
    expect((await unary(to, "/", "again")).body).toBe("HTTP/1.1 again");
    await to.close();
    server.closeAllConnections();
    server.close();
  });

  test("a WebSocket handshake goes over HTTP/1.1", async () => {
    const server = http.createServer();
    server.on("upgrade", (_request, socket) => {
      socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
      socket.on("data", (chunk: Uint8Array) => socket.write(chunk));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    const to = service(`h2c://127.0.0.1:${port}`);
    const { events } = call(to, "/ws", {
      kind: "websocket",
      method: "GET",
      body: "none",
      headers: ["Host", "a", "Connection", "Upgrade", "Upgrade", "websocket"],
    });
    await events.done;
    expect(events.log).toEqual(["upgrade"]);
    const echoed = Promise.withResolvers<string>();
    events.upgraded?.listen({
      onData: (chunk) => echoed.resolve(Buffer.from(chunk).toString()),
      onEnd: () => {},
      onDrain: () => {},
      onClose: () => {},
    });
    events.upgraded?.write(bytesOf("ping"));
    expect(await echoed.promise).toBe("ping");
    events.upgraded?.end();
    await to.close();
    server.closeAllConnections();
    server.close();
  });

  test.each<{ name: string; answer: string; code: string; says: string }>([
    {
      name: "answers in HTTP/1.1",
      answer: "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
      code: "origin.malformed",
      says: "does not speak HTTP/2",
    },
    { name: "hangs up", answer: "", code: "origin.reset", says: "at once" },
  ])("an h2c service that $name says so in the error", async ({ answer, code, says }) => {
    const server = net.createServer((socket) => {
      socket.on("error", () => {});
      socket.end(answer);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const to = service(`h2c://127.0.0.1:${(server.address() as AddressInfo).port}`);
    const events = await unary(to);
    expect(events.log).toEqual([code]);
    expect(events.error?.message).toContain(says);
    server.close();
  });

  test("an h2c service that says nothing, or is not there, is told apart", async () => {
    const sockets: net.Socket[] = [];
    const server = net.createServer((socket) => void sockets.push(socket));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    expect((await unary(service(`h2c://127.0.0.1:${port}`, { connectTimeout: 100 }))).log).toEqual(["origin.timeout"]);
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
    expect((await unary(service(`h2c://127.0.0.1:${port}`))).log).toEqual(["origin.dial"]);
  });
});
