import { Hono } from "hono";
import type { z } from "zod";
import { describe } from "../../core/errors.ts";
import { VERSION } from "../../core/version.ts";
import type { Account, ApiToken } from "../store/port.ts";
import { authorize, tokenActor } from "./access.ts";
import { readJson } from "./body.ts";
import type { ApiDeps } from "./deps.ts";
import type { AnyEndpoint, Reply } from "./endpoint.ts";
import { Gate } from "./gate.ts";
import { loginPages } from "./login.ts";
import { OPENAPI_PATH, openApiDocument } from "./openapi.ts";
import { CODE, forbidden, notFound, Problem, toProblem } from "./problem.ts";
import type { CallBudget } from "./rate-limit.ts";
import { accountEndpoints } from "./resources/accounts.ts";
import { balancerEndpoints } from "./resources/balancers.ts";
import { configurationEndpoints } from "./resources/configurations.ts";
import { hostnameEndpoints } from "./resources/hostnames.ts";
import { networkEndpoints } from "./resources/networks.ts";
import { tunnelEndpoints } from "./resources/tunnels.ts";

/** In front of every path, as Cloudflare has it. */
export const API_PREFIX = "/client/v4";

/** Where a call comes from: by whom the app is run, never by what the call says. */
export interface CallOrigin {
  readonly ip: string;
  /** @default "calls" */
  readonly budget?: CallBudget;
}

/** Given by the server that the app runs in. */
export interface ApiEnvironment {
  readonly Bindings: CallOrigin;
}

/** The endpoints of the API, in no order. */
export function apiEndpoints(deps: ApiDeps): readonly AnyEndpoint[] {
  return [
    ...tunnelEndpoints(deps),
    ...configurationEndpoints(deps),
    ...hostnameEndpoints(deps),
    ...balancerEndpoints(deps),
    ...networkEndpoints(deps),
    ...accountEndpoints(deps),
  ];
}

/** The management API as a web application: authentication, limits, envelopes, and what endpoints answer. */
export function createApiApp(
  deps: ApiDeps,
  endpoints: readonly AnyEndpoint[] = apiEndpoints(deps),
): Hono<ApiEnvironment> {
  const { log } = deps;
  const app = new Hono<ApiEnvironment>();
  const api = new Hono<ApiEnvironment>();
  const gate = new Gate(deps);

  for (const one of endpoints) {
    api.on(one.method, one.path.replaceAll(/\{([^}]+)\}/g, ":$1"), async (context) => {
      const { ip, budget } = context.env;
      const token = gate.caller(context.req.header("authorization"), ip, budget);
      authorize(token, one.scope);
      const params = context.req.param() as Record<string, string>;
      const account = accountOf(deps, token, params["account_id"]);
      const query = check(one.query, firstValues(context.req.queries()), "query");
      const body = one.body === undefined ? undefined : check(one.body, await readJson(context.req.raw), "body");
      const actor = tokenActor(token, ip);
      const reply = (await one.handle({ token, actor, account, params, query, body })) as Reply<unknown>;
      return context.json(envelope(reply));
    });
  }

  // Made when somebody asks: an edge that nobody asks starts sooner.
  let document: string | undefined;
  api.get(OPENAPI_PATH, (context) => {
    document ??= JSON.stringify(openApiDocument(endpoints, API_PREFIX));
    return context.body(document, 200, { "Content-Type": "application/json" });
  });

  app.use(async (context, next) => {
    await next();
    context.header("Cache-Control", "no-store");
    context.header("X-Content-Type-Options", "nosniff");
    context.header("Server", `culvert/${VERSION}`);
  });
  app.route(API_PREFIX, api);
  app.route("/", loginPages({ ...deps, gate, apiPath: API_PREFIX }));
  app.get("/ready", (context) => context.json({ status: 200 }));
  app.notFound((context) => refuse(context, unknown(methodsOf(endpoints, context.req.path))));
  app.onError((error, context) => {
    const problem = toProblem(error);
    // The path is a template: what stands in for its parts may be somebody's secret.
    if (problem === undefined) log.error("The API failed", { path: context.req.routePath, error: describe(error) });
    return refuse(context, problem ?? new Problem(500, CODE.failed, "The edge failed; its log says why"));
  });
  return app;
}

function unknown(methods: readonly string[]): Problem {
  return methods.length === 0
    ? new Problem(404, CODE.unroutable, `There is nothing here: see ${API_PREFIX}${OPENAPI_PATH}`)
    : new Problem(405, CODE.unroutable, "This path does not take this method", { Allow: methods.join(", ") });
}

function methodsOf(endpoints: readonly AnyEndpoint[], path: string): readonly string[] {
  if (!path.startsWith(`${API_PREFIX}/`)) return [];
  const parts = path.slice(API_PREFIX.length).split("/");
  if (parts.join("/") === OPENAPI_PATH) return ["GET"];
  const fits = (one: AnyEndpoint): boolean => {
    const own = one.path.split("/");
    return own.length === parts.length && own.every((part, i) => part.startsWith("{") || part === parts[i]);
  };
  return endpoints.filter(fits).map(({ method }) => method);
}

/** The account of the path must be the token's. Throws a Problem of 403. */
function accountOf({ store }: ApiDeps, token: ApiToken, tag: string | undefined): Account {
  if (tag !== undefined && tag !== token.accountTag) {
    throw forbidden("The token is not for this account");
  }
  const account = store.accounts.get(token.accountTag);
  if (account === undefined) throw notFound("Account");
  return account;
}

function check<T>(schema: AnyEndpoint["query"], value: unknown, what: "query" | "body"): T {
  const read = schema.safeParse(value, { error: inWords });
  if (read.success) return read.data as T;
  const said = read.error.issues.map(({ path, message }) => `${path.length === 0 ? what : path.join(".")}: ${message}`);
  throw new Problem(400, CODE.invalid, said.join("; "));
}

/** What people read of a text that is too short or too long; undefined = the library's own words. */
function inWords(issue: z.core.$ZodRawIssue): string | undefined {
  if (issue.code === "too_small" && issue.origin === "string") {
    return issue.minimum === 1 ? "Must not be empty" : `Must have at least ${issue.minimum} characters`;
  }
  if (issue.code === "too_big" && issue.origin === "string") return `Must have at most ${issue.maximum} characters`;
  return undefined;
}

/** Of a parameter that is given twice the first one counts, as in Go. */
function firstValues(queries: Record<string, string[]>): Record<string, string> {
  return Object.fromEntries(Object.entries(queries).map(([name, values]) => [name, values[0] ?? ""]));
}

/** Cloudflare's envelope (protocol: section 10). */
function envelope({ result, paging }: Reply<unknown>): object {
  const base = { success: true, errors: [], messages: [], result };
  if (paging === undefined) return base;
  const { page, perPage, total } = paging;
  const count = Array.isArray(result) ? result.length : 0;
  const info = { count, page, per_page: perPage, total_count: total, total_pages: Math.ceil(total / perPage) };
  return { ...base, result_info: info };
}

function refuse(
  context: { json: (body: object, status: Problem["status"], headers: Record<string, string>) => Response },
  { status, code, message, headers }: Problem,
): Response {
  const body = { success: false, errors: [{ code, message }], messages: [], result: null };
  return context.json(body, status, { ...headers });
}
