import { expect, test } from "bun:test";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, request } from "node:http";
import { connect, createServer as createTcpServer, type Server } from "node:net";
import { join } from "node:path";
import { systemClock } from "../../../src/core/clock.ts";
import { newTunnelId, type TunnelId } from "../../../src/core/ids.ts";
import { createLogger } from "../../../src/core/log.ts";
import { ANSWER_TIMEOUT_MS, createEdgeControl } from "../../../src/edge/control/client.ts";
import { readControlFile } from "../../../src/edge/control/control-file.ts";
import type { EdgeControl } from "../../../src/edge/control/port.ts";
import { type ControlServer, startControlServer } from "../../../src/edge/control/server.ts";
import type { EdgeNumbers } from "../../../src/edge/control/stats.ts";
import { Registry } from "../../../src/edge/registry.ts";
import { http2 } from "../../../src/transport/http2/connector.ts";
import { createQuicTransport } from "../../../src/transport/quic/connector.ts";
import { pollUntil } from "../../support/poll-until.ts";
import { makeTempDir } from "../../support/temp-dir.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";
import { startWholePath } from "../../support/whole-path.ts";

const NO_ANSWERS = { 0: 0, 1: 0, 2: 0, 3: 0, 4: 0, 5: 0 };
const NUMBERS: EdgeNumbers = {
  ...{ version: "1", location: "LAB", startedAt: "2026-11-21T10:00:00Z", uptimeMs: 5, protocols: ["http2"] },
  addresses: { http: "127.0.0.1:1", https: null, tunnel: "127.0.0.1:2", api: null, metrics: null, inspect: null },
  visitors: {
    ...{ openConnections: 0, connections: 0, requests: 3, answers: NO_ANSWERS, malformed: 0, limited: 0, retries: 0 },
    ...{ bytesIn: 0, bytesOut: 0 },
  },
  tunnels: { total: 1, connected: 0, connections: 0, hostnames: 0 },
  ...{ latencyBounds: [1], list: [], more: 0 },
};

interface World extends AsyncDisposable {
  readonly dir: string;
  readonly lines: readonly string[];
  readonly server: ControlServer;
  readonly control: EdgeControl;
}

/** An edge's control server on an empty state directory, and a client of it. */
async function startControl(registry: Registry = new Registry()): Promise<World> {
  const dir = makeTempDir();
  const lines: string[] = [];
  const write = (line: string): void => void lines.push(line);
  const log = createLogger({ level: "debug", format: "default", wallMs: systemClock.wallMs, write });
  const server = await startControlServer(
    { dir: dir.path, registry, location: "LAB", numbers: () => NUMBERS },
    { log },
  );
  return {
    ...{ dir: dir.path, lines, server },
    control: createEdgeControl(dir.path, { clock: systemClock }),
    [Symbol.asyncDispose]: async () => {
      await server.close();
      dir[Symbol.dispose]();
    },
  };
}

/** A server that somebody else has on the port that control.json names. */
async function startStranger(dir: string, server: Server): Promise<AsyncDisposable> {
  await new Promise<void>((resolve) => server.listen({ host: "127.0.0.1", port: 0 }, resolve));
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  writeFileSync(join(dir, "control.json"), JSON.stringify({ host: "127.0.0.1", port, token: "0".repeat(64) }));
  return { [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(() => resolve())) };
}

test("tells what the edge has done, to whoever may ask", async () => {
  await using world = await startControl();
  expect(await world.control.numbers()).toEqual(NUMBERS);
});

interface Ask {
  readonly path?: string;
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

/** Status and body of a question asked by hand. */
function ask(port: number, { path, method, headers, body }: Ask): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const options = { host: "127.0.0.1", port, path: path ?? "/v1/tunnels", method: method ?? "GET", agent: false };
    const asked = request({ ...options, headers: headers ?? {} }, (answer) => {
      let text = "";
      answer.on("data", (chunk) => {
        text += chunk;
      });
      answer.on("end", () => resolve({ status: answer.statusCode ?? 0, text }));
    });
    asked.on("error", reject);
    asked.end(body);
  });
}

test("tells of each connector what it is, over which transport it comes, and when it leaves", async () => {
  await using path = await startWholePath();
  await using world = await startControl(path.edge.registry);
  const quic = path.edge.protocols.includes("quic") ? createQuicTransport() : http2;
  const before = Date.now();
  const first = await path.connect({ connections: 2, transports: [http2] });
  await pollUntil(() => path.edge.registry.size === 2, { what: "the first connector" });
  await path.connect({ connections: 1, transports: [quic] });
  await pollUntil(() => path.edge.registry.size === 3, { what: "the second connector", deadlineMs: 10_000 });
  const [live] = path.edge.registry.all();
  const id = live?.tunnelId as TunnelId;

  const connectors = (await world.control.connectors(id)) ?? [];
  expect(connectors.map(({ conns }) => conns.map((one) => [one.conn_index, one.protocol, one.colo_name]))).toEqual([
    [
      [0, "http2", "LAB"],
      [1, "http2", "LAB"],
    ],
    [[0, quic.name, "LAB"]],
  ]);
  expect(connectors[0]).toMatchObject({ id: live?.connectorId, version: "0.0.0-test", arch: "linux_amd64" });
  expect(connectors[0]?.features).toEqual([...(live?.features ?? [])]);
  expect(connectors[0]?.conns[0]).toMatchObject({
    id: live?.connectionId,
    origin_ip: "127.0.0.1",
    is_pending_reconnect: false,
  });
  expect(Date.parse(connectors[0]?.run_at ?? "")).toBeWithin(before, Date.now() + 1);
  expect(await world.control.served()).toEqual(new Map([[id, [{ colo_name: "LAB", count: 3 }]]]));

  for (const connection of path.edge.registry.connections(id)) {
    if (connection.connectorId === live?.connectorId) path.edge.registry.drain(connection);
  }
  const leaving = await world.control.connectors(id);
  expect(leaving?.map(({ conns }) => conns.map((one) => one.is_pending_reconnect))).toEqual([[true, true], [false]]);
  expect(await world.control.served()).toEqual(new Map([[id, [{ colo_name: "LAB", count: 1 }]]]));
  first.stopNow();
  await pollUntil(async () => (await world.control.connectors(id))?.length === 1, { what: "the first has left" });
});

test("an edge without connectors answers that there are none", async () => {
  await using world = await startControl();
  expect(await world.control.connectors(newTunnelId())).toEqual([]);
  expect(await world.control.served()).toEqual(new Map());
});

test("asks for the token, takes no body and knows two questions", async () => {
  await using world = await startControl();
  const { port } = world.server;
  const token = readControlFile(world.dir)?.token ?? "";
  const authorized = { Authorization: `Bearer ${token}` };
  const wrong = `${token.slice(0, -1)}${token.endsWith("0") ? "1" : "0"}`;
  for (const { want, ...asked } of [
    { want: 200, headers: authorized },
    { want: 401 },
    { want: 401, headers: { Authorization: `Bearer ${wrong}` } },
    { want: 401, headers: { Authorization: `Bearer ${token}0` } },
    { want: 401, headers: { Authorization: "Bearer " } },
    { want: 401, headers: { Authorization: `Basic ${token}` } },
    { want: 401, path: "/v1/tunnels/x/connections", method: "POST", body: "x" },
    { want: 405, headers: authorized, method: "POST" },
    { want: 404, headers: authorized, path: "/" },
    { want: 404, headers: authorized, path: "/v1/tunnels/x/connections" },
    { want: 404, headers: authorized, path: `/v1/tunnels/${newTunnelId()}/connections/..` },
    { want: 413, headers: { ...authorized, "Content-Length": "1" }, body: "x" },
    { want: 413, headers: { ...authorized, "Transfer-Encoding": "chunked" }, body: "x" },
    { want: 431, headers: { ...authorized, "X-Long": "x".repeat(8_000) } },
  ] satisfies (Ask & { want: number })[]) {
    const { status, text } = await ask(port, asked);
    expect([asked, status]).toEqual([asked, want]);
    if (want !== 200) expect(text).toBe("");
  }
  expect(world.lines.join("\n")).not.toContain(token);
});

test("a client with another edge's token finds no edge", async () => {
  await using world = await startControl();
  const path = join(world.dir, "control.json");
  const kept = readFileSync(path);
  writeFileSync(path, JSON.stringify({ host: "127.0.0.1", port: world.server.port, token: "0".repeat(64) }));
  expect(await world.control.served()).toBeUndefined();
  writeFileSync(path, kept);
  expect(await world.control.served()).toEqual(new Map());
});

test("a request that does not get on is given up", async () => {
  await using world = await startControl();
  const startedMs = performance.now();
  const socket = connect(world.server.port, "127.0.0.1");
  socket.write("GET /v1/tunnels HTTP/1.1\r\nHost:");
  let answer = "";
  for await (const chunk of socket) answer += chunk;
  expect(answer).toStartWith("HTTP/1.1 408 ");
  expect(performance.now() - startedMs).toBeLessThan(5_000);
});

test("connections beyond a few are closed at once, while those go on", async () => {
  await using world = await startControl();
  const outcomes: string[] = [];
  const dial = (text: string): void => {
    const socket = connect(world.server.port, "127.0.0.1");
    const at = outcomes.push("open") - 1;
    socket.on("error", () => {});
    socket.on("data", (chunk: Buffer) => {
      outcomes[at] = chunk.toString("latin1").slice(0, 12);
    });
    socket.on("close", () => {
      if (outcomes[at] === "open") outcomes[at] = "closed";
    });
    socket.write(text);
  };
  for (let i = 0; i < 16; i += 1) dial("GET /v1/tunnels HTTP/1.1\r\nHost:");
  dial("GET /v1/tunnels HTTP/1.1\r\nHost: x\r\n\r\n");
  await pollUntil(() => outcomes.at(-1) !== "open", { what: "the end of one too many" });
  expect(outcomes).toEqual([...Array.from({ length: 16 }, () => "open"), "closed"]);
});

test("no edge: nobody has run, it has stopped, or it was killed", async () => {
  using empty = makeTempDir();
  expect(await createEdgeControl(empty.path, { clock: systemClock }).served()).toBeUndefined();
  const world = await startControl();
  const file = join(world.dir, "control.json");
  const left = readFileSync(file);
  await world.server.close();
  expect(existsSync(file)).toBe(false);
  expect(await world.control.served()).toBeUndefined();
  writeFileSync(file, left);
  expect(await world.control.served()).toBeUndefined();
  expect(await world.control.connectors(newTunnelId())).toBeUndefined();
  await world[Symbol.asyncDispose]();
});

test.each([
  { what: "refuses", status: 401, body: "" },
  { what: "has a page for everything", status: 200, body: "<html>" },
  { what: "answers other JSON", status: 200, body: "{}" },
  { what: "answers a list of something else", status: 200, body: '[{"id":1}]' },
  { what: "answers without end", status: 200, body: "[".repeat(17 * 1_048_576) },
])("a stranger on the port of a killed edge that $what is no edge", async ({ status, body }) => {
  using dir = makeTempDir();
  await using _ = await startStranger(
    dir.path,
    createServer((_request, response) => void response.writeHead(status, { Connection: "close" }).end(body)),
  );
  const control = createEdgeControl(dir.path, { clock: systemClock });
  expect(await control.served()).toBeUndefined();
  expect(await control.connectors(newTunnelId())).toBeUndefined();
});

test("a stranger that speaks another protocol, or hangs up in the middle, is no edge", async () => {
  for (const bytes of ["SSH-2.0-x\r\n", "", "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n["]) {
    using dir = makeTempDir();
    await using _ = await startStranger(
      dir.path,
      createTcpServer((socket) => {
        socket.on("error", () => undefined);
        socket.once("data", () => socket.end(bytes));
      }),
    );
    expect(await createEdgeControl(dir.path, { clock: systemClock }).served()).toBeUndefined();
  }
});

test("an edge that says nothing is not waited for without end", async () => {
  using dir = makeTempDir();
  const clock = new VirtualClock();
  const ended = Promise.withResolvers<void>();
  const reached = Promise.withResolvers<void>();
  await using _ = await startStranger(
    dir.path,
    createTcpServer((socket) => {
      socket.on("error", () => undefined);
      socket.on("close", () => ended.resolve());
      socket.on("data", () => reached.resolve());
    }),
  );
  const asked = createEdgeControl(dir.path, { clock }).served();
  asked.catch(() => undefined);
  await reached.promise;
  await clock.advance(ANSWER_TIMEOUT_MS);
  await expect(asked).rejects.toMatchObject({ code: "timeout" });
  await ended.promise;
});
