import { createSign, generateKeyPairSync } from "node:crypto";
import nacl from "tweetnacl";
import type { TestCertificate } from "./certificate.ts";

export const APP_HOST = "app.example.test";
export const AUTH_HOST = "team.cloudflareaccess.com";
export const TRANSFER_HOST = "login.cloudflareaccess.org";
export const ACCESS_HOSTS = [APP_HOST, AUTH_HOST, TRANSFER_HOST] as const;
export const AUDIENCE = "a".repeat(64);

export interface SeenRequest {
  readonly host: string;
  readonly method: string;
  readonly path: string;
  readonly cookie: string | null;
  readonly token: string | null;
}

/** Stands for Access in front of an application that echoes WebSocket messages, all its hosts on one port. */
export class AccessServer implements AsyncDisposable {
  readonly seen: SeenRequest[] = [];
  /** Changes what an application says about itself. */
  metadata: Record<string, unknown> = {};
  /** Signs SSH keys; without it nobody gets a certificate. */
  certify: ((publicKey: string) => Promise<string>) | undefined;
  /** Signs with a key that is not among the published ones. */
  forged = false;
  readonly #keys = generateKeyPairSync("rsa", { modulusLength: 2_048 });
  readonly #otherKeys = generateKeyPairSync("rsa", { modulusLength: 2_048 });
  readonly #valid = new Set<string>();
  readonly #sealed = new Map<string, { readonly body: string; readonly key: string }>();
  readonly #server: Bun.Server<undefined>;
  #serial = 0;

  constructor(tls: TestCertificate) {
    this.#server = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      tls,
      fetch: (request, server) => {
        const token = request.headers.get("cf-access-token");
        if (request.headers.has("upgrade") && this.#valid.has(token ?? "") && server.upgrade(request)) {
          this.#note(request);
          return undefined;
        }
        return this.#answer(request);
      },
      websocket: {
        message(ws, message) {
          ws.send(message);
        },
      },
    });
  }

  get port(): number {
    return this.#server.port ?? 0;
  }

  /** What the person does with the page: logs in, so that the transfer service has tokens for the key in it. */
  logIn(page: string): void {
    const url = new URL(page);
    const name = url.searchParams.get("token") ?? "";
    const key = Buffer.from(name, "base64url");
    const pair = nacl.box.keyPair();
    const nonce = nacl.randomBytes(nacl.box.nonceLength);
    const tokens = JSON.stringify({ app_token: this.issue("app"), org_token: this.issue("org") });
    const box = nacl.box(Buffer.from(tokens), nonce, key, pair.secretKey);
    this.#sealed.set(name, {
      body: Buffer.concat([nonce, box]).toString("base64"),
      key: Buffer.from(pair.publicKey).toString("base64").replaceAll("+", "-").replaceAll("/", "_"),
    });
  }

  /** A token that is taken until it is revoked. */
  issue(kind: "app" | "org", differs: Record<string, unknown> = {}): string {
    this.#serial += 1;
    const nowS = Math.floor(Date.now() / 1_000);
    const claims = { aud: [kind === "app" ? AUDIENCE : "org"], email: "me@example.test", exp: nowS + 3_600, iat: nowS };
    const iss = `https://${AUTH_HOST}`;
    const token = this.#sign({ ...claims, iss, jti: this.#serial, ...differs }, false);
    this.#valid.add(token);
    return token;
  }

  revokeAll(): void {
    this.#valid.clear();
  }

  #sign(claims: Record<string, unknown>, forged: boolean): string {
    const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url");
    const signed = `${encode({ alg: "RS256", kid: "one", typ: "JWT" })}.${encode(claims)}`;
    const key = (forged ? this.#otherKeys : this.#keys).privateKey;
    return `${signed}.${createSign("RSA-SHA256").update(signed).sign(key, "base64url")}`;
  }

  #note(request: Request): void {
    const url = new URL(request.url);
    const { headers } = request;
    this.seen.push({
      host: (headers.get("host") ?? "").replace(/:\d+$/, ""),
      method: request.method,
      path: url.pathname + url.search,
      cookie: headers.get("cookie"),
      token: headers.get("cf-access-token"),
    });
  }

  /** `cert_sign` of the organisation (surface: section 5). */
  async #certificate(request: Request): Promise<Response> {
    const { public_key: publicKey, jwt, issuer } = (await request.json()) as Record<string, string>;
    if (!this.#valid.has(jwt ?? "") || issuer !== `https://${AUTH_HOST}`) {
      return Response.json({ status: 403, message: "the token is \u001b[1mnot\u001b[0m valid" }, { status: 403 });
    }
    const certificate = await this.certify?.(publicKey ?? "");
    if (certificate === undefined)
      return Response.json({ status: 500, message: "no\u001b[31m authority" }, { status: 500 });
    return Response.json({ id: "one", certificate, expires_at: new Date(Date.now() + 180_000).toISOString() });
  }

  #answer(request: Request): Response | Promise<Response> {
    this.#note(request);
    const { host, path, cookie, token } = this.seen.at(-1) as SeenRequest;
    if (host === TRANSFER_HOST) {
      const found = this.#sealed.get(path.replace("/transfer/", ""));
      if (found === undefined) return new Response("not yet", { status: 404 });
      return new Response(found.body, { headers: { "service-public-key": found.key } });
    }
    if (host === AUTH_HOST) {
      if (path === "/cdn-cgi/access/certs") {
        const jwk = this.#keys.publicKey.export({ format: "jwk" });
        return Response.json({ keys: [{ ...jwk, kid: "one", alg: "RS256", use: "sig" }], public_certs: [] });
      }
      if (path === "/cdn-cgi/access/cert_sign" && request.method === "POST") return this.#certificate(request);
      if (!this.#valid.has(/CF_Authorization=([^;]+)/.exec(cookie ?? "")?.[1] ?? ""))
        return new Response("log in here");
      const location = `https://${APP_HOST}:${this.port}/cdn-cgi/access/authorized?nonce=1`;
      return this.#redirect(location, "CF_AppSession=the-session; Path=/; Secure; HttpOnly");
    }
    if (request.headers.get("cf-access-metadata-request") === "true") {
      const iat = Math.floor(Date.now() / 1_000);
      const claims = { type: "match", hostname: APP_HOST, auth_domain: AUTH_HOST, aud: AUDIENCE, iat };
      const metadata = this.#sign({ ...claims, app_hostname: "*.example.test", ...this.metadata }, this.forged);
      return new Response(null, { headers: { "cf-access-metadata": metadata } });
    }
    if (path.startsWith("/cdn-cgi/access/authorized") && cookie === "CF_AppSession=the-session") {
      const expires = new Date(Date.now() + 3_600_000).toUTCString();
      return this.#redirect("/", `CF_Authorization=${this.issue("app")}; Expires=${expires}; Path=/; Secure`);
    }
    if (this.#valid.has(token ?? "")) return new Response(`hello, ${path}\n`);
    return this.#redirect(`https://${AUTH_HOST}:${this.port}/cdn-cgi/access/login/${APP_HOST}?kid=${AUDIENCE}`);
  }

  #redirect(location: string, cookie?: string): Response {
    const headers = new Headers({ Location: location });
    if (cookie !== undefined) headers.append("Set-Cookie", cookie);
    return new Response(null, { status: 302, headers });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.stop(true);
  }
}
