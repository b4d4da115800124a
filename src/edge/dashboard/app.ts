import { Hono, type HonoRequest } from "hono";
import { deleteCookie, getCookie, setCookie } from "hono/cookie";
import type { Clock } from "../../core/clock.ts";
import { describe } from "../../core/errors.ts";
import { parseConnectorId } from "../../core/ids.ts";
import type { Logger } from "../../core/log.ts";
import { parseToken } from "../../wire/token.ts";
import { isSafe, readForm, refuseForeign } from "../api/form.ts";
import { forbidden, Problem } from "../api/problem.ts";
import { assetResponse } from "../pages/page.ts";
import { ApiCaller, type ApiFetch, ApiRefusal, type TunnelView } from "./api-caller.ts";
import { logStream } from "./log-stream.ts";
import { formatRules, readRules } from "./rules-text.ts";
import { type DashboardSession, isFormOf, Sessions } from "./sessions.ts";
import type { OpenTunnelLogs } from "./tunnel-logs.ts";
import {
  type DetailView,
  detailPage,
  detailRefresh,
  type ListView,
  listPage,
  listRefresh,
  messagePage,
  type Notice,
  signInPage,
} from "./views.ts";

const MAX_FORM_BYTES = 3 * 1024 * 1024;
const PER_PAGE = 50;
/** Without TLS a cookie cannot have the name that only TLS may set (RFC 6265bis section 4.1.3.2). */
const COOKIES = { secure: "__Host-culvert", plain: "culvert-dashboard" } as const;

/** What is told after a redirect: a closed list, because addresses come from anywhere. */
const DONE: Readonly<Record<string, string>> = {
  created: "The tunnel is there. Add a hostname, and run a connector.",
  deleted: "The tunnel is deleted.",
  added: "The hostname leads to this tunnel.",
  removed: "The hostname leads nowhere now.",
  saved: "Saved: connectors have the new rules.",
};

const SIGNED_OUT = "You are signed out, or your token is not good any more: sign in again.";

export interface DashboardDeps {
  readonly api: ApiFetch;
  readonly clock: Clock;
  readonly log: Logger;
  /** Undefined = connectors' logs cannot be reached. */
  readonly logs: OpenTunnelLogs | undefined;
  /** Ends what waits and streams. */
  readonly stopping: AbortSignal;
}

interface DashboardEnvironment {
  readonly Bindings: { readonly ip: string };
  Variables: { session: DashboardSession; caller: ApiCaller; form: URLSearchParams };
}

/**
 * The dashboard: pages for people, whose every action is a call of the API with the token they signed in with. A
 * browser keeps an httpOnly cookie that other sites cannot have sent; forms carry a key besides.
 */
export function createDashboard({ api, clock, log, logs, stopping }: DashboardDeps): Hono<DashboardEnvironment> {
  const app = new Hono<DashboardEnvironment>();
  const sessions = new Sessions(clock);
  const show = (vars: Variables, id: string, change: DetailChange): Promise<Response> =>
    detail(vars, id, logs !== undefined, change);

  app.get("/assets/:file", (context) => assetResponse(context.req.path) ?? context.notFound());

  app.post("/session", async (context) => {
    const { headers, url } = context.req.raw;
    refuseForeign(headers);
    const origin = new URL(headers.get("origin") ?? url).origin;
    if (!isSafe(origin)) {
      return signInPage({
        wrong: "This page came without TLS from another machine, and so would your token travel. Open it by https.",
        status: 400,
      });
    }
    const secret = (await readForm(context.req.raw, MAX_FORM_BYTES)).get("token")?.trim() ?? "";
    let id: string;
    try {
      id = sessions.start(secret, await ApiCaller.accountOf(api, secret, context.env.ip));
    } catch (error) {
      if (!(error instanceof ApiRefusal)) throw error;
      const wrong = error.status === 401 ? "The token is unknown, revoked or expired." : `${error.message}.`;
      return signInPage({ wrong, status: error.status });
    }
    const secure = origin.startsWith("https:");
    setCookie(context, secure ? COOKIES.secure : COOKIES.plain, id, {
      ...{ httpOnly: true, sameSite: "Strict", path: "/", secure },
    });
    return context.redirect("/", 303);
  });

  // Whoever is not signed in gets the same page everywhere.
  app.use(async (context, next) => {
    const isPage = context.req.path === "/" || /^\/(tunnels|session)(\/|$)/.test(context.req.path);
    if (!isPage) return await next();
    const id = getCookie(context, COOKIES.secure) ?? getCookie(context, COOKIES.plain);
    const session = id === undefined ? undefined : sessions.find(id);
    const isRead = context.req.method === "GET" || context.req.method === "HEAD";
    if (session === undefined || id === undefined) {
      if (!isRead || context.req.path.endsWith("/logs")) return signInPage({ wrong: SIGNED_OUT, status: 401 });
      if (context.req.path !== "/") return context.redirect("/?ended=1", 303);
      return signInPage(context.req.query("ended") === undefined ? {} : { wrong: SIGNED_OUT });
    }
    if (!isRead) {
      refuseForeign(context.req.raw.headers);
      const form = await readForm(context.req.raw, MAX_FORM_BYTES);
      if (!isFormOf(session, form.get("key"))) throw forbidden("This form is not of this session");
      context.set("form", form);
    }
    context.set("session", session);
    const budget = isRefresh(context.req) ? "refreshes" : "calls";
    context.set("caller", new ApiCaller(api, { ...session, ip: context.env.ip, budget }));
    try {
      return await next();
    } finally {
      // The token was revoked, or ran out.
      if (context.error instanceof ApiRefusal && context.error.status === 401) sessions.end(id);
    }
  });

  app.post("/session/end", (context) => {
    for (const name of Object.values(COOKIES)) {
      const id = getCookie(context, name);
      if (id === undefined) continue;
      sessions.end(id);
      deleteCookie(context, name, { path: "/", secure: name === COOKIES.secure });
    }
    return context.redirect("/", 303);
  });

  app.get("/", async (context) => {
    const query = context.req.query();
    return isRefresh(context.req) ? listRefresh(await listed(context.var, query)) : await list(context.var, query);
  });

  app.post("/tunnels", async (context) => {
    const name = context.var.form.get("name")?.trim() ?? "";
    try {
      const id = await context.var.caller.createTunnel(name);
      return context.redirect(`/tunnels/${id}?done=created`, 303);
    } catch (error) {
      return await list(context.var, {}, { ...refusal(error), name });
    }
  });

  app.get("/tunnels/:id", async (context) => {
    const id = context.req.param("id");
    if (!isRefresh(context.req)) return await show(context.var, id, told(context.req.query("done")));
    const { caller } = context.var;
    return detailRefresh({ tunnel: await existing(caller, id), connectors: await caller.connectors(id) });
  });

  app.post("/tunnels/:id/install", async (context) => {
    const id = context.req.param("id");
    const { caller } = context.var;
    const token = await caller.tunnelToken(id);
    return await show(context.var, id, { install: installCommands(token) });
  });

  app.post("/tunnels/:id/hostnames", async (context) => {
    const id = context.req.param("id");
    const { form, caller } = context.var;
    const hostname = form.get("hostname")?.trim() ?? "";
    try {
      await caller.addHostname(id, form.get("zone") ?? "", hostname);
      return context.redirect(`/tunnels/${id}?done=added`, 303);
    } catch (error) {
      return await show(context.var, id, { ...refusal(error), hostname });
    }
  });

  app.post("/tunnels/:id/hostnames/delete", async (context) => {
    const id = context.req.param("id");
    const { form, caller } = context.var;
    try {
      await caller.deleteHostname(form.get("zone") ?? "", form.get("hostname") ?? "");
      return context.redirect(`/tunnels/${id}?done=removed`, 303);
    } catch (error) {
      return await show(context.var, id, refusal(error));
    }
  });

  app.post("/tunnels/:id/configuration", async (context) => {
    const id = context.req.param("id");
    const { form, caller } = context.var;
    const text = form.get("rules") ?? "";
    const read = await readRules(text);
    if ("error" in read) return await show(context.var, id, { ...wrong(read.error, 400), configuration: text });
    if (form.get("do") !== "save") {
      return await show(context.var, id, {
        notice: { kind: "done", text: "The rules are good. They are not saved yet." },
        configuration: text,
      });
    }
    try {
      await caller.putConfiguration(id, read.config);
      return context.redirect(`/tunnels/${id}?done=saved`, 303);
    } catch (error) {
      return await show(context.var, id, { ...refusal(error), configuration: text });
    }
  });

  app.post("/tunnels/:id/delete", async (context) => {
    const id = context.req.param("id");
    const { form, caller } = context.var;
    try {
      await caller.deleteTunnel(id, form.get("force") === "yes");
      return context.redirect("/?done=deleted", 303);
    } catch (error) {
      return await show(context.var, id, refusal(error));
    }
  });

  app.get("/tunnels/:id/logs", async (context) => {
    if (logs === undefined) return messagePage(404, "Not found", "This edge does not reach its connectors' logs.");
    // Only the page itself opens it: a stream that another site opened would be an action.
    if ((context.req.header("sec-fetch-site") ?? "same-origin") !== "same-origin") {
      throw forbidden("This was asked by another site");
    }
    const token = await context.var.caller.logToken(context.req.param("id"));
    const connectorId = parseConnectorId(context.req.query("connector") ?? "");
    return logStream({ open: logs, token, connectorId }, { clock, stopping, signal: context.req.raw.signal });
  });

  app.onError((error, context) => {
    if (error instanceof ApiRefusal) {
      const isRead = context.req.method === "GET" || context.req.method === "HEAD";
      // The session is over by now, so this leads to the form.
      if (error.status === 401 && isRead) return context.redirect("/?ended=1", 303);
      if (error.status === 401) return signInPage({ wrong: SIGNED_OUT, status: 401 });
      return messagePage(
        error.status,
        error.status === 404 ? "Not found" : "Refused",
        `${error.message}.`,
        error.headers,
      );
    }
    if (error instanceof Problem) return messagePage(error.status, "Refused", `${error.message}.`, error.headers);
    log.error("The dashboard failed", { error: describe(error) });
    return messagePage(500, "The edge failed", "Its log says why.");
  });
  return app;
}

type Variables = DashboardEnvironment["Variables"];

/** Whether a page that is open asks for what may have changed; no other site can set this header. */
function isRefresh(request: HonoRequest): boolean {
  const { method, path } = request;
  return method === "GET" && /^\/(tunnels\/[^/]+)?$/.test(path) && request.header("x-refresh") !== undefined;
}

async function list(
  { caller, session }: Variables,
  query: Readonly<Record<string, string>>,
  more: { readonly notice?: Notice; readonly status?: number; readonly name?: string } = told(query["done"]),
): Promise<Response> {
  const { notice, status, name = "" } = more;
  return listPage({ ...(await listed({ caller }, query)), formKey: session.formKey, notice, name }, status);
}

async function listed(
  { caller }: Pick<Variables, "caller">,
  query: Readonly<Record<string, string>>,
): Promise<Omit<ListView, "formKey" | "notice">> {
  const page = Math.min(Math.max(1, Math.floor(Number(query["page"] ?? 1)) || 1), 1_000_000);
  const prefix = (query["name"] ?? "").slice(0, 100);
  return { ...(await caller.tunnels(page, PER_PAGE, prefix)), page, perPage: PER_PAGE, prefix };
}

type DetailChange = Partial<Pick<DetailView, "notice" | "install" | "configuration" | "hostname">> & {
  readonly status?: number;
};

async function detail(
  { caller, session }: Variables,
  id: string,
  hasLogs: boolean,
  { status, ...change }: DetailChange = {},
): Promise<Response> {
  const tunnel = await existing(caller, id);
  const [connectors, zones, { version, config }] = await Promise.all([
    caller.connectors(id),
    caller.zones(),
    caller.configuration(id),
  ]);
  const view: DetailView = {
    ...{ formKey: session.formKey, tunnel, connectors, zones, hasLogs },
    ...{ hostnames: await caller.hostnames(id, zones), configurationVersion: version },
    ...{ notice: undefined, install: undefined, configuration: change.configuration ?? (await formatRules(config)) },
    ...change,
  };
  return detailPage(view, status);
}

async function existing(caller: ApiCaller, id: string): Promise<TunnelView> {
  const tunnel = await caller.tunnel(id);
  if (tunnel.deleted_at !== null) throw new ApiRefusal(404, "This tunnel is deleted");
  return tunnel;
}

function told(done: string | undefined): { readonly notice?: Notice } {
  const text = done !== undefined && Object.hasOwn(DONE, done) ? DONE[done] : undefined;
  return text === undefined ? {} : { notice: { kind: "done", text } };
}

function wrong(text: string, status: number): { readonly notice: Notice; readonly status: number } {
  return { notice: { kind: "wrong", text }, status };
}

/** What the API said, on the page that asked; whoever is not signed in any more has to leave it. */
function refusal(error: unknown): ReturnType<typeof wrong> {
  if (!(error instanceof ApiRefusal) || error.status === 401) throw error;
  return wrong(error.message, error.status);
}

/** The tunnel's token has the addresses for our own connectors; cloudflared wants to be told. */
function installCommands(token: string): DetailView["install"] {
  const parsed = parseToken(token);
  const edges = parsed.ok ? parsed.value.edges : [];
  const there = edges.map(({ addr }) => `--edge ${addr} `).join("");
  const run = `run --token ${token} --url http://localhost:8080`;
  return [
    { title: "With culvert", command: `culvert tunnel ${run}` },
    {
      title: "With cloudflared; ca.pem is in the state directory of the edge",
      command: `cloudflared tunnel ${there}--cacert ca.pem ${run}`,
    },
  ];
}
