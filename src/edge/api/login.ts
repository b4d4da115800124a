import { Hono } from "hono";
import { formatCertPem } from "../../wire/cert-pem.ts";
import { ipGroup } from "../../wire/ip-bytes.ts";
import type { ApiToken } from "../store/port.ts";
import { tokenActor } from "./access.ts";
import type { ApiDeps } from "./deps.ts";
import { isSafe, readForm, refuseForeign } from "./form.ts";
import type { Gate } from "./gate.ts";
import { LoginDesk } from "./login-desk.ts";
import { LOGIN_PAGE_HEADERS, type LoginPage, renderLoginPage } from "./login-page.ts";
import { CODE, notFound, Problem } from "./problem.ts";
import { callLimit } from "./rate-limit.ts";

/** Name of a place for the answer: a public key of NaCl as base64url (protocol: section 5). */
const KEY = /^[A-Za-z0-9_-]{43}=?$/;
const MAX_FORM_BYTES = 8 * 1024;
const CLEAR_TEXT =
  "This page came without TLS from another machine, and so would every command send your token. Open it by https.";

interface LoginEnvironment {
  readonly Bindings: { readonly ip: string };
}

/**
 * The browser's way to cert.pem: `GET /login?callback=…/KEY` shows a page that takes an API token, `POST /login` leaves
 * the certificate for the key, and `GET /login/KEY` waits for it and gets it once. The token is in no URL.
 */
export function loginPages(deps: ApiDeps & { readonly gate: Gate; readonly apiPath: string }): Hono<LoginEnvironment> {
  const { gate, clock } = deps;
  const app = new Hono<LoginEnvironment>();
  const desk = new LoginDesk(clock, deps.stopping);
  const visits = callLimit();

  app.use("/login/*", async (context, next) => {
    visits.count(ipGroup(context.env.ip), clock.wallMs());
    await next();
  });

  const show = (page: LoginPage, status = 200): Response =>
    new Response(renderLoginPage(page), { status, headers: LOGIN_PAGE_HEADERS });

  app.get("/login", (context) => show({ kind: "ask", key: keyOf(context.req.query("callback")) }));

  app.post("/login", async (context) => {
    const { headers } = context.req.raw;
    refuseForeign(headers);
    const form = await readForm(context.req.raw, MAX_FORM_BYTES);
    const key = KEY.test(form.get("key") ?? "") ? (form.get("key") ?? "") : undefined;
    let token: ApiToken;
    try {
      token = gate.caller(`Bearer ${form.get("token")?.trim() ?? ""}`, context.env.ip);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      const wrong = error.status === 401 ? "The token is unknown, revoked or expired." : `${error.message}.`;
      return show({ kind: "ask", key, wrong }, error.status);
    }
    const [zone] = deps.store.accounts.zones(token.accountTag);
    if (zone === undefined) throw notFound("Zone");
    // Only the browser knows whether something in front of the edge speaks TLS.
    const origin = new URL(headers.get("origin") ?? context.req.url).origin;
    if (!isSafe(origin)) return show({ kind: "ask", key, wrong: CLEAR_TEXT }, 400);
    const pem = formatCertPem({
      ...{ zoneId: zone.id, accountId: token.accountTag, apiToken: form.get("token")?.trim() ?? "", endpoint: "" },
      ...{ apiUrl: origin + deps.apiPath, apiCa: origin.startsWith("https:") ? deps.ca : undefined },
    });
    const as = key === undefined || form.get("as") === "file" ? "file" : "callback";
    deps.store.audit.add(tokenActor(token, context.env.ip), "token.login", token.id, { as });
    deps.log.info("Somebody logged in with a browser", { token: token.name, ip: context.env.ip });
    if (key === undefined || as === "file") {
      return new Response(pem, {
        headers: {
          "Content-Type": "application/x-pem-file",
          "Content-Disposition": 'attachment; filename="cert.pem"',
        },
      });
    }
    if (desk.leave(key, pem)) return show({ kind: "done" });
    return show({ kind: "ask", key, wrong: "Too many logins wait at once. Try again in some minutes." }, 503);
  });

  app.get("/login/:key", async (context) => {
    const key = context.req.param("key");
    if (!KEY.test(key)) throw notFound("Login");
    const pem = await desk.fetch(key, context.env.ip, context.req.raw.signal);
    if (pem === undefined) return context.body(null, 204);
    if (pem === "full")
      throw new Problem(429, CODE.rateLimited, "Too many logins wait at once", { "Retry-After": "5" });
    return context.body(pem, 200, { "Content-Type": "application/x-pem-file" });
  });
  return app;
}

/** The last part of the address that the terminal asks; undefined when it asks none. */
function keyOf(callback: string | undefined): string | undefined {
  const key = callback?.slice(callback.lastIndexOf("/") + 1) ?? "";
  return KEY.test(key) ? key : undefined;
}
