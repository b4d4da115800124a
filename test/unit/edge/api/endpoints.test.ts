import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { TOKEN_SCOPES, type TokenScope } from "../../../../src/edge/store/port.ts";
import { type ApiWorld, bodyFor, CALLER_IP, pathIn, queryFor, startApiWorld } from "../../../support/api-app.ts";

/** What each call needs: the scope by its name, and those that include it. Undefined = any good token. */
const NEEDS: Readonly<Record<string, TokenScope | undefined>> = {
  "POST /accounts/{account_id}/cfd_tunnel": "tunnels:write",
  "GET /accounts/{account_id}/cfd_tunnel": "tunnels:read",
  "GET /accounts/{account_id}/cfd_tunnel/{tunnel_id}": "tunnels:read",
  "PATCH /accounts/{account_id}/cfd_tunnel/{tunnel_id}": "tunnels:write",
  "DELETE /accounts/{account_id}/cfd_tunnel/{tunnel_id}": "tunnels:write",
  // Whoever has the token can run the tunnel.
  "GET /accounts/{account_id}/cfd_tunnel/{tunnel_id}/token": "tunnels:write",
  "GET /accounts/{account_id}/cfd_tunnel/{tunnel_id}/connections": "tunnels:read",
  "GET /accounts/{account_id}/cfd_tunnel/{tunnel_id}/connectors/{connector_id}": "tunnels:read",
  "DELETE /accounts/{account_id}/cfd_tunnel/{tunnel_id}/connections": "tunnels:write",
  "POST /accounts/{account_id}/cfd_tunnel/{tunnel_id}/management/{resource}": "tunnels:write",
  "POST /accounts/{account_id}/cfd_tunnel/{tunnel_id}/management": "tunnels:write",
  "GET /accounts/{account_id}/cfd_tunnel/{tunnel_id}/configurations": "tunnels:read",
  "PUT /accounts/{account_id}/cfd_tunnel/{tunnel_id}/configurations": "tunnels:write",
  "PUT /zones/{zone_id}/tunnels/{tunnel_id}/routes": "routes:write",
  "GET /zones/{zone_id}/hostnames": "tunnels:read",
  "DELETE /zones/{zone_id}/hostnames/{hostname}": "routes:write",
  "GET /zones": undefined,
  "GET /accounts/{account_id}/load_balancers/pools": "tunnels:read",
  "POST /accounts/{account_id}/load_balancers/pools": "routes:write",
  "GET /accounts/{account_id}/load_balancers/pools/{pool_id}": "tunnels:read",
  "PUT /accounts/{account_id}/load_balancers/pools/{pool_id}": "routes:write",
  "DELETE /accounts/{account_id}/load_balancers/pools/{pool_id}": "routes:write",
  "GET /zones/{zone_id}/load_balancers": "tunnels:read",
  "PATCH /zones/{zone_id}/load_balancers/{balancer_id}": "routes:write",
  "DELETE /zones/{zone_id}/load_balancers/{balancer_id}": "routes:write",
  "GET /accounts/{account_id}/teamnet/routes": "networks:read",
  "POST /accounts/{account_id}/teamnet/routes": "networks:write",
  "GET /accounts/{account_id}/teamnet/routes/ip/{ip}": "networks:read",
  "GET /accounts/{account_id}/teamnet/routes/{route_id}": "networks:read",
  "DELETE /accounts/{account_id}/teamnet/routes/{route_id}": "networks:write",
  "GET /accounts/{account_id}/teamnet/virtual_networks": "networks:read",
  "POST /accounts/{account_id}/teamnet/virtual_networks": "networks:write",
  "GET /accounts/{account_id}/teamnet/virtual_networks/{vnet_id}": "networks:read",
  "PATCH /accounts/{account_id}/teamnet/virtual_networks/{vnet_id}": "networks:write",
  "DELETE /accounts/{account_id}/teamnet/virtual_networks/{vnet_id}": "networks:write",
  "GET /accounts": undefined,
  "GET /user/tokens/verify": undefined,
  "GET /accounts/{account_id}/tokens": "tokens:write",
  "POST /accounts/{account_id}/tokens": "tokens:write",
  "DELETE /accounts/{account_id}/tokens/{token_id}": "tokens:write",
  "GET /accounts/{account_id}/audit_logs": "audit:read",
};
const NAMES = Object.keys(NEEDS);

function includes(scope: TokenScope, needed: TokenScope | undefined): boolean {
  if (needed === undefined || scope === "admin" || scope === needed) return true;
  return needed === "tunnels:read"
    ? scope === "tunnels:write"
    : needed === "networks:read" && scope === "networks:write";
}

let world: ApiWorld;
beforeEach(async () => {
  world = await startApiWorld();
});
afterEach(() => world.api[Symbol.dispose]());

function endpointOf(name: string) {
  const found = world.api.endpoints.find(({ method, path }) => `${method} ${path}` === name);
  if (found === undefined) throw new Error(`There is no ${name}`);
  return found;
}

function call(name: string, options: { readonly secret?: string | null } = {}) {
  const one = endpointOf(name);
  const body = bodyFor(world, one);
  const path = pathIn(world, one.path) + queryFor(one);
  return world.api.call(one.method, path, { ...options, ...(body === undefined ? {} : { body }) });
}

test("the table has every endpoint", () => {
  expect(world.api.endpoints.map(({ method, path }) => `${method} ${path}`).toSorted()).toEqual(NAMES.toSorted());
});

describe.each(NAMES.map((name) => ({ name })))("$name", ({ name }) => {
  test("answers as the document says, and is for the scopes that may", async () => {
    for (const scope of TOKEN_SCOPES) {
      const one = endpointOf(name);
      const { secret } = world.api.token([scope]);
      const answer = await call(name, { secret });
      if (includes(scope, NEEDS[name])) {
        expect([scope, answer.status, answer.json.errors]).toEqual([scope, 200, []]);
        expect(answer.json.success).toBe(true);
        expect(answer.headers.get("content-type")).toBe("application/json");
        const read = one.result.safeParse(answer.json.result);
        expect([scope, read.success ? [] : read.error.issues]).toEqual([scope, []]);
        if (one.method === "GET") continue;
        // What was written may be there once only.
        world.api[Symbol.dispose]();
        world = await startApiWorld();
      } else {
        expect([scope, answer.status, answer.json.result]).toEqual([scope, 403, null]);
        expect(answer.json.errors?.[0]?.message).toContain(`lacks the scope ${NEEDS[name]}`);
      }
    }
  });

  test("refuses who has no token, or one of another account", async () => {
    const { api } = world;
    for (const secret of [null, "cvt_wrong"]) {
      expect(await call(name, { secret })).toMatchObject({ status: 401, json: { success: false } });
    }
    const stranger = { tag: "f".repeat(32), name: "stranger", createdAtMs: 0 };
    api.store.accounts.add(stranger, { kind: "operator", id: "test", from: "" });
    const { secret } = api.token(["admin"], { accountTag: stranger.tag });
    const before = api.store.audit.find({}).total;
    const answer = await call(name, { secret });
    // What has no account in its path shows the stranger's own, which is empty.
    if (name.includes("{account_id}")) expect(answer.status).toBe(403);
    else if (name.includes("{zone_id}")) expect(answer.status).toBe(404);
    else expect(JSON.stringify(answer.json.result)).not.toContain(api.account.tag);
    expect(api.store.audit.find({}).total).toBe(before);
  });
});

describe("the audit log", () => {
  const writing = NAMES.filter((name) => !name.startsWith("GET "));

  test.each(writing.map((name) => ({ name })))("says who did $name, and from where", async ({ name }) => {
    const { api } = world;
    const { secret, token } = api.token(["admin"], { name: "the ci" });
    const before = api.store.audit.find({}).total;
    expect(await call(name, { secret })).toMatchObject({ status: 200 });
    const { items, total } = api.store.audit.find({});
    expect(total).toBeGreaterThan(before);
    expect(items[0]?.actor).toEqual({ kind: "token", id: token.id, name: "the ci", from: CALLER_IP });
    expect(items[0]?.action).toMatch(/^[a-z-]+\.[a-z-]+$/);
    expect(items[0]?.subject).not.toBe("");
  });

  test("reading writes nothing", async () => {
    const before = world.api.store.audit.find({}).total;
    for (const name of NAMES.filter((each) => each.startsWith("GET "))) await call(name);
    expect(world.api.store.audit.find({}).total).toBe(before);
  });

  test("no secret is in it, in the log, or in an error", async () => {
    const { api } = world;
    const made = await call("POST /accounts/{account_id}/tokens");
    const value = (made.json.result as { value: string }).value;
    const tunnelToken = (await call("GET /accounts/{account_id}/cfd_tunnel/{tunnel_id}/token")).json.result as string;
    const said: string[] = [];
    for (const name of NAMES.filter((each) => !/DELETE|verify|\/token$|\/tokens$/.test(each))) {
      said.push((await call(name, { secret: "cvt_wrong" })).text);
      await call(name);
      // Bodies whose every field is wrong, with a secret in it.
      const one = endpointOf(name);
      const body = { tunnel_secret: "s3cret", name: 7, webhook: "s3cret", config: "s3cret", type: "s3cret" };
      if (one.body !== undefined) said.push((await api.call(one.method, pathIn(world, one.path), { body })).text);
    }
    const written = JSON.stringify(api.store.audit.find({}, { offset: 0, limit: 1_000 }).items);
    const all = [written, ...api.lines, ...said].join("\n");
    expect(all.length).toBeGreaterThan(5_000);
    for (const secret of [value, api.admin, tunnelToken, "s3cret", Buffer.alloc(32, 9).toString("base64")]) {
      expect(all).not.toContain(secret);
    }
  });
});
