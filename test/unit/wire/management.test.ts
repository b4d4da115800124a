import { describe, expect, test } from "bun:test";
import { generateKeyPairSync } from "node:crypto";
import { SignJWT } from "jose";
import { es256Verifier, formatPublicKey, parsePublicKey } from "../../../src/core/es256.ts";
import { formatLogs, formatStart, parseClientMessage, parseLogs } from "../../../src/wire/management-events.ts";
import { managementRefusal, parseManagementToken } from "../../../src/wire/management-token.ts";

const TUNNEL = "00000000-0000-4000-8000-000000000001";
const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
const CLAIMS = { tun: { id: TUNNEL, account_tag: "acc" }, actor: { id: "ann", support: false }, res: ["logs"] };

async function sign(claims: Record<string, unknown>, expiresAtS = 1_000): Promise<string> {
  return await new SignJWT(claims).setProtectedHeader({ alg: "ES256" }).setExpirationTime(expiresAtS).sign(privateKey);
}

describe("a management token", () => {
  test("says who may see what of which tunnel, and until when", async () => {
    expect(parseManagementToken(await sign({ ...CLAIMS, mgmt: "https://m.example" }))).toMatchObject({
      ...{ tunnelId: TUNNEL, accountTag: "acc", actor: "ann", resources: ["logs"], expiresAtS: 1_000 },
      managementUrl: "https://m.example",
    });
  });

  test.each([
    ["no actor", { ...CLAIMS, actor: {} }],
    ["no tunnel", { ...CLAIMS, tun: {} }],
    ["a tunnel that is none", { ...CLAIMS, tun: { id: "web", account_tag: "acc" } }],
    ["an actor that is no text", { ...CLAIMS, actor: { id: 7 } }],
    ["an actor without end", { ...CLAIMS, actor: { id: "a".repeat(1_000) } }],
  ])("%s makes it none", async (_what, claims) => {
    expect(parseManagementToken(await sign(claims))).toBeUndefined();
  });

  test.each(["", "a.b", "a.b.c.d", "..", "e30.e30.e30", "é.é.é", "x".repeat(10_000)])("%p is none", (text) => {
    expect(parseManagementToken(text)).toBeUndefined();
  });

  test("another algorithm makes it none", async () => {
    const [, payload, signature] = (await sign(CLAIMS)).split(".");
    const head = Buffer.from('{"alg":"none"}').toString("base64url");
    expect(parseManagementToken(`${head}.${payload}.${signature}`)).toBeUndefined();
  });

  test("is checked against the key, the time and what it is for", async () => {
    const token = parseManagementToken(await sign(CLAIMS));
    if (token === undefined) throw new Error("The token cannot be read");
    const key = parsePublicKey(formatPublicKey(privateKey));
    if (key === undefined) throw new Error("The key cannot be read");
    const verify = es256Verifier(key);
    const by = { verify, wallMs: 900_000 };
    expect(managementRefusal(token, "/logs", by)).toBeUndefined();
    expect(managementRefusal(token, "/ping", by)).toBeUndefined();
    expect(managementRefusal(token, "/host_details", by)).toBe("other-resource");
    expect(managementRefusal(token, "/metrics", by)).toBe("other-resource");
    expect(managementRefusal(token, "/logs", { verify, wallMs: 1_061_000 })).toBe("expired");
    const other = es256Verifier(generateKeyPairSync("ec", { namedCurve: "P-256" }).publicKey);
    expect(managementRefusal(token, "/logs", { verify: other, wallMs: 0 })).toBe("forged");
    const admin = parseManagementToken(await sign({ ...CLAIMS, res: ["admin"] }));
    if (admin === undefined) throw new Error("The token cannot be read");
    expect(managementRefusal(admin, "/metrics", by)).toBeUndefined();
    expect(formatPublicKey(publicKey)).toBe(formatPublicKey(privateKey));
  });

  test.each(["", "AAAA", formatPublicKey(generateKeyPairSync("ec", { namedCurve: "P-384" }).publicKey)])(
    "%p is no key",
    (text) => expect(parsePublicKey(text)).toBeUndefined(),
  );
});

describe("messages of the live log", () => {
  test.each([
    ['{"type":"stop_streaming"}', { kind: "stop" }],
    ['{"type":"start_streaming"}', { kind: "start", filters: { events: [], level: "debug", sampling: 1 } }],
    [
      '{"type":"start_streaming","filters":{"level":"warn","events":["udp"],"sampling":0.25}}',
      { kind: "start", filters: { events: ["udp"], level: "warn", sampling: 0.25 } },
    ],
    [
      '{"type":"start_streaming","filters":{"sampling":-3}}',
      { kind: "start", filters: { events: [], level: "debug", sampling: 1 } },
    ],
    ['{"type":"start_streaming","filters":{"level":"loud"}}', { kind: "malformed-start" }],
    ['{"type":"start_streaming","filters":{"events":["smtp"]}}', { kind: "malformed-start" }],
    ['{"type":"start_streaming","filters":{"sampling":"all"}}', { kind: "malformed-start" }],
    ['{"type":"logs"}', { kind: "unknown" }],
    ["[]", { kind: "unknown" }],
    ["{", { kind: "unknown" }],
  ])("%s", (text, message) => {
    expect<unknown>(parseClientMessage(text)).toEqual(message);
  });

  test("what one side writes the other reads", () => {
    const filters = { events: ["tcp"], level: "info", sampling: 0.5 } as const;
    expect(parseClientMessage(formatStart(filters))).toEqual({ kind: "start", filters });
    const line = { time: "now", level: "error", event: "http", message: "No", fields: { a: 1 } } as const;
    expect(parseLogs(formatLogs([line]))).toEqual([line]);
  });

  test("cloudflared leaves the first level and event out", () => {
    expect(parseLogs('{"type":"logs","logs":[{"time":"t","message":"m"},7]}')).toEqual([
      { time: "t", level: "debug", event: "cloudflared", message: "m", fields: {} },
    ]);
    expect(parseLogs('{"type":"logs"}')).toBeUndefined();
  });
});
