import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync, renameSync } from "node:fs";
import { join } from "node:path";
import {
  CULVERT,
  culvertConnector,
  HOST,
  type Lab,
  metricsPort,
  PROTOCOLS,
  startConnector,
  startLab,
} from "../support/lab.ts";
import { pollUntil } from "../support/poll-until.ts";
import { freePort } from "../support/real-services/commands.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { openVisit, openWebSocket, visit } from "../support/visitors.ts";

/** The file's lines; undefined = there is none. */
function jsonLines(path: string): readonly Record<string, unknown>[] {
  if (!existsSync(path)) return [];
  return readFileSync(path, "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

async function counted(lab: Lab, name: string): Promise<number> {
  const { body } = await visit(await metricsPort(lab.connector), { host: "127.0.0.1", target: "/metrics" });
  return Number(new RegExp(`^${name} (\\d+)$`, "m").exec(body.toString())?.[1]);
}

describe.each(PROTOCOLS.map((protocol) => ({ protocol })))("over $protocol", ({ protocol }) => {
  test("no secret of a busy run is in any log, at any level", async () => {
    using dir = makeTempDir();
    const logfile = join(dir.path, "connector.log");
    const password = "scrape-4f1c9d-password";
    const flags = [
      ...["--loglevel", "debug", "--transport-loglevel", "debug", "--log-requests", "--logfile", logfile],
      ...["--metrics-auth", `prometheus:${password}`],
    ];
    await using lab = await startLab(culvertConnector(protocol), { connectorFlags: flags });
    const { s: tunnelSecret } = JSON.parse(Buffer.from(lab.token, "base64").toString()) as { s: string };
    const jwt = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ2aXNpdG9yIn0.c2lnbmF0dXJlLW9mLXZpc2l0b3I";
    const ofVisitor = {
      bearer: "bearer-8e02b7-token",
      basic: "user:basic-77af-password",
      cookie: "session-id-1b2c3d4e",
      query: "query-token-9f8e7d",
      apiKey: "api-key-0a1b2c3d",
      body: "body-secret-55d1",
      access: "access-secret-6e6e",
      jwt,
    };
    const fields = [
      ["Authorization", `Bearer ${ofVisitor.bearer}`],
      ["Proxy-Authorization", `Basic ${Buffer.from(ofVisitor.basic).toString("base64")}`],
      ["Cookie", `sid=${ofVisitor.cookie}; CF_Authorization=${jwt}`],
      ["X-Api-Key", ofVisitor.apiKey],
      ["CF-Access-Client-Secret", ofVisitor.access],
      ["Cf-Access-Jwt-Assertion", jwt],
      ["Referer", `https://other.example/?token=${ofVisitor.query}`],
    ] as const;
    const target = `/hello?access_token=${ofVisitor.query}&jwt=${jwt}`;
    await Promise.all(
      Array.from({ length: 20 }, async (_, i) => {
        await visit(lab.port, { host: HOST, target, fields });
        await visit(lab.port, { host: HOST, method: "POST", target: `/echo?i=${i}`, fields, body: ofVisitor.body });
      }),
    );
    await using _websocket = await openWebSocket(lab.port, { host: HOST, target: "/ws" });
    const port = await metricsPort(lab.connector);
    const basic = Buffer.from(`prometheus:${password}`).toString("base64");
    expect(
      (await visit(port, { host: "127.0.0.1", target: "/metrics", fields: [["Authorization", `Basic ${basic}`]] }))
        .status,
    ).toBe(200);
    // Services that are gone, and an edge that is gone: errors are told in full.
    await lab.origin[Symbol.asyncDispose]();
    for (let i = 0; i < 5; i += 1) await visit(lab.port, { host: HOST, target, fields });
    await lab.edge.process.kill();
    await lab.connector.errorLine(/Retrying connection/, 20_000);
    lab.connector.signal("SIGTERM");
    await lab.connector.exitCode(25_000);

    const logs = [lab.connector.stderr, lab.connector.stdout, readFileSync(logfile, "utf8")];
    expect(logs[0]).toContain("DBG GET app.lab.example/hello?…");
    expect(logs[0]).toContain("authorization: REDACTED");
    expect(logs[0]).toContain("Unable to reach the origin");
    const secrets = { token: lab.token, tunnelSecret, password, ...ofVisitor };
    const found: string[] = [];
    for (const [name, secret] of Object.entries(secrets)) {
      const bytes = Buffer.from(secret);
      const shapes = [
        secret,
        encodeURIComponent(secret),
        bytes.toString("base64").replace(/=+$/, ""),
        bytes.toString("base64url"),
        bytes.toString("hex"),
      ];
      if (shapes.some((shape) => logs.some((log) => log.includes(shape)))) found.push(name);
    }
    expect(Buffer.from(tunnelSecret, "base64").length).toBe(32);
    const raw = Buffer.from(tunnelSecret, "base64");
    for (const shape of [raw.toString("hex"), raw.toString("base64url")]) expect(logs.join("")).not.toContain(shape);
    expect(found).toEqual([]);
  }, 90_000);
});

describe("the connector's log", () => {
  test("has one line a request at info, with its ray, where it is asked for, and two more at debug with the same", async () => {
    await using lab = await startLab(CULVERT, {
      connectorFlags: ["--log-requests", "--output", "json", "--loglevel", "debug"],
    });
    const ray = (await visit(lab.port, { host: HOST, target: "/hello?secret=1" })).fields.find(
      ([name]) => name.toLowerCase() === "cf-ray",
    )?.[1];
    await visit(lab.port, { host: HOST, method: "POST", target: "/echo", body: "12345" });
    await lab.connector.errorLine(/"path":"\/echo".*"status":200/);
    const lines = lab.connector.stderr
      .split("\n")
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    const access = lines.filter(({ message }) => message === "request");
    expect(access.map(({ level, method, path, status }) => ({ level, method, path, status }))).toEqual([
      { level: "info", method: "GET", path: "/hello?…", status: 200 },
      { level: "info", method: "POST", path: "/echo", status: 200 },
    ]);
    expect(access[1]).toMatchObject({
      host: HOST,
      bytesIn: 5,
      bytesOut: expect.any(Number),
      ingressRule: 0,
      originService: lab.run.url,
      outcome: "served",
      event: 1,
      client: "127.0.0.1",
    });
    const rays = lines
      .filter(({ cfRay }) => cfRay !== undefined && cfRay === access[0]?.["cfRay"])
      .map(({ level, message }) => `${level} ${message}`);
    expect(rays).toEqual([`debug GET ${HOST}/hello?…`, "debug Answered 200", "info request"]);
    if (ray !== undefined) expect(String(access[0]?.["cfRay"])).toBe(ray);
  }, 30_000);

  test("says nothing of requests at info when nobody asked; visitors who leave are counted, and told of at debug", async () => {
    await using lab = await startLab(CULVERT);
    await visit(lab.port, { host: HOST, target: "/hello" });
    const gone = await openVisit(lab.port, { host: HOST, target: "/sse?gate=never" });
    gone.socket.socket.resetAndDestroy();
    await pollUntil(async () => (await counted(lab, "culvert_requests_aborted_total")) === 1, {
      what: "it is counted",
    });
    expect(lab.connector.stderr).not.toContain("/hello");
    expect(lab.connector.stderr).not.toContain("ended by the other side");
  }, 30_000);

  test("folds the error of a service that is down, and goes on counting", async () => {
    await using lab = await startLab(CULVERT, { originPort: await freePort() });
    for (let i = 0; i < 30; i += 1) expect((await visit(lab.port, { host: HOST, target: "/" })).status).toBe(502);
    expect(await counted(lab, "cloudflared_tunnel_request_errors")).toBe(30);
    expect(lab.connector.stderr.match(/Unable to reach the origin/g)).toHaveLength(1);
    lab.connector.signal("SIGTERM");
    await lab.connector.exitCode(25_000);
    expect(lab.connector.stderr).toMatch(/Unable to reach the origin.*repeated=29/);
  }, 60_000);

  test("goes to a file as JSON beside standard error, to a directory as well, and survives its being moved", async () => {
    using dir = makeTempDir();
    const logfile = join(dir.path, "a.log");
    const logDirectory = join(dir.path, "logs");
    await using lab = await startLab(CULVERT, { connectorFlags: ["--logfile", logfile, "--log-requests"] });
    await pollUntil(() => jsonLines(logfile).some(({ message }) => message === "Registered tunnel connection"), {
      what: "it is in the file",
    });
    expect(jsonLines(logfile)[0]).toEqual({
      level: "info",
      time: expect.stringMatching(/Z$/),
      message: expect.stringContaining("Starting tunnel"),
    });
    expect(lab.connector.stderr).toMatch(/^\S+Z INF Starting tunnel/m);
    renameSync(logfile, `${logfile}.1`);
    await pollUntil(
      async () => {
        await visit(lab.port, { host: HOST, target: "/hello" });
        return jsonLines(logfile).some(({ message }) => message === "request");
      },
      { what: "a new file", everyMs: 200, deadlineMs: 10_000 },
    );
    await using second = startConnector(CULVERT, {
      ...lab.run,
      flags: ["--log-directory", logDirectory, "--loglevel", "debug"],
    });
    await second.errorLine(/Registered/);
    const path = join(logDirectory, "cloudflared.log");
    await pollUntil(() => jsonLines(path).some(({ level }) => level === "debug"), { what: "the directory has a file" });
    await using third = startConnector(CULVERT, { ...lab.run, flags: ["--logfile", join(path, "x.log")] });
    expect(await third.exitCode(15_000)).not.toBe(0);
    expect(third.stderr).toMatch(/Cannot write the log file/);
  }, 60_000);

  test("has a level of its own for what concerns connections to the edge", async () => {
    await using lab = await startLab(CULVERT, { connectorFlags: ["--transport-loglevel", "debug"] });
    await lab.connector.errorLine(/DBG Dialling the edge .*protocol=quic/);
    await lab.connector.errorLine(/DBG Connected to the edge/);
    await visit(lab.port, { host: HOST, target: "/hello" });
    expect(lab.connector.stderr).not.toMatch(/DBG GET/);
  }, 30_000);
});
