import { describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  CONNECTORS,
  type ConnectorKind,
  culvertConnector,
  metricsPort,
  PROTOCOLS,
  startConnector,
} from "../support/lab.ts";
import { pollUntil } from "../support/poll-until.ts";
import type { OwnedProcess } from "../support/processes.ts";
import { askThrough, type PushingEdge, startPushingEdge } from "../support/pushing-edge.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { visit } from "../support/visitors.ts";

const HOST = "app.lab.example";
/** Pushes in a row, of which each is newer. */
const PUSHES = 200;

function connect(kind: ConnectorKind, edge: PushingEdge, flags: readonly string[] = []): OwnedProcess {
  const { token, tunnelPort, caPath } = edge;
  // Ours knows where the edge is from its token.
  return startConnector(kind, {
    token,
    tunnelPort,
    caPath,
    flags: [...flags, ...(kind.ours ? ["--ha-connections", "2"] : [])],
  });
}

function answering(status: number): string {
  return JSON.stringify({
    ingress: [{ hostname: HOST, service: `http_status:${status}` }, { service: "http_status:404" }],
  });
}

async function configOf(
  connector: OwnedProcess,
): Promise<{ version: number; config: { ingress: { service: string }[] } }> {
  const answer = await visit(await metricsPort(connector), { host: "127.0.0.1", target: "/config" });
  return JSON.parse(answer.body.toString());
}

for (const kind of CONNECTORS) {
  describe.skipIf(kind.missing !== undefined)(`configurations pushed to ${kind.name}`, () => {
    test("newer ones are applied, older ones are not, wrong ones are refused", async () => {
      await using edge = await startPushingEdge({ remotelyManaged: true });
      await using _connector = connect(kind, edge);
      await edge.registered(1);
      const [session] = edge.sessions;
      if (session === undefined) throw new Error("no session");
      const push = (version: number, config: string) => session.pushConfiguration({ version, config });
      const ask = () => askThrough(session, HOST);
      expect(edge.features.has("allow_remote_config")).toBe(true);

      expect(await push(0, answering(201))).toEqual({ latestAppliedVersion: 0, error: "" });
      expect(await ask()).toBe(201);
      expect(await push(0, answering(202))).toEqual({ latestAppliedVersion: 0, error: "" });
      expect(await ask()).toBe(201);
      const wrong = await push(5, JSON.stringify({ ingress: [{ hostname: HOST, service: "http_status:203" }] }));
      expect(wrong.latestAppliedVersion).toBe(0);
      expect(wrong.error).not.toBe("");
      expect(await ask()).toBe(201);
      expect(await push(5, answering(205))).toEqual({ latestAppliedVersion: 5, error: "" });
      expect(await ask()).toBe(205);
      expect(await push(3, answering(203))).toEqual({ latestAppliedVersion: 5, error: "" });
      expect(await ask()).toBe(205);
      expect(await push(6, JSON.stringify({ ingress: [] }))).toEqual({ latestAppliedVersion: 6, error: "" });
      expect(await ask()).toBe(503);
      expect(edge.reported).toEqual([]);
    }, 30_000);
  });
}

describe.each(PROTOCOLS.map((protocol) => ({ protocol })))("our connector over $protocol", ({ protocol }) => {
  const kind = culvertConnector(protocol);

  test("has one configuration for all its connections, and shows it", async () => {
    await using edge = await startPushingEdge({ remotelyManaged: true });
    await using connector = connect(kind, edge);
    await edge.registered(2);
    const [first, second] = edge.sessions;
    if (first === undefined || second === undefined) throw new Error("no sessions");
    expect(await configOf(connector)).toMatchObject({ version: -1 });
    const seconds = { ingress: [{ service: "http_status:204", originRequest: { connectTimeout: 7 } }], other: 1 };
    expect(await first.pushConfiguration({ version: 1, config: JSON.stringify(seconds) })).toMatchObject({ error: "" });
    expect(await second.pushConfiguration({ version: 1, config: answering(201) })).toMatchObject({
      latestAppliedVersion: 1,
    });
    expect(await askThrough(second, HOST)).toBe(204);
    expect(await configOf(connector)).toMatchObject({
      version: 1,
      config: {
        ingress: [{ hostname: "", path: null, service: "http_status:204", originRequest: { connectTimeout: 7 } }],
      },
    });
    await connector.errorLine(/INF Updated to new configuration .*version=1/);
  }, 30_000);

  test("tells every error of a configuration to the edge and to its log", async () => {
    await using edge = await startPushingEdge({ remotelyManaged: true });
    await using connector = connect(kind, edge);
    await edge.registered(1);
    const ingress = [
      { hostname: "a.example:80", service: "http://localhost:1" },
      { path: "[", service: "http://localhost:1" },
      { service: "http_status:404", originRequest: { connectTimeout: "30s", caPool: "/no/such/file" } },
    ];
    const answer = await edge.sessions[0]?.pushConfiguration({ version: 3, config: JSON.stringify({ ingress }) });
    expect(answer?.latestAppliedVersion).toBe(-1);
    for (const part of ["ingress[0].hostname", "ingress[1].path", "ingress[2].originRequest.connectTimeout"]) {
      expect(answer?.error).toContain(part);
      expect(connector.stderr).toContain(part);
    }
    const missing = JSON.stringify({
      ingress: [{ service: "https://localhost:1", originRequest: { caPool: "/no/such/file" } }],
    });
    const unreadable = await edge.sessions[0]?.pushConfiguration({ version: 3, config: missing });
    expect(unreadable?.error).toMatch(/^Rule #1: .*"\/no\/such\/file"/);
  }, 30_000);

  test(`${PUSHES} pushes in a row, while requests run`, async () => {
    await using edge = await startPushingEdge({ remotelyManaged: true });
    await using _connector = connect(kind, edge);
    await edge.registered(2);
    const [session, other] = edge.sessions;
    if (session === undefined || other === undefined) throw new Error("no sessions");
    await session.pushConfiguration({ version: 0, config: answering(200) });
    let stopped = false;
    const seen: number[] = [];
    const visitors = Array.from({ length: 4 }, async () => {
      while (!stopped) seen.push(await askThrough(other, HOST));
    });
    for (let version = 1; version <= PUSHES; version += 1) {
      const config = answering(200 + (version % 5));
      expect(await session.pushConfiguration({ version, config })).toEqual({
        latestAppliedVersion: version,
        error: "",
      });
    }
    stopped = true;
    await Promise.all(visitors);
    expect(seen.length).toBeGreaterThan(PUSHES);
    expect(seen.every((status) => status >= 200 && status <= 204)).toBe(true);
  }, 60_000);

  test("leaves its own file's rules once the edge has pushed some, and says so", async () => {
    await using edge = await startPushingEdge({ remotelyManaged: true });
    using dir = makeTempDir();
    const file = join(dir.path, "config.yml");
    writeFileSync(file, "ingress:\n  - service: http_status:418\n");
    await using connector = connect(kind, edge, ["--config", file]);
    await edge.registered(1);
    const [session] = edge.sessions;
    if (session === undefined) throw new Error("no session");
    expect(await askThrough(session, HOST)).toBe(418);
    await session.pushConfiguration({ version: 0, config: answering(201) });
    writeFileSync(file, "ingress:\n  - service: http_status:419\n");
    connector.signal("SIGHUP");
    await connector.errorLine(/WRN The rules of .*config\.yml have no effect: this tunnel is configured by its edge/);
    expect(await askThrough(session, HOST)).toBe(201);
    expect(await configOf(connector)).toMatchObject({ version: 0 });
    expect(edge.reported).toEqual([]);
  }, 30_000);

  test("a file without rules that is read again is not said to answer 503 while the edge's are in force", async () => {
    await using edge = await startPushingEdge({ remotelyManaged: true });
    using dir = makeTempDir();
    const file = join(dir.path, "config.yml");
    writeFileSync(file, "loglevel: info\n");
    await using connector = connect(kind, edge, ["--config", file]);
    await edge.registered(1);
    const [session] = edge.sessions;
    if (session === undefined) throw new Error("no session");
    await session.pushConfiguration({ version: 0, config: answering(201) });
    const before = connector.stderr.length;
    writeFileSync(file, "loglevel: debug\n");
    connector.signal("SIGHUP");
    await connector.errorLine(/INF Configuration reloaded; the rules are those of the edge/);
    expect(connector.stderr.slice(before)).not.toMatch(/answers 503|have no effect/);
    expect(await askThrough(session, HOST)).toBe(201);
  }, 30_000);

  test("tells an edge that leaves the rules to it what they are, again after each change", async () => {
    await using edge = await startPushingEdge({ remotelyManaged: false });
    using dir = makeTempDir();
    const file = join(dir.path, "config.yml");
    const rules = (status: number): string => `ingress:\n  - service: http_status:${status}\n`;
    writeFileSync(file, rules(418));
    await using connector = connect(kind, edge, ["--config", file]);
    const told = (status: number): Promise<true> =>
      pollUntil(() => JSON.stringify(edge.reported.at(-1))?.includes(`"http_status:${status}"`) === true || undefined, {
        what: `the edge is told of ${status}`,
      });
    await edge.registered(2);
    await told(418);
    expect(edge.reported).toHaveLength(1);
    writeFileSync(file, rules(419));
    connector.signal("SIGHUP");
    await told(419);
  }, 30_000);
});
