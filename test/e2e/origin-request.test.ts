import { describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { join } from "node:path";
import { startFullListener } from "../support/full-listener.ts";
import { addTunnel, cleanEnvironment, culvertConnector, HOST, served, startEdgeProcess } from "../support/lab.ts";
import { OPCODE } from "../support/lab-websocket.ts";
import { startOrigin } from "../support/origins.ts";
import { canHaveOwnHosts, hostsFile, withHosts } from "../support/own-hosts.ts";
import { startProcess } from "../support/processes.ts";
import { startTcpOrigin } from "../support/tcp-origin.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { openWebSocket, visit } from "../support/visitors.ts";

const NAME = "two.origin.example";
/** The first address of a name does not answer; where they take turns, it has so much of the time, in ms. */
const TURN_MS = 2_000;

/** Edge, and a connector with these rules that knows two addresses of one name. */
async function startLab(rules: string) {
  await using stack = new AsyncDisposableStack();
  const dir = stack.use(makeTempDir()).path;
  const edge = await startEdgeProcess(join(dir, "state"));
  stack.use(edge.process);
  const token = await addTunnel(join(dir, "state"), "lab", [HOST]);
  const config = join(dir, "config.yml");
  writeFileSync(config, rules);
  const { tunnelPort, caPath } = edge;
  const argv = culvertConnector("http2").argv({ token, tunnelPort, caPath, flags: ["--config", config] });
  const hosts = hostsFile(dir, NAME, ["127.0.0.71", "127.0.0.72"]);
  const connector = stack.use(startProcess(withHosts(hosts, argv), { env: cleanEnvironment() }));
  await connector.errorLine(/Registered tunnel connection/);
  const owned = stack.move();
  return { port: edge.publicPort, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

describe.skipIf(!(await canHaveOwnHosts()))("originRequest, whole way", () => {
  test("noHappyEyeballs: a name's addresses take turns; without it the second need not wait for the first", async () => {
    await using full = await startFullListener("127.0.0.71");
    const answering: Server = createServer((_request, answer) => void answer.end("second"));
    await new Promise<void>((resolve) => answering.listen(full.port, "127.0.0.72", resolve));
    const service = `http://${NAME}:${full.port}`;
    await using lab = await startLab(`ingress:
  - path: ^/turns
    service: ${service}
    originRequest: { noHappyEyeballs: true, connectTimeout: 4s }
  - service: ${service}
    originRequest: { connectTimeout: 4s }
`);
    const timed = async (target: string): Promise<number> => {
      const startMs = performance.now();
      const answer = await visit(lab.port, { host: HOST, target });
      expect([answer.status, answer.body.toString()]).toEqual([200, "second"]);
      return performance.now() - startMs;
    };
    expect(await timed("/race")).toBeLessThan(TURN_MS);
    expect(await timed("/turns")).toBeGreaterThanOrEqual(TURN_MS - 10);
    answering.closeAllConnections();
    answering.close();
  }, 30_000);

  test("httpHostHeader: the service is asked for that name and told the visitor's", async () => {
    await using origin = await startOrigin();
    const service = `http://127.0.0.1:${origin.port}`;
    await using lab = await startLab(`originRequest: { httpHostHeader: "inner.example:8080" }
ingress:
  - path: ^/hello
    service: ${service}
  - service: ${service}
    originRequest: { httpHostHeader: "" }
`);
    await served(lab.port);
    const hosts = (target: string): [string, string][] =>
      (origin.seenAt(target)?.fields ?? [])
        .filter(([name]) => /^(x-forwarded-)?host$/i.test(name))
        .map(([name, value]) => [name.toLowerCase(), value]);
    expect(hosts("/hello")).toEqual([
      ["host", "inner.example:8080"],
      ["x-forwarded-host", HOST],
    ]);
    await visit(lab.port, { host: HOST, target: "/other" });
    expect(hosts("/other")).toEqual([["host", HOST]]);
  });

  test("bastionMode: the visitor says where to, whatever the service is called", async () => {
    await using origin = await startTcpOrigin((socket) => void socket.pipe(socket));
    const ipRules = `[{ prefix: 127.0.0.0/8, ports: [${origin.port}], allow: true }]`;
    await using lab = await startLab(`ingress:
  - service: tcp://localhost:1
    originRequest: { bastionMode: true, ipRules: ${ipRules} }
`);
    const fields = [["Cf-Access-Jump-Destination", `127.0.0.1:${origin.port}`]] as const;
    await using socket = await openWebSocket(lab.port, { host: HOST, fields });
    const bytes = createHash("sha512").update("bastion").digest();
    await socket.send(OPCODE.binary, bytes);
    expect((await socket.receive())?.payload).toEqual(bytes);
    const handshake = [
      ["Connection", "Upgrade"],
      ["Upgrade", "websocket"],
      ["Sec-WebSocket-Version", "13"],
      ["Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="],
    ] as const;
    const elsewhere = [["Cf-Access-Jump-Destination", "127.0.0.1:1"]] as const;
    expect((await visit(lab.port, { host: HOST, fields: [...handshake, ...elsewhere] })).status).toBe(403);
    expect((await visit(lab.port, { host: HOST, fields: handshake })).status).toBeGreaterThanOrEqual(400);
  });
});
