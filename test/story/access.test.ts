import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { parseIngress } from "../../src/ingress/rules.ts";
import { MAX_KEYS_BYTES } from "../../src/proxy/access-keys.ts";
import { dialLab } from "../support/lab-socket.ts";
import { type LabOrigin, startOrigin } from "../support/origins.ts";
import { ask } from "../support/visitors.ts";
import { HOSTNAME, startWholePath, type WholePath } from "../support/whole-path.ts";

const AUDIENCE = "audience-of-the-application";

let path: WholePath;
let origin: LabOrigin;
/** Stands for the edge, or the team's domain, that publishes the keys. */
let keys: Server;
let issuer: string;
let sign: (claims?: Record<string, unknown>) => Promise<string>;
const asked: string[] = [];

beforeAll(async () => {
  const { privateKey, publicKey } = await generateKeyPair("RS256", { extractable: true });
  const jwk = { ...(await exportJWK(publicKey)), kid: "k", alg: "RS256", use: "sig" };
  keys = createServer((request, answer) => {
    asked.push(request.url ?? "");
    if (request.url === "/moved") answer.writeHead(302, { Location: "/cdn-cgi/access/certs" }).end();
    else if (request.url === "/huge") answer.end(" ".repeat(MAX_KEYS_BYTES) + JSON.stringify({ keys: [jwk] }));
    else answer.setHeader("Content-Type", "application/json").end(JSON.stringify({ keys: [jwk], public_certs: [] }));
  });
  await new Promise<void>((resolve) => keys.listen(0, "127.0.0.1", resolve));
  issuer = `http://127.0.0.1:${(keys.address() as AddressInfo).port}`;
  sign = (claims = {}) =>
    new SignJWT({ iss: issuer, aud: [AUDIENCE], exp: Math.floor(Date.now() / 1000) + 600, ...claims })
      .setProtectedHeader({ alg: "RS256", kid: "k" })
      .setIssuedAt()
      .sign(privateKey);
  origin = await startOrigin();
  path = await startWholePath();
  const access = (page: string) => ({ required: true, teamName: "team", audTag: [AUDIENCE], certsUrl: issuer + page });
  const service = `http://127.0.0.1:${origin.port}`;
  const { rules, issues } = parseIngress({
    ingress: [
      { path: "^/open", service, originRequest: { access: { required: false } } },
      { path: "^/moved", service, originRequest: { access: access("/moved") } },
      { path: "^/huge", service, originRequest: { access: access("/huge") } },
      { service },
    ],
    // Of the file, which cloudflared would not look at.
    originRequest: { access: access("/cdn-cgi/access/certs") },
  });
  expect(issues).toEqual([]);
  const connector = await path.connect({ connections: 1, ...(rules === undefined ? {} : { rules }) });
  await connector.ready;
});

afterAll(async () => {
  await path[Symbol.asyncDispose]();
  await origin[Symbol.asyncDispose]();
  keys.close();
});

/** As browsers show it. */
function cookie(token: string): [string, string][] {
  return [["Cookie", `a=b; CF_Authorization=${token}`]];
}

async function visit(target: string, fields: readonly (readonly [string, string])[] = [], body?: string) {
  await using socket = await dialLab(path.publicPort);
  const post = body === undefined ? {} : { method: "POST", body };
  return await ask(socket, { host: HOSTNAME, target, fields, ...post });
}

describe("access.required", () => {
  test("lets in who has a token, with or without a body", async () => {
    const token = await sign();
    expect((await visit("/hello", cookie(token))).body.toString()).toBe("hello");
    const body = "x".repeat(300_000);
    const uploaded = await visit("/upload", cookie(token), body);
    expect(JSON.parse(uploaded.body.toString())).toMatchObject({ bytes: body.length });
    expect(asked).toEqual(["/cdn-cgi/access/certs"]);
  });

  test("answers 403 to everybody else, and the service hears nothing", async () => {
    const seen = origin.seen.length;
    const wrong = [
      await sign({ aud: "another" }),
      await sign({ iss: "https://team.cloudflareaccess.com" }),
      await sign({ exp: 1 }),
      "nonsense",
    ];
    for (const token of wrong) {
      const answer = await visit("/hello", cookie(token));
      expect(answer.status).toBe(403);
    }
    expect((await visit("/hello")).status).toBe(403);
    expect((await visit("/upload", [], "x".repeat(300_000))).status).toBe(403);
    const upgrade = [
      ["Connection", "Upgrade"],
      ["Upgrade", "websocket"],
      ["Sec-WebSocket-Version", "13"],
      ["Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="],
    ] as const;
    expect((await visit("/ws", upgrade)).status).toBe(403);
    expect(origin.seen).toHaveLength(seen);
  });

  test("is off where a rule says so", async () => {
    expect((await visit("/open")).status).toBe(404);
    expect(origin.seenAt("/open")).toBeDefined();
  });

  test.each(["/moved", "/huge"])("believes no keys from %s", async (page) => {
    expect((await visit(page, cookie(await sign()))).status).toBe(403);
    expect(asked).toContain(page);
  });
});
