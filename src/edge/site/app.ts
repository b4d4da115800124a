import { Hono } from "hono";
import type { Downloads } from "../../bundle/downloads.ts";
import { describe, TunnelError } from "../../core/errors.ts";
import type { Logger } from "../../core/log.ts";
import type { QuickTunnels } from "../quick/quick-tunnels.ts";

/** What the edge's own site serves. */
export interface SiteDeps {
  readonly log: Logger;
  readonly quickTunnels: QuickTunnels;
  /** The installer and the releases it takes. */
  readonly downloads: Downloads | undefined;
}

interface SiteEnvironment {
  readonly Bindings: { readonly ip: string };
}

/** The site that is served under the edge's own name, and beside its API. */
export function createSiteApp({ log, quickTunnels, downloads }: SiteDeps): Hono<SiteEnvironment> {
  const app = new Hono<SiteEnvironment>();

  // `cloudflared tunnel --quick-service` reads nothing but this JSON, whatever the status is (protocol: section 5).
  app.post("/tunnel", (context) => {
    const refuse = (status: 403 | 404 | 429 | 500 | 503, message: string): Response =>
      context.json({ success: false, result: null, errors: [{ code: status, message }], messages: [] }, status);
    // A page elsewhere must not make tunnels in the name of whoever looks at it.
    if (isCrossSite(context.req.raw)) return refuse(403, "Tunnels are not made for pages of other sites");
    if (!quickTunnels.open) return refuse(404, "This edge gives out no quick tunnels (--quick-tunnels)");
    try {
      const result = quickTunnels.create(context.env.ip);
      return context.json({ success: true, result, errors: [], messages: [] });
    } catch (error) {
      if (error instanceof TunnelError && error.code === "stream.limit") return refuse(429, error.message);
      if (error instanceof TunnelError && error.code === "store.failed" && error.retry === "same") {
        return refuse(503, "The edge's database is busy: try again");
      }
      log.error("Cannot make a quick tunnel", { error: describe(error) });
      return refuse(500, "The edge could not make a tunnel");
    }
  });

  if (downloads !== undefined) {
    app.get("/install.sh", ({ req }) => downloads.script(req.raw));
    app.get("/install.ps1", ({ req }) => downloads.powerShellScript(req.raw));
    app.get("/dl/:name", ({ req }) => downloads.file(req.param("name"), req.raw));
  }
  app.get("/", (context) => context.text("This is a Culvert edge.\n"));
  app.notFound((context) => context.text("There is nothing here.\n", 404));
  return app;
}

/** Whether a browser sends it for a page of another site (Fetch Metadata; RFC 6454 section 7). Tools send neither field. */
function isCrossSite({ headers, url }: Request): boolean {
  const site = headers.get("sec-fetch-site");
  if (site !== null && site !== "same-origin" && site !== "none") return true;
  const origin = headers.get("origin");
  if (origin === null) return false;
  return !URL.canParse(origin) || hostOf(new URL(origin)) !== hostOf(new URL(url));
}

/** A proxy in front may have taken TLS off, so the schemes may differ, and with them what the usual port is. */
function hostOf(url: URL): string {
  return url.host.replace(/:(80|443)$/, "");
}
