import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { parseCertPem } from "../../../../src/wire/cert-pem.ts";
import { type ApiAnswer, CALLER_IP, startTestApi, type TestApi } from "../../../support/api-app.ts";
import { settle } from "../../../support/virtual-clock.ts";

const KEY = `${"k".repeat(43)}=`;
const keyNo = (i: number): string => `${String(i).padStart(43, "0")}=`;

let api: TestApi;
beforeEach(() => {
  api = startTestApi();
});
afterEach(() => api[Symbol.dispose]());

function post(fields: Readonly<Record<string, string>>, headers: Readonly<Record<string, string>> = {}, ip?: string) {
  return api.call("POST", "//login", {
    ...{ secret: null, body: new URLSearchParams(fields).toString() },
    headers: { "content-type": "application/x-www-form-urlencoded", ...headers },
    ...(ip === undefined ? {} : { ip }),
  });
}

const fetchCert = (key = KEY, ip?: string): Promise<ApiAnswer> =>
  api.call("GET", `//login/${key}`, { secret: null, ...(ip === undefined ? {} : { ip }) });

describe("the page", () => {
  test("asks for a token, and says for whom", async () => {
    const callback = encodeURIComponent(`https://edge.test/login/${KEY}`);
    const { status, text, headers } = await api.call("GET", `//login?aud=&callback=${callback}`, { secret: null });
    expect(status).toBe(200);
    expect(text).toContain(`value="${KEY}"`);
    expect(text).toContain(KEY.slice(-9));
    expect(text).toMatch(/<label for="token">/);
    expect(text).toMatch(/<input id="token" name="token" type="password" required/);
    expect(headers.get("content-security-policy")).toMatch(/^default-src 'none'; style-src 'sha256-/);
    expect(headers.get("content-security-policy")).toContain("form-action 'self'; frame-ancestors 'none'");
    expect(headers.get("cache-control")).toBe("no-store");
  });

  test.each([
    "",
    "?callback=",
    "?callback=https://edge.test/login/short",
    `?callback=${encodeURIComponent(`https://a/"><script>alert(1)</script>${"k".repeat(30)}`)}`,
    `?callback=${encodeURIComponent(`https://a/${KEY}"><b>`)}`,
  ])("offers a download to whom no terminal waits for: %p", async (query) => {
    const { status, text } = await api.call("GET", `//login${query}`, { secret: null });
    expect(status).toBe(200);
    expect(text).not.toContain('name="key"');
    expect(text).not.toMatch(/<script|<b>/);
    expect(text).toContain("Download cert.pem");
  });
});

describe("a login", () => {
  test("leaves a certificate that is fetched once", async () => {
    const { secret } = api.token(["tunnels:read"], { name: "mine" });
    const done = await post({ key: KEY, token: ` ${secret} `, as: "callback" });
    expect([done.status, done.text]).toEqual([200, expect.stringContaining("Logged in")]);
    expect(done.text).not.toContain(secret);
    const answer = await fetchCert();
    expect([answer.status, answer.headers.get("content-type")]).toEqual([200, "application/x-pem-file"]);
    const cert = parseCertPem(answer.text);
    expect(cert.ok && cert.value).toEqual({
      ...{ zoneId: api.zoneId, accountId: api.account.tag, apiToken: secret, endpoint: "" },
      ...{ apiUrl: "http://localhost/client/v4", apiCa: undefined },
    });
    const again = fetchCert();
    await settle();
    await api.clock.advance(50_000);
    expect((await again).status).toBe(204);
    expect(api.lines.join("\n")).not.toContain(secret);
    expect(api.lines.join("\n")).not.toContain(KEY);
  });

  test("is in the audit log, with the token's id and name, and so is where it came from", async () => {
    const { secret, token } = api.token(["tunnels:read"], { name: "mine" });
    await post({ key: KEY, token: "cvt_wrong" });
    await post({ key: KEY, token: secret });
    await post({ token: secret }, {}, "198.51.100.9");
    const path = `/accounts/${api.account.tag}/audit_logs?action=token.login`;
    const actor = { type: "token", id: token.id, name: "mine" };
    const { json, text } = await api.call("GET", path);
    expect(json.result).toMatchObject([
      { actor: { ...actor, ip: "198.51.100.9" }, subject: token.id, details: { as: "file" } },
      { actor: { ...actor, ip: CALLER_IP }, subject: token.id, details: { as: "callback" } },
    ]);
    expect(json.result).toHaveLength(2);
    expect(text).not.toContain(secret);
  });

  test("wakes the terminal that waits", async () => {
    const waiting = fetchCert();
    await settle();
    await post({ key: KEY, token: api.admin });
    expect((await waiting).status).toBe(200);
    expect(api.clock.pending).toBe(0);
  });

  test("is forgotten after five minutes", async () => {
    await post({ key: KEY, token: api.admin });
    await api.clock.advance(300_000);
    expect(api.clock.pending).toBe(0);
    const late = fetchCert();
    await settle();
    await api.clock.advance(50_000);
    expect((await late).status).toBe(204);
  });

  test("can be downloaded instead, and then nothing waits for it", async () => {
    for (const fields of [{ key: KEY, as: "file" }, { key: "no key" }, {}]) {
      const answer = await post({ ...fields, token: api.admin });
      expect(answer.headers.get("content-disposition")).toBe('attachment; filename="cert.pem"');
      expect(parseCertPem(answer.text)).toMatchObject({ ok: true, value: { apiToken: api.admin } });
    }
    expect(api.clock.pending).toBe(0);
  });

  test("trusts the edge's own authority where the API has a certificate of it", async () => {
    const answer = await api.app.request(
      "https://edge.test:7845/login",
      { method: "POST", body: new URLSearchParams({ token: api.admin, as: "file" }) },
      { ip: "192.0.2.1" },
    );
    expect(parseCertPem(await answer.text())).toMatchObject({
      value: { apiUrl: "https://edge.test:7845/client/v4", apiCa: "CA" },
    });
  });
});

describe("behind a proxy that speaks TLS", () => {
  const submit = (url: string, headers: Readonly<Record<string, string>> = {}) =>
    api.app.request(
      url,
      { method: "POST", body: new URLSearchParams({ token: api.admin, as: "file" }), headers },
      { ip: "127.0.0.1" },
    );

  test("the certificate names the API as the browser knows it", async () => {
    const headers = { host: "edge.test", origin: "https://edge.test", "sec-fetch-site": "same-origin" };
    const answer = await submit("http://edge.test/login", headers);
    expect(parseCertPem(await answer.text())).toMatchObject({
      value: { apiUrl: "https://edge.test/client/v4" },
    });
  });

  test.each([
    { url: "http://edge.test/login", headers: {} },
    { url: "http://edge.test/login", headers: { host: "edge.test", origin: "http://edge.test" } },
    { url: "http://192.0.2.1:7845/login", headers: { host: "192.0.2.1:7845", origin: "http://192.0.2.1:7845" } },
    { url: "http://127.0.0.1.edge.test/login", headers: {} },
    { url: "http://localhost.edge.test/login", headers: {} },
  ])("no certificate names $url, from where tokens would travel in clear text: $headers", async ({ url, headers }) => {
    const answer = await submit(url, headers);
    const text = await answer.text();
    expect([answer.status, text]).toEqual([400, expect.stringContaining("Open it by https")]);
    expect(text).not.toContain(api.admin);
    expect(api.store.audit.find({ action: "token.login" }).total).toBe(0);
  });

  test.each(["http://localhost:7845", "http://127.0.0.1:7845", "http://[::1]:7845"])(
    "%s is this machine",
    async (origin) => {
      const answer = await submit(`${origin}/login`, { host: new URL(origin).host, origin });
      expect(parseCertPem(await answer.text())).toMatchObject({
        value: { apiUrl: `${origin}/client/v4`, apiCa: undefined },
      });
    },
  );
});

describe("what is refused", () => {
  test("a wrong token, with the page again, 60 times", async () => {
    for (const token of ["", "cvt_wrong", "two words", "x".repeat(600)]) {
      const { status, text } = await post({ key: KEY, token });
      expect([status, text]).toEqual([401, expect.stringContaining('role="alert"')]);
      if (token !== "") expect(text).not.toContain(token);
      expect(text).toContain(`value="${KEY}"`);
    }
    for (let i = 0; i < 60; i += 1) await post({ key: KEY, token: "cvt_wrong" });
    expect((await post({ key: KEY, token: "cvt_wrong" })).status).toBe(429);
    expect((await post({ key: KEY, token: api.admin })).status).toBe(200);
  });

  test.each([
    { name: "another origin", headers: { origin: "https://evil.test" } },
    { name: "no origin to speak of", headers: { origin: "null" } },
    { name: "another site", headers: { "sec-fetch-site": "cross-site" } },
    { name: "another host of this site", headers: { "sec-fetch-site": "same-site" } },
    { name: "no site", headers: { "sec-fetch-site": "none", origin: "http://localhost" } },
  ])("a form of $name", async ({ headers }) => {
    const answer = await post({ key: KEY, token: api.admin }, { host: "localhost", ...headers });
    expect(answer.status).toBe(403);
  });

  test("the edge's own form is none", async () => {
    const headers = { host: "localhost", origin: "http://localhost", "sec-fetch-site": "same-origin" };
    expect((await post({ key: KEY, token: api.admin }, headers)).status).toBe(200);
  });

  test("forms that are none, or too long", async () => {
    expect((await post({ token: "x" }, { "content-type": "text/plain" })).status).toBe(415);
    expect((await post({ token: "x".repeat(9_000) })).status).toBe(413);
  });

  test("keys that are none", async () => {
    for (const key of ["short", "k".repeat(60), "%2e%2e"]) expect((await fetchCert(key)).status).toBe(404);
    expect((await api.call("DELETE", `//login/${KEY}`, { secret: null })).status).toBe(404);
  });
});

describe("room", () => {
  test("an address waits with ten questions, all with two hundred", async () => {
    const waiting = Array.from({ length: 200 }, (_, i) => fetchCert(keyNo(i), `192.0.2.${Math.floor(i / 10)}`));
    await settle();
    expect((await fetchCert(keyNo(500), "192.0.2.0")).status).toBe(429);
    expect((await fetchCert(keyNo(500), "198.51.100.1")).headers.get("retry-after")).toBe("5");
    await api.clock.advance(50_000);
    for (const answer of await Promise.all(waiting)) expect(answer.status).toBe(204);
    expect(api.clock.pending).toBe(0);
  });

  test("a thousand certificates are kept, and none is pushed out", async () => {
    for (let i = 0; i < 1_000; i += 1) await post({ key: keyNo(i), token: api.admin }, {}, `192.0.2.${i % 250}`);
    expect((await post({ key: keyNo(1_000), token: api.admin }, {}, "198.51.100.1")).status).toBe(503);
    expect((await post({ key: keyNo(5), token: api.admin }, {}, "198.51.100.1")).status).toBe(200);
    expect((await fetchCert(keyNo(0))).status).toBe(200);
    expect((await post({ key: keyNo(1_000), token: api.admin }, {}, "198.51.100.1")).status).toBe(200);
  });

  test("who has gone does not take the certificate along", async () => {
    const leaving = new AbortController();
    const gone = api.app.request(`/login/${KEY}`, { signal: leaving.signal }, { ip: "192.0.2.1" });
    await settle();
    leaving.abort();
    await Promise.resolve(gone).catch(() => undefined);
    await post({ key: KEY, token: api.admin });
    expect((await fetchCert()).status).toBe(200);
  });

  test("nobody waits for an edge that stops", async () => {
    const waiting = fetchCert();
    await settle();
    api.stop();
    expect((await waiting).status).toBe(204);
  });
});
