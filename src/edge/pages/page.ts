import { VERSION } from "../../core/version.ts";
import { type Html, type HtmlPart, html } from "./html.ts";
import { ICON } from "./icon.ts";
import { SCRIPT } from "./script.ts";
import { STYLE } from "./style.ts";

/**
 * Of every page: what it shows and runs comes from this server alone, nothing is inline, nobody frames it, and no other
 * site learns its address.
 */
export const PAGE_HEADERS: Readonly<Record<string, string>> = {
  "Content-Type": "text/html; charset=utf-8",
  "Content-Security-Policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
  "Referrer-Policy": "same-origin",
  "X-Frame-Options": "DENY",
  "X-Content-Type-Options": "nosniff",
  "Cache-Control": "no-store",
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Resource-Policy": "same-origin",
};

/** What pages load, by path. The version in the address makes an upgrade show at once. */
export const ASSETS: ReadonlyMap<string, { readonly type: string; readonly body: string }> = new Map([
  ["/assets/page.css", { type: "text/css; charset=utf-8", body: STYLE }],
  ["/assets/page.js", { type: "text/javascript; charset=utf-8", body: SCRIPT }],
  ["/assets/icon.svg", { type: "image/svg+xml", body: ICON }],
]);

/** Answers a request for an asset; undefined = it is none. */
export function assetResponse(path: string): Response | undefined {
  const asset = ASSETS.get(path);
  if (asset === undefined) return undefined;
  return new Response(asset.body, {
    headers: {
      "Content-Type": asset.type,
      "Content-Security-Policy": "default-src 'none'",
      "X-Content-Type-Options": "nosniff",
      "Cross-Origin-Resource-Policy": "same-origin",
      "Cache-Control": "no-cache",
    },
  });
}

export interface PageParts {
  readonly title: string;
  /** Name of the whole site, in the title and at the top. */
  readonly site: string;
  /** Beside the name at the top. */
  readonly nav?: HtmlPart;
  readonly content: Html;
}

export function renderPage({ title, site, nav, content }: PageParts): string {
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${title} - ${site}</title>
<link rel="icon" href="/assets/icon.svg?${VERSION}" type="image/svg+xml">
<link rel="stylesheet" href="/assets/page.css?${VERSION}">
<script type="module" src="/assets/page.js?${VERSION}"></script>
</head>
<body>
<a class="skip" href="#main">Skip to content</a>
<header>
<a class="home" href="/">${site}</a>
${nav !== undefined && html`<nav aria-label="Site">${nav}</nav>`}
</header>
<main id="main" tabindex="-1">
${content}
</main>
<p id="said" role="status" class="unseen"></p>
<footer>Culvert ${VERSION}</footer>
</body>
</html>
`.text;
}

/** A page as an answer. */
export function pageResponse(parts: PageParts, status = 200, headers: Readonly<Record<string, string>> = {}): Response {
  return new Response(renderPage(parts), { status, headers: { ...PAGE_HEADERS, ...headers } });
}
