import { describe, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CULVERT, connectorsOver, HOST, type Lab, metricsPort, startLab } from "../support/lab.ts";
import { pollUntil } from "../support/poll-until.ts";
import { runProcess } from "../support/processes.ts";
import { Prometheus } from "../support/prometheus.ts";
import { publishedQueries } from "../support/published-dashboard.ts";
import { missingCommands } from "../support/real-services/commands.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { openWebSocket, visit } from "../support/visitors.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
const NO_PROMETHEUS = missingCommands("prometheus", "promtool");
const [, CLOUDFLARED] = connectorsOver("quic");

async function metricsOf(port: number, fields: readonly (readonly [string, string])[] = []): Promise<string> {
  return (await visit(port, { host: "127.0.0.1", target: "/metrics", fields })).body.toString();
}

/** Answers of several kinds, and one service that is not there. */
async function makeTraffic(lab: Lab): Promise<void> {
  for (const target of ["/hello", "/status/404", "/hello"]) await visit(lab.port, { host: HOST, target });
  await visit(lab.port, { host: HOST, method: "POST", target: "/echo", body: "x".repeat(5_000) });
  const websocket = await openWebSocket(lab.port, { host: HOST, target: "/ws" });
  await websocket[Symbol.asyncDispose]();
}

describe.skipIf(NO_PROMETHEUS !== undefined)("promtool", () => {
  test("finds nothing to say of our metrics, and of cloudflared's only that their names are what they are", async () => {
    await using lab = await startLab(CULVERT);
    await makeTraffic(lab);
    const port = await metricsPort(lab.connector);
    using dir = makeTempDir();
    const check = async (text: string) => {
      const path = join(dir.path, "metrics");
      writeFileSync(path, text);
      return await runProcess(["sh", "-c", `promtool check metrics <${path}`]);
    };
    const text = await metricsOf(port);
    const { stdout, stderr } = await check(text);
    const findings = `${stdout}${stderr}`.split("\n").filter((line) => line !== "");
    const inherited = /^(cloudflared_|quic_client_|go_memstats_alloc_bytes_total )/;
    expect(findings.filter((line) => !inherited.test(line))).toEqual([]);
    expect(findings.length).toBeGreaterThan(10);
    const ours = text
      .split("\n")
      .filter((line) => /^(# (HELP|TYPE) )?(culvert|process|build)_/.test(line))
      .join("\n");
    expect(ours).toContain("culvert_requests_total{");
    expect(await check(`${ours}\n`)).toMatchObject({ code: 0, stdout: "", stderr: "" });
  }, 60_000);

  test("accepts the alert rules, and each fires when it should and not before", async () => {
    const run = (...args: readonly string[]) => runProcess(["promtool", ...args], { cwd: join(ROOT, "dashboards") });
    expect(await run("check", "rules", "alerts.yml")).toMatchObject({ code: 0 });
    expect(await run("test", "rules", "alerts.test.yml")).toMatchObject({ code: 0 });
    const alerts = readFileSync(join(ROOT, "dashboards/alerts.yml"), "utf8").match(/(?<=- alert: )\w+/g) ?? [];
    const tested = readFileSync(join(ROOT, "dashboards/alerts.test.yml"), "utf8");
    expect(alerts.filter((alert) => !tested.includes(`alertname: ${alert}\n`))).toEqual([]);
  });
});

describe.skipIf(NO_PROMETHEUS !== undefined)("a Prometheus server", () => {
  test("fires the alert for a connector that was cut from its edge, for longer than its limit and not before", async () => {
    const rules = readFileSync(join(ROOT, "dashboards/alerts.yml"), "utf8").replaceAll("for: 5m", "for: 3s");
    await using lab = await startLab(CULVERT);
    const port = await metricsPort(lab.connector);
    await using prometheus = await Prometheus.start({ culvert: port }, rules);
    await prometheus.until("cloudflared_tunnel_ha_connections > 0");
    const state = async () =>
      (await prometheus.alerts()).find(({ labels }) => labels["alertname"] === "TunnelConnectorUnhealthy")?.state;
    expect(await state()).toBeUndefined();
    const cutAtMs = performance.now();
    await lab.edge.process.kill();
    await pollUntil(async () => (await state()) === "pending", { what: "the cut is seen", deadlineMs: 30_000 });
    await pollUntil(async () => (await state()) === "firing", { what: "the alert fires", deadlineMs: 15_000 });
    expect(performance.now() - cutAtMs).toBeGreaterThan(3_000);
    const [alert] = (await prometheus.alerts()).filter(
      ({ labels }) => labels["alertname"] === "TunnelConnectorUnhealthy",
    );
    expect(alert?.annotations["summary"]).toStartWith(`Connector 127.0.0.1:${port} has had no connection`);
  }, 90_000);

  test("answers every query of the dashboards that are published for cloudflared, and of our own", async () => {
    await using lab = await startLab(CULVERT);
    await using theirs =
      CLOUDFLARED?.missing === undefined && CLOUDFLARED !== undefined ? await startLab(CLOUDFLARED) : undefined;
    const targets = {
      culvert: await metricsPort(lab.connector),
      ...(theirs === undefined ? {} : { cloudflared: await metricsPort(theirs.connector) }),
    };
    await using prometheus = await Prometheus.start(targets);
    await prometheus.until('rate(process_cpu_seconds_total{job="culvert"}[10s])');
    const busy = 'sum by (status_code) (rate(cloudflared_tunnel_response_by_code{job="culvert"}[10s])) > 0';
    await pollUntil(
      async () => {
        await makeTraffic(lab);
        if (theirs !== undefined) await makeTraffic(theirs);
        return (await prometheus.query(busy)).length > 0;
      },
      { what: "the traffic is seen", deadlineMs: 30_000 },
    );
    const unanswered: string[] = [];
    for (const { text, labels } of publishedQueries("culvert")) {
      const series = await prometheus.query(text);
      const whole =
        series.length > 0 && series.every(({ metric }) => labels.every((label) => metric[label] !== undefined));
      if (!whole) unanswered.push(text);
    }
    expect(unanswered).toEqual([]);

    if (theirs !== undefined) {
      // What they answer and we do not would be missed by dashboards that nobody has shown us.
      const names = async (job: string) =>
        (await prometheus.query(`count by (__name__) ({job="${job}"})`)).map(({ metric }) => metric["__name__"] ?? "");
      const ours = new Set(await names("culvert"));
      const missing = (await names("cloudflared")).filter((name) => !ours.has(name));
      expect(missing.filter((name) => !ONLY_THEIRS.test(name))).toEqual([]);
    }

    const dashboard = JSON.parse(readFileSync(join(ROOT, "dashboards/connector.json"), "utf8")) as {
      readonly panels: readonly { readonly targets?: readonly { readonly expr: string }[] }[];
    };
    const queries = dashboard.panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
    expect(queries.length).toBeGreaterThan(30);
    const silent: string[] = [];
    for (const query of queries) {
      const text = query
        .replaceAll("$__rate_interval", "10s")
        .replaceAll('job=~"$job"', 'job="culvert"')
        .replaceAll('instance=~"$instance"', 'instance=~".*"');
      if ((await prometheus.query(text)).length === 0) silent.push(query);
    }
    // Those that need a rule with several services, or with maxConnections.
    expect(silent.filter((query) => !/culvert_(backend|origin_connections|origin_queue)/.test(query))).toEqual([]);

    expect(
      (await prometheus.exemplars("culvert_request_latency_seconds_bucket")).map((labels) => labels["ray_id"]),
    ).toContainEqual(expect.stringMatching(/^[0-9a-f]{16}/));
  }, 120_000);
});

/** Go's runtime, and what the QUIC engine does not tell of frames and packets. */
const ONLY_THEIRS = /^(go_|promhttp_|quic_client_(buffered|dropped)_packets|net_conntrack_|coredns_|scrape_|up$)/;
