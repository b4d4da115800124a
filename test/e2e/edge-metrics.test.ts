import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { CULVERT, HOST, startLab } from "../support/lab.ts";
import { pollUntil } from "../support/poll-until.ts";
import { runProcess } from "../support/processes.ts";
import { Prometheus } from "../support/prometheus.ts";
import { missingCommands } from "../support/real-services/commands.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { visit } from "../support/visitors.ts";

const DASHBOARDS = new URL("../../dashboards/", import.meta.url).pathname;
const NO_PROMETHEUS = missingCommands("prometheus", "promtool");
const TITLE = `what Prometheus makes of an edge${NO_PROMETHEUS === undefined ? "" : ` (skipped: ${NO_PROMETHEUS})`}`;
const EDGE_FLAGS = ["--metrics", "127.0.0.1:0"];
/** What needs a pool, or a certificate from a file. */
const NOT_HERE = /culvert_edge_(pool_member_healthy|certificate_expiry_timestamp_seconds)/;

const rateOf = (series: string): string => `sum(rate(${series}[3s]))`;
const read = (name: string): string => readFileSync(join(DASHBOARDS, name), "utf8");

describe.skipIf(NO_PROMETHEUS !== undefined)(TITLE, () => {
  test("promtool accepts the alert rules, and each fires when it should and not before", async () => {
    const run = (...args: readonly string[]) => runProcess(["promtool", ...args], { cwd: DASHBOARDS });
    expect(await run("check", "rules", "edge-alerts.yml")).toMatchObject({ code: 0 });
    expect(await run("test", "rules", "edge-alerts.test.yml")).toMatchObject({ code: 0 });
    const alerts = read("edge-alerts.yml").match(/(?<=- alert: )\w+/g) ?? [];
    const tested = read("edge-alerts.test.yml");
    expect(alerts.length).toBeGreaterThan(8);
    expect(alerts.filter((alert) => !tested.includes(`alertname: ${alert}\n`))).toEqual([]);
  }, 60_000);

  test("every metric of dashboard and rules is one that an edge has, and every query gives something", async () => {
    using dir = makeTempDir();
    const edgeFlags = [...EDGE_FLAGS, "--access-log", join(dir.path, "access.log")];
    await using lab = await startLab(CULVERT, { edgeFlags });
    await using prometheus = await Prometheus.start({ edge: lab.edge.metricsPort });
    await prometheus.until('rate(process_cpu_seconds_total{job="edge"}[3s])');
    const makeTraffic = async (): Promise<void> => {
      for (const target of ["/hello", "/status/404", "/status/500"]) await visit(lab.port, { host: HOST, target });
    };
    // A series begins with the first request of a tunnel: only what comes after it is a rate.
    await makeTraffic();
    await prometheus.until("culvert_edge_tunnel_first_byte_seconds_count > 0");
    await makeTraffic();
    await prometheus.until(`${rateOf("culvert_edge_tunnel_first_byte_seconds_count")} > 0`);
    await prometheus.until(`${rateOf('culvert_edge_responses_total{class="5xx"}')} > 0`);

    const dashboard = JSON.parse(read("edge.json")) as {
      readonly panels: readonly { readonly targets?: readonly { readonly expr: string }[] }[];
    };
    const queries = dashboard.panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
    expect(queries.length).toBeGreaterThan(40);
    const silent: string[] = [];
    for (const query of queries) {
      const text = query
        .replaceAll("$__rate_interval", "3s")
        .replaceAll('job=~"$job"', 'job="edge"')
        .replaceAll('instance=~"$instance"', 'instance=~".*"');
      if ((await prometheus.query(text)).length === 0) silent.push(query);
    }
    expect(silent.filter((query) => !NOT_HERE.test(query))).toEqual([]);

    const { body } = await visit(lab.edge.metricsPort, { host: "127.0.0.1", target: "/metrics" });
    const known = new Set([...body.toString().matchAll(/^# TYPE (\S+)/gm)].map(([, name = ""]) => name));
    const named = `${read("edge-alerts.yml")}${queries.join("\n")}`.match(/\b(culvert_edge|process)_\w+/g) ?? [];
    // What no edge has, and what an edge has and nobody would see.
    const shown = new Set(named.map((name) => name.replace(/_bucket$/, "")));
    expect([...shown].filter((name) => !known.has(name))).toEqual([]);
    const unseen = [...known].filter((name) => name.startsWith("culvert_edge_") && !shown.has(name));
    expect(unseen).toEqual([]);
  }, 60_000);

  test("a tunnel whose connector is gone fires its alert, for longer than its limit and not before", async () => {
    const rules = read("edge-alerts.yml").replaceAll("for: 5m", "for: 3s");
    await using lab = await startLab(CULVERT, { edgeFlags: EDGE_FLAGS });
    await lab.served();
    await using prometheus = await Prometheus.start({ edge: lab.edge.metricsPort }, rules);
    await prometheus.until("culvert_edge_tunnel_up == 1");
    const down = async () => (await prometheus.alerts()).find(({ labels }) => labels["alertname"] === "EdgeTunnelDown");
    expect(await down()).toBeUndefined();
    const cutAtMs = performance.now();
    await lab.connector.kill();
    await pollUntil(async () => (await down())?.state === "pending", { what: "the cut is seen", deadlineMs: 30_000 });
    await pollUntil(async () => (await down())?.state === "firing", { what: "the alert fires", deadlineMs: 15_000 });
    expect(performance.now() - cutAtMs).toBeGreaterThan(3_000);
    expect((await down())?.annotations["summary"]).toMatch(
      /^Tunnel [0-9a-f-]{36} has had no connection to edge 127\.0\.0\.1/,
    );
  }, 90_000);
});

test("asks for a password where it is told to; probes pass without", async () => {
  await using lab = await startLab(CULVERT, { edgeFlags: [...EDGE_FLAGS, "--metrics-auth", "prom:open sesame"] });
  const statuses = async (given?: string) =>
    await Promise.all(
      ["/metrics", "/ready", "/healthcheck"].map(async (target) => {
        const basic = `Basic ${Buffer.from(given ?? "").toString("base64")}`;
        const fields = given === undefined ? [] : ([["Authorization", basic]] as const);
        return (await visit(lab.edge.metricsPort, { host: "127.0.0.1", target, fields })).status;
      }),
    );
  expect(await statuses()).toEqual([401, 200, 200]);
  expect(await statuses("prom:wrong")).toEqual([401, 200, 200]);
  expect(await statuses("prom:open sesame")).toEqual([200, 200, 200]);
}, 30_000);
