import { expect, test } from "bun:test";
import { createHash, randomBytes } from "node:crypto";
import { createServer, type IncomingMessage, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { singleRule } from "../../src/ingress/rules.ts";
import { pollUntil } from "../support/poll-until.ts";
import { HOSTNAME, startWholePath, type WholePath } from "../support/whole-path.ts";
import { H2Visitor, readAnswer } from "./edge/h2-visitor.ts";

interface Site extends AsyncDisposable {
  readonly path: WholePath;
  readonly visitor: H2Visitor;
}

/** A service that speaks HTTP/1.1 behind a connector and an edge, and a visitor that speaks HTTP/2. */
async function site(listener: RequestListener): Promise<Site> {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return await behind((server.address() as AddressInfo).port, async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
}

async function behind(port: number, stop: () => unknown): Promise<Site> {
  const path = await startWholePath();
  await path.connect({ rules: singleRule({ kind: "http", host: "127.0.0.1", port }), connections: 2 });
  await pollUntil(() => path.edge.registry.size > 0, { what: "a tunnel connection" });
  const visitor = new H2Visitor(path.publicPort);
  return {
    path,
    visitor,
    [Symbol.asyncDispose]: async () => {
      await visitor[Symbol.asyncDispose]();
      await path[Symbol.asyncDispose]();
      await stop();
    },
  };
}

const at = { ":authority": HOSTNAME };

test("a service of HTTP/1.1 sees the names it is used to, and its trailers arrive", async () => {
  let names: string[] = [];
  await using all = await site((request, response) => {
    names = request.rawHeaders.filter((_text, i) => i % 2 === 0);
    response.writeHead(200, { Trailer: "X-Sum" });
    response.write("body");
    response.addTrailers({ "X-Sum": "7" });
    response.end();
  });
  const got = await all.visitor.ask({ ...at, "x-own-field": "1", "user-agent": "test", te: "trailers" });
  expect([got.status, got.body]).toEqual([200, "body"]);
  expect(got.trailers).toMatchObject({ "x-sum": "7" });
  for (const name of ["Host", "X-Own-Field", "User-Agent", "Te", "Cf-Connecting-Ip"]) expect(names).toContain(name);
});

test("bytes both ways are the same at the other end, many requests at once", async () => {
  await using all = await site((request, response) => {
    response.writeHead(200, { "x-digest": "later" });
    request.pipe(response);
  });
  const sent = Array.from({ length: 20 }, () => randomBytes(500_000));
  const digest = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("hex");
  const got = await Promise.all(
    sent.map((body) => {
      const stream = all.visitor.open({ ...at, ":method": "POST" });
      stream.end(body);
      return readAnswer(stream);
    }),
  );
  expect(got.map((each) => digest(Buffer.from(each.body, "latin1")))).toEqual(sent.map(digest));
});

test("a thousand requests on one connection", async () => {
  await using all = await site((request, response) => response.end(request.url));
  await new Promise<void>((resolve) => all.visitor.session.once("remoteSettings", () => resolve()));
  const got = await Promise.all(Array.from({ length: 1_000 }, (_, i) => all.visitor.ask({ ...at, ":path": `/${i}` })));
  expect(got.filter((each, i) => each.status !== 200 || each.body !== `/${i}`)).toEqual([]);
});

test("a request that the visitor takes back ends at the service", async () => {
  let running: IncomingMessage | undefined;
  let gone = false;
  await using all = await site((request) => {
    running = request;
    request.socket.on("close", () => {
      gone = true;
    });
  });
  const stream = all.visitor.open(at);
  stream.on("error", () => {});
  await pollUntil(() => running !== undefined, { what: "the request at the service" });
  stream.close(8);
  await pollUntil(() => gone, { what: "the end at the service" });
});

test("a WebSocket over HTTP/2 reaches a service that knows only HTTP/1.1", async () => {
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: (request, self) => (self.upgrade(request) ? undefined : new Response("no", { status: 400 })),
    websocket: { message: (socket, message) => void socket.send(message) },
  });
  await using all = await behind(server.port ?? 0, () => server.stop(true));
  await new Promise<void>((resolve) => all.visitor.session.once("remoteSettings", () => resolve()));
  const stream = all.visitor.open({
    ...at,
    ":method": "CONNECT",
    ":protocol": "websocket",
    ":scheme": "http",
    "sec-websocket-version": "13",
  });
  const status = new Promise((resolve) => stream.once("response", (head) => resolve(head[":status"])));
  const received: Buffer[] = [];
  stream.on("data", (chunk: Buffer) => received.push(chunk));
  expect(await status).toBe(200);
  // A masked text frame "hi", mask 0: RFC 6455 section 5.2.
  stream.write(Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0x68, 0x69]));
  await pollUntil(() => Buffer.concat(received).equals(Buffer.from([0x81, 2, 0x68, 0x69])), { what: "the echo" });
  stream.close();
});

test("an edge that closes lets what runs over HTTP/2 finish", async () => {
  let go: (() => void) | undefined;
  await using all = await site((_request, response) => {
    response.write("be");
    go = () => response.end("fore");
  });
  const running = all.visitor.ask(at);
  await pollUntil(() => go !== undefined, { what: "the request at the service" });
  const closed = all.path.edge.close(5_000);
  await pollUntil(() => all.visitor.goaway === 0, { what: "GOAWAY" });
  go?.();
  expect((await running).body).toBe("before");
  await closed;
});
