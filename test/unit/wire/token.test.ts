import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { newTunnelId, parseTunnelId } from "../../../src/core/ids.ts";
import { formatCertPem, parseCertPem } from "../../../src/wire/cert-pem.ts";
import { formatCredentials, parseCredentials } from "../../../src/wire/credentials.ts";
import { formatToken, MAX_TOKEN_CHARS, parseToken, type TunnelToken } from "../../../src/wire/token.ts";

const ID = "01234567-89ab-cdef-0123-456789abcdef";
const SECRET = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const CA = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
const PLAIN: TunnelToken = {
  accountTag: "0123456789abcdef0123456789abcdef",
  tunnelSecret: Uint8Array.from({ length: 32 }, (_, i) => i),
  tunnelId: parseTunnelId(ID)!,
  endpoint: "",
  edges: [],
  ca: undefined,
};
const tokenOf = (value: unknown): string => btoa(JSON.stringify(value));
const FIELDS = { a: PLAIN.accountTag, s: SECRET, t: ID };

describe("token", () => {
  test("is what cloudflared writes when there is nothing of ours in it", () => {
    expect(formatToken(PLAIN)).toBe(tokenOf(FIELDS));
    expect(parseToken(tokenOf(FIELDS))).toEqual({ ok: true, value: PLAIN });
  });

  test("carries edges and their authorities", () => {
    const token: TunnelToken = {
      ...PLAIN,
      endpoint: "fed",
      edges: [
        { addr: "edge.example.com:7844", region: 0 },
        { addr: "[2001:db8::1]:443", region: 1 },
      ],
      ca: CA,
    };
    expect(parseToken(formatToken(token))).toEqual({ ok: true, value: token });
    expect(JSON.parse(atob(formatToken(token)))).toMatchObject({ x_edges: token.edges, x_ca: CA });
  });

  test.each([
    { name: "without padding", change: (text: string) => text.replaceAll("=", "") },
    { name: "broken into lines", change: (text: string) => ` ${text.replace(/.{40}/g, "$&\r\n\t")}\n` },
    { name: "in URL-safe letters", change: (text: string) => text.replaceAll("+", "-").replaceAll("/", "_") },
  ])("$name it reads the same", ({ change }) => {
    expect(parseToken(change(tokenOf({ ...FIELDS, e: "??>>~~" })))).toEqual({
      ok: true,
      value: { ...PLAIN, endpoint: "??>>~~" },
    });
  });

  test.each([
    { name: "empty", text: " \n", path: "" },
    { name: "not base64", text: "eyJ!", path: "" },
    { name: "cut", text: tokenOf(FIELDS).slice(0, 40), path: "" },
    { name: "a list", text: tokenOf([]), path: "" },
    { name: "too long", text: "A".repeat(MAX_TOKEN_CHARS + 1), path: "" },
    { name: "no account", text: tokenOf({ ...FIELDS, a: undefined }), path: "a" },
    { name: "account is a number", text: tokenOf({ ...FIELDS, a: 5 }), path: "a" },
    { name: "no secret", text: tokenOf({ ...FIELDS, s: "" }), path: "s" },
    { name: "secret not base64", text: tokenOf({ ...FIELDS, s: "hunter2!" }), path: "s" },
    { name: "no id", text: tokenOf({ ...FIELDS, t: undefined }), path: "t" },
    { name: "id is no UUID", text: tokenOf({ ...FIELDS, t: "my-tunnel" }), path: "t" },
    { name: "edges is no list", text: tokenOf({ ...FIELDS, x_edges: "a:1" }), path: "x_edges" },
    { name: "edge without port", text: tokenOf({ ...FIELDS, x_edges: [{ addr: "a" }] }), path: "x_edges[0].addr" },
    { name: "edge with port 0", text: tokenOf({ ...FIELDS, x_edges: [{ addr: "a:0" }] }), path: "x_edges[0].addr" },
    { name: "bare IPv6", text: tokenOf({ ...FIELDS, x_edges: [{ addr: "::1:7844" }] }), path: "x_edges[0].addr" },
    {
      name: "region is a fraction",
      text: tokenOf({ ...FIELDS, x_edges: [{ addr: "a:1", region: 0.5 }] }),
      path: "x_edges[0].region",
    },
    { name: "ca is no PEM", text: tokenOf({ ...FIELDS, x_ca: "x" }), path: "x_ca" },
  ])("$name: one issue, at $path, that quotes nothing", ({ text, path }) => {
    const parsed = parseToken(text);
    if (parsed.ok) throw new Error("accepted");
    expect(parsed.issues.map((issue) => issue.path)).toEqual([path]);
    const messages = parsed.issues.map((issue) => issue.message).join();
    for (const secret of ["hunter2", SECRET, "my-tunnel", "eyJ"]) expect(messages).not.toContain(secret);
  });

  test("every fault is told at once", () => {
    const parsed = parseToken(tokenOf({}));
    expect(parsed.ok ? [] : parsed.issues.map((issue) => issue.path)).toEqual(["a", "s", "t"]);
  });

  test("any text never throws, any token comes back", () => {
    fc.assert(fc.property(fc.string(), (text) => void parseToken(text)));
    fc.assert(fc.property(fc.json(), (json) => void parseToken(btoa(unescape(encodeURIComponent(json))))));
    const token = fc.record({
      accountTag: fc.string({ minLength: 1 }),
      tunnelSecret: fc.uint8Array({ minLength: 1 }),
      tunnelId: fc.constant(newTunnelId()),
      endpoint: fc.string(),
      edges: fc.array(fc.record({ addr: fc.constant("a:1"), region: fc.nat(255) }), { maxLength: 5 }),
      ca: fc.constantFrom(undefined, CA),
    });
    fc.assert(
      fc.property(token, (value) => {
        expect(parseToken(formatToken(value))).toEqual({ ok: true, value });
      }),
    );
  });
});

describe("credentials file", () => {
  const file = { AccountTag: PLAIN.accountTag, TunnelSecret: SECRET, TunnelID: ID, Endpoint: "us" };
  const value = {
    accountTag: PLAIN.accountTag,
    tunnelSecret: PLAIN.tunnelSecret,
    tunnelId: PLAIN.tunnelId,
    endpoint: "us",
    edges: [],
    ca: undefined,
  };

  test("in both directions", () => {
    expect(parseCredentials(JSON.stringify(file))).toEqual({ ok: true, value });
    expect(JSON.parse(formatCredentials(value))).toEqual(file);
  });

  test("an edge of one's own is kept beside it", () => {
    const own = { ...value, edges: [{ addr: "edge.example.com:7844", region: 0 }], ca: CA };
    expect(parseCredentials(formatCredentials(own))).toEqual({ ok: true, value: own });
  });

  test("names of keys in any case; an old file without an id; unknown keys", () => {
    const text = JSON.stringify({ accounttag: PLAIN.accountTag, TUNNELSECRET: SECRET, TunnelName: "x" });
    expect(parseCredentials(text)).toEqual({ ok: true, value: { ...value, tunnelId: undefined, endpoint: "" } });
  });

  test.each([
    { name: "not JSON", text: "{", path: "" },
    { name: "no secret", text: JSON.stringify({ ...file, TunnelSecret: null }), path: "TunnelSecret" },
    { name: "bad id", text: JSON.stringify({ ...file, TunnelID: "x" }), path: "TunnelID" },
  ])("$name is an issue at $path", ({ text, path }) => {
    expect(parseCredentials(text)).toMatchObject({ ok: false, issues: [{ path }] });
  });
});

describe("cert.pem", () => {
  const cert = {
    zoneId: "z".repeat(32),
    accountId: "a".repeat(32),
    apiToken: "secret-token",
    endpoint: "",
    apiUrl: undefined,
    apiCa: undefined,
  };
  const block = (label: string, body: string): string => `-----BEGIN ${label}-----\n${body}\n-----END ${label}-----\n`;
  const token = (value: unknown): string => block("ARGO TUNNEL TOKEN", btoa(JSON.stringify(value)));

  test("in both directions, with old blocks, headers and windows line ends", () => {
    expect(parseCertPem(formatCertPem(cert))).toEqual({ ok: true, value: cert });
    const old = block("PRIVATE KEY", "AAAA") + block("CERTIFICATE", "Proc-Type: 4\n\nAAAA");
    const text = `some words\n${old}${formatCertPem({ ...cert, endpoint: "fed" })}`.replaceAll("\n", "\r\n");
    expect(parseCertPem(text)).toEqual({ ok: true, value: { ...cert, endpoint: "fed" } });
    const own = { ...cert, apiUrl: "https://edge.example.com:8443/client/v4", apiCa: CA };
    expect(parseCertPem(formatCertPem(own))).toEqual({ ok: true, value: own });
  });

  test.each([
    { name: "empty", text: "", path: "" },
    { name: "no token", text: block("CERTIFICATE", "AAAA"), path: "" },
    { name: "two tokens", text: formatCertPem(cert) + formatCertPem(cert), path: "" },
    { name: "an unknown block", text: formatCertPem(cert) + block("RSA PRIVATE KEY", "AAAA"), path: "" },
    { name: "a block left open", text: formatCertPem(cert).slice(0, -10), path: "" },
    { name: "ended by another label", text: formatCertPem(cert).replace("END ARGO TUNNEL", "END"), path: "" },
    { name: "not JSON", text: block("ARGO TUNNEL TOKEN", "AAAA"), path: "" },
    { name: "no zone", text: token({ accountID: "a", apiToken: "t" }), path: "zoneID" },
    { name: "no API token", text: token({ zoneID: "z", accountID: "a" }), path: "apiToken" },
  ])("$name is an issue", ({ text, path }) => {
    const parsed = parseCertPem(text);
    expect(parsed).toMatchObject({ ok: false, issues: [{ path }] });
    expect(JSON.stringify(parsed)).not.toContain("secret-token");
  });
});
