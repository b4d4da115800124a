import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { join } from "node:path";
import { parseIngress, singleRule } from "../../src/ingress/rules.ts";
import { makeTestCertificate } from "../support/certificate.ts";
import { pollUntil } from "../support/poll-until.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { HOSTNAME, startWholePath, type WholePath } from "../support/whole-path.ts";

/** A visitor: dials the public port and names the host. */
async function visit(path: WholePath, target: string, init: RequestInit = {}): Promise<Response> {
  return await fetch(`http://127.0.0.1:${path.publicPort}${target}`, {
    ...init,
    headers: { ...(init.headers as Record<string, string> | undefined), Host: HOSTNAME },
  });
}

async function origin(
  handler: Parameters<typeof createServer>[1],
  at: { host: string; port: number } | { path: string } = { host: "127.0.0.1", port: 0 },
): Promise<Server & AsyncDisposable & { port: number }> {
  const server = createServer(handler as never);
  await new Promise<void>((resolve) => server.listen(at, () => resolve()));
  const address = server.address();
  return Object.assign(server, {
    port: typeof address === "object" && address !== null ? address.port : 0,
    [Symbol.asyncDispose]: () => {
      server.closeAllConnections();
      return new Promise<void>((resolve) => server.close(() => resolve()));
    },
  });
}

test("four connections register, in order, and say so as cloudflared does", async () => {
  await using path = await startWholePath();
  const connector = await path.connect();
  await pollUntil(() => path.edge.registry.size === 4, { what: "four connections" });
  const registered = await pollUntil(
    () => {
      const lines = path.lines.filter((line) => line.includes("Registered tunnel connection"));
      return lines.length === 4 ? lines : undefined;
    },
    { what: "four lines in the connector's log" },
  );
  expect(registered[0]).toMatch(
    /^\S+Z INF Registered tunnel connection connIndex=0 connection=[0-9a-f-]{36} event=0 ip=127\.0\.0\.1 location=test01 protocol=http2$/,
  );
  const ready = await fetch(`http://${connector.metricsAddress}/ready`);
  expect(ready.status).toBe(200);
  expect(await ready.json()).toMatchObject({ status: 200, readyConnections: 4 });
  expect((await visit(path, "/uptime")).status).toBe(200);
  const metrics = await (await fetch(`http://${connector.metricsAddress}/metrics`)).text();
  expect(metrics).toContain("cloudflared_tunnel_ha_connections 4");
  expect(metrics).toContain('cloudflared_tunnel_response_by_code{status_code="200"} 1');
  expect(metrics).toContain('cloudflared_tunnel_server_locations{connection_id="0",edge_location="test01"} 1');
  expect(await (await fetch(`http://${connector.metricsAddress}/healthcheck`)).text()).toBe("OK\n");
});

test("a wrong secret ends the connector, with the edge's words in the log and no secret", async () => {
  await using path = await startWholePath();
  const secret = new Uint8Array(32).fill(9);
  const connector = await path.connect({ secret });
  expect(await connector.finished).toMatchObject({ kind: "refused", why: "unauthorized" });
  expect(path.lines.join("\n")).toContain('error="Unauthorized: Invalid tunnel secret"');
  expect(path.lines.join("\n")).not.toContain(Buffer.from(secret).toString("base64"));
}, 15_000);

test("an edge that comes back is found again", async () => {
  await using path = await startWholePath();
  await path.connect();
  await pollUntil(() => path.edge.registry.size === 4, { what: "four connections" });
  await path.restartEdge();
  await pollUntil(() => path.edge.registry.size === 4, { what: "all four are back", deadlineMs: 10_000 });
  expect((await visit(path, "/_health")).status).toBe(200);
}, 20_000);

test("a connector that stops lets its running request finish and takes no new one", async () => {
  let finish = (): void => {};
  await using service = await origin((_request, response) => {
    response.write("begin ");
    finish = () => response.end("end");
  });
  await using path = await startWholePath();
  const rules = singleRule({ kind: "http", host: "127.0.0.1", port: service.port });
  const connector = await path.connect({ rules, connections: 1 });
  await pollUntil(() => path.edge.registry.size === 1, { what: "a connection" });
  const running = await visit(path, "/slow");
  connector.stop();
  await pollUntil(() => path.edge.registry.all().every((live) => live.draining), { what: "the edge knows" });
  expect((await visit(path, "/new")).status).toBe(530);
  finish();
  expect(await running.text()).toBe("begin end");
  expect(await connector.finished).toBeUndefined();
});

test("a second replica takes over when the first one goes, without a failed request", async () => {
  await using path = await startWholePath();
  const first = await path.connect();
  await path.connect();
  await pollUntil(() => path.edge.registry.size === 8, { what: "eight connections" });
  let failures = 0;
  let requests = 0;
  let going = true;
  const load = Array.from({ length: 8 }, async () => {
    while (going) {
      const response = await visit(path, "/_health");
      requests += 1;
      if (response.status !== 200 || (await response.text()) !== "ok") failures += 1;
    }
  });
  await pollUntil(() => requests > 100, { what: "load" });
  first.stop();
  await first.finished;
  const before = requests;
  await pollUntil(() => requests > before + 100, { what: "load goes on" });
  going = false;
  await Promise.all(load);
  expect(failures).toBe(0);
});

test("rules pick the service by host and path; a path with dot segments cannot sidestep them", async () => {
  await using path = await startWholePath();
  const { rules } = parseIngress({
    ingress: [
      { hostname: HOSTNAME, path: "^/private", service: "http_status:403" },
      { hostname: "other.example.test", service: "http_status:418" },
      { service: "http_status:204" },
    ],
  });
  if (rules === undefined) throw new Error("rules are valid");
  await path.connect({ rules, connections: 1 });
  await pollUntil(() => path.edge.registry.size === 1, { what: "a connection" });
  expect((await visit(path, "/private/x")).status).toBe(403);
  expect((await visit(path, "/public")).status).toBe(204);
  const raw = await rawStatus(path, `/public/..%2fprivate`);
  expect([raw, await rawStatus(path, "/public/../private")]).toEqual([400, 400]);
});

test("a service behind a unix socket, and one behind TLS with an authority of its own", async () => {
  using dir = makeTempDir();
  const socket = join(dir.path, "app.sock");
  await using unix = await origin((request, response) => response.end(`unix ${request.url}`), { path: socket });
  expect(unix.listening).toBe(true);
  const certificate = await makeTestCertificate(["service.internal"]);
  const answer = (_request: IncomingMessage, response: ServerResponse): unknown => response.end("tls");
  const secure = createTlsServer(certificate, answer);
  await new Promise<void>((resolve) => secure.listen(0, "127.0.0.1", () => resolve()));
  const address = secure.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  writeFileSync(join(dir.path, "ca.pem"), certificate.cert);
  const { rules } = parseIngress({
    ingress: [
      { path: "^/unix", service: `unix:${socket}` },
      {
        path: "^/tls",
        service: `https://127.0.0.1:${port}`,
        originRequest: { originServerName: "service.internal", caPool: join(dir.path, "ca.pem") },
      },
      { service: `https://127.0.0.1:${port}` },
    ],
  });
  if (rules === undefined) throw new Error("rules are valid");
  await using path = await startWholePath();
  await path.connect({ rules, connections: 1 });
  await pollUntil(() => path.edge.registry.size === 1, { what: "a connection" });
  expect(await (await visit(path, "/unix?x=1")).text()).toBe("unix /unix?x=1");
  expect(await (await visit(path, "/tls")).text()).toBe("tls");
  expect((await visit(path, "/untrusted")).status).toBe(502);
  expect(path.lines.join("\n")).toContain("code=origin.tls");
  secure.closeAllConnections();
  await new Promise<void>((resolve) => secure.close(() => resolve()));
});

test("an origin that is down is a 502, and the log names rule, address and cause", async () => {
  await using path = await startWholePath();
  await path.connect({ rules: singleRule({ kind: "http", host: "127.0.0.1", port: 1 }), connections: 1 });
  await pollUntil(() => path.edge.registry.size === 1, { what: "a connection" });
  const response = await visit(path, "/", { headers: { Accept: "application/json" } });
  expect(response.status).toBe(502);
  expect(await response.json()).toMatchObject({ success: false, errors: [{ code: 502 }] });
  const line = path.lines.find((text) => text.includes("Unable to reach the origin service"));
  expect(line).toContain("Cannot connect to 127.0.0.1:1: connection refused");
  expect(line).toContain("ingressRule=0 originService=http://127.0.0.1:1");
});

/** Sends a target as it is: `fetch` would resolve its dot segments. */
async function rawStatus(path: WholePath, target: string): Promise<number> {
  const answer = Promise.withResolvers<number>();
  const socket = await Bun.connect({
    hostname: "127.0.0.1",
    port: path.publicPort,
    socket: {
      data: (_socket, bytes) => answer.resolve(Number(bytes.toString("latin1").split(" ")[1])),
      error: (_socket, error) => answer.reject(error),
    },
  });
  socket.write(`GET ${target} HTTP/1.1\r\nHost: ${HOSTNAME}\r\nConnection: close\r\n\r\n`);
  const status = await answer.promise;
  socket.end();
  return status;
}
