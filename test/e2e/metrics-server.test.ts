import { describe, expect, test } from "bun:test";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, statSync, writeFileSync } from "node:fs";
import { createServer, request as httpRequest } from "node:http";
import { hostname, networkInterfaces } from "node:os";
import { join } from "node:path";
import {
  connectorsOver,
  culvertConnector,
  HOST,
  type Lab,
  metricsPort,
  startConnector,
  startLab,
} from "../support/lab.ts";
import { pollUntil } from "../support/poll-until.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { visit } from "../support/visitors.ts";

interface Page {
  readonly status: number;
  readonly body: string;
}

async function get(port: number, target: string, fields: readonly (readonly [string, string])[] = []): Promise<Page> {
  const { status, body } = await visit(port, { host: "127.0.0.1", target, fields });
  return { status, body: body.toString() };
}

/** Names in a value, at every depth; of lists the first entry's. */
function shape(value: unknown): unknown {
  if (Array.isArray(value)) return value.slice(0, 1).map(shape);
  if (typeof value !== "object" || value === null) return typeof value;
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, shape(one)]));
}

for (const protocol of ["quic", "http2"] as const) {
  const [, theirs] = connectorsOver(protocol);
  describe.skipIf(theirs?.missing !== undefined)(`pages of the metrics server over ${protocol}`, () => {
    test("have the JSON of cloudflared's", async () => {
      if (theirs === undefined) throw new Error("no cloudflared");
      await using ours = await startLab(culvertConnector(protocol));
      await using other = await startLab(theirs);
      const of = async (lab: Lab, target: string) => await get(await metricsPort(lab.connector), target);
      for (const target of ["/ready", "/quicktunnel", "/diag/system"]) {
        const [mine, known] = [await of(ours, target), await of(other, target)];
        expect([target, mine.status]).toEqual([target, known.status]);
        expect(shape(JSON.parse(mine.body))).toEqual(shape(JSON.parse(known.body)));
      }
      for (const target of ["/healthcheck", "/debug/pprof/cmdline", "/nothing"]) {
        expect(await of(ours, target)).toEqual(await of(other, target));
      }
      const tunnel = async (lab: Lab) => {
        const body = JSON.parse((await of(lab, "/diag/tunnel")).body) as { connections: object[] } & Record<
          string,
          unknown
        >;
        // Where pings would come from: we send none.
        delete body["icmp_sources"];
        return { ...(shape(body) as object), connections: body.connections.slice(0, 1) };
      };
      expect(await tunnel(ours)).toEqual(await tunnel(other));
      const flags = JSON.parse((await of(ours, "/diag/configuration")).body) as Record<string, string>;
      expect(flags).toMatchObject({
        protocol,
        metrics: "127.0.0.1:0",
        "grace-period": "20s",
        uid: `${process.getuid?.()}`,
      });
      expect(Object.keys(flags)).not.toContain("token");
      const config = JSON.parse((await of(ours, "/config")).body);
      expect(config).toMatchObject({ version: -1, config: { ingress: [{ service: ours.run.url }] } });
    }, 60_000);
  });
}

describe("the metrics server", () => {
  test("gives profiles that developer tools open, without what texts hold, and to this machine alone", async () => {
    await using lab = await startLab(culvertConnector("quic"), { connectorFlags: ["--metrics", "0.0.0.0:0"] });
    const [, port] = await lab.connector.errorLine(/Starting metrics server on 0\.0\.0\.0:(\d+)/);
    const secret = "visitor-secret-5be1c4";
    await visit(lab.port, { host: HOST, target: "/hello", fields: [["Authorization", `Bearer ${secret}`]] });
    const profiling = get(Number(port), "/debug/pprof/profile?seconds=1");
    await pollUntil(async () => (await get(Number(port), "/debug/pprof/profile?seconds=1")).status === 429, {
      what: "one profile at a time",
    });
    expect((await get(Number(port), "/debug/pprof/heap")).status).toBe(429);
    for (let i = 0; i < 20; i += 1) await visit(lab.port, { host: HOST, target: "/hello" });
    const profile = JSON.parse((await profiling).body);
    expect(Object.keys(profile).sort()).toEqual(["endTime", "nodes", "samples", "startTime", "timeDeltas"]);
    expect(profile.nodes[0].callFrame.functionName).toBe("(root)");
    expect(profile.samples.length).toBe(profile.timeDeltas.length);

    const heap = await get(Number(port), "/debug/pprof/heap");
    const { snapshot, nodes, strings } = JSON.parse(heap.body);
    expect(nodes.length).toBe(snapshot.node_count * snapshot.meta.node_fields.length);
    expect(strings).toContain("ConnectionLife");
    const tunnelSecret = (JSON.parse(Buffer.from(lab.token, "base64").toString()) as { s: string }).s;
    for (const text of [lab.token, lab.token.slice(0, 60), tunnelSecret, secret]) expect(heap.body).not.toContain(text);

    const outside = Object.values(networkInterfaces())
      .flat()
      .find((address) => address?.family === "IPv4" && !address.internal);
    if (outside === undefined) return;
    const status = async (path: string) => (await fetch(`http://${outside.address}:${port}${path}`)).status;
    expect([await status("/debug/pprof/heap"), await status("/debug/pprof/"), await status("/metrics")]).toEqual([
      403, 403, 200,
    ]);
  }, 60_000);

  test("tells what is inside to no page of another site, whatever name that has given this machine", async () => {
    await using lab = await startLab(culvertConnector("http2"));
    const port = await metricsPort(lab.connector);
    const inside = ["/config", "/diag/tunnel", "/diag/configuration", "/debug/pprof/"];
    const statuses = async (host: string, site?: string) => {
      const fields = site === undefined ? [] : [["Sec-Fetch-Site", site] as const];
      const answers = await Promise.all(
        [...inside, "/ready"].map(async (target) => (await visit(port, { host, target, fields })).status),
      );
      return answers.join(" ");
    };
    const open = "200 200 200 200 200";
    const closed = "403 403 403 403 200";
    for (const host of ["127.0.0.1", "LOCALHOST", "[::1]", hostname(), "culvert.localhost"]) {
      expect([host, await statuses(`${host}:${port}`)]).toEqual([host, open]);
    }
    for (const site of ["none", "same-origin"]) expect(await statuses(`127.0.0.1:${port}`, site)).toBe(open);
    for (const site of ["cross-site", "same-site"]) expect(await statuses(`127.0.0.1:${port}`, site)).toBe(closed);
    for (const host of ["rebound.attacker.example", "localhost.attacker.example"]) {
      expect(await statuses(`${host}:${port}`, "same-origin")).toBe(closed);
    }
    expect((await visit(port, { host: "rebound.attacker.example", target: "/debug/pprof/heap" })).status).toBe(403);
  }, 30_000);

  test("asks for a password where it is told to; probes pass without", async () => {
    await using lab = await startLab(culvertConnector("quic"), {
      connectorFlags: ["--metrics-auth", "prom:open sesame"],
    });
    const port = await metricsPort(lab.connector);
    const basic = (text: string) => [["Authorization", `Basic ${Buffer.from(text).toString("base64")}`]] as const;
    const statuses = async (fields: readonly (readonly [string, string])[]) =>
      await Promise.all(
        ["/metrics", "/config", "/diag/system", "/ready", "/healthcheck"].map(
          async (path) => (await get(port, path, fields)).status,
        ),
      );
    expect(await statuses([])).toEqual([401, 401, 401, 200, 200]);
    expect(await statuses(basic("prom:wrong"))).toEqual([401, 401, 401, 200, 200]);
    expect(await statuses([["Authorization", "Bearer x"]])).toEqual([401, 401, 401, 200, 200]);
    expect(await statuses(basic("prom:open sesame"))).toEqual([200, 200, 200, 200, 200]);
  }, 30_000);

  test("listens on a unix socket, takes the place of a dead one, and of nothing else", async () => {
    using dir = makeTempDir();
    const path = join(dir.path, "metrics.sock");
    const abandoned = spawn(process.execPath, ["-e", `require("net").createServer().listen(${JSON.stringify(path)})`]);
    await pollUntil(() => existsSync(path), { what: "a socket is there" });
    abandoned.kill("SIGKILL");
    await once(abandoned, "exit");
    await using lab = await startLab(culvertConnector("quic"), { connectorFlags: ["--metrics", `unix:${path}`] });
    await lab.connector.errorLine(/Starting metrics server on unix:\S+\/metrics/);
    expect(statSync(path).mode & 0o777).toBe(0o660);
    const body = await new Promise<string>((resolve, reject) => {
      const asked = httpRequest({ socketPath: path, path: "/metrics" }, async (response) => {
        let text = "";
        for await (const chunk of response) text += String(chunk);
        resolve(text);
      });
      asked.on("error", reject);
      asked.end();
    });
    expect(body).toContain("cloudflared_tunnel_ha_connections");
    const second = startConnector(culvertConnector("quic"), { ...lab.run, flags: ["--metrics", `unix:${path}`] });
    await using _second = second;
    await second.errorLine(/another program does/);
    const file = join(dir.path, "a file");
    writeFileSync(file, "precious");
    await using third = startConnector(culvertConnector("quic"), { ...lab.run, flags: ["--metrics", `unix:${file}`] });
    await third.errorLine(/a file is there/);
  }, 60_000);

  test("takes the first free one of the known ports, and an explicit one or none", async () => {
    await using lab = await startLab(culvertConnector("quic"), { connectorFlags: ["--metrics", "127.0.0.1:0"] });
    const taken = await metricsPort(lab.connector);
    await using refused = startConnector(culvertConnector("quic"), {
      ...lab.run,
      flags: ["--metrics", `127.0.0.1:${taken}`],
    });
    expect(await refused.exitCode(15_000)).not.toBe(0);
    expect(refused.stderr).toContain("the port is in use");
    const holder = createServer();
    await new Promise<void>((resolve) => {
      holder.once("error", () => resolve());
      holder.listen(20241, "127.0.0.1", resolve);
    });
    await using known = startConnector(culvertConnector("quic"), { ...lab.run, flags: ["--metrics", ""] });
    const port = await metricsPort(known);
    expect(port).not.toBe(20241);
    expect((await get(port, "/healthcheck")).body).toBe("OK\n");
    holder.close();
  }, 60_000);
});
