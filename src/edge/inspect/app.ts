import { createHash, timingSafeEqual } from "node:crypto";
import { Hono } from "hono";
import { deleteCookie, getCookie, setCookie } from "hono/cookie";
import { TunnelError } from "../../core/errors.ts";
import type { ApiEnvironment } from "../api/app.ts";
import { refuseForeign } from "../api/form.ts";
import { Problem } from "../api/problem.ts";
import { assetResponse } from "../pages/page.ts";
import { BodyViews } from "./body-text.ts";
import { harText } from "./har.ts";
import { listPage, problemPage, requestPage } from "./inspect-page.ts";
import type { Recording, Recordings } from "./recording.ts";
import type { Replays } from "./replay.ts";

export interface InspectAppDeps {
  readonly recordings: Recordings;
  readonly replays: Pick<Replays, "start">;
  /** How many recordings are kept. */
  readonly max: number;
  /** Whoever knows it may look: it stands in the address that the owner is told. */
  readonly key: string;
}

/**
 * The inspector's pages. `/?key=KEY` is what its owner opens first; from then on a cookie of this browser says the same.
 * Other users of this machine, and other pages in the browser, have neither.
 */
export function createInspectApp(deps: InspectAppDeps): Hono<ApiEnvironment> {
  const { recordings, replays, max, key } = deps;
  const app = new Hono<ApiEnvironment>();
  const views = new BodyViews();
  const proof = digest(`cookie ${key}`);
  // Cookies do not tell ports apart.
  const cookie = `culvert-inspect-${digest(`name ${key}`).slice(0, 12)}`;

  app.get("/assets/:file", (context) => assetResponse(context.req.path) ?? context.notFound());

  app.use(async (context, next) => {
    const given = context.req.query("key");
    if (given !== undefined && context.req.method === "GET") {
      if (!same(given, key)) return refused("The key in this address is not good any more.");
      setCookie(context, cookie, proof, { httpOnly: true, sameSite: "Strict", path: "/" });
      return context.redirect("/", 303);
    }
    const shown = getCookie(context, cookie);
    if (shown === undefined || !same(shown, proof)) {
      if (shown !== undefined) deleteCookie(context, cookie);
      return refused("Open the address that the command printed, with its key.");
    }
    if (context.req.method !== "GET" && context.req.method !== "HEAD") refuseForeign(context.req.raw.headers);
    return await next();
  });

  app.get("/", (context) => {
    const search = (context.req.query("q") ?? "").slice(0, 200);
    const all = recordings.newestFirst;
    const fitting = search === "" ? all : all.filter((one) => fits(one, search.toLowerCase()));
    return listPage({ recordings: fitting, search, seen: recordings.seen, kept: all.length, max });
  });

  app.get("/requests.har", () => har(recordings.newestFirst, "culvert.har"));
  app.get("/requests/:file{[0-9]+\\.har}", (context) => {
    const one = find(context.req.param("file").slice(0, -".har".length));
    return one === undefined ? gone() : har([one], `culvert-${one.id}.har`);
  });

  app.get("/requests/:id{[0-9]+}", (context) => {
    const one = find(context.req.param("id"));
    return one === undefined ? gone() : requestPage(one, (body, headers) => views.show(body, headers));
  });

  app.post("/requests/:id{[0-9]+}/replay", (context) => {
    const one = find(context.req.param("id"));
    return one === undefined ? gone() : context.redirect(`/requests/${replays.start(one).id}`, 303);
  });

  app.post("/clear", (context) => {
    recordings.clear();
    return context.redirect("/", 303);
  });

  app.notFound(() => problemPage(404, "Not found", "There is no such page."));
  app.onError((error) => {
    if (error instanceof Problem) return problemPage(error.status, "Refused", error.message);
    if (error instanceof TunnelError) return problemPage(409, "That does not work", error.message);
    throw error;
  });
  return app;

  function find(id: string): Recording | undefined {
    return recordings.get(Number(id));
  }
}

function gone(): Response {
  return problemPage(404, "Gone", "This request is not kept any more.");
}

function refused(why: string): Response {
  return problemPage(401, "Who is there?", why);
}

function har(recordings: readonly Recording[], name: string): Response {
  const pieces = harText(recordings);
  const encoder = new TextEncoder();
  const stream = new ReadableStream<Uint8Array>({
    pull: async (controller) => {
      const { done, value } = await pieces.next();
      if (done) controller.close();
      else controller.enqueue(encoder.encode(value));
    },
    cancel: async () => void (await pieces.return()),
  });
  return new Response(stream, {
    headers: {
      "Content-Type": "application/json",
      "Content-Disposition": `attachment; filename="${name}"`,
      "Cache-Control": "no-store",
      "X-Content-Type-Options": "nosniff",
    },
  });
}

function fits({ request, status }: Recording, search: string): boolean {
  return `${request.method} ${request.authority}${request.path} ${status ?? ""}`.toLowerCase().includes(search);
}

function digest(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

function same(given: string, expected: string): boolean {
  return timingSafeEqual(createHash("sha256").update(given).digest(), createHash("sha256").update(expected).digest());
}
