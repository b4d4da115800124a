import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { randomBytes, randomUUID } from "node:crypto";
import { TunnelError } from "../../src/core/errors.ts";
import { newTunnelId, type TunnelId } from "../../src/core/ids.ts";
import { newTunnel, routesTo } from "../../src/edge/store/new-tunnel.ts";
import {
  type ApiToken,
  type Balancer,
  type Change,
  KEPT_CONFIGURATIONS,
  MAX_CONFIGURATION_BYTES,
  MAX_METADATA_BYTES,
  type Monitor,
  type NetworkRoute,
  type Pool,
  type Store,
  type StoredTunnel,
  type TcpRoute,
  type TunnelFilter,
} from "../../src/edge/store/port.ts";
import { ACTOR, storeHostnames, storeTunnel } from "../support/stored.ts";
import type { VirtualClock } from "../support/virtual-clock.ts";

/** A new store of some backend, and the clock it lives by. */
export interface StoreUnderTest extends Disposable {
  readonly store: Store;
  readonly clock: VirtualClock;
}

const SECRET = Uint8Array.from({ length: 32 }, (_, i) => 200 - i);

/** The code of the TunnelError that `work` throws. */
function codeOf(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (error instanceof TunnelError) return error.code;
    throw error;
  }
  return "nothing was thrown";
}

/** What every backend of the Store port must do. */
export function storeSuite(name: string, open: () => StoreUnderTest): void {
  describe(name, () => {
    let under: StoreUnderTest;
    let store: Store;
    let changes: Change[];
    beforeEach(() => {
      under = open();
      store = under.store;
      changes = [];
      store.watch((change) => changes.push(change));
    });
    afterEach(() => under[Symbol.dispose]());

    const own = (): string => store.accounts.own().tag;
    const zone = (): string => store.accounts.zones(own())[0]?.id ?? "";
    const lastEntry = () => store.audit.find({}, { offset: 0, limit: 1 }).items[0];
    const entries = (): number => store.audit.find({}).total;
    const leadsTo = (hostname: string): string | undefined => {
      const target = store.hostnames.lookUp(hostname);
      return target?.kind === "tunnel" ? target.tunnelId : target?.balancerId;
    };
    const pool = (change: Partial<Pool> = {}): Pool => ({
      id: randomUUID(),
      accountTag: own(),
      name: "pool",
      members: [],
      monitor: undefined,
      webhook: undefined,
      createdAtMs: 5,
      ...change,
    });
    const balancer = (change: Partial<Balancer> = {}): Balancer => ({
      id: randomUUID(),
      accountTag: own(),
      hostname: "lb.example.com",
      steering: "random",
      poolIds: [],
      createdAtMs: 6,
      ...change,
    });

    describe("accounts", () => {
      test("there is one from the start, with a zone that takes every hostname", () => {
        const account = store.accounts.own();
        expect(account.tag).toMatch(/^[0-9a-f]{32}$/);
        expect(store.accounts.list()).toEqual([account]);
        expect(store.accounts.get(account.tag)).toEqual(account);
        const zones = store.accounts.zones(account.tag);
        expect(zones).toEqual([{ id: expect.stringMatching(/^[0-9a-f]{32}$/), accountTag: account.tag, name: "" }]);
        expect(store.accounts.zone(zone())).toEqual(zones[0]);
        expect(store.accounts.zone("none")).toBeUndefined();
        expect(store.accounts.get("none")).toBeUndefined();
      });

      test("another one has its own zones and tunnel names, and never becomes the first", () => {
        const before = store.accounts.own();
        const other = { tag: randomBytes(16).toString("hex"), name: "other", createdAtMs: 0 };
        store.accounts.add(other, ACTOR);
        const named = { id: randomBytes(16).toString("hex"), accountTag: other.tag, name: "example.net" };
        store.accounts.addZone(named, ACTOR);
        expect(store.accounts.own()).toEqual(before);
        expect(store.accounts.zones(other.tag)).toEqual([named]);
        storeTunnel(store, "web");
        const theirs = newTunnel("web", other.tag, 1);
        store.tunnels.add(theirs, SECRET, ACTOR);
        expect(store.tunnels.byName(other.tag, "web")).toEqual(theirs);
        expect(store.tunnels.find({ accountTag: other.tag }).items).toEqual([theirs]);
        expect(codeOf(() => routesTo(store, theirs, ["a.example.org"], 0))).toBe("store.missing");
        expect(routesTo(store, theirs, ["a.example.net"], 0)).toMatchObject([{ zoneId: named.id }]);
        expect(codeOf(() => store.accounts.add(other, ACTOR))).toBe("store.conflict");
        expect(codeOf(() => store.accounts.addZone({ ...named, id: "x" }, ACTOR))).toBe("store.conflict");
        expect(codeOf(() => store.accounts.addZone({ id: "y", accountTag: "none", name: "y" }, ACTOR))).toBe(
          "store.missing",
        );
      });
    });

    describe("tokens", () => {
      const token = (change: Partial<ApiToken> = {}): ApiToken => ({
        id: randomUUID(),
        accountTag: own(),
        name: "ci",
        scopes: ["tunnels:read", "routes:write"],
        createdAtMs: 1_000,
        expiresAtMs: undefined,
        lastUsedAtMs: undefined,
        ...change,
      });

      test("is found by its secret alone, until it is removed", () => {
        const kept = token();
        store.tokens.add(kept, "secret-1", ACTOR);
        expect(store.tokens.find("secret-2", 2_000)).toBeUndefined();
        expect(store.tokens.find("", 2_000)).toBeUndefined();
        expect(store.tokens.find("secret-1", 2_000)).toEqual({ ...kept, lastUsedAtMs: 2_000 });
        expect(store.tokens.list(own())).toEqual([{ ...kept, lastUsedAtMs: 2_000 }]);
        store.tokens.remove(kept.id, ACTOR);
        expect(store.tokens.find("secret-1", 2_000)).toBeUndefined();
        expect(codeOf(() => store.tokens.remove(kept.id, ACTOR))).toBe("store.missing");
      });

      test("ends at its expiry", () => {
        store.tokens.add(token({ expiresAtMs: 5_000 }), "s", ACTOR);
        expect(store.tokens.find("s", 4_999)?.expiresAtMs).toBe(5_000);
        expect(store.tokens.find("s", 5_000)).toBeUndefined();
      });

      test("its last use is written once a minute, and is no entry in the audit log", () => {
        store.tokens.add(token(), "s", ACTOR);
        const before = entries();
        const seen = [0, 30_000, 59_999, 60_000, 90_000].map((atMs) => store.tokens.find("s", atMs)?.lastUsedAtMs);
        expect(seen).toEqual([0, 0, 0, 60_000, 60_000]);
        expect(entries()).toBe(before);
      });

      test("its secret is in no list and no log, and is taken once", () => {
        store.tokens.add(token(), "very-secret", ACTOR);
        expect(JSON.stringify([store.tokens.list(own()), store.audit.find({})])).not.toContain("very-secret");
        expect(codeOf(() => store.tokens.add(token(), "very-secret", ACTOR))).toBe("store.conflict");
        expect(codeOf(() => store.tokens.add(token({ accountTag: "none" }), "s", ACTOR))).toBe("store.missing");
      });
    });

    describe("tunnels", () => {
      test("comes back by name and id, with its secret", () => {
        const added: StoredTunnel = {
          ...newTunnel("shop", own(), 1_700_000_000_000),
          metadata: '{"a":"ü"}',
          configSource: "remote",
          expiresAtMs: 9,
        };
        store.tunnels.add(added, SECRET, ACTOR);
        expect(store.tunnels.byName(own(), "shop")).toEqual(added);
        expect(store.tunnels.get(added.id)).toEqual(added);
        const credentials = store.tunnels.credentials(added.id);
        expect(credentials).toMatchObject({ tunnel: added, formerAccountTag: undefined });
        expect(Uint8Array.from(credentials?.secret ?? [])).toEqual(SECRET);
        expect(store.tunnels.byName(own(), "Shop")).toBeUndefined();
        expect(store.tunnels.get(newTunnelId())).toBeUndefined();
        expect(store.tunnels.credentials(newTunnelId())).toBeUndefined();
      });

      test("a name is given once among the living", () => {
        const first = storeTunnel(store, "shop");
        expect(codeOf(() => storeTunnel(store, "shop"))).toBe("store.conflict");
        store.tunnels.remove(first.id, ACTOR);
        const second = storeTunnel(store, "shop");
        expect(store.tunnels.byName(own(), "shop")?.id).toBe(second.id);
        expect(store.tunnels.find({ name: "shop" }).total).toBe(2);
      });

      test("one whose hostname is taken is not made at all", () => {
        storeTunnel(store, "first", { hostnames: ["a.example.com"] });
        const before = entries();
        changes.length = 0;
        const hostnames = ["b.example.com", "a.example.com"];
        expect(codeOf(() => storeTunnel(store, "second", { hostnames }))).toBe("store.conflict");
        expect(store.tunnels.byName(own(), "second")).toBeUndefined();
        expect(leadsTo("b.example.com")).toBeUndefined();
        expect(entries()).toBe(before);
        expect(changes).toEqual([]);
      });

      test("changes one field and keeps the others", () => {
        const tunnel = storeTunnel(store, "old");
        storeTunnel(store, "taken");
        store.tunnels.update(tunnel.id, { name: "new" }, ACTOR);
        store.tunnels.update(tunnel.id, { metadata: '{"x":1}' }, ACTOR);
        store.tunnels.update(tunnel.id, { configSource: "remote", name: "new" }, ACTOR);
        expect(store.tunnels.get(tunnel.id)).toEqual({
          ...tunnel,
          ...{ name: "new", metadata: '{"x":1}', configSource: "remote" },
        });
        expect(codeOf(() => store.tunnels.update(tunnel.id, { name: "taken" }, ACTOR))).toBe("store.conflict");
        expect(codeOf(() => store.tunnels.update(newTunnelId(), { name: "x" }, ACTOR))).toBe("store.missing");
        const metadata = "x".repeat(MAX_METADATA_BYTES + 1);
        expect(codeOf(() => store.tunnels.update(tunnel.id, { metadata }, ACTOR))).toBe("store.failed");
      });

      test("gets another secret", () => {
        const { id } = storeTunnel(store, "t");
        store.tunnels.rotateSecret(id, SECRET, ACTOR);
        expect(Uint8Array.from(store.tunnels.credentials(id)?.secret ?? [])).toEqual(SECRET);
        expect(codeOf(() => store.tunnels.rotateSecret(newTunnelId(), SECRET, ACTOR))).toBe("store.missing");
      });

      test("removed, it leaves its record and takes all that led to it", async () => {
        await under.clock.advance(1_000);
        const tunnel = storeTunnel(store, "gone", { hostnames: ["a.example.com", "*.b.example.com"] });
        const stays = storeTunnel(store, "stays", { hostnames: ["c.example.com"] });
        const members = [tunnel, stays].map(({ id }) => ({ tunnelId: id, weight: 1, enabled: true }));
        const both = pool({ members });
        store.balancers.putPool(both, ACTOR);
        store.tcpRoutes.add(tcpRoute(4_000, tunnel.id), ACTOR);
        const network = networkRoute(store, tunnel.id, "10.0.0.0/8");
        store.networks.addRoute(network, ACTOR);
        store.configurations.put(tunnel.id, "{}", ACTOR);
        changes.length = 0;
        store.tunnels.remove(tunnel.id, ACTOR);
        const deletedAtMs = under.clock.wallMs();
        expect(store.tunnels.get(tunnel.id)).toMatchObject({ name: "gone", deletedAtMs });
        expect(store.tunnels.byName(own(), "gone")).toBeUndefined();
        expect(store.tunnels.credentials(tunnel.id)).toBeUndefined();
        expect([leadsTo("a.example.com"), leadsTo("x.b.example.com")]).toEqual([undefined, undefined]);
        expect(leadsTo("c.example.com")).toBe(stays.id);
        expect(store.hostnames.find({ tunnelId: tunnel.id }).total).toBe(0);
        expect(store.tcpRoutes.list()).toEqual([]);
        expect(store.networks.route(network.id)?.deletedAtMs).toBe(deletedAtMs);
        expect(store.balancers.pool(both.id)?.members).toEqual(members.slice(1));
        const kinds = new Set(changes.map(({ kind }) => kind));
        expect(kinds).toEqual(new Set(["tunnel", "hostnames", "balancers", "tcp-routes"]));
        expect(store.check()).toEqual([]);
        for (const work of [
          () => store.tunnels.remove(tunnel.id, ACTOR),
          () => store.tunnels.update(tunnel.id, { name: "x" }, ACTOR),
          () => store.tunnels.rotateSecret(tunnel.id, SECRET, ACTOR),
          () => storeHostnames(store, tunnel, ["d.example.com"]),
          () => store.configurations.put(tunnel.id, "{}", ACTOR),
          () => store.tcpRoutes.add(tcpRoute(4_001, tunnel.id), ACTOR),
          () => store.networks.addRoute(networkRoute(store, tunnel.id, "10.0.0.0/9"), ACTOR),
          () => store.balancers.putPool(both, ACTOR),
        ]) {
          expect(codeOf(work)).toBe("store.missing");
        }
      });

      test("are found by every filter, oldest first, in pages", () => {
        const add = (name: string, createdAtMs: number, change: Partial<StoredTunnel> = {}): TunnelId => {
          const tunnel = { ...newTunnel(name, own(), createdAtMs), ...change };
          store.tunnels.add(tunnel, SECRET, ACTOR);
          return tunnel.id;
        };
        add("web-2", 30);
        const first = add("web-1", 10);
        add("db", 20, { configSource: "remote" });
        add("100%_", 40, { deletedAtMs: 50 });
        const names = (filter: TunnelFilter): string[] => store.tunnels.find(filter).items.map(({ name }) => name);
        expect(names({})).toEqual(["web-1", "db", "web-2", "100%_"]);
        expect(names({ namePrefix: "web-" })).toEqual(["web-1", "web-2"]);
        expect(names({ namePrefix: "100%_" })).toEqual(["100%_"]);
        expect(names({ namePrefix: "%" })).toEqual([]);
        expect(names({ excludePrefix: "web-" })).toEqual(["db", "100%_"]);
        expect(names({ name: "db" })).toEqual(["db"]);
        expect(names({ id: first })).toEqual(["web-1"]);
        expect(names({ deleted: true })).toEqual(["100%_"]);
        expect(names({ deleted: false, namePrefix: "web" })).toEqual(["web-1", "web-2"]);
        expect(names({ existedAtMs: 25 })).toEqual(["web-1", "db"]);
        expect(names({ existedAtMs: 45 })).toHaveLength(4);
        expect(names({ existedAtMs: 50 })).toHaveLength(3);
        expect(names({ configSource: "remote" })).toEqual(["db"]);
        expect(names({ accountTag: "none" })).toEqual([]);
        const page = store.tunnels.find({ deleted: false }, { offset: 1, limit: 1 });
        expect([page.total, page.items.map(({ name }) => name)]).toEqual([3, ["db"]]);
        expect(store.tunnels.find({}, { offset: 9, limit: 5 })).toEqual({ items: [], total: 4 });
      });
    });

    describe("hostnames", () => {
      test.each([
        ["a.example.com", "exact"],
        ["b.example.com", "example"],
        ["x.y.example.com", "example"],
        ["deep.a.example.com", "deep"],
        ["x.deep.a.example.com", "deep"],
        ["example.com", undefined],
        ["notexample.com", undefined],
        ["", undefined],
        ["*.example.com", "example"],
      ])("%j belongs to %p: exact before the longest wildcard", (hostname, owner) => {
        const ids: Record<string, TunnelId> = {
          exact: storeTunnel(store, "exact", { hostnames: ["a.example.com"] }).id,
          example: storeTunnel(store, "example", { hostnames: ["*.example.com"] }).id,
          deep: storeTunnel(store, "deep", { hostnames: ["*.a.example.com"] }).id,
        };
        expect(leadsTo(hostname)).toBe(owner === undefined ? undefined : ids[owner]);
      });

      test("a lone star takes what nothing else does", () => {
        const all = storeTunnel(store, "all", { hostnames: ["*"] });
        const one = storeTunnel(store, "one", { hostnames: ["a.example.com"] });
        expect([leadsTo("a.example.com"), leadsTo("b"), leadsTo("")]).toEqual([one.id, all.id, all.id]);
      });

      test("stays with its tunnel unless it may be taken", () => {
        const first = storeTunnel(store, "first", { hostnames: ["a.example.com"] });
        const second = storeTunnel(store, "second");
        const [route] = routesTo(store, second, ["a.example.com"], 77);
        if (route === undefined) throw new Error("no route");
        expect(codeOf(() => store.hostnames.put(route, false, ACTOR))).toBe("store.conflict");
        expect(leadsTo("a.example.com")).toBe(first.id);
        expect(store.hostnames.put(route, true, ACTOR)).toBe("updated");
        expect(leadsTo("a.example.com")).toBe(second.id);
        const before = entries();
        changes.length = 0;
        expect(store.hostnames.put(route, false, ACTOR)).toBe("unchanged");
        expect([entries(), changes]).toEqual([before, []]);
        expect(store.hostnames.put({ ...route, hostname: "b.example.com" }, false, ACTOR)).toBe("new");
        expect(changes).toEqual([{ kind: "hostnames" }]);
        expect(store.hostnames.get("b.example.com")).toEqual({ ...route, hostname: "b.example.com" });
      });

      test("removed, it leads nowhere at once", () => {
        const tunnel = storeTunnel(store, "t", { hostnames: ["a.example.com", "*.example.com"] });
        expect(leadsTo("a.example.com")).toBe(tunnel.id);
        store.hostnames.remove("a.example.com", ACTOR);
        store.hostnames.remove("*.example.com", ACTOR);
        expect(leadsTo("a.example.com")).toBeUndefined();
        expect(store.hostnames.get("a.example.com")).toBeUndefined();
        expect(codeOf(() => store.hostnames.remove("a.example.com", ACTOR))).toBe("store.missing");
      });

      test("a tunnel, balancer or zone that is not there gets none", () => {
        const nobody = newTunnel("nobody", own(), 0);
        expect(codeOf(() => storeHostnames(store, nobody, ["a.example.com"]))).toBe("store.missing");
        const target = { kind: "balancer", balancerId: randomUUID() } as const;
        const route = { hostname: "a.example.com", target, zoneId: zone(), createdAtMs: 0 };
        expect(codeOf(() => store.hostnames.put(route, false, ACTOR))).toBe("store.missing");
        const tunnel = storeTunnel(store, "t");
        const [real] = routesTo(store, tunnel, ["a.example.com"], 0);
        if (real === undefined) throw new Error("no route");
        expect(codeOf(() => store.hostnames.put({ ...real, zoneId: "none" }, false, ACTOR))).toBe("store.missing");
        expect(leadsTo("a.example.com")).toBeUndefined();
      });

      test("are listed by name for a tunnel or a zone, in pages", () => {
        const tunnel = storeTunnel(store, "t", { hostnames: ["c.test", "a.test", "b.test"] });
        storeTunnel(store, "u", { hostnames: ["d.test"] });
        const names = (found: ReturnType<Store["hostnames"]["find"]>): string[] =>
          found.items.map(({ hostname }) => hostname);
        expect(names(store.hostnames.find({ tunnelId: tunnel.id }))).toEqual(["a.test", "b.test", "c.test"]);
        const page = store.hostnames.find({ zoneId: zone() }, { offset: 2, limit: 5 });
        expect([page.total, names(page)]).toEqual([4, ["c.test", "d.test"]]);
        expect(store.hostnames.find({ zoneId: "none" }).total).toBe(0);
      });
    });

    describe("balancers", () => {
      const monitor: Monitor = {
        ...{ path: "/health", host: undefined, intervalMs: 1, timeoutMs: 2 },
        ...{ expect: [200, 299], unhealthyAfter: 3, healthyAfter: 4 },
      };

      test("pools and balancers come back as they were put, and can be replaced", () => {
        const [a, b] = [storeTunnel(store, "a"), storeTunnel(store, "b")];
        const kept = pool({
          members: [b, a].map(({ id }, i) => ({ tunnelId: id, weight: i + 0.5, enabled: i === 0 })),
          monitor,
          webhook: "https://hook.example/?key=s3cret",
        });
        store.balancers.putPool(kept, ACTOR);
        expect(store.balancers.pool(kept.id)).toEqual(kept);
        expect(store.balancers.poolByName(own(), "pool")).toEqual(kept);
        const spare = pool({ name: "spare", monitor: { ...monitor, host: "h.example" } });
        store.balancers.putPool(spare, ACTOR);
        expect(store.balancers.pools(own())).toEqual([kept, spare]);
        expect(store.balancers.pools("none")).toEqual([]);
        const lb = balancer({ poolIds: [spare.id, kept.id], steering: "hash_ip" });
        store.balancers.put(lb, zone(), false, ACTOR);
        expect(store.balancers.get(lb.id)).toEqual(lb);
        expect(store.balancers.byHostname(lb.hostname)).toEqual(lb);
        expect(store.balancers.list()).toEqual([lb]);
        expect(leadsTo(lb.hostname)).toBe(lb.id);
        const moved = { ...lb, hostname: "new.example.com", poolIds: [kept.id], steering: "failover" as const };
        store.balancers.put(moved, zone(), false, ACTOR);
        expect(store.balancers.list(own())).toEqual([moved]);
        expect([leadsTo(lb.hostname), leadsTo(moved.hostname)]).toEqual([undefined, lb.id]);
        const fewer = { ...kept, members: kept.members.slice(1), monitor: undefined, webhook: undefined };
        store.balancers.putPool(fewer, ACTOR);
        expect(store.balancers.pool(kept.id)).toEqual(fewer);
        expect(JSON.stringify(store.audit.find({}).items)).not.toContain("s3cret");
      });

      test("a pool that is used, or a name that is taken, is a conflict", () => {
        const used = pool();
        store.balancers.putPool(used, ACTOR);
        const lb = balancer({ poolIds: [used.id] });
        store.balancers.put(lb, zone(), false, ACTOR);
        expect(codeOf(() => store.balancers.removePool(used.id, ACTOR))).toBe("store.conflict");
        expect(codeOf(() => store.balancers.putPool(pool(), ACTOR))).toBe("store.conflict");
        store.balancers.remove(lb.id, ACTOR);
        expect(leadsTo(lb.hostname)).toBeUndefined();
        store.balancers.removePool(used.id, ACTOR);
        expect(store.balancers.pools()).toEqual([]);
        expect(codeOf(() => store.balancers.removePool(used.id, ACTOR))).toBe("store.missing");
        expect(codeOf(() => store.balancers.remove(lb.id, ACTOR))).toBe("store.missing");
        expect(codeOf(() => store.balancers.put(balancer({ poolIds: ["none"] }), zone(), false, ACTOR))).toBe(
          "store.missing",
        );
        const members = [{ tunnelId: newTunnelId(), weight: 1, enabled: true }];
        expect(codeOf(() => store.balancers.putPool(pool({ members }), ACTOR))).toBe("store.missing");
        expect([store.balancers.list(), store.balancers.pools()]).toEqual([[], []]);
      });

      test("a hostname goes from tunnel to balancer to balancer to tunnel only when it may be taken", () => {
        const hostname = "lb.example.com";
        const tunnel = storeTunnel(store, "t", { hostnames: [hostname] });
        const [first, second] = [balancer(), balancer()];
        expect(codeOf(() => store.balancers.put(first, zone(), false, ACTOR))).toBe("store.conflict");
        expect(store.balancers.list()).toEqual([]);
        store.balancers.put(first, zone(), true, ACTOR);
        expect(leadsTo(hostname)).toBe(first.id);
        expect(codeOf(() => store.balancers.put(second, zone(), false, ACTOR))).toBe("store.conflict");
        store.balancers.put(second, zone(), true, ACTOR);
        expect(store.balancers.list()).toEqual([second]);
        const [route] = routesTo(store, tunnel, [hostname], 0);
        if (route === undefined) throw new Error("no route");
        expect(codeOf(() => store.hostnames.put(route, false, ACTOR))).toBe("store.conflict");
        store.hostnames.put(route, true, ACTOR);
        expect([leadsTo(hostname), store.balancers.list()]).toEqual([tunnel.id, []]);
        store.balancers.put(first, zone(), true, ACTOR);
        store.hostnames.remove(hostname, ACTOR);
        expect([leadsTo(hostname), store.balancers.list()]).toEqual([undefined, []]);
      });
    });

    describe("configurations", () => {
      test("versions only grow, above what is asked, and the tunnel is remote from then on", async () => {
        const { id } = storeTunnel(store, "t");
        expect(store.configurations.current(id)).toBeUndefined();
        await under.clock.advance(5);
        const first = store.configurations.put(id, '{"a":1}', ACTOR);
        expect(first).toEqual({ tunnelId: id, version: 1, config: '{"a":1}', createdAtMs: under.clock.wallMs() });
        expect(store.tunnels.get(id)?.configSource).toBe("remote");
        expect(changes.filter(({ kind }) => kind === "configuration")).toEqual([
          { kind: "configuration", tunnelId: id },
        ]);
        expect(store.configurations.put(id, "{}", ACTOR).version).toBe(2);
        expect(store.configurations.put(id, "{}", ACTOR, 40).version).toBe(41);
        expect(store.configurations.put(id, "{}", ACTOR, 7).version).toBe(42);
        expect(store.configurations.current(id)?.version).toBe(42);
        expect(store.configurations.versions(id).map(({ version }) => version)).toEqual([42, 41, 2, 1]);
      });

      test("the newest ones are kept, each tunnel its own", () => {
        const [a, b] = [storeTunnel(store, "a"), storeTunnel(store, "b")];
        for (let i = 0; i < KEPT_CONFIGURATIONS + 5; i += 1) store.configurations.put(a.id, `{"i":${i}}`, ACTOR);
        expect(store.configurations.put(b.id, "{}", ACTOR).version).toBe(1);
        const kept = store.configurations.versions(a.id).map(({ version }) => version);
        expect(kept).toHaveLength(KEPT_CONFIGURATIONS);
        expect([kept[0], kept.at(-1)]).toEqual([KEPT_CONFIGURATIONS + 5, 6]);
      });

      test("one that is too large, or of no tunnel, is refused", () => {
        const { id } = storeTunnel(store, "t");
        const large = "x".repeat(MAX_CONFIGURATION_BYTES + 1);
        expect(codeOf(() => store.configurations.put(id, large, ACTOR))).toBe("store.failed");
        expect(codeOf(() => store.configurations.put(newTunnelId(), "{}", ACTOR))).toBe("store.missing");
      });
    });

    describe("networks", () => {
      test("routes are unique in their virtual network, and found by every filter", () => {
        const [a, b] = [storeTunnel(store, "a"), storeTunnel(store, "b")];
        const main = networkRoute(store, a.id, "10.0.0.0/8");
        store.networks.addRoute(main, ACTOR);
        expect(store.networks.route(main.id)).toEqual(main);
        expect(codeOf(() => store.networks.addRoute(networkRoute(store, b.id, "10.0.0.0/8"), ACTOR))).toBe(
          "store.conflict",
        );
        const virtual = {
          ...store.networks.defaultVirtualNetwork(own()),
          id: randomUUID(),
          name: "v",
          isDefault: false,
        };
        store.networks.putVirtualNetwork(virtual, ACTOR);
        const other = { ...networkRoute(store, b.id, "10.0.0.0/8"), virtualNetworkId: virtual.id, comment: "ü" };
        store.networks.addRoute(other, ACTOR);
        const accountTag = own();
        const ids = (filter: object): string[] => store.networks.routes({ accountTag, ...filter }).map(({ id }) => id);
        expect(ids({})).toEqual([main.id, other.id]);
        expect(ids({ tunnelId: b.id })).toEqual([other.id]);
        expect(ids({ virtualNetworkId: virtual.id })).toEqual([other.id]);
        expect(ids({ comment: "ü" })).toEqual([other.id]);
        expect(ids({ existedAtMs: -1 })).toEqual([]);
        store.networks.removeRoute(main.id, ACTOR);
        expect(ids({ deleted: true })).toEqual([main.id]);
        expect(codeOf(() => store.networks.removeRoute(main.id, ACTOR))).toBe("store.missing");
        store.networks.addRoute(networkRoute(store, b.id, "10.0.0.0/8"), ACTOR);
        const nowhere = { ...networkRoute(store, b.id, "10.1.0.0/16"), virtualNetworkId: randomUUID() };
        expect(codeOf(() => store.networks.addRoute(nowhere, ACTOR))).toBe("store.missing");
      });

      test("an account has one default virtual network, made when one is needed", () => {
        const accountTag = own();
        expect(store.networks.virtualNetworks({ accountTag })).toEqual([]);
        const first = store.networks.defaultVirtualNetwork(accountTag);
        expect(store.networks.defaultVirtualNetwork(accountTag)).toEqual(first);
        expect(first).toMatchObject({ isDefault: true, deletedAtMs: undefined });
        const next = { ...first, id: randomUUID(), name: "next", comment: "c" };
        store.networks.putVirtualNetwork(next, ACTOR);
        expect(store.networks.defaultVirtualNetwork(accountTag)).toEqual(next);
        expect(store.networks.virtualNetworks({ accountTag, isDefault: true })).toEqual([next]);
        expect(store.networks.virtualNetworks({ accountTag, name: first.name })).toEqual([
          { ...first, isDefault: false },
        ]);
        expect(store.networks.virtualNetworks({ accountTag, id: next.id })).toEqual([next]);
        const demoted = { ...next, isDefault: false };
        expect(codeOf(() => store.networks.putVirtualNetwork(demoted, ACTOR))).toBe("store.conflict");
        const namesake = { ...next, id: randomUUID(), isDefault: false };
        expect(codeOf(() => store.networks.putVirtualNetwork(namesake, ACTOR))).toBe("store.conflict");
        store.networks.putVirtualNetwork({ ...first, comment: "renewed", isDefault: false }, ACTOR);
        expect(store.networks.virtualNetworks({ accountTag, id: first.id })[0]?.comment).toBe("renewed");
      });

      test("a virtual network goes with its routes only by force, and the default one never", () => {
        const accountTag = own();
        const { id } = storeTunnel(store, "t");
        const main = store.networks.defaultVirtualNetwork(accountTag);
        const extra = { ...main, id: randomUUID(), name: "extra", isDefault: false };
        store.networks.putVirtualNetwork(extra, ACTOR);
        store.networks.addRoute({ ...networkRoute(store, id, "10.0.0.0/8"), virtualNetworkId: extra.id }, ACTOR);
        expect(codeOf(() => store.networks.removeVirtualNetwork(main.id, true, ACTOR))).toBe("store.conflict");
        expect(codeOf(() => store.networks.removeVirtualNetwork(extra.id, false, ACTOR))).toBe("store.conflict");
        store.networks.removeVirtualNetwork(extra.id, true, ACTOR);
        expect(store.networks.virtualNetworks({ accountTag, deleted: true }).map((each) => each.id)).toEqual([
          extra.id,
        ]);
        expect(store.networks.routes({ accountTag, deleted: false })).toEqual([]);
        expect(codeOf(() => store.networks.removeVirtualNetwork(extra.id, true, ACTOR))).toBe("store.missing");
      });
    });

    test("TCP ports lead to one tunnel each", () => {
      const [a, b] = [storeTunnel(store, "a"), storeTunnel(store, "b")];
      const route: TcpRoute = { ...tcpRoute(5_432, a.id), proxyProtocol: "v2" };
      store.tcpRoutes.add(route, ACTOR);
      store.tcpRoutes.add(tcpRoute(22, b.id), ACTOR);
      expect(store.tcpRoutes.list()).toEqual([tcpRoute(22, b.id), route]);
      expect(codeOf(() => store.tcpRoutes.add(tcpRoute(22, a.id), ACTOR))).toBe("store.conflict");
      store.tcpRoutes.add({ ...tcpRoute(22, b.id), hostname: "other" }, ACTOR);
      expect(store.tcpRoutes.list()[0]?.hostname).toBe("other");
      store.tcpRoutes.remove(22, ACTOR);
      expect(store.tcpRoutes.list()).toEqual([route]);
      expect(codeOf(() => store.tcpRoutes.remove(22, ACTOR))).toBe("store.missing");
    });

    describe("audit", () => {
      test("says who changed what, from where, newest first, without secrets", async () => {
        const actor = { kind: "token", id: "ci", from: "192.0.2.9" } as const;
        const tunnel = newTunnel("t", own(), 0);
        await under.clock.advance(7);
        store.tunnels.add(tunnel, Buffer.from("a-secret-in-clear"), actor);
        const made = lastEntry();
        expect(made).toMatchObject({ atMs: under.clock.wallMs(), actor, action: "tunnel.create", subject: tunnel.id });
        expect(JSON.parse(made?.details ?? "")).toMatchObject({ name: "t" });
        await under.clock.advance(7);
        store.tunnels.rotateSecret(tunnel.id, Buffer.from("another-secret-in-clear"), ACTOR);
        const all = store.audit.find({ subject: tunnel.id });
        expect(all.items.map(({ action }) => action)).toEqual(["tunnel.rotate", "tunnel.create"]);
        expect(JSON.stringify(all)).not.toMatch(/secret-in-clear|c2VjcmV0/);
        expect(store.audit.find({ action: "tunnel.create" }).total).toBe(1);
        expect(store.audit.find({ sinceMs: under.clock.wallMs() }).total).toBe(1);
        const page = store.audit.find({}, { offset: 1, limit: 1 });
        expect([page.total, page.items[0]?.action]).toEqual([2, "tunnel.create"]);
      });

      test("has one entry for each change", () => {
        const { id } = storeTunnel(store, "t", { hostnames: ["a.test", "b.test"] });
        expect(entries()).toBe(1);
        store.configurations.put(id, "{}", ACTOR);
        store.tcpRoutes.add(tcpRoute(1, id), ACTOR);
        store.hostnames.remove("a.test", ACTOR);
        store.tunnels.remove(id, ACTOR);
        expect(entries()).toBe(5);
      });

      test("takes notes of what changed nothing, and tells no watcher", () => {
        store.audit.add({ kind: "token", id: "ci", from: "192.0.2.1" }, "tunnel.cleanup", "some-tunnel", { count: 2 });
        expect(lastEntry()).toMatchObject({ action: "tunnel.cleanup", subject: "some-tunnel", details: '{"count":2}' });
        expect(lastEntry()?.actor).toEqual({ kind: "token", id: "ci", from: "192.0.2.1" });
        expect(changes).toEqual([]);
      });
    });

    test("watchers hear of each change after it, in order, until they leave", () => {
      const heard: string[] = [];
      const leave = store.watch((change) => {
        // It is written by then.
        if (change.kind === "tunnel" && store.tunnels.get(change.tunnelId)?.name === "first") {
          heard.push("first");
          storeTunnel(store, "written by a listener");
        } else heard.push(change.kind);
      });
      const later: string[] = [];
      store.watch(({ kind }) => later.push(kind));
      storeTunnel(store, "first", { hostnames: ["a.test"] });
      expect(heard.toSorted()).toEqual(["first", "hostnames", "tunnel"]);
      // Whoever comes second hears the same order, although the first one wrote in between.
      expect(later).toEqual(changes.map(({ kind }) => kind));
      leave();
      storeTunnel(store, "second");
      expect(heard).toHaveLength(3);
      expect(later).toHaveLength(4);
    });

    test("a store in order has nothing to complain of", () => {
      const { id } = storeTunnel(store, "t", { hostnames: ["a.test"] });
      store.configurations.put(id, "{}", ACTOR);
      expect(store.check()).toEqual([]);
    });
  });
}

function tcpRoute(port: number, tunnelId: TunnelId): TcpRoute {
  return { port, tunnelId, hostname: "db.example.com", proxyProtocol: undefined, createdAtMs: 3 };
}

function networkRoute(store: Store, tunnelId: TunnelId, network: string): NetworkRoute {
  const accountTag = store.accounts.own().tag;
  return {
    id: randomUUID(),
    accountTag,
    network,
    tunnelId,
    virtualNetworkId: store.networks.defaultVirtualNetwork(accountTag).id,
    comment: "",
    createdAtMs: 0,
    deletedAtMs: undefined,
  };
}
