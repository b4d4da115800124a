import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { MAX_BODY_BYTES } from "../../../../src/edge/api/body.ts";
import { startTestApi, type TestApi } from "../../../support/api-app.ts";
import { ACTOR, storeTunnel } from "../../../support/stored.ts";

let api: TestApi;
let account: string;
beforeEach(() => {
  api = startTestApi();
  account = `/accounts/${api.account.tag}`;
});
afterEach(() => api[Symbol.dispose]());

const message = (answer: Awaited<ReturnType<TestApi["call"]>>): string => answer.json.errors?.[0]?.message ?? "";

test("a name that is none is refused in one plain sentence", async () => {
  for (const [name, said] of [
    ["", "name: Must not be empty"],
    ["x".repeat(101), "name: Must have at most 100 characters"],
    ["a\nb", "name: Must not hold control or formatting characters"],
  ] as const) {
    const answer = await api.call("POST", `${account}/cfd_tunnel`, { body: { name } });
    expect([answer.status, message(answer)]).toEqual([400, said]);
  }
  for (const [name, said] of [
    ["", "name: Must not be empty"],
    ["x".repeat(257), "name: Must have at most 256 characters"],
  ] as const) {
    const answer = await api.call("POST", `${account}/teamnet/virtual_networks`, { body: { name } });
    expect([answer.status, message(answer)]).toEqual([400, said]);
  }
});

describe("who may not come in", () => {
  test.each([
    { authorization: undefined, why: /send an API token/ },
    { authorization: "", why: /send an API token/ },
    { authorization: "Basic abc", why: /send an API token/ },
    { authorization: "Bearer", why: /send an API token/ },
    { authorization: "Bearer two words", why: /send an API token/ },
    { authorization: `Bearer ${"x".repeat(513)}`, why: /send an API token/ },
    { authorization: "Bearer cvt_nobody", why: /unknown, revoked or expired/ },
  ])("$authorization", async ({ authorization, why }) => {
    const headers = authorization === undefined ? {} : { authorization };
    const answer = await api.call("GET", "/accounts", { secret: null, headers });
    expect(answer.status).toBe(401);
    expect(answer.headers.get("www-authenticate")).toBe("Bearer");
    expect(answer.json).toMatchObject({ success: false, result: null, messages: [], errors: [{ code: 10_000 }] });
    expect(message(answer)).toMatch(why);
  });

  test("a token that was revoked, and one that is over", async () => {
    const { token, secret } = api.token(["admin"]);
    const short = api.token(["admin"], { expiresAtMs: api.clock.wallMs() + 1_000 });
    for (const good of [secret, short.secret]) {
      expect((await api.call("GET", "/user/tokens/verify", { secret: good })).json.result).toMatchObject({
        status: "active",
      });
    }
    api.store.tokens.remove(token.id, ACTOR);
    await api.clock.advance(1_000);
    for (const bad of [secret, short.secret]) {
      expect((await api.call("GET", "/user/tokens/verify", { secret: bad })).status).toBe(401);
    }
  });

  test("the scheme's case does not matter", async () => {
    const headers = { authorization: `bearer ${api.admin}` };
    expect((await api.call("GET", "/accounts", { secret: null, headers })).status).toBe(200);
  });

  test("the audit log of the edge is not for another account", async () => {
    api.store.accounts.add({ tag: "f".repeat(32), name: "other", createdAtMs: 0 }, ACTOR);
    const { secret } = api.token(["admin"], { accountTag: "f".repeat(32) });
    expect((await api.call("GET", `/accounts/${"f".repeat(32)}/audit_logs`, { secret })).status).toBe(403);
  });
});

describe("what tokens may make", () => {
  const body = { name: "child", scopes: ["tunnels:read"] };

  test("nothing that may do more, and nothing that lasts longer", async () => {
    const inAnHour = api.clock.wallMs() + 3_600_000;
    const { secret } = api.token(["tokens:write", "tunnels:read"], { expiresAtMs: inAnHour });
    const make = (more: object) => api.call("POST", `${account}/tokens`, { secret, body: { ...body, ...more } });
    expect(message(await make({ scopes: ["admin"] }))).toContain("cannot give what it does not have: admin");
    expect(message(await make({}))).toContain("longer than itself");
    const later = new Date(inAnHour + 1_000).toISOString();
    expect(message(await make({ expires_on: later }))).toContain("longer than itself");
    expect(await make({ expires_on: new Date(inAnHour).toISOString() })).toMatchObject({ status: 200 });
    expect(message(await make({ expires_on: "2020-01-01T00:00:00Z" }))).toContain("expired from the start");
  });

  test("sees and revokes itself, and those that may do no more", async () => {
    const mine = api.token(["tokens:write", "tunnels:read"], { name: "mine" });
    const less = api.token(["tunnels:read"], { name: "less" });
    const more = api.token(["tokens:write", "routes:write"], { name: "more" });
    const { secret } = mine;
    const names = async (): Promise<readonly string[]> => {
      const { json } = await api.call("GET", `${account}/tokens`, { secret });
      expect(json.result_info?.["total_count"]).toBe((json.result as unknown[]).length);
      return (json.result as { name: string }[]).map(({ name }) => name).toSorted();
    };
    expect(await names()).toEqual(["less", "mine"]);
    const own = api.store.tokens.list(api.account.tag);
    const admin = own.find(({ name }) => name === "admin")?.id;
    for (const id of [admin, more.token.id]) {
      expect([id, (await api.call("DELETE", `${account}/tokens/${id}`, { secret })).status]).toEqual([id, 404]);
    }
    expect((await api.call("GET", "/accounts")).status).toBe(200);
    for (const { token } of [less, mine]) {
      expect((await api.call("DELETE", `${account}/tokens/${token.id}`, { secret })).status).toBe(200);
    }
    expect((await api.call("GET", `${account}/tokens`, { secret })).status).toBe(401);
    const { json } = await api.call("GET", `${account}/tokens`);
    expect((json.result as { name: string }[]).map(({ name }) => name).toSorted()).toEqual(["admin", "more"]);
  });

  test("what was made is good, and what is revoked is gone", async () => {
    const { json } = await api.call("POST", `${account}/tokens`, { body });
    const { id, value } = json.result as { id: string; value: string };
    expect((await api.call("GET", `${account}/cfd_tunnel`, { secret: value })).status).toBe(200);
    expect((await api.call("DELETE", `${account}/tokens/${id}`)).status).toBe(200);
    expect((await api.call("GET", `${account}/cfd_tunnel`, { secret: value })).status).toBe(401);
    expect((await api.call("DELETE", `${account}/tokens/${id}`)).status).toBe(404);
  });
});

describe("what is not as it should be is named", () => {
  const UUID = "00000000-0000-4000-8000-000000000000";
  const tunnels = "{account}/cfd_tunnel";
  const pools = "{account}/load_balancers/pools";
  const config = (value: unknown) => ({ config: value });
  const cases: readonly (readonly [method: string, path: string, body: unknown, field: string])[] = [
    ["POST", tunnels, {}, "name"],
    ["POST", tunnels, { name: "" }, "name"],
    ["POST", tunnels, { name: "x".repeat(101) }, "name"],
    ["POST", tunnels, { name: "bell\u0007" }, "name"],
    ["POST", tunnels, { name: UUID }, "name"],
    ["POST", tunnels, { name: 7 }, "name"],
    ["POST", tunnels, { name: "a", tunnel_secret: "c2hvcnQ=" }, "tunnel_secret"],
    ["POST", tunnels, { name: "a", tunnel_secret: "not base64!" }, "tunnel_secret"],
    ["POST", tunnels, { name: "a", tunnel_secret: Buffer.alloc(1_025).toString("base64") }, "tunnel_secret"],
    ["POST", tunnels, { name: "a", config_src: "elsewhere" }, "config_src"],
    ["POST", tunnels, { name: "a", metadata: [] }, "metadata"],
    ["POST", tunnels, { name: "a", metadata: { a: "é".repeat(9_000) } }, "metadata"],
    ["POST", tunnels, [], "body"],
    ["POST", tunnels, null, "body"],
    ["GET", `${tunnels}?page=0`, undefined, "page"],
    ["GET", `${tunnels}?page=x`, undefined, "page"],
    ["GET", `${tunnels}?page=1.5`, undefined, "page"],
    ["GET", `${tunnels}?per_page=0`, undefined, "per_page"],
    ["GET", `${tunnels}?per_page=1001`, undefined, "per_page"],
    ["GET", `${tunnels}?uuid=x`, undefined, "uuid"],
    ["GET", `${tunnels}?is_deleted=1`, undefined, "is_deleted"],
    ["GET", `${tunnels}?existed_at=yesterday`, undefined, "existed_at"],
    ["GET", `${tunnels}?existed_at=2026`, undefined, "existed_at"],
    ["GET", `${tunnels}?status=fine`, undefined, "status"],
    ["DELETE", `${tunnels}/{web}?cascade=maybe`, undefined, "cascade"],
    ["DELETE", `${tunnels}/{web}/connections?client_id=x`, undefined, "client_id"],
    ["PUT", `${tunnels}/{web}/configurations`, {}, "config"],
    ["PUT", `${tunnels}/{web}/configurations`, config({ ingress: [{}] }), "config.ingress.0.service"],
    ["PUT", `${tunnels}/{web}/configurations`, config({ ingress: [{ service: "http_status:9" }] }), "ingress"],
    [
      "PUT",
      `${tunnels}/{web}/configurations`,
      config({ ingress: [{ service: "http_status:404", originRequest: { connectTimeout: "soon" } }] }),
      "connectTimeout",
    ],
    ["PUT", "{zone}/tunnels/{web}/routes", { type: "mx" }, "type"],
    ["PUT", "{zone}/tunnels/{web}/routes", { type: "dns" }, "user_hostname"],
    ["PUT", "{zone}/tunnels/{web}/routes", { type: "dns", user_hostname: "a..b" }, '"a..b"'],
    ["PUT", "{zone}/tunnels/{web}/routes", { type: "lb", lb_name: "a.test", lb_pool: "a b" }, "lb_pool"],
    ["POST", pools, { name: "a", webhook: "ftp://a.test" }, "webhook"],
    ["POST", pools, { name: "a", members: [{ tunnel_id: UUID }] }, "members"],
    ["POST", pools, { name: "a", members: [{ tunnel_id: "{web}" }, { tunnel_id: "{web}" }] }, "members"],
    ["POST", pools, { name: "a", members: [{ tunnel_id: "{web}", weight: 0 }] }, "members.0.weight"],
    ["POST", pools, { name: "a", monitor: { interval_ms: 1 } }, "monitor.interval_ms"],
    ["POST", pools, { name: "a", monitor: { path: "health" } }, "monitor.path"],
    ["POST", pools, { name: "a", monitor: { path: "/a b" } }, "monitor.path"],
    ["POST", pools, { name: "a", monitor: { path: "/\r\nX-Evil: 1" } }, "monitor.path"],
    ["POST", pools, { name: "a", monitor: { path: "/é" } }, "monitor.path"],
    ["POST", pools, { name: "a", monitor: { path: `/${"a".repeat(2_048)}` } }, "monitor.path"],
    ["POST", pools, { name: "a", monitor: { host: "a b" } }, "monitor.host"],
    ["POST", pools, { name: "a", monitor: { host: "a.test:80" } }, "monitor.host"],
    ["POST", pools, { name: "a", monitor: { host: "*.test" } }, "monitor.host"],
    ["POST", pools, { name: "a", monitor: { host: "*" } }, "monitor.host"],
    ["POST", pools, { name: "a", monitor: { host: "a.test\r\nX-Evil: 1" } }, "monitor.host"],
    ["POST", pools, { name: "a", monitor: { expect: [399, 200] } }, "monitor.expect"],
    ["POST", pools, { name: "a", monitor: { expect: [0, 200] } }, "monitor.expect.0"],
    ["POST", pools, { name: "a", members: Array(101).fill({ tunnel_id: "{web}" }) }, "members"],
    ["PATCH", "{zone}/load_balancers/x", { pools: Array(21).fill(UUID) }, "pools"],
    ["POST", "{account}/teamnet/routes", { network: "10.0.0.1", tunnel_id: UUID }, "network"],
    ["POST", "{account}/teamnet/routes", { network: "10.0.0.0/8", tunnel_id: "x" }, "tunnel_id"],
    ["POST", "{account}/teamnet/routes", { network: "10.0.0.0/8", tunnel_id: UUID, comment: 1 }, "comment"],
    ["GET", "{account}/teamnet/routes/ip/10.0.0.0%2F8", undefined, "IP address"],
    ["GET", "{account}/teamnet/routes?network_subset=x", undefined, "network_subset"],
    ["POST", "{account}/teamnet/virtual_networks", { name: "" }, "name"],
    ["POST", "{account}/tokens", { name: "a", scopes: [] }, "scopes"],
    ["POST", "{account}/tokens", { name: "a", scopes: ["root"] }, "scopes.0"],
    ["POST", "{account}/tokens", { name: "a", scopes: ["admin"], expires_on: "never" }, "expires_on"],
    ["GET", "{account}/audit_logs?since=x", undefined, "since"],
  ];

  test.each(cases.map(([method, path, body, field]) => ({ method, path, body, field })))(
    "$method $path: $field",
    async ({ method, path, body, field }) => {
      const web = storeTunnel(api.store, "web");
      const fill = (text: string): string =>
        text.replaceAll("{account}", account).replaceAll("{zone}", `/zones/${api.zoneId}`).replaceAll("{web}", web.id);
      const before = api.store.audit.find({}).total;
      const filled = body === undefined ? {} : { body: fill(JSON.stringify(body)) };
      const answer = await api.call(method, fill(path), filled);
      expect([answer.status, message(answer)]).toEqual([400, expect.stringContaining(field)]);
      expect(api.store.audit.find({}).total).toBe(before);
    },
  );

  test("all that is wrong is told at once", async () => {
    const answer = await api.call("POST", `${account}/cfd_tunnel`, { body: { name: "", config_src: "x" } });
    expect(message(answer)).toMatch(/name: .*; config_src: /);
  });

  test("of a parameter that comes twice the first one counts", async () => {
    for (const name of ["a", "b"]) storeTunnel(api.store, name);
    const { json } = await api.call("GET", `${account}/cfd_tunnel?name=a&name=b`);
    expect(json.result).toMatchObject([{ name: "a" }]);
  });
});

describe("bodies", () => {
  const post = (body: unknown, headers: Record<string, string> = {}) =>
    api.call("POST", `${account}/cfd_tunnel`, { body, headers });

  test("that are too long, with their length told or not", async () => {
    const long = " ".repeat(MAX_BODY_BYTES + 1);
    expect((await post(long, { "content-length": String(long.length) })).status).toBe(413);
    let pulled = 0;
    const endless = new ReadableStream({
      pull: (controller) => {
        pulled += 1;
        controller.enqueue(new Uint8Array(64 * 1024).fill(32));
      },
    });
    const answer = await post(endless);
    expect([answer.status, answer.json.errors?.[0]?.code]).toEqual([413, 10_005]);
    expect(pulled).toBeLessThan(30);
    const most = `{"name":"fits"}${" ".repeat(MAX_BODY_BYTES - 15)}`;
    expect((await post(most)).status).toBe(200);
  });

  test.each(["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""])(
    "of type %p",
    async (type) => {
      expect((await post('{"name":"a"}', { "content-type": type })).status).toBe(415);
    },
  );

  test.each(["application/json; charset=utf-8", "application/merge-patch+json", "Application/JSON"])(
    "of type %p are taken",
    async (type) => {
      expect((await post('{"name":"a"}', { "content-type": type })).status).toBe(200);
    },
  );

  test.each([
    { name: "half", body: '{"name":' },
    { name: "none", body: "" },
    { name: "not UTF-8", body: new Uint8Array([0x22, 0xff, 0x22]) },
    { name: "too deep", body: `{"name":"a","metadata":${'{"a":'.repeat(100_000)}1${"}".repeat(100_001)}` },
    { name: "brackets only", body: "[".repeat(500_000) },
  ])("that are $name", async ({ body }) => {
    const answer = await post(body);
    expect([answer.status, message(answer)]).toEqual([400, expect.stringContaining("The body")]);
  });

  test("may hold brackets in strings, and keys that objects have of themselves", async () => {
    const metadata = { text: '"[{'.repeat(100), constructor: "x" };
    const answer = await post(JSON.stringify({ name: "a", metadata }).replace('"text"', '"__proto__":{"b":1},"text"'));
    expect(answer.json.result).toMatchObject({ metadata: { constructor: "x" } });
    expect(({} as { b?: number }).b).toBeUndefined();
  });
});

describe("paths and methods", () => {
  test.each([
    "/",
    "/nothing",
    "/accounts/",
    "/accounts/{tag}/cfd_tunnel/x/y/z",
    "/%2e%2e/x",
    "/accounts/%zz/cfd_tunnel/a/b",
  ])("there is nothing at %p", async (path) => {
    const answer = await api.call("GET", path.replace("{tag}", api.account.tag));
    expect([answer.status, answer.json.errors?.[0]?.code]).toEqual([404, 7_003]);
  });

  test.each([
    { method: "PUT", path: "/accounts", allow: "GET" },
    { method: "DELETE", path: "{account}/cfd_tunnel", allow: "POST, GET" },
    { method: "POST", path: "/openapi.json", allow: "GET" },
    { method: "OPTIONS", path: "/zones", allow: "GET" },
    { method: "PROPFIND", path: "/zones", allow: "GET" },
  ])("$method $path is refused with what there is", async ({ method, path, allow }) => {
    const answer = await api.call(method, path.replace("{account}", account));
    expect([answer.status, answer.headers.get("allow")]).toEqual([405, allow]);
  });

  test("ids that are none, and those of others, are not found", async () => {
    for (const id of ["x", "00000000-0000-4000-8000-000000000000", "%00", "..%2f.."]) {
      expect([id, (await api.call("GET", `${account}/cfd_tunnel/${id}`)).status]).toEqual([id, 404]);
      expect([id, (await api.call("GET", `${account}/teamnet/routes/${id}`)).status]).toEqual([id, 404]);
    }
    expect((await api.call("GET", `/zones/${"0".repeat(32)}/hostnames`)).status).toBe(404);
  });

  test("every answer forbids to keep it", async () => {
    for (const path of ["/accounts", "/nothing", "//ready"]) {
      const { headers } = await api.call("GET", path);
      expect([headers.get("cache-control"), headers.get("x-content-type-options")]).toEqual(["no-store", "nosniff"]);
    }
  });
});

describe("how often", () => {
  test("a token may ask 1200 times in five minutes, wherever it is", async () => {
    const { secret } = api.token(["admin"]);
    const ask = (i: number) => api.call("GET", "/user/tokens/verify", { secret, ip: `192.0.2.${i % 250}` });
    for (let i = 0; i < 1_200; i += 1) expect((await ask(i)).status).toBe(200);
    await api.clock.advance(60_000);
    const over = await ask(0);
    expect([over.status, over.headers.get("retry-after"), over.json.errors?.[0]?.code]).toEqual([429, "240", 971]);
    // Another token is not concerned, and time heals.
    expect((await api.call("GET", "/accounts")).status).toBe(200);
    await api.clock.advance(240_000);
    expect((await ask(0)).status).toBe(200);
  });

  test("an address may be wrong 60 times; a good token passes all the same", async () => {
    const guess = (ip: string) => api.call("GET", "/accounts", { secret: "cvt_guess", ip });
    for (let i = 0; i < 60; i += 1) expect((await guess(`2001:db8::${i.toString(16)}`)).status).toBe(401);
    const over = await guess("2001:db8::ffff");
    expect([over.status, over.headers.get("retry-after")]).toEqual([429, "300"]);
    // IPv6 counts by its /64: the next network has not guessed.
    expect((await guess("2001:db8:0:1::1")).status).toBe(401);
    expect((await api.call("GET", "/accounts", { ip: "2001:db8::1" })).status).toBe(200);
    const warnings = api.lines.filter((line) => line.includes("wrong tokens"));
    expect(warnings).toHaveLength(1);
    await api.clock.advance(300_000);
    expect((await guess("2001:db8::1")).status).toBe(401);
  });
});

describe("pages", () => {
  test("are cut as asked, and counted", async () => {
    for (let i = 0; i < 25; i += 1) storeTunnel(api.store, `t-${String(i).padStart(2, "0")}`);
    const list = async (query: string) => (await api.call("GET", `${account}/cfd_tunnel?${query}`)).json;
    const names = (result: unknown) => (result as { name: string }[]).map(({ name }) => name);
    const first = await list("per_page=10");
    expect(first.result_info).toEqual({ count: 10, page: 1, per_page: 10, total_count: 25, total_pages: 3 });
    const last = await list("per_page=10&page=3");
    expect(names(last.result)).toEqual(["t-20", "t-21", "t-22", "t-23", "t-24"]);
    expect(last.result_info).toMatchObject({ count: 5, page: 3 });
    expect((await list("per_page=10&page=4")).result).toEqual([]);
    expect((await list("")).result_info).toEqual({
      count: 25,
      page: 1,
      per_page: 100,
      total_count: 25,
      total_pages: 1,
    });
    expect((await list("name=none")).result_info).toMatchObject({ count: 0, total_count: 0, total_pages: 0 });
    const down = await list("status=inactive&per_page=7&page=2");
    expect([names(down.result)[0], down.result_info?.["total_count"]]).toEqual(["t-07", 25]);
    expect((await list("status=healthy")).result).toEqual([]);
  });
});

describe("networks have Cloudflare's numbers", () => {
  const UUID = "00000000-0000-4000-8000-000000000000";
  const told = async (method: string, path: string, body?: unknown) => {
    const { status, json } = await api.call(method, account + path, body === undefined ? {} : { body });
    return [status, json.errors?.[0]?.code];
  };

  test("where one is there twice, not there, or in use", async () => {
    const web = storeTunnel(api.store, "web");
    const made = await api.call("POST", `${account}/teamnet/virtual_networks`, { body: { name: "staging" } });
    const { id } = made.json.result as { id: string };
    const route = { network: "10.0.0.0/8", tunnel_id: web.id, virtual_network_id: id };
    expect(await told("POST", "/teamnet/routes", route)).toEqual([200, undefined]);
    expect(await told("POST", "/teamnet/routes", route)).toEqual([409, 1_014]);
    for (const method of ["GET", "DELETE"]) {
      expect(await told(method, `/teamnet/routes/${UUID}`)).toEqual([404, 1_015]);
      expect(await told(method, `/teamnet/virtual_networks/${UUID}`)).toEqual([404, 1_003]);
    }
    expect(await told("POST", "/teamnet/virtual_networks", { name: "staging" })).toEqual([409, 1_013]);
    expect(await told("DELETE", `/teamnet/virtual_networks/${id}`)).toEqual([409, 1_016]);
    expect(await told("DELETE", `/teamnet/virtual_networks/${id}?force=true`)).toEqual([200, undefined]);
  });
});

describe("what may not happen", () => {
  test("a change of a load balancer's pools keeps how it chooses", async () => {
    const web = storeTunnel(api.store, "web");
    const lb = { type: "lb", lb_name: "lb.test", lb_pool: "one" };
    await api.call("PUT", `/zones/${api.zoneId}/tunnels/${web.id}/routes`, { body: lb });
    const [balancer] = api.store.balancers.list();
    const path = `/zones/${api.zoneId}/load_balancers/${balancer?.id}`;
    await api.call("PATCH", path, { body: { steering: "random" } });
    const answer = await api.call("PATCH", path, { body: { pools: [...(balancer?.poolIds ?? [])] } });
    expect(answer.json.result).toMatchObject({ steering: "random", pools: balancer?.poolIds });
  });

  test("no account takes a hostname from another", async () => {
    const web = storeTunnel(api.store, "web", { hostnames: ["app.stranger.test"] });
    const stranger = { tag: "f".repeat(32), name: "stranger", createdAtMs: 0 };
    api.store.accounts.add(stranger, ACTOR);
    const zone = { id: "e".repeat(32), accountTag: stranger.tag, name: "stranger.test" };
    api.store.accounts.addZone(zone, ACTOR);
    const { secret } = api.token(["admin"], { accountTag: stranger.tag });
    const { json } = await api.call("POST", `/accounts/${stranger.tag}/cfd_tunnel`, { secret, body: { name: "mine" } });
    const path = `/zones/${zone.id}/tunnels/${(json.result as { id: string }).id}/routes`;
    const body = { type: "dns", user_hostname: "app.stranger.test", overwrite_existing: true };
    expect((await api.call("PUT", path, { secret, body })).status).toBe(400);
    expect(api.store.hostnames.lookUp("app.stranger.test")).toEqual({ kind: "tunnel", tunnelId: web.id });
    // What it has itself is its own, and names outside its zone become names inside.
    const own = { type: "dns", user_hostname: "other.test" };
    expect((await api.call("PUT", path, { secret, body: own })).json.result).toEqual({
      cname: "new",
      name: "other.test.stranger.test",
    });
  });

  test("a tunnel with connections is deleted with cascade only, and they end", async () => {
    const web = storeTunnel(api.store, "web", { hostnames: ["a.test"] });
    const live = api.connect(web);
    const path = `${account}/cfd_tunnel/${web.id}`;
    const refused = await api.call("DELETE", path);
    expect([refused.status, refused.json.errors?.[0]?.code]).toEqual([400, 1_022]);
    expect(api.store.tunnels.byName(api.account.tag, "web")).toBeDefined();
    expect((await api.call("DELETE", `${path}?cascade=true`)).status).toBe(200);
    await live.session.closed;
    expect(api.store.hostnames.lookUp("a.test")).toBeUndefined();
    expect((await api.call("GET", path)).json.result).toMatchObject({ name: "web", deleted_at: expect.any(String) });
    expect((await api.call("DELETE", path)).status).toBe(404);
    expect((await api.call("GET", `${path}/token`)).status).toBe(404);
  });
});
