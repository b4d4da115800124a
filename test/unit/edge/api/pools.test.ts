import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { MAX_MEMBERS, MAX_POOLS } from "../../../../src/edge/pool-rules.ts";
import type { StoredTunnel } from "../../../../src/edge/store/port.ts";
import { startTestApi, type TestApi } from "../../../support/api-app.ts";
import { storeTunnel } from "../../../support/stored.ts";

let api: TestApi;
let pools: string;
beforeEach(() => {
  api = startTestApi();
  pools = `/accounts/${api.account.tag}/load_balancers/pools`;
});
afterEach(() => api[Symbol.dispose]());

interface Shown {
  readonly id: string;
  readonly name: string;
  readonly webhook: string | null;
  readonly webhook_set: boolean;
}

/** What `cloudflared tunnel route lb` asks. */
function join(tunnel: StoredTunnel, hostname: string, pool: string) {
  const body = { type: "lb", lb_name: hostname, lb_pool: pool };
  return api.call("PUT", `/zones/${api.zoneId}/tunnels/${tunnel.id}/routes`, { body });
}

const names = (): readonly string[] => api.store.balancers.pools(api.account.tag).map(({ name }) => name);

describe("a webhook", () => {
  const webhook = "https://hooks.test/s3cret";

  test("is set by an admin, seen by who may write, and known to be there by who may read", async () => {
    const writer = api.token(["routes:write", "tunnels:read"]).secret;
    const reader = api.token(["tunnels:read"]).secret;
    const refused = await api.call("POST", pools, { secret: writer, body: { name: "main", webhook } });
    expect([refused.status, refused.text]).toEqual([403, expect.stringContaining("lacks the scope admin")]);
    expect(names()).toEqual([]);
    const made = (await api.call("POST", pools, { body: { name: "main", webhook } })).json.result as Shown;
    expect(made).toMatchObject({ webhook, webhook_set: true });
    for (const path of [pools, `${pools}/${made.id}`]) {
      const seen = async (secret: string) =>
        [(await api.call("GET", path, { secret })).json.result].flat() as readonly Shown[];
      expect(await seen(writer)).toMatchObject([{ webhook, webhook_set: true }]);
      expect(await seen(reader)).toMatchObject([{ webhook: null, webhook_set: true }]);
    }
    const put = (body: object) => api.call("PUT", `${pools}/${made.id}`, { secret: writer, body });
    expect((await put({ name: "main", webhook: "http://127.0.0.1:9/" })).status).toBe(403);
    // What is there may be sent back, and be taken away.
    expect((await put({ name: "renamed", webhook })).json.result).toMatchObject({ name: "renamed", webhook });
    expect((await put({ name: "renamed" })).json.result).toMatchObject({ webhook: null, webhook_set: false });
    const audit = JSON.stringify(api.store.audit.find({}, { offset: 0, limit: 100 }).items);
    expect(audit).toContain("renamed");
    expect(audit).not.toContain("s3cret");
  });
});

describe("a monitor", () => {
  test("asks for a hostname as routes have it", async () => {
    const monitor = { path: "/health?deep=1", host: "BÜCHER.test.", expect: [200, 200] };
    const { json } = await api.call("POST", pools, { body: { name: "main", monitor } });
    expect(json.result).toMatchObject({ monitor: { ...monitor, host: "xn--bcher-kva.test" } });
    expect(api.store.balancers.poolByName(api.account.tag, "main")?.monitor?.host).toBe("xn--bcher-kva.test");
  });
});

describe("room", () => {
  test(`a pool has ${MAX_MEMBERS} tunnels, however they come`, async () => {
    const tunnels = Array.from({ length: MAX_MEMBERS + 1 }, (_, i) => storeTunnel(api.store, `t-${i}`));
    const [last] = tunnels.splice(MAX_MEMBERS);
    const members = tunnels.map(({ id }) => ({ tunnel_id: id }));
    expect((await api.call("POST", pools, { body: { name: "full", members } })).status).toBe(200);
    if (last === undefined) throw new Error("There is no last tunnel");
    const refused = await join(last, "lb.test", "full");
    expect([refused.status, refused.text]).toEqual([400, expect.stringContaining("100 tunnels already")]);
    expect(api.store.balancers.poolByName(api.account.tag, "full")?.members).toHaveLength(MAX_MEMBERS);
    expect(api.store.balancers.list()).toEqual([]);
    // Who is in it already may lead another hostname to it.
    const [first] = tunnels;
    if (first === undefined) throw new Error("There is no tunnel");
    expect((await join(first, "lb.test", "full")).json.result).toMatchObject({
      load_balancer: "new",
      pool: "unchanged",
    });
  });

  test(`a load balancer has ${MAX_POOLS} pools, however they come`, async () => {
    const web = storeTunnel(api.store, "web");
    for (let i = 0; i < MAX_POOLS; i += 1) expect((await join(web, "lb.test", `p-${i}`)).status).toBe(200);
    const refused = await join(web, "lb.test", "more");
    expect([refused.status, refused.text]).toEqual([400, expect.stringContaining("20 pools already")]);
    expect(names()).not.toContain("more");
    expect(api.store.balancers.byHostname("lb.test")?.poolIds).toHaveLength(MAX_POOLS);
  });
});

describe("a pool", () => {
  test("is the same as before when the load balancer cannot be made", async () => {
    const [web, other] = [storeTunnel(api.store, "web"), storeTunnel(api.store, "other")];
    await join(web, "lb.test", "shared");
    const before = api.store.balancers.pools(api.account.tag);
    const { balancers } = api.store;
    const put = balancers.put;
    balancers.put = () => {
      throw new Error("made up");
    };
    try {
      for (const pool of ["shared", "fresh"]) expect((await join(other, "two.test", pool)).status).toBe(500);
    } finally {
      balancers.put = put;
    }
    expect(api.store.balancers.pools(api.account.tag)).toEqual(before);
  });

  test("is listed and can be deleted when its load balancer is gone", async () => {
    await join(storeTunnel(api.store, "web"), "lb.test", "left");
    const [pool] = (await api.call("GET", pools)).json.result as readonly Shown[];
    expect(pool?.name).toBe("left");
    const used = await api.call("DELETE", `${pools}/${pool?.id}`);
    expect(used.status).toBe(409);
    expect((await api.call("DELETE", `/zones/${api.zoneId}/hostnames/lb.test`)).status).toBe(200);
    expect(api.store.balancers.list()).toEqual([]);
    expect((await api.call("GET", pools)).json.result).toMatchObject([{ id: pool?.id, name: "left" }]);
    expect((await api.call("DELETE", `${pools}/${pool?.id}`)).status).toBe(200);
    expect((await api.call("GET", pools)).json.result).toEqual([]);
  });
});
