import { expect, test } from "bun:test";
import { isLooping, MAX_LOOPS, tunnelHeaders } from "../../../../src/edge/listener/request-policy.ts";
import { type Cidr, parseCidr } from "../../../../src/wire/cidr.ts";
import { headerValue, headerValues } from "../../../../src/wire/headers.ts";

const TRUSTED: Cidr[] = ["10.0.0.0/8", "2001:db8::/32"].flatMap((text) => parseCidr(text) ?? []);

function forward(ip: string, ...headers: string[]): string[] {
  return tunnelHeaders(headers, { ip, scheme: "http", ray: "0123456789abcdef-AMS" }, { trustedProxies: TRUSTED });
}

test.each([
  "Forwarded",
  "X-Forwarded-For",
  "X-Forwarded-Host",
  "X-Forwarded-Port",
  "X-Forwarded-Proto",
  "X-Real-IP",
  "True-Client-IP",
  "CF-Connecting-IP",
  "CF-Connecting-IPv6",
  "CF-IPCountry",
  "CF-Ray",
  "CF-Visitor",
  // Nothing that has the form of a token.
  "Cf-Access-Jwt-Assertion",
  "Cf-Access-Authenticated-User-Email",
  "Cf-Cloudflared-Proxy-Connection-Upgrade",
  "cf-cloudflared-proxy-src",
  "Cf-Culvert-Header-Names",
  "Cf-Warp-Tag-Id",
  "Cf-Trace-Id",
  "Cf-Something-New",
  // Servers that turn fields into variables take these for the real ones.
  "X_Forwarded_For",
  "Cf_Connecting_Ip",
  "CF_ACCESS_JWT-ASSERTION",
  "Host",
  "Expect",
  "Connection",
  "Upgrade",
  "Transfer-Encoding",
])("a visitor cannot set %s", (name) => {
  expect(forward("192.0.2.1", name, "forged", "X-Other", "1").join("\n")).not.toContain("forged");
});

test.each([
  "Cookie",
  "Authorization",
  "Accept-Encoding",
  "User-Agent",
  "Content-Length",
  "Sec-WebSocket-Key",
  "Cf-Access-Client-Id",
  "Cf-Access-Client-Secret",
  "Cf-Access-Token",
  "X_Request_Id",
])("%s goes down the tunnel as it is", (name) => {
  expect(forward("192.0.2.1", name, "kept").slice(0, 6)).toEqual([
    ...["Cf-Ray", "0123456789abcdef-AMS", "Cf-Connecting-Ip", "192.0.2.1", name, "kept"],
  ]);
});

/** No real one, but formed like one. */
const TOKEN = "eyJh.eyJi.c2ln";

test.each<{ name: string; sent: string[]; want: string[] }>([
  { name: "its own field", sent: ["cf-access-jwt-assertion", TOKEN], want: [TOKEN] },
  { name: "an access client's field", sent: ["Cf-Access-Token", TOKEN], want: [TOKEN] },
  { name: "a cookie", sent: ["Cookie", `a=b; CF_Authorization=${TOKEN}`], want: [TOKEN] },
  { name: "a cookie in quotes", sent: ["Cookie", "x=1", "cookie", `CF_Authorization="${TOKEN}"; y=2`], want: [TOKEN] },
  {
    name: "several places: one, and the field before the cookie",
    sent: ["Cookie", "CF_Authorization=o.l.d", "Cf-Access-Jwt-Assertion", TOKEN, "Cf-Access-Jwt-Assertion", "x.y.z"],
    want: [TOKEN],
  },
  {
    name: "a field that holds none, and a cookie that does",
    sent: ["Cf-Access-Jwt-Assertion", "none", "Cookie", `CF_Authorization=${TOKEN}`],
    want: [TOKEN],
  },
  { name: "a field that services take for it", sent: ["Cf_Access_Jwt_Assertion", TOKEN], want: [] },
  {
    name: "a cookie of a longer name",
    sent: ["Cookie", `XCF_Authorization=${TOKEN}; CF_AuthorizationX=${TOKEN}`],
    want: [],
  },
  { name: "a field that is too long", sent: ["Cf-Access-Jwt-Assertion", `${"x".repeat(20_000)}.y.z`], want: [] },
  { name: "nothing", sent: ["Accept", "*/*"], want: [] },
])("an Access token in $name reaches the connector's field as it is", ({ sent, want }) => {
  expect(headerValues(forward("192.0.2.1", ...sent), "cf-access-jwt-assertion")).toEqual(want);
});

test("the cookie stays, for services and connectors that read it", () => {
  const got = forward("192.0.2.1", "Cookie", `CF_Authorization=${TOKEN}`);
  expect(headerValue(got, "cookie")).toBe(`CF_Authorization=${TOKEN}`);
});

test.each([
  { name: "a visitor", ip: "192.0.2.1", sent: [], client: "192.0.2.1", list: "192.0.2.1" },
  { name: "a visitor that forges", ip: "192.0.2.1", sent: ["6.6.6.6"], client: "192.0.2.1", list: "192.0.2.1" },
  { name: "a proxy", ip: "10.0.0.1", sent: ["192.0.2.1"], client: "192.0.2.1", list: "192.0.2.1, 10.0.0.1" },
  {
    name: "a forger behind a proxy that appends",
    ip: "10.0.0.1",
    sent: ["6.6.6.6, 192.0.2.1"],
    client: "192.0.2.1",
    list: "6.6.6.6, 192.0.2.1, 10.0.0.1",
  },
  {
    name: "two proxies, one field each",
    ip: "10.0.0.1",
    sent: ["192.0.2.1", "10.0.0.2"],
    client: "192.0.2.1",
    list: "192.0.2.1, 10.0.0.2, 10.0.0.1",
  },
  { name: "a proxy that says nothing", ip: "10.0.0.1", sent: [], client: "10.0.0.1", list: "10.0.0.1" },
  {
    name: "a proxy of its own visitor",
    ip: "10.0.0.1",
    sent: ["10.0.0.9"],
    client: "10.0.0.9",
    list: "10.0.0.9, 10.0.0.1",
  },
  { name: "nonsense from a proxy", ip: "10.0.0.1", sent: ["unknown"], client: "10.0.0.1", list: "unknown, 10.0.0.1" },
  {
    name: "IPv6",
    ip: "2001:db8::1",
    sent: ["2001:0DB9:0::5"],
    client: "2001:db9::5",
    list: "2001:0DB9:0::5, 2001:db8::1",
  },
  { name: "IPv4 on a listener for both", ip: "::ffff:192.0.2.1", sent: [], client: "192.0.2.1", list: "192.0.2.1" },
  {
    name: "a proxy on a listener for both",
    ip: "::ffff:10.0.0.1",
    sent: ["192.0.2.1"],
    client: "192.0.2.1",
    list: "192.0.2.1, 10.0.0.1",
  },
])("the origin learns who the visitor is: $name", ({ ip, sent, client, list }) => {
  const got = forward(ip, ...sent.flatMap((value) => ["x-forwarded-for", value]));
  expect(headerValues(got, "cf-connecting-ip")).toEqual([client]);
  expect(headerValues(got, "x-forwarded-for")).toEqual([list]);
});

test.each([
  { ip: "192.0.2.1", sent: "https", want: "http" },
  { ip: "10.0.0.1", sent: "https", want: "https" },
  { ip: "10.0.0.1", sent: "HTTPS", want: "https" },
  { ip: "10.0.0.1", sent: 'x"}', want: "http" },
])("X-Forwarded-Proto: $sent from $ip means $want", ({ ip, sent, want }) => {
  const got = forward(ip, "X-Forwarded-Proto", sent);
  expect(headerValues(got, "x-forwarded-proto")).toEqual([want]);
  expect(headerValue(got, "cf-visitor")).toBe(`{"scheme":"${want}"}`);
});

test("each pass through an edge is written down, and too many are a loop", () => {
  let headers: string[] = ["Cdn-Loop", "other; v=1"];
  for (let pass = 0; pass < MAX_LOOPS; pass += 1) {
    expect(isLooping(headers)).toBe(false);
    headers = forward("192.0.2.1", ...headers);
  }
  expect(headerValue(headers, "cdn-loop")).toStartWith("other; v=1, culvert");
  expect(isLooping(headers)).toBe(true);
});
