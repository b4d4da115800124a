import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { silentLogger } from "../../../../src/core/log.ts";
import { API_PREFIX } from "../../../../src/edge/api/app.ts";
import { createDashboard } from "../../../../src/edge/dashboard/app.ts";
import { Sessions } from "../../../../src/edge/dashboard/sessions.ts";
import type { TunnelLogEvents } from "../../../../src/edge/dashboard/tunnel-logs.ts";
import { newTunnel } from "../../../../src/edge/store/new-tunnel.ts";
import type { TokenScope } from "../../../../src/edge/store/port.ts";
import { CALLER_IP, startTestApi, type TestApi } from "../../../support/api-app.ts";
import { storeTunnel } from "../../../support/stored.ts";
import { VirtualClock } from "../../../support/virtual-clock.ts";

const ORIGIN = "http://localhost:7845";
const OWN = { Origin: ORIGIN, Host: "localhost:7845", "Sec-Fetch-Site": "same-origin" };

let api: TestApi;
let dashboard: ReturnType<typeof createDashboard>;
let logs: TunnelLogEvents | undefined;
let logsClosed: number;

beforeEach(() => {
  api = startTestApi();
  logs = undefined;
  logsClosed = 0;
  dashboard = createDashboard({
    api: (path, init, from) => api.app.request(API_PREFIX + path, init, from),
    ...{ clock: api.clock, log: silentLogger, stopping: api.deps.stopping },
    logs: (_asked, events) => {
      logs = events;
      return () => {
        logsClosed += 1;
      };
    },
  });
});
afterEach(() => api[Symbol.dispose]());

function ask(path: string, init: RequestInit = {}, origin = ORIGIN): Promise<Response> {
  return Promise.resolve(dashboard.request(origin + path, init, { ip: CALLER_IP }));
}

function send(path: string, form: Readonly<Record<string, string>>, headers: Readonly<Record<string, string>>) {
  return ask(path, { method: "POST", headers, body: new URLSearchParams(form) });
}

/** Signs in; gives what the browser sends from then on, and the key of its forms. */
async function signIn(...scopes: readonly TokenScope[]): Promise<{ cookie: string; key: string; tokenId: string }> {
  const { secret, token } = api.token(scopes);
  const answer = await send("/session", { token: ` ${secret} ` }, OWN);
  expect([answer.status, answer.headers.get("location")]).toEqual([303, "/"]);
  const cookie = (answer.headers.get("set-cookie") ?? "").split(";", 1)[0] ?? "";
  const page = await (await ask("/", { headers: { cookie } })).text();
  expect(page).not.toContain(secret);
  return { cookie, key: /name="key" value="([^"]+)"/.exec(page)?.[1] ?? "", tokenId: token.id };
}

describe("signing in", () => {
  test("gives a cookie that only this site's own requests carry", async () => {
    const { secret } = api.token(["admin"]);
    const answer = await send("/session", { token: secret }, OWN);
    expect(answer.headers.get("set-cookie")).toMatch(
      /^culvert-dashboard=[\w-]{43}; Path=\/; HttpOnly; SameSite=Strict$/,
    );
    const behindTls = await send(
      "/session",
      { token: secret },
      { ...OWN, Origin: "https://edge.test", Host: "edge.test" },
    );
    expect(behindTls.headers.get("set-cookie")).toMatch(
      /^__Host-culvert=[\w-]{43}; Path=\/; HttpOnly; Secure; SameSite=Strict$/,
    );
  });

  test("is refused without TLS from another machine, and to forms of other sites", async () => {
    const { secret } = api.token(["admin"]);
    for (const [headers, status] of [
      [{ Origin: "http://192.0.2.1", Host: "192.0.2.1" }, 400],
      [{ ...OWN, Origin: "http://evil.test" }, 403],
      [{ ...OWN, "Sec-Fetch-Site": "same-site" }, 403],
      [{ ...OWN, Origin: "null" }, 403],
    ] as const) {
      const answer = await send("/session", { token: secret }, headers);
      expect([headers.Origin, answer.status, answer.headers.get("set-cookie")]).toEqual([headers.Origin, status, null]);
    }
  });

  test("has the API's limit on wrong tokens", async () => {
    for (let i = 0; i < 60; i += 1) expect((await send("/session", { token: `wrong-${i}` }, OWN)).status).toBe(401);
    expect((await send("/session", { token: "wrong" }, OWN)).status).toBe(429);
  });

  test("with what cannot be a token is a wrong token, and counts as one", async () => {
    const odd = ["p\u00e4sswort", "пароль", "a\nb", "a\r\nX-Header: b", "a b", "\u0000", "", "x".repeat(513)];
    for (let i = 0; i < 60; i += 1) {
      const answer = await send("/session", { token: odd[i % odd.length] ?? "" }, OWN);
      expect([i, answer.status]).toEqual([i, 401]);
      expect(await answer.text()).toContain("unknown, revoked or expired");
    }
    expect((await send("/session", { token: "пароль" }, OWN)).status).toBe(429);
  });

  test("ends with the token, after two idle hours, and by the button", async () => {
    const revoked = await signIn("admin");
    api.store.tokens.remove(revoked.tokenId, { kind: "system", id: "test", from: "" });
    const told = await ask("/", { headers: { cookie: revoked.cookie } });
    expect([told.status, told.headers.get("location")]).toEqual([303, "/?ended=1"]);
    expect(await (await ask("/?ended=1", { headers: { cookie: revoked.cookie } })).text()).toContain("sign in again");
    const idle = await signIn("admin");
    await api.clock.advance(2 * 3_600_000 + 1);
    expect(await (await ask("/", { headers: { cookie: idle.cookie } })).text()).toContain("<h1>Sign in</h1>");
    const { cookie, key } = await signIn("admin");
    const out = await send("/session/end", { key }, { ...OWN, cookie });
    expect([out.status, out.headers.get("set-cookie")]).toEqual([303, "culvert-dashboard=; Max-Age=0; Path=/"]);
    expect((await ask("/tunnels/x", { headers: { cookie } })).headers.get("location")).toBe("/?ended=1");
    expect((await send("/tunnels", { key, name: "x" }, { ...OWN, cookie })).status).toBe(401);
  });
});

test("every page has the strict policy, and nothing inline", async () => {
  const { cookie } = await signIn("admin");
  const tunnel = storeTunnel(api.store, "web", { hostnames: ["web.example.test"] });
  for (const path of ["/", `/tunnels/${tunnel.id}`, "/tunnels/none"]) {
    for (const headers of [{ cookie }, {}]) {
      const answer = await ask(path, { headers });
      if (answer.status === 303) continue;
      expect(answer.headers.get("content-security-policy")).toMatch(
        /^default-src 'none'; script-src 'self'; style-src 'self';.*form-action 'self'; frame-ancestors 'none'; base-uri 'none'$/,
      );
      expect(await answer.text()).not.toMatch(
        /<style|<script(?! type="module" src="\/assets\/)|\son\w+=|\sstyle=|https?:\/\/(?!localhost)/,
      );
    }
  }
});

describe("pages that are open", () => {
  const REFRESH = { "X-Refresh": "1" };

  test("get the parts that keep up, and nothing else", async () => {
    const { cookie, key } = await signIn("admin");
    const { id } = storeTunnel(api.store, "web", { hostnames: ["web.example.test"] });
    for (const [path, parts] of [
      ["/", ["tunnels"]],
      [`/tunnels/${id}`, ["state", "connectors"]],
    ] as const) {
      const whole = await (await ask(path, { headers: { cookie } })).text();
      const answer = await ask(path, { headers: { cookie, ...REFRESH } });
      expect([answer.status, answer.headers.get("cache-control")]).toEqual([200, "no-store"]);
      const text = await answer.text();
      expect([...text.matchAll(/ id="([a-z]+)"/g)].map(([, part]) => part ?? "")).toEqual([...parts]);
      for (const part of text.split(/(?=<div id=)/)) expect(whole).toContain(part);
      expect(text).not.toContain(key);
    }
    // A page that a form led to asks the tunnel's own address: its own takes forms only.
    const form = await send(`/tunnels/${id}/configuration`, { key, rules: "[" }, { ...OWN, cookie });
    expect(await form.text()).toContain(`data-from="/tunnels/${id}"`);
    expect((await ask("/tunnels/none", { headers: { cookie, ...REFRESH } })).status).toBe(404);
    expect((await ask(`/tunnels/${id}`, { headers: REFRESH })).headers.get("location")).toBe("/?ended=1");
  });

  test("leave the token's calls to people and scripts, as many as they are", async () => {
    const { secret } = api.token(["admin"]);
    const answer = await send("/session", { token: secret }, OWN);
    const cookie = (answer.headers.get("set-cookie") ?? "").split(";", 1)[0] ?? "";
    const key = /name="key" value="([^"]+)"/.exec(await (await ask("/", { headers: { cookie } })).text())?.[1] ?? "";
    const { id } = storeTunnel(api.store, "web", { hostnames: ["web.example.test"] });
    const statuses = new Map<number, number>();
    const refresh = async (): Promise<Response> => {
      const refreshed = await ask(`/tunnels/${id}`, { headers: { cookie, ...REFRESH } });
      statuses.set(refreshed.status, (statuses.get(refreshed.status) ?? 0) + 1);
      return refreshed;
    };
    // Sixty pages for five minutes, one every three seconds each.
    for (let i = 0; i < 60 * 100; i += 1) await refresh();
    expect([...statuses]).toEqual([[200, 6_000]]);
    const late = await refresh();
    expect([late.status, late.headers.get("retry-after")]).toEqual([429, "300"]);

    expect((await api.call("GET", "/accounts", { secret })).status).toBe(200);
    const rules = "ingress:\n- service: http_status:410\n";
    const saved = await send(`/tunnels/${id}/configuration`, { key, rules, do: "save" }, { ...OWN, cookie });
    expect([saved.status, saved.headers.get("location")]).toEqual([303, `/tunnels/${id}?done=saved`]);
    // A header of the API's own callers does not choose what they count against.
    for (let i = 0; i < 1_200; i += 1) await api.call("GET", "/accounts", { secret, headers: REFRESH });
    expect((await api.call("GET", "/accounts", { secret, headers: REFRESH })).status).toBe(429);
    await api.clock.advance(300_000);
    expect((await refresh()).status).toBe(200);
  }, 30_000);
});

describe("actions", () => {
  test("need the session's own key and a request of this site", async () => {
    const { cookie, key } = await signIn("admin");
    const other = await signIn("admin");
    for (const [form, headers] of [
      [{ name: "x" }, { ...OWN, cookie }],
      [
        { name: "x", key: other.key },
        { ...OWN, cookie },
      ],
      [
        { name: "x", key },
        { ...OWN, cookie, Origin: "http://localhost:8000", "Sec-Fetch-Site": "same-site" },
      ],
      [
        { name: "x", key },
        { ...OWN, cookie, "Sec-Fetch-Site": "cross-site" },
      ],
    ] as const) {
      expect((await send("/tunnels", form as Record<string, string>, headers)).status).toBe(403);
    }
    expect((await send("/tunnels", { name: "x", key }, OWN)).status).toBe(401);
    expect(api.store.tunnels.find({}).total).toBe(0);
    expect((await send("/tunnels", { name: "x", key }, { ...OWN, cookie })).status).toBe(303);
    expect(api.store.tunnels.find({}).total).toBe(1);
    expect(api.store.audit.find({ action: "tunnel.create" }).items[0]?.actor).toMatchObject({ kind: "token" });
  });

  test("may do what the token may", async () => {
    const { cookie, key } = await signIn("tunnels:read");
    const tunnel = storeTunnel(api.store, "web", { hostnames: ["web.example.test"] });
    const headers = { ...OWN, cookie };
    expect(await (await ask(`/tunnels/${tunnel.id}`, { headers })).text()).toContain("web.example.test");
    for (const [path, form] of [
      ["/tunnels", { name: "y" }],
      [`/tunnels/${tunnel.id}/install`, {}],
      [`/tunnels/${tunnel.id}/hostnames`, { hostname: "a.test", zone: api.zoneId }],
      [`/tunnels/${tunnel.id}/hostnames/delete`, { hostname: "web.example.test", zone: api.zoneId }],
      [`/tunnels/${tunnel.id}/configuration`, { rules: "ingress:\n- service: http_status:404", do: "save" }],
      [`/tunnels/${tunnel.id}/delete`, {}],
    ] as const) {
      const answer = await send(path, { ...form, key } as Record<string, string>, headers);
      expect([path, answer.status, /lacks the scope/.test(await answer.text())]).toEqual([path, 403, true]);
    }
    expect((await ask(`/tunnels/${tunnel.id}/logs`, { headers })).status).toBe(403);
  });

  test("see no tunnel of another account", async () => {
    const { cookie } = await signIn("admin");
    const account = { tag: "a".repeat(32), name: "other", createdAtMs: 0 };
    api.store.accounts.add(account, { kind: "system", id: "test", from: "" });
    const foreign = newTunnel("foreign", account.tag, 0);
    api.store.tunnels.add(foreign, new Uint8Array(32), { kind: "system", id: "test", from: "" });
    expect((await ask(`/tunnels/${foreign.id}`, { headers: { cookie } })).status).toBe(404);
    expect(await (await ask("/", { headers: { cookie } })).text()).not.toContain("foreign");
  });
});

test("rules are YAML or JSON, and refused with the reason", async () => {
  const { cookie, key } = await signIn("admin");
  const { id } = storeTunnel(api.store, "web");
  const save = async (rules: string): Promise<[number, string]> => {
    const answer = await send(`/tunnels/${id}/configuration`, { rules, key, do: "save" }, { ...OWN, cookie });
    return [answer.status, /role="alert">([^<]*)/.exec(await answer.text())?.[1] ?? ""];
  };
  expect((await save('{"ingress":[{"service":"http_status:404"}]}'))[0]).toBe(303);
  expect((await save("ingress:\n- service: http_status:410\n"))[0]).toBe(303);
  expect(JSON.parse(api.store.configurations.current(id)?.config ?? "")).toEqual({
    ingress: [{ service: "http_status:410" }],
  });
  for (const [rules, reason] of [
    ["ingress: [", /./],
    ["- a", /Write an object/],
    ["", /Write an object/],
    ["ingress:\n- hostname: a.test\n  service: http://localhost\n", /./],
    [`a: &a [x,x]\nb: &b [${"*a,".repeat(30)}]\nc: [${"*b,".repeat(30)}]`, /./],
  ] as const) {
    const [status, why] = await save(rules);
    expect([rules.slice(0, 20), status, why]).toEqual([rules.slice(0, 20), 400, expect.stringMatching(reason)]);
  }
  expect(api.store.configurations.versions(id)).toHaveLength(2);
});

describe("the live log", () => {
  test("comes as events, bounded, and ends when the browser leaves", async () => {
    const { cookie } = await signIn("admin");
    const { id } = storeTunnel(api.store, "web");
    const answer = await ask(`/tunnels/${id}/logs`, { headers: { cookie } });
    expect([answer.status, answer.headers.get("content-type")]).toEqual([200, "text/event-stream"]);
    const line = { time: "T", level: "info", event: "http", message: "a\r\nevent: gone", fields: { n: 1 } } as const;
    logs?.onLine(line);
    const reader = answer.body?.getReader();
    const next = async (): Promise<string> => new TextDecoder().decode((await reader?.read())?.value);
    expect(await next()).toBe(":\n\n");
    // No line ends an event and begins another one.
    expect(await next()).toBe("event: line\ndata: T INFO  a event: gone n=1\n\n");
    for (let i = 0; i < 10_000; i += 1) logs?.onLine({ ...line, message: "x".repeat(1_000) });
    // What waited comes, then what came after the page had room again.
    let text = "";
    while (text.length < 200_000) text += await next();
    logs?.onLine({ ...line, message: "after" });
    while (!text.includes("after")) text += await next();
    expect(text).toMatch(/\(9\d{3} lines were left out: this page did not keep up\)[\s\S]*after/);
    expect(text.length).toBeLessThan(300_000);
    await reader?.cancel();
    expect(logsClosed).toBe(1);
  });

  test("says why it ended, and is no page for other sites to open", async () => {
    const { cookie } = await signIn("admin");
    const { id } = storeTunnel(api.store, "web");
    const foreign = await ask(`/tunnels/${id}/logs`, { headers: { cookie, "Sec-Fetch-Site": "same-site" } });
    expect([foreign.status, logs]).toEqual([403, undefined]);
    const answer = await ask(`/tunnels/${id}/logs`, { headers: { cookie } });
    logs?.onEnd("Somebody else reads it");
    expect(await answer.text()).toContain("event: gone\ndata: Somebody else reads it\n\n");
    const stopped = await ask(`/tunnels/${id}/logs`, { headers: { cookie } });
    api.stop();
    expect(await stopped.text()).toContain("The edge stops.");
  });
});

test("sessions are bounded; the longest unused goes", () => {
  const sessions = new Sessions(new VirtualClock());
  const first = sessions.start("a", "x");
  const second = sessions.start("b", "x");
  for (let i = 0; i < 998; i += 1) sessions.start(`c${i}`, "x");
  expect(sessions.find(first)?.secret).toBe("a");
  sessions.start("d", "x");
  expect([sessions.find(first)?.secret, sessions.find(second)]).toEqual(["a", undefined]);
});
