import { beforeAll, describe, expect, test } from "bun:test";
import { exportJWK, generateKeyPair, type JWK, type JWTPayload, SignJWT } from "jose";
import { createLogger } from "../../../src/core/log.ts";
import { CLOCK_SKEW_S, createAccessCheck } from "../../../src/proxy/access-check.ts";
import {
  AccessKeys,
  FETCH_INTERVAL_MS,
  FETCH_TIMEOUT_MS,
  KEYS_FRESH_MS,
  KEYS_USABLE_MS,
} from "../../../src/proxy/access-keys.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

const ISSUER = "https://team.cloudflareaccess.com";
const AUDIENCE = "4714c1358e65fe4b408ad6d432a5f878f08194bdb4752441fd56faefa9b2b6f2";

interface Signer {
  readonly key: CryptoKey;
  readonly jwk: JWK;
  readonly alg: string;
}

async function makeSigner(kid: string, alg = "RS256"): Promise<Signer> {
  const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true });
  return { key: privateKey, jwk: { ...(await exportJWK(publicKey)), kid, alg, use: "sig" }, alg };
}

/** A team whose keys and clock the test holds in hand. */
class Team {
  readonly clock = new VirtualClock();
  readonly lines: string[] = [];
  fetches = 0;
  keys: JWK[];
  answer: (() => Promise<string>) | undefined;
  readonly check: (...fields: string[]) => Promise<string | undefined>;

  constructor(keys: JWK[], audiences: readonly string[] = ["other", AUDIENCE]) {
    this.keys = keys;
    const log = createLogger({
      level: "debug",
      format: "default",
      wallMs: () => 0,
      write: (line) => void this.lines.push(line),
    });
    const fetchText = (): Promise<string> => {
      this.fetches += 1;
      return this.answer?.() ?? Promise.resolve(JSON.stringify({ keys: this.keys }));
    };
    const accessKeys = new AccessKeys(`${ISSUER}/certs`, { clock: this.clock, log, fetchText });
    const check = createAccessCheck({ issuer: ISSUER, audiences }, accessKeys, this.clock);
    this.check = (...fields) => check(fields);
  }

  with(token: string): Promise<string | undefined> {
    return this.check("Host", "a", "Cf-Access-Jwt-Assertion", token);
  }

  token(signer: Signer, claims: JWTPayload = {}, header: Record<string, unknown> = {}): Promise<string> {
    const nowS = Math.floor(this.clock.wallMs() / 1000);
    return new SignJWT({ iss: ISSUER, aud: [AUDIENCE], iat: nowS, nbf: nowS, exp: nowS + 3600, ...claims })
      .setProtectedHeader({ alg: signer.alg, kid: signer.jwk.kid as string, ...header })
      .sign(signer.key);
  }
}

let a: Signer;
let b: Signer;

beforeAll(async () => {
  [a, b] = await Promise.all([makeSigner("a"), makeSigner("b")]);
});

describe("a token", () => {
  test("of the team passes: from the header, from the cookie, among other fields", async () => {
    const team = new Team([a.jwk]);
    const token = await team.token(a);
    expect(await team.with(token)).toBeUndefined();
    expect(await team.check("cf-access-JWT-assertion", token)).toBeUndefined();
    expect(await team.check("Cookie", `x=1; CF_Authorization=${token}; y=2`)).toBeUndefined();
    expect(await team.check("Cookie", "x=1", "Cookie", `CF_Authorization="${token}"`)).toBeUndefined();
    expect(await team.check("Cf-Access-Jwt-Assertion", "stale", "Cookie", `CF_Authorization=${token}`)).toBeUndefined();
    expect(team.fetches).toBe(1);
  });

  test("signed by another algorithm with a public key passes too", async () => {
    for (const alg of ["ES256", "PS256", "EdDSA"]) {
      const signer = await makeSigner(alg, alg);
      const team = new Team([a.jwk, signer.jwk]);
      expect(await team.with(await team.token(signer))).toBeUndefined();
    }
  });

  test("is missing", async () => {
    const team = new Team([a.jwk]);
    expect(await team.check("Host", "a")).toBe("no token");
    expect(await team.check("Cookie", "NOT_CF_Authorization=x; CF_Authorization=")).toBe("no token");
    expect(team.fetches).toBe(0);
  });

  test.each([
    { name: "expired", claims: { exp: 1 }, want: "expired" },
    { name: "not valid yet", claims: { nbf: 4_000_000_000 }, want: "wrong claims" },
    { name: "for another audience", claims: { aud: "someone" }, want: "wrong claims" },
    { name: "for nobody", claims: { aud: [] }, want: "wrong claims" },
    { name: "of another team", claims: { iss: "https://other.cloudflareaccess.com" }, want: "wrong claims" },
    { name: "without an end", claims: { exp: undefined }, want: "wrong claims" },
  ])("that is $name does not pass", async ({ claims, want }) => {
    const team = new Team([a.jwk]);
    expect(await team.with(await team.token(a, claims as JWTPayload))).toBe(want);
  });

  test("may be as old, or as new, as clocks may differ", async () => {
    const team = new Team([a.jwk]);
    const nowS = team.clock.wallMs() / 1000;
    expect(await team.with(await team.token(a, { exp: nowS - CLOCK_SKEW_S + 1 }))).toBeUndefined();
    expect(await team.with(await team.token(a, { nbf: nowS + CLOCK_SKEW_S }))).toBeUndefined();
    expect(await team.with(await team.token(a, { exp: nowS - CLOCK_SKEW_S }))).toBe("expired");
    expect(await team.with(await team.token(a, { nbf: nowS + CLOCK_SKEW_S + 1 }))).toBe("wrong claims");
  });

  test("with a changed byte, another signature, or none does not pass", async () => {
    const team = new Team([a.jwk]);
    const token = await team.token(a);
    const [head = "", payload = "", signature = ""] = token.split(".");
    const claims = Buffer.from(JSON.stringify({ iss: ISSUER, aud: AUDIENCE, exp: 4_000_000_000 })).toString(
      "base64url",
    );
    expect(await team.with(`${head}.${claims}.${signature}`)).toBe("not signed by the team");
    expect(await team.with(`${head}.${payload}.${signature.replace(/^./, (c) => (c === "A" ? "B" : "A"))}`)).toBe(
      "not signed by the team",
    );
    const none = Buffer.from('{"alg":"none","kid":"a"}').toString("base64url");
    expect(await team.with(`${none}.${claims}.`)).toBe("no token");
    expect(await team.with(`${none}.${claims}.AAAA`)).toBe("malformed");
    expect(await team.with(await team.token({ ...b, jwk: { ...b.jwk, kid: "a" } }))).toBe("not signed by the team");
  });

  test("signed with the public key as a secret does not pass", async () => {
    const team = new Team([a.jwk]);
    const secret = new TextEncoder().encode(JSON.stringify(a.jwk));
    const nowS = Math.floor(team.clock.wallMs() / 1000);
    const forged = await new SignJWT({ iss: ISSUER, aud: AUDIENCE, exp: nowS + 60 })
      .setProtectedHeader({ alg: "HS256", kid: "a" })
      .sign(secret);
    expect(await team.with(forged)).toBe("malformed");
  });

  test.each(["", "a", "a.b", "a.b.c", "..", `${"x".repeat(20_000)}.a.b`, "\xff.\xff.\xff"])(
    "that is none does not pass: %p",
    async (token) => {
      const team = new Team([a.jwk]);
      expect(await team.with(token)).toMatch(/^(?:malformed|no token)$/);
    },
  );

  test("for nobody in particular passes nowhere: without an audience no keys are asked for", async () => {
    const team = new Team([a.jwk], []);
    expect(await team.with(await team.token(a))).toBe("no audience is allowed");
    expect(team.fetches).toBe(0);
  });
});

test("of the ways to show a token each is enough, and a wrong one beside it does no harm", async () => {
  const team = new Team([a.jwk]);
  const token = await team.token(a);
  expect(await team.check("Cf-Access-Jwt-Assertion", token)).toBeUndefined();
  expect(await team.check("Cf-Access-Token", token)).toBeUndefined();
  expect(await team.check("Cookie", `x=1; CF_Authorization=${token}`)).toBeUndefined();
  expect(await team.check("Cf-Access-Jwt-Assertion", "a.b.c", "Cookie", `CF_Authorization=${token}`)).toBeUndefined();
  const many = Array.from({ length: 4 }, (_, i) => ["Cf-Access-Token", `a.b.${i}`]).flat();
  expect(await team.check(...many, "Cookie", `CF_Authorization=${token}`)).toBe("malformed");
});

describe("keys", () => {
  test("that are new are fetched when a token names them, at most once a minute", async () => {
    const team = new Team([a.jwk]);
    expect(await team.with(await team.token(a))).toBeUndefined();
    team.keys = [a.jwk, b.jwk];
    const rotated = await team.token(b);
    expect(await team.with(rotated)).toBe("not signed by the team");
    expect(team.fetches).toBe(1);
    await team.clock.advance(FETCH_INTERVAL_MS);
    expect(await Promise.all([team.with(rotated), team.with(rotated), team.with(rotated)])).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
    expect(team.fetches).toBe(2);
    const invented = await team.token(a, {}, { kid: "invented" });
    for (let i = 0; i < 20; i += 1) expect(await team.with(invented)).toBe("not signed by the team");
    expect(team.fetches).toBe(2);
  });

  test("are asked for once, however many requests come at once", async () => {
    const team = new Team([a.jwk]);
    const token = await team.token(a);
    const all = await Promise.all(Array.from({ length: 50 }, () => team.with(token)));
    expect(new Set(all)).toEqual(new Set([undefined]));
    expect(team.fetches).toBe(1);
  });

  test("that were withdrawn are gone once the known ones are old", async () => {
    const team = new Team([a.jwk, b.jwk]);
    const token = await team.token(a);
    expect(await team.with(token)).toBeUndefined();
    team.keys = [b.jwk];
    await team.clock.advance(KEYS_FRESH_MS);
    expect(await team.with(token)).toBe("not signed by the team");
  });

  test("that cannot be fetched: nobody passes, and nobody asks again for a minute", async () => {
    const team = new Team([a.jwk]);
    const token = await team.token(a);
    team.answer = () => Promise.reject(new Error("connection refused"));
    expect(await team.with(token)).toBe("no keys");
    expect(await team.with(token)).toBe("no keys");
    expect(team.fetches).toBe(1);
    expect(team.lines.join("\n")).toContain("Access keys cannot be fetched, so nobody passes");
    expect(team.lines.join("\n")).not.toContain(token);
    team.answer = undefined;
    await team.clock.advance(FETCH_INTERVAL_MS);
    expect(await team.with(token)).toBeUndefined();
  });

  test("that cannot be fetched any more go on for a day", async () => {
    const team = new Team([a.jwk]);
    const token = await team.token(a, { exp: 4_000_000_000 });
    expect(await team.with(token)).toBeUndefined();
    team.answer = () => Promise.reject(new Error("connection refused"));
    await team.clock.advance(KEYS_USABLE_MS - 1);
    expect(await team.with(token)).toBeUndefined();
    expect(team.fetches).toBe(2);
    await team.clock.advance(FETCH_INTERVAL_MS);
    expect(await team.with(token)).toBe("no keys");
  });

  test.each(["", "no json", "{}", '{"keys":1}', "null", "[]"])("that are no key set: %p", async (answer) => {
    const team = new Team([a.jwk]);
    team.answer = () => Promise.resolve(answer);
    expect(await team.with(await team.token(a))).toBe("no keys");
  });

  test("that never come are not waited for", async () => {
    const team = new Team([a.jwk]);
    team.answer = () => new Promise(() => {});
    const waiting = team.with(await team.token(a));
    await team.clock.advance(FETCH_TIMEOUT_MS);
    expect(await waiting).toBe("no keys");
  });
});
