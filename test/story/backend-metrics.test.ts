import { afterAll, beforeAll, expect, test } from "bun:test";
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Connector } from "../../src/connector/connector.ts";
import { systemClock } from "../../src/core/clock.ts";
import { type IngressRules, parseIngress } from "../../src/ingress/rules.ts";
import { ConnectorMetrics, MAX_SHOWN_BACKENDS } from "../../src/ops/connector-metrics.ts";
import { startOrigin } from "../support/origins.ts";
import { pollUntil } from "../support/poll-until.ts";
import { openVisit, openWebSocket, visit } from "../support/visitors.ts";
import { HOSTNAME, startWholePath, type WholePath } from "../support/whole-path.ts";

/** Answers everything with 200, but `/up` as it is told to, and `/held` when it is told to. */
class Backend implements AsyncDisposable {
  well = true;
  readonly held: ServerResponse[] = [];
  readonly #server: Server = createServer((request, answer) => {
    if (request.url === "/held") this.held.push(answer);
    else answer.writeHead(request.url === "/up" && !this.well ? 503 : 200).end();
  });

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async start(): Promise<this> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

let path: WholePath;
let connector: Connector | undefined;

beforeAll(async () => {
  path = await startWholePath();
});

afterAll(() => path[Symbol.asyncDispose]());

function rulesOf(...ingress: readonly unknown[]): IngressRules {
  const { rules, issues } = parseIngress({ ingress });
  expect(issues).toEqual([]);
  if (rules === undefined) throw new Error("no rules");
  return rules;
}

async function withRules(rules: IngressRules, run: () => Promise<void>): Promise<void> {
  connector = await path.connect({ rules, connections: 1 });
  await connector.ready;
  try {
    await run();
  } finally {
    connector.stop();
    await connector.finished;
  }
}

/** What `/metrics` says of names that begin so, by name with labels. */
async function metrics(prefix: string): Promise<Record<string, number>> {
  const [host = "", port] = (connector?.metricsAddress ?? "").split(":");
  const text = (await visit(Number(port), { host, target: "/metrics" })).body.toString();
  const lines = text.split("\n").filter((line) => line.startsWith(prefix));
  return Object.fromEntries(
    lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.split(" ").at(-1))]),
  );
}

async function becomes(name: string, want: (value: number | undefined) => boolean): Promise<void> {
  await pollUntil(async () => want((await metrics(name))[name]), { what: `${name} changes`, everyMs: 20 });
}

const ask = async (target: string): Promise<number> =>
  (await visit(path.publicPort, { host: HOSTNAME, target })).status;

test("each service of a rule shows whether it gets requests, how many, and why not", async () => {
  await using one = await new Backend().start();
  await using two = await new Backend().start();
  await using gone = await new Backend().start();
  const goneUrl = gone.url;
  await gone[Symbol.asyncDispose]();
  const healthCheck = { path: "/up", interval: "100ms", timeout: "1s", healthyAfter: 1, unhealthyAfter: 2 };
  const rules = rulesOf(
    { path: "^/single", service: one.url },
    { path: "^/ejected", services: [one.url, goneUrl], balance: { ejectAfter: 1, ejectFor: "1m" } },
    { services: [two.url, { service: one.url, weight: 3 }], balance: { healthCheck } },
  );
  await withRules(rules, async () => {
    const quiet = { pending: 0, ejections: 0, failed: 0 };
    const shown = async (rule: number, backend: number) => {
      const all = await metrics("culvert_backend_");
      const value = (name: string) => all[`culvert_backend_${name}{rule="${rule}",backend="${backend}"}`];
      const [up, pending] = [value("up"), value("pending")];
      return { up, pending, ejections: value("ejections_total"), failed: value("failed_checks_total") };
    };
    // A rule with one service has none to tell apart.
    expect(Object.keys(await metrics("culvert_backend_up"))).toEqual(
      ["1,0", "1,1", "2,0", "2,1"].map((at) => {
        const [rule, backend] = at.split(",");
        return `culvert_backend_up{rule="${rule}",backend="${backend}"}`;
      }),
    );
    expect(await shown(1, 1)).toEqual({ up: 1, ...quiet });
    for (let i = 0; i < 4; i += 1) expect(await ask("/ejected")).toBe(200);
    expect(await shown(1, 0)).toEqual({ up: 1, ...quiet });
    expect(await shown(1, 1)).toEqual({ up: 0, ...quiet, ejections: 1 });

    const waiting = Promise.all([ask("/held"), ask("/held")]);
    await pollUntil(() => one.held.length + two.held.length === 2, { what: "both requests are there" });
    const pending = await metrics("culvert_backend_pending");
    // A check may be under way as well, and is no request.
    expect(Object.values(pending).reduce((sum, count) => sum + count, 0)).toBe(2);
    for (const answer of [...one.held, ...two.held]) answer.end();
    expect(await waiting).toEqual([200, 200]);
    expect((await metrics("culvert_backend_pending"))['culvert_backend_pending{rule="2",backend="0"}']).toBe(0);

    two.well = false;
    await becomes('culvert_backend_up{rule="2",backend="0"}', (up) => up === 0);
    two.well = true;
    await becomes('culvert_backend_up{rule="2",backend="0"}', (up) => up === 1);
    const after = await shown(2, 0);
    expect(after).toMatchObject({ up: 1, pending: 0, ejections: 0 });
    expect(after.failed).toBeGreaterThanOrEqual(2);
    expect(await shown(2, 1)).toEqual({ up: 1, ...quiet });

    await connector?.replaceRules(rulesOf({ service: one.url }));
    expect(await metrics("culvert_backend_")).toEqual({});
  });
});

test("a reload keeps what is known of services that stay, under their rule's new number", async () => {
  await using one = await new Backend().start();
  await using gone = await new Backend().start();
  const services = [gone.url, one.url];
  await gone[Symbol.asyncDispose]();
  const balanced = { services, balance: { ejectAfter: 1, ejectFor: "1m" } };
  await withRules(rulesOf(balanced), async () => {
    for (let i = 0; i < 2; i += 1) await ask("/");
    expect((await metrics("culvert_backend_up"))['culvert_backend_up{rule="0",backend="0"}']).toBe(0);
    await connector?.replaceRules(rulesOf({ path: "^/new", service: one.url }, balanced));
    expect(await metrics("culvert_backend_ejections_total")).toEqual({
      'culvert_backend_ejections_total{rule="1",backend="0"}': 1,
      'culvert_backend_ejections_total{rule="1",backend="1"}': 0,
    });
  });
});

test("however many services rules name, the metrics of the first ones are shown and no more", async () => {
  const facts = { up: true, pending: 0, ejections: 0, failedChecks: 0 };
  const backends = new Map([
    [0, Array.from({ length: MAX_SHOWN_BACKENDS - 1 }, () => facts)],
    [1, [facts, facts]],
  ]);
  const sources = {
    ...{ backends: () => backends, loads: () => new Map(), services: () => [], flowLimit: () => 0 },
    ...{ connections: () => [], transports: () => [], version: "0", quickTunnelHostname: "" },
  };
  const metrics = new ConnectorMetrics(sources, systemClock);
  const text = metrics.render("text").body;
  metrics.stop();
  expect(text.match(/^culvert_backend_up\{/gm)).toHaveLength(MAX_SHOWN_BACKENDS);
  expect(text).toContain('culvert_backend_up{rule="1",backend="0"} 1');
  expect(text).not.toContain('rule="1",backend="1"');
});

test("open streams are counted by kind, for as long as they live", async () => {
  await using origin = await startOrigin();
  const rules = rulesOf({ service: `http://127.0.0.1:${origin.port}` });
  await withRules(rules, async () => {
    const streams = async () => {
      const all = await metrics("culvert_streams_open");
      return ["http", "websocket", "tcp"].map((kind) => all[`culvert_streams_open{kind="${kind}"}`]);
    };
    expect(await streams()).toEqual([0, 0, 0]);
    const held = await openVisit(path.publicPort, { host: HOSTNAME, target: "/sse?gate=streams" });
    await using _held = held.socket;
    const websocket = await openWebSocket(path.publicPort, { host: HOSTNAME, target: "/ws" });
    expect(await streams()).toEqual([1, 1, 0]);
    expect(await metrics("cloudflared_tunnel_concurrent_requests_per_tunnel")).toEqual({
      cloudflared_tunnel_concurrent_requests_per_tunnel: 2,
    });
    await websocket[Symbol.asyncDispose]();
    await becomes('culvert_streams_open{kind="websocket"}', (count) => count === 0);
    expect(await streams()).toEqual([1, 0, 0]);
    origin.open("streams");
    await becomes('culvert_streams_open{kind="http"}', (count) => count === 0);
    expect(await streams()).toEqual([0, 0, 0]);
  });
});
