import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { generateKeyPairSync } from "node:crypto";
import { closeSync, constants, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { SignJWT } from "jose";
import { formatCertPem } from "../../src/wire/cert-pem.ts";
import { culvertCommand } from "../support/binary.ts";
import { CONNECTORS, type ConnectorKind, culvertConnector, startConnector } from "../support/lab.ts";
import { closeOf, type LabWebSocket, OPCODE } from "../support/lab-websocket.ts";
import { CLOUDFLARED, type ManagedEdge, NO_CLOUDFLARED, startManagedEdge } from "../support/managed-edge.ts";
import { pollUntil } from "../support/poll-until.ts";
import { type OwnedProcess, runProcess, startProcess } from "../support/processes.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { openWebSocket, visit } from "../support/visitors.ts";

const HOST = "app.live.example";
/** What connectors take for their own; the edge serves it beside the name it was given. */
const MANAGEMENT = "management.argotunnel.com";
/** An origin that nobody listens at: each request gives a line of level error. */
const DEAD_ORIGIN = "http://127.0.0.1:1";

interface World extends AsyncDisposable {
  readonly edge: ManagedEdge;
  readonly port: number;
  readonly tunnelId: string;
  /** For connectors: says where the edge is and what it signs with. */
  readonly tunnelToken: string;
  connect(kind: ConnectorKind, url: string, flags?: readonly string[]): Promise<OwnedProcess>;
  /** A token to look into the tunnel with, asked for by the operator or whoever has this API token. */
  token(resource: "logs" | "admin" | "host_details", apiToken?: string): Promise<string>;
}

async function startWorld(edgeFlags: readonly string[] = []): Promise<World> {
  await using stack = new AsyncDisposableStack();
  const edge = stack.use(await startManagedEdge({ edgeFlags: ["--management-hostname", "localhost", ...edgeFlags] }));
  const created = await edge.culvert("tunnel", "create", "web");
  const [, tunnelId = ""] = /with id (\S+)/.exec(created.stdout) ?? [];
  expect((await edge.culvert("tunnel", "route", "dns", "web", HOST)).code).toBe(0);
  const tunnelToken = (await edge.culvert("tunnel", "token", "web")).stdout.trim();
  const { publicPort: port, tunnelPort, caPath } = edge.edge;
  const owned = stack.move();
  return {
    ...{ edge, port, tunnelId, tunnelToken },
    connect: async (kind, url, flags = []) => {
      const connector = owned.use(
        startConnector(kind, { token: tunnelToken, tunnelPort, caPath, url, gracePeriod: "1s", flags }),
      );
      await connector.errorLine(/Registered tunnel connection/);
      return connector;
    },
    token: async (resource, apiToken = edge.cert.apiToken) => {
      const path = `${edge.apiUrl}/accounts/${edge.cert.accountId}/cfd_tunnel/${tunnelId}/management/${resource}`;
      const answer = await fetch(path, { method: "POST", headers: { authorization: `Bearer ${apiToken}` } });
      return ((await answer.json()) as { readonly result: string }).result;
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

interface Line {
  readonly level: string;
  readonly event: string;
  readonly message: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** Follows the log over a plain WebSocket. */
async function follow(port: number, token: string, filters?: unknown): Promise<LabWebSocket> {
  const socket = await openWebSocket(port, { host: MANAGEMENT, target: `/logs?access_token=${token}` });
  // A log may have nothing to say for longer than other visitors may be idle.
  socket.socket.socket.setTimeout(0);
  await socket.sendText(JSON.stringify({ type: "start_streaming", filters }));
  return socket;
}

/** How streams ended that have. */
const ended = new WeakMap<LabWebSocket, string | undefined>();

/** The next line; whatever else comes is passed over. Undefined = the stream ended. */
async function nextLine(socket: LabWebSocket): Promise<Line | undefined> {
  for (;;) {
    const frame = await socket.receive();
    if (frame === undefined || frame.opcode === OPCODE.close) {
      ended.set(socket, JSON.stringify(closeOf(frame)));
      return undefined;
    }
    if (frame.opcode === OPCODE.ping) await socket.send(OPCODE.pong, frame.payload);
    if (frame.opcode !== OPCODE.text) continue;
    const { logs } = JSON.parse(frame.payload.toString()) as { readonly logs: readonly Line[] };
    expect(logs).toHaveLength(1);
    return logs[0];
  }
}

/** Reads until a ping is answered, and gives the lines before that. */
async function pongLike(socket: LabWebSocket, payload: string, onLine: (line: Line) => void): Promise<void> {
  for (let frame = await socket.receive(); frame !== undefined; frame = await socket.receive()) {
    if (frame.opcode === OPCODE.pong && frame.payload.toString() === payload) return;
    if (frame.opcode === OPCODE.text) onLine((JSON.parse(frame.payload.toString()) as { logs: [Line] }).logs[0]);
  }
  throw new Error("The stream ended");
}

async function lineLike(socket: LabWebSocket, wanted: (line: Line) => boolean): Promise<Line> {
  for (let line = await nextLine(socket); line !== undefined; line = await nextLine(socket)) {
    if (wanted(line)) return line;
  }
  throw new Error(`The stream ended: ${ended.get(socket)}`);
}

/** Waits until the connector sends what it logs: requests are made until one comes through. */
async function streaming(world: World, socket: LabWebSocket): Promise<Line> {
  const stop = new AbortController();
  const asking = (async () => {
    while (!stop.signal.aborted) await visit(world.port, { host: HOST, target: "/wake" });
  })();
  const line = await lineLike(socket, ({ event }) => event === "http");
  stop.abort();
  await asking;
  return line;
}

function manage(world: World, target: string, token: string, host = MANAGEMENT) {
  const mark = target.includes("?") ? "&" : "?";
  return visit(world.port, { host, target: `${target}${mark}access_token=${token}` });
}

describe("what the management host answers", () => {
  const stack = new AsyncDisposableStack();
  let world: World;
  let connector: OwnedProcess;
  beforeAll(async () => {
    world = stack.use(await startWorld());
    connector = await world.connect(culvertConnector("http2"), DEAD_ORIGIN, ["--label", "rack 7"]);
  }, 20_000);
  afterAll(() => stack.disposeAsync());

  test("pings, details of the host and metrics, each for the tokens that are for it", async () => {
    const [logs, admin, details] = [
      await world.token("logs"),
      await world.token("admin"),
      await world.token("host_details"),
    ];
    expect((await manage(world, "/ping", logs)).status).toBe(200);
    expect((await manage(world, "/host_details", logs)).status).toBe(403);
    const [, id = ""] = await connector.errorLine(/Generated Connector ID: (\S+)/);
    const answer = await manage(world, "/host_details", details, "localhost");
    expect(JSON.parse(answer.body.toString())).toEqual({
      connector_id: id,
      ip: "127.0.0.1",
      hostname: "custom:rack 7",
    });
    expect((await manage(world, "/metrics", details)).status).toBe(403);
    const metrics = await manage(world, "/metrics", admin);
    expect([metrics.status, metrics.body.toString()]).toEqual([
      200,
      expect.stringContaining("cloudflared_tunnel_ha_connections"),
    ]);
    const profiles = await Promise.all(
      ["heap", "goroutine", "profile?seconds=0.1"].map(async (name) => {
        const { status, body } = await manage(world, `/debug/pprof/${name}`, admin);
        return [status, Object.keys(JSON.parse(body.toString()) as object)] as const;
      }),
    );
    expect(profiles).toEqual([
      [200, ["memory", "heap"]],
      [200, ["waitsFor"]],
      [200, expect.arrayContaining(["nodes", "samples"])],
    ]);
    expect((await manage(world, "/nothing", admin)).status).toBe(404);
  });

  test("tokens that are none, forged, expired, or of another tunnel stay outside", async () => {
    const refused = async (token: string): Promise<readonly [number, string]> => {
      const { status, body } = await manage(world, "/ping", token);
      return [status, (JSON.parse(body.toString()) as { errors: { message: string }[] }).errors[0]?.message ?? ""];
    };
    expect(await refused("")).toEqual([400, "missing access_token query parameter"]);
    expect(await refused("a.b.c")).toEqual([400, "missing access_token query parameter"]);
    expect(await refused(await forged(world.tunnelId))).toEqual([403, "the access_token is not signed by this edge"]);
    expect((await visit(world.port, { host: MANAGEMENT, target: "/ping" })).status).toBe(400);
    // What the edge has signed, with another payload.
    const [head, , signature] = (await world.token("logs")).split(".");
    const payload = Buffer.from(JSON.stringify({ tun: { id: world.tunnelId, account_tag: "a" }, actor: { id: "x" } }));
    expect((await refused(`${head}.${payload.toString("base64url")}.${signature}`))[0]).toBe(403);
  });

  test("a connector that is asked for and not there is a 530, and a bad id is said to be one", async () => {
    const token = await world.token("logs");
    expect((await manage(world, `/ping?connector_id=${crypto.randomUUID()}`, token)).status).toBe(530);
    expect((await manage(world, "/ping?connector_id=seven", token)).status).toBe(400);
  });

  test("commands that mean nothing close the stream with their code", async () => {
    const token = await world.token("logs");
    for (const [text, code] of [
      ["hello", 1003],
      ['{"type":"start_streaming","filters":{"events":["nothing"]}}', 4001],
      ["x".repeat(40_000), 1009],
    ] as const) {
      await using socket = await openWebSocket(world.port, { host: MANAGEMENT, target: `/logs?access_token=${token}` });
      await socket.sendText(text);
      expect(closeOf(await socket.receive())?.code).toBe(code);
    }
  });
});

test("the connector that is asked for answers, among several", async () => {
  await using world = await startWorld();
  const token = await world.token("host_details");
  const connectors = [
    await world.connect(culvertConnector("quic"), DEAD_ORIGIN),
    await world.connect(culvertConnector("http2"), DEAD_ORIGIN),
  ];
  for (const connector of [...connectors, ...connectors]) {
    const [, id = ""] = await connector.errorLine(/Generated Connector ID: (\S+)/);
    const { body } = await manage(world, `/host_details?connector_id=${id}`, token);
    expect(JSON.parse(body.toString())).toMatchObject({ connector_id: id });
  }
}, 20_000);

test("a connector checks who signed a token, also where the edge did not", async () => {
  await using world = await startWorld();
  // Requests for this name reach the connector by a route: the edge does not look at their tokens.
  await world.connect(culvertConnector("quic"), DEAD_ORIGIN, ["--management-hostname", HOST]);
  expect((await manage(world, "/ping", await world.token("logs"), HOST)).status).toBe(200);
  expect((await manage(world, "/metrics", await world.token("logs"), HOST)).status).toBe(403);
  expect((await manage(world, "/ping", await forged(world.tunnelId), HOST)).status).toBe(403);
}, 20_000);

describe("the live log", () => {
  const stack = new AsyncDisposableStack();
  let world: World;
  beforeAll(async () => {
    world = stack.use(await startWorld());
    await world.connect(culvertConnector("quic"), DEAD_ORIGIN);
  }, 20_000);
  afterAll(() => stack.disposeAsync());

  test("filters by event and level, anew at each start", async () => {
    const seen: string[] = [];
    const about = (path: string) => (line: Line) => {
      seen.push(`${line.event} ${String(line.fields["path"])}`);
      return line.fields["path"] === path;
    };
    const visited = async (path: string): Promise<void> => {
      for (let i = 0; i < 20; i += 1) await visit(world.port, { host: HOST, target: path });
    };
    await using socket = await follow(world.port, await world.token("logs"), { events: ["http"] });
    expect(await streaming(world, socket)).toMatchObject({ event: "http", fields: { ingressRule: 0 } });
    for (const [message, path] of [
      [{ type: "start_streaming", filters: { events: ["tcp", "udp"] } }, "/other-events"],
      [{ type: "stop_streaming" }, "/stopped"],
    ] as const) {
      await socket.sendText(JSON.stringify(message));
      // What the connector has read in between is what it goes by: it answers the ping behind.
      await socket.send(OPCODE.ping, Buffer.from(path));
      await pongLike(socket, path, (line) => void about("")(line));
      await visited(path);
    }
    await socket.sendText(JSON.stringify({ type: "start_streaming", filters: { events: ["http"] } }));
    await socket.send(OPCODE.ping, Buffer.from("again"));
    await pongLike(socket, "again", (line) => void about("")(line));
    await visited("/again");
    await lineLike(socket, about("/again"));
    // Errors name no path.
    expect(seen.filter((line) => !/^http (undefined|\/wake|\/again)$/.test(line))).toEqual([]);
  });

  test("is a sample where one is asked for", async () => {
    await using socket = await follow(world.port, await world.token("logs"), { events: ["http"], sampling: 0.5 });
    await streaming(world, socket);
    const asked = 200;
    for (let i = 0; i < asked; i += 1) await visit(world.port, { host: HOST, target: `/sample/${i}` });
    let came = 0;
    await socket.sendClose(1000);
    for (let line = await nextLine(socket); line !== undefined; line = await nextLine(socket)) {
      if (line.message.startsWith("GET ") && String(line.fields["path"]).startsWith("/sample/")) came += 1;
    }
    // Binomial: 5 standard deviations are 35.
    expect(came).toBeGreaterThan(65);
    expect(came).toBeLessThan(135);
  }, 20_000);

  test("goes to the same actor's newest reader; another actor has to wait", async () => {
    const token = await world.token("logs");
    await using first = await follow(world.port, token, { events: ["http"] });
    await streaming(world, first);
    const other = await world.token("logs", await world.edge.token("other"));
    await using stranger = await follow(world.port, other);
    expect(closeOf(await stranger.receive())).toMatchObject({ code: 4002 });
    await using second = await follow(world.port, token, { events: ["http"] });
    await streaming(world, second);
    for (let frame = await first.receive(); ; frame = await first.receive()) {
      if (frame?.opcode === OPCODE.text) continue;
      expect(closeOf(frame)).toEqual({ code: 1000, reason: "context closed" });
      break;
    }
    await second.sendClose(1000);
    while ((await nextLine(second)) !== undefined);
    await using later = await follow(world.port, other, { events: ["http"] });
    await streaming(world, later);
  }, 20_000);

  test("a reader that does not read misses lines, and nobody waits for it", async () => {
    using dir = makeTempDir();
    const config = join(dir.path, "config.yml");
    writeFileSync(
      config,
      `ingress:\n  - hostname: ${HOST}\n    path: ^/inside\n    service: ${DEAD_ORIGIN}\n  - service: http_status:404\n`,
    );
    await using slow = await startWorld();
    await slow.connect(culvertConnector("quic"), "", ["--config", config]);
    await using socket = await follow(slow.port, await slow.token("logs"));
    // Refused with a line that has the whole path: the log is far more than all windows and buffers on the way hold.
    const target = `/x/../inside/${"slow".repeat(1_500)}`;
    const requests = 3_000;
    const slowest = await visitInParallel(slow.port, target, requests);
    expect(slowest).toBeLessThan(5_000);
    let came = 0;
    const dropped = await lineLike(socket, ({ message }) => {
      came += 1;
      return message.startsWith("Log lines were dropped");
    });
    expect(dropped).toMatchObject({ level: "warn", event: "cloudflared" });
    expect(Number(dropped.fields["dropped"])).toBeGreaterThan(0);
    expect(came).toBeLessThan(requests);
    // It goes on, once what still waits is read: a line that comes earlier may be dropped as well.
    let seen = false;
    const reading = lineLike(socket, ({ fields }) => fields["path"] === "/x/../inside/again").then(() => {
      seen = true;
    });
    const visitAgain = async (): Promise<boolean> => {
      await visit(slow.port, { host: HOST, target: "/x/../inside/again" });
      return seen;
    };
    const asked = pollUntil(visitAgain, { what: "a line of a request made now", deadlineMs: 30_000, everyMs: 50 });
    await Promise.all([reading, asked]);
  }, 60_000);
});

describe("following a log by command", () => {
  const kinds = CONNECTORS.filter((kind) => kind.missing === undefined && !kind.name.includes("_OLD"));
  test.each(kinds)(
    "of $name",
    async (kind) => {
      await using world = await startWorld([
        "--https-listen",
        "127.0.0.1:0",
        "--tls-internal",
        "--https-redirect=false",
      ]);
      await world.connect(kind, DEAD_ORIGIN);
      const { edge } = world;
      const { HTTP_PROXY: _http, HTTPS_PROXY: _https, ...direct } = edge.env;
      const env = { ...direct, SSL_CERT_FILE: edge.edge.caPath };
      const programs: readonly (readonly string[])[] = [
        [...culvertCommand(), "tail", "--ca-file", edge.edge.caPath],
        ...(NO_CLOUDFLARED === undefined
          ? [[CLOUDFLARED, "tail", "--management-hostname", `localhost:${edge.edge.httpsPort}`]]
          : []),
      ];
      for (const argv of programs) {
        await using tail = startProcess([...argv, "--event", "http", "--output", "json", world.tunnelId], { env });
        const line = await followed(world, tail);
        // cloudflared leaves the lowest level out.
        expect(JSON.parse(line)).toMatchObject({ event: "http", message: expect.stringContaining("GET") });
        tail.signal("SIGINT");
        expect(await tail.exitCode()).toBe(0);
      }
    },
    60_000,
  );

  test("of an edge whose name leads nowhere yet, at an address of its machine, by the authority it can find", async () => {
    const tls = ["--https-listen", "127.0.0.1:0", "--tls-internal", "--https-redirect=false"];
    await using world = await startWorld([...tls, "--management-hostname", "look.live.example"]);
    await world.connect(culvertConnector("http2"), DEAD_ORIGIN);
    using dir = makeTempDir();
    const { edge } = world;
    const { caPath, httpsPort } = edge.edge;
    const { HTTP_PROXY: _http, HTTPS_PROXY: _https, ...env } = edge.env;
    const informed = { ...env, HOME: dir.path };
    mkdirSync(join(dir.path, ".cloudflared"));
    const pem = formatCertPem({ ...edge.cert, apiCa: readFileSync(caPath, "utf8") });
    writeFileSync(join(dir.path, ".cloudflared", "cert.pem"), pem);
    const tail = [...culvertCommand(), "tail", "--event", "http", "--output", "json", "--management-hostname"];
    for (const [argv, known] of [
      [[...tail, `localhost:${httpsPort}`, "--ca-file", caPath, "web"], env],
      [[...tail, `127.0.0.1:${httpsPort}`, "web"], informed],
      [[...tail, `http://localhost:${world.port}`, "web"], env],
    ] as const) {
      await using following = startProcess(argv, { env: known });
      expect(JSON.parse(await followed(world, following))).toMatchObject({ event: "http" });
    }
    const untrusted = await runProcess([...tail, `localhost:${httpsPort}`, "web"], { env });
    expect([untrusted.code, untrusted.stderr]).toEqual([
      1,
      expect.stringMatching(/^culvert: TLS handshake with [^\n]*: where this [^\n]* --ca-file ca\.pem\n$/),
    ]);
  }, 60_000);

  test.each([
    ...[502, 503, 504].map((status) => [status, "There is no connector, or the edge is not reached, at AT"] as const),
    [530, "No connector can be looked into at AT: is one running?"],
    [418, "AT does not let the log be followed"],
  ] as const)("says for status %d what it can mean", async (status, said) => {
    await using server = createServer((_request, response) => response.writeHead(status).end());
    await new Promise<void>((resolve) => server.listen({ host: "127.0.0.1", port: 0 }, resolve));
    const at = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const token = await forged(crypto.randomUUID());
    const { code, stderr } = await runProcess([
      ...culvertCommand(),
      ...["tail", "--management-hostname", at, "--token", token],
    ]);
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: `culvert: ${said.replace("AT", `http://management.argotunnel.com (status ${status})`)}\n`,
    });
  });

  test("shows what a refusal says, without what would steer the terminal", async () => {
    const message = `no\u001b[31m${"x".repeat(1_000)}`;
    await using server = createServer((_request, response) =>
      response.writeHead(418).end(JSON.stringify({ errors: [{ message }] })),
    );
    await new Promise<void>((resolve) => server.listen({ host: "127.0.0.1", port: 0 }, resolve));
    const at = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const tail = ["tail", "--management-hostname", at, "--token", await forged(crypto.randomUUID())];
    const { code, stderr } = await runProcess([...culvertCommand(), ...tail]);
    expect(code).toBe(1);
    expect(stderr).toEndWith(`followed: no\\u001b[31m${"x".repeat(493)}\n`);
  });

  test.each([
    ["https://look.live.invalid:8443", "localhost:8443"],
    ["http://look.live.invalid:8080", "http://localhost:8080"],
  ])("says what to dial on the edge's machine where %s leads nowhere", async (mgmt, local) => {
    const token = await forged(crypto.randomUUID(), { mgmt });
    const tail = [...culvertCommand(), "tail", "--token", token];
    const { code, stderr } = await runProcess(tail);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^culvert: Cannot connect to look\.live\.invalid:80?[48]/);
    expect(stderr).toEndWith(`: on the edge's own machine, add --management-hostname ${local}\n`);
    const given = await runProcess([...tail, "--management-hostname", "other.live.invalid"]);
    expect([given.code, given.stderr]).toEqual([1, expect.not.stringContaining("--management-hostname")]);
  });

  test.each(["", "garbage", "-----BEGIN CERTIFICATE-----\ngarbage\n-----END CERTIFICATE-----\n"])(
    "names the file that holds no authority, but %j",
    async (text) => {
      using dir = makeTempDir();
      const path = join(dir.path, "ca.pem");
      writeFileSync(path, text);
      const { code, stderr } = await runProcess([
        ...culvertCommand(),
        ...["tail", "--token", await forged(crypto.randomUUID()), "--ca-file", path],
      ]);
      expect({ code, stderr }).toEqual({
        code: 1,
        stderr: expect.stringContaining(`Cannot use CA file "${path}": it holds no certificate in PEM`),
      });
    },
  );

  test("keeps 4 MiB for a reader that stays but does not read, and says how many lines it lost then", async () => {
    await using server = pushingLogs();
    using dir = makeTempDir();
    const pipe = join(dir.path, "pipe");
    await runProcess(["mkfifo", pipe]);
    // For both directions, so that opening it waits for nobody.
    const held = openSync(pipe, constants.O_RDWR);
    using _held = { [Symbol.dispose]: () => closeSync(held) };
    const token = await forged(crypto.randomUUID());
    const argv = [
      ...culvertCommand(),
      "tail",
      "--output",
      "json",
      "--management-hostname",
      server.at,
      "--token",
      token,
    ];
    await using tail = startProcess(["sh", "-c", 'exec "$@" >"$0"', pipe, ...argv]);
    const lines = Array.from({ length: 200 }, (_one, i) => `${i} ${"x".repeat(64 * 1024)}`);
    await server.push(lines);
    expect(tail.stderr).toBe("");
    await using reader = startProcess(["cat", pipe]);
    const [, lost = ""] = await tail.errorLine(
      /^culvert: Lines of the log were lost, since nobody read them: (\d+)\n$/,
    );
    await server.push(["last"]);
    await reader.outputLine(/"last"/);
    const read = reader.stdout.trimEnd().split("\n");
    expect(read.every((line) => JSON.parse(line) !== null)).toBe(true);
    expect(read.length + Number(lost)).toBe(lines.length + 1);
    // What a pipe holds comes on top.
    expect(reader.stdout.length).toBeGreaterThan(3 * 1024 * 1024);
    expect(reader.stdout.length).toBeLessThan(5 * 1024 * 1024);
    tail.signal("SIGINT");
    expect(await tail.exitCode()).toBe(0);
  }, 30_000);

  test("says why it cannot", async () => {
    await using world = await startWorld();
    const none = await world.edge.culvert("tail", "web");
    expect([none.code, none.stderr]).toEqual([1, expect.stringContaining("no connector of the tunnel is connected")]);
    const missing = await world.edge.culvert("tail", "nothing");
    expect([missing.code, missing.stderr]).toEqual([1, expect.stringContaining('There is no tunnel "nothing"')]);
    const wrong = await world.edge.culvert("tail", "--level", "loud", "--sample", "2", "web");
    expect([wrong.code, wrong.stderr]).toEqual([255, expect.stringMatching(/--level must be.*\n.*--sample must be/)]);
  }, 20_000);
});

/** What sends whoever follows it the lines it is given. `push` resolves once all of them have come there. */
function pushingLogs(): AsyncDisposable & { readonly at: string; push(messages: readonly string[]): Promise<void> } {
  const following = Promise.withResolvers<Bun.ServerWebSocket<undefined>>();
  let onPong = (): void => {};
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: (request, self) => (self.upgrade(request) ? undefined : new Response("no WebSocket", { status: 400 })),
    websocket: { message: (socket) => following.resolve(socket), pong: () => onPong() },
  });
  return {
    at: `http://127.0.0.1:${server.port}`,
    push: async (messages) => {
      const socket = await following.promise;
      for (const message of messages) {
        const line = { time: "2026-01-01T00:00:00Z", level: "info", event: "http", message };
        socket.send(JSON.stringify({ type: "logs", logs: [line] }));
        await new Promise<void>((resolve) => {
          onPong = resolve;
          socket.ping();
        });
      }
    },
    [Symbol.asyncDispose]: () => server.stop(true),
  };
}

/** Makes requests until one stands in what a command prints, and gives its line. */
function followed(world: World, tail: OwnedProcess): Promise<string> {
  return pollUntil(
    async () => {
      if (tail.end !== undefined) return `{"ended": ${JSON.stringify(tail.stderr)}}`;
      await visit(world.port, { host: HOST, target: "/followed" });
      return tail.stdout.split("\n").find((text) => text.includes("/followed"));
    },
    { what: `${tail.name} prints a line`, deadlineMs: 20_000 },
  );
}

/** Gives how long the slowest request took, in ms. */
async function visitInParallel(port: number, target: string, requests: number): Promise<number> {
  let left = requests;
  let slowest = 0;
  const visitor = async (): Promise<void> => {
    while (left > 0) {
      left -= 1;
      const startedAt = performance.now();
      expect((await visit(port, { host: HOST, target })).status).toBe(400);
      slowest = Math.max(slowest, performance.now() - startedAt);
    }
  };
  await Promise.all(Array.from({ length: 16 }, visitor));
  return slowest;
}

/** A token with everything right but the key. `more`: further claims. */
async function forged(tunnelId: string, more: { readonly mgmt?: string } = {}): Promise<string> {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  return await new SignJWT({ tun: { id: tunnelId, account_tag: "a" }, actor: { id: "eve" }, res: ["admin"], ...more })
    .setProtectedHeader({ alg: "ES256" })
    .setExpirationTime("1h")
    .sign(privateKey);
}
