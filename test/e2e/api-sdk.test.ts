import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { cpSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import Cloudflare from "cloudflare";
import { addTunnel, CONNECTORS, type ConnectorKind, metricsPort, startConnector } from "../support/lab.ts";
import { type ManagedEdge, startManagedEdge } from "../support/managed-edge.ts";
import { pollUntil } from "../support/poll-until.ts";
import type { OwnedProcess } from "../support/processes.ts";
import { visit } from "../support/visitors.ts";

/** From the API's answer until a visitor notices, in ms. */
const PUSH_BOUND_MS = 1_000;
/** A connector whose edge was gone comes back in its own time, in ms. */
const BACK_MS = 75_000;

function clientOf(edge: ManagedEdge, apiToken = edge.cert.apiToken): Cloudflare {
  return new Cloudflare({ baseURL: edge.apiUrl, apiToken, maxRetries: 0 });
}

async function collect<T>(pages: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const one of pages) found.push(one);
  return found;
}

/** What a call is refused with. The SDK's promises are no plain ones, which `rejects` would need. */
function refusal(call: PromiseLike<unknown>): Promise<unknown> {
  return Promise.resolve(call).then(
    (value) => value,
    (error: unknown) => error,
  );
}

describe("the npm package cloudflare", () => {
  const stack = new AsyncDisposableStack();
  let edge: ManagedEdge;
  let client: Cloudflare;
  let account_id: string;
  beforeAll(async () => {
    edge = stack.use(await startManagedEdge());
    client = clientOf(edge);
    account_id = edge.cert.accountId;
  }, 30_000);
  afterAll(() => stack.disposeAsync());

  test("finds its account and its zone", async () => {
    expect((await collect(client.accounts.list())).map(({ id }) => id)).toEqual([account_id]);
    expect((await collect(client.zones.list())).map(({ id }) => id)).toEqual([edge.cert.zoneId]);
  });

  test("makes, lists, shows, changes and deletes tunnels", async () => {
    const { cloudflared } = client.zeroTrust.tunnels;
    const tunnel_secret = Buffer.alloc(32, 5).toString("base64");
    const made = await cloudflared.create({ account_id, name: "sdk", config_src: "cloudflare", tunnel_secret });
    expect(made).toMatchObject({ name: "sdk", status: "inactive", remote_config: true, account_tag: account_id });
    const id = made.id ?? "";
    for (let i = 0; i < 7; i += 1) await cloudflared.create({ account_id, name: `more-${i}` });
    const listed = await collect(cloudflared.list({ account_id, is_deleted: false, per_page: 3 }));
    expect(listed.map(({ name }) => name)).toEqual(["sdk", ...[0, 1, 2, 3, 4, 5, 6].map((i) => `more-${i}`)]);
    expect(await collect(cloudflared.list({ account_id, name: "sdk" }))).toHaveLength(1);
    expect(await cloudflared.get(id, { account_id })).toMatchObject({ id, name: "sdk", connections: [] });
    expect(await cloudflared.edit(id, { account_id, name: "renamed" })).toMatchObject({ id, name: "renamed" });
    const token = await cloudflared.token.get(id, { account_id });
    expect(JSON.parse(Buffer.from(token, "base64").toString())).toMatchObject({ t: id, s: tunnel_secret });
    const management = await cloudflared.management.create(id, { account_id, resources: ["logs"] });
    expect(JSON.parse(Buffer.from(management.split(".")[1] ?? "", "base64url").toString())).toMatchObject({
      tun: { id, account_tag: account_id },
      res: ["logs"],
    });
    expect(await cloudflared.configurations.get(id, { account_id })).toMatchObject({
      version: 0,
      source: "cloudflare",
    });
    await cloudflared.delete(id, { account_id });
    expect(await cloudflared.get(id, { account_id })).toMatchObject({ deleted_at: expect.any(String) });
  });

  test("leads networks to tunnels", async () => {
    const { networks } = client.zeroTrust;
    const tunnel = await client.zeroTrust.tunnels.cloudflared.create({ account_id, name: "net" });
    const tunnel_id = tunnel.id ?? "";
    const vnet = await networks.virtualNetworks.create({ account_id, name: "lab", comment: "words" });
    const virtual_network_id = vnet.id;
    const route = await networks.routes.create({ account_id, network: "10.7.0.0/16", tunnel_id, virtual_network_id });
    const id = route.id ?? "";
    expect(await networks.routes.get(id, { account_id })).toMatchObject({ network: "10.7.0.0/16", tunnel_id });
    const found = await networks.routes.ips.get("10.7.1.1", { account_id, virtual_network_id });
    expect(found).toMatchObject({ id, tunnel_name: "net" });
    expect(await collect(networks.routes.list({ account_id, tunnel_id, is_deleted: false }))).toHaveLength(1);
    expect(await networks.virtualNetworks.edit(vnet.id, { account_id, comment: "other" })).toMatchObject({
      name: "lab",
      comment: "other",
    });
    expect(await refusal(networks.virtualNetworks.delete(vnet.id, { account_id }))).toBeInstanceOf(
      Cloudflare.ConflictError,
    );
    await networks.routes.delete(id, { account_id });
    await networks.virtualNetworks.delete(vnet.id, { account_id });
    const left = await collect(networks.virtualNetworks.list({ account_id, is_deleted: false }));
    expect(left.map(({ name, is_default_network }) => [name, is_default_network])).toEqual([["default", true]]);
  });

  test("throws its own classes for what is refused", async () => {
    const { cloudflared } = client.zeroTrust.tunnels;
    const nobody = { account_id, name: "taken" };
    await cloudflared.create(nobody);
    expect(await refusal(cloudflared.create(nobody))).toBeInstanceOf(Cloudflare.ConflictError);
    expect(await refusal(cloudflared.create({ account_id, name: "" }))).toBeInstanceOf(Cloudflare.BadRequestError);
    expect(await refusal(cloudflared.get(crypto.randomUUID(), { account_id }))).toBeInstanceOf(
      Cloudflare.NotFoundError,
    );
    const foreign = cloudflared.get(crypto.randomUUID(), { account_id: "0".repeat(32) });
    expect(await refusal(foreign)).toBeInstanceOf(Cloudflare.PermissionDeniedError);
    const stranger = clientOf(edge, "cvt_wrong");
    expect(await refusal(stranger.accounts.list())).toBeInstanceOf(Cloudflare.AuthenticationError);
    for (let i = 0; i < 60; i += 1) await stranger.accounts.list().catch(() => undefined);
    const limited = await refusal(stranger.accounts.list());
    expect(limited).toBeInstanceOf(Cloudflare.RateLimitError);
    expect(
      Number((limited as InstanceType<typeof Cloudflare.RateLimitError>).headers.get("retry-after")),
    ).toBeGreaterThan(0);
    // Who has the right token is not concerned.
    expect(await collect(client.accounts.list())).toHaveLength(1);
  });
});

/** A connector of a tunnel that is configured by the API. */
interface Configured {
  readonly kind: ConnectorKind;
  readonly id: string;
  readonly host: string;
  readonly connector: OwnedProcess;
}

const KINDS = CONNECTORS.filter(({ missing }) => missing === undefined);

/** An edge, and every kind of connector there is, each with a tunnel of its own that is configured by the API. */
class Fleet implements AsyncDisposable {
  readonly edge: ManagedEdge;
  readonly client: Cloudflare;
  readonly all: readonly Configured[];
  readonly account_id: string;
  readonly #stack: AsyncDisposableStack;

  private constructor(edge: ManagedEdge, all: readonly Configured[], stack: AsyncDisposableStack) {
    this.edge = edge;
    this.client = clientOf(edge);
    this.account_id = edge.cert.accountId;
    this.all = all;
    this.#stack = stack;
  }

  static async start(): Promise<Fleet> {
    await using stack = new AsyncDisposableStack();
    const edge = stack.use(await startManagedEdge());
    const client = clientOf(edge);
    const { accountId: account_id, zoneId } = edge.cert;
    const all: Configured[] = [];
    for (const [i, kind] of KINDS.entries()) {
      const host = `k${i}.lab.example`;
      const { cloudflared } = client.zeroTrust.tunnels;
      const made = await cloudflared.create({ account_id, name: `k${i}`, config_src: "cloudflare" });
      const id = made.id ?? "";
      const body = { type: "dns", user_hostname: host };
      await client.put(`/zones/${zoneId}/tunnels/${id}/routes`, { body });
      const token = await cloudflared.token.get(id, { account_id });
      const { tunnelPort, caPath } = edge.edge;
      const flags = kind.ours ? ["--ha-connections", "2"] : [];
      all.push({ kind, id, host, connector: stack.use(startConnector(kind, { token, tunnelPort, caPath, flags })) });
    }
    for (const { connector } of all) await connector.errorLine(/Registered tunnel connection/, BACK_MS);
    return new Fleet(edge, all, stack.move());
  }

  async configure({ id }: Configured, status: number): Promise<number> {
    const { client, account_id } = this;
    const config = { ingress: [{ service: `http_status:${status}` }] } as never;
    const { version } = await client.zeroTrust.tunnels.cloudflared.configurations.update(id, { account_id, config });
    return version ?? 0;
  }

  /** Time until a visitor gets the status, in ms. */
  async answers({ host, kind }: Configured, status: number, deadlineMs: number): Promise<number> {
    const began = performance.now();
    await pollUntil(async () => (await visit(this.edge.edge.publicPort, { host })).status === status, {
      what: `${kind.name} answers ${status}`,
      deadlineMs,
    });
    return performance.now() - began;
  }

  /** Changes each configuration, and waits until it is in force. */
  async configureAll(statuses: readonly number[], deadlineMs = PUSH_BOUND_MS): Promise<void> {
    await Promise.all(
      this.all.map(async (one) => {
        for (const status of statuses) await this.configure(one, status);
        await this.answers(one, statuses.at(-1) ?? 0, deadlineMs);
      }),
    );
  }

  async allAnswer(status: number): Promise<void> {
    await Promise.all(this.all.map((one) => this.answers(one, status, BACK_MS)));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }
}

describe("remote configuration, live", () => {
  const stack = new AsyncDisposableStack();
  let fleet: Fleet;
  beforeAll(async () => {
    fleet = stack.use(await Fleet.start());
  }, 60_000);
  afterAll(() => stack.disposeAsync());

  test("is in force within a second of the API's answer", async () => {
    for (const one of fleet.all) {
      for (const status of [201, 202, 203]) {
        await fleet.configure(one, status);
        await fleet.answers(one, status, PUSH_BOUND_MS);
      }
    }
  }, 60_000);

  test("of many at once the last one wins", async () => {
    await Promise.all(
      fleet.all.map(async (one) => {
        const made = await Promise.all(Array.from({ length: 20 }, (_, i) => fleet.configure(one, 210 + i)));
        expect(made.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, i) => 4 + i));
        await fleet.answers(one, 210 + made.indexOf(Math.max(...made)), 5_000);
      }),
    );
  }, 30_000);

  test("what cannot be is refused, and nothing changes", async () => {
    for (const one of fleet.all) {
      await fleet.configure(one, 204);
      expect(await refusal(fleet.configure(one, 9))).toBeInstanceOf(Cloudflare.BadRequestError);
      await fleet.answers(one, 204, PUSH_BOUND_MS);
    }
  });

  test("goes on after the edge was killed and started again", async () => {
    const { edge, all } = fleet;
    const before = new Map<Configured, number>();
    for (const one of all) before.set(one, await fleet.configure(one, 240));
    await edge.stop("SIGKILL");
    await edge.start();
    await fleet.allAnswer(240);
    for (const one of all) {
      expect(await fleet.configure(one, 241)).toBe((before.get(one) ?? 0) + 1);
      await fleet.answers(one, 241, PUSH_BOUND_MS);
    }
  }, 90_000);

  test("closes connections, and deletes the tunnel with them", async () => {
    const { client, account_id, all } = fleet;
    const { cloudflared } = client.zeroTrust.tunnels;
    for (const { id, kind, connector } of all) {
      expect(await metricsPort(connector)).toBeGreaterThan(0);
      // The edge was killed in the test before: not all have come back yet.
      const shown = await pollUntil(
        async () => {
          const [found] = await collect(cloudflared.connections.get(id, { account_id }));
          return found?.conns?.length === (kind.ours ? 2 : 1) ? found : undefined;
        },
        { what: `the connections of ${kind.name}`, deadlineMs: 10_000 },
      );
      const one = await cloudflared.connectors.get(shown.id ?? "", { account_id, tunnel_id: id });
      expect(one).toMatchObject({ id: shown.id, arch: "linux_amd64" });
      expect(await refusal(cloudflared.delete(id, { account_id }))).toBeInstanceOf(Cloudflare.BadRequestError);
      await cloudflared.connections.delete(id, { account_id });
      await client.delete(`/accounts/${account_id}/cfd_tunnel/${id}`, { query: { cascade: true } });
      expect((await cloudflared.get(id, { account_id })).connections).toEqual([]);
    }
  }, 30_000);
});

describe("remote configuration, after a step back", () => {
  test("by a backup that knows less: what came back counts, and so do later changes", async () => {
    await using fleet = await Fleet.start();
    const { edge } = fleet;
    const file = join(edge.home, "culvert.backup");
    await fleet.configureAll([250]);
    expect(await edge.culvert("edge", "backup", file, "--state-dir", edge.stateDir)).toMatchObject({ code: 0 });
    await fleet.configureAll([251, 252, 253]);
    await edge.stop();
    expect(await edge.culvert("edge", "restore", file, "--state-dir", edge.stateDir)).toMatchObject({ code: 0 });
    // As many changes as there were: a different configuration of the same number would not be taken.
    await edge.start();
    for (const one of fleet.all) for (const status of [254, 255, 256]) await fleet.configure(one, status);
    await fleet.allAnswer(256);
    await fleet.configureAll([257]);
  }, 120_000);

  test("by a copy of the state directory: its versions are raised above those of the connectors", async () => {
    await using fleet = await Fleet.start();
    const { edge } = fleet;
    await fleet.configureAll([240]);
    const copy = join(edge.home, "copy");
    cpSync(edge.stateDir, copy, { recursive: true });
    await fleet.configureAll([261, 262]);
    await edge.stop("SIGKILL");
    rmSync(edge.stateDir, { recursive: true });
    renameSync(copy, edge.stateDir);
    await edge.start();
    await fleet.allAnswer(240);
    await fleet.configureAll([263]);
  }, 120_000);
});

test("a tunnel of edge tunnel add is there for the API, too", async () => {
  await using edge = await startManagedEdge();
  await addTunnel(edge.stateDir, "by-hand", ["hand.lab.example"]);
  const { cloudflared } = clientOf(edge).zeroTrust.tunnels;
  const [found] = await collect(cloudflared.list({ account_id: edge.cert.accountId }));
  expect(found).toMatchObject({ name: "by-hand", config_src: "local" });
}, 30_000);
