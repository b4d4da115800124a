import { headerValue, type RawHeaders } from "../../wire/headers.ts";

/** An answer of the edge's own: what happened, in words for the visitor, and who should do what. */
export interface EdgeError {
  readonly status: number;
  /** Number as Cloudflare uses it where there is one (1033: no connector), else the status. */
  readonly code: number;
  readonly title: string;
  readonly advice: string;
  /** Fields beside those of every such answer: `Retry-After`, `Location`. */
  readonly headers?: RawHeaders;
}

/** Pages of the operator's own. */
export interface ErrorPages {
  /** HTML for this error; undefined = the built-in page. */
  html(error: EdgeError, ray: string): string | undefined;
}

export const BUILT_IN_PAGES: ErrorPages = { html: () => undefined };

const STATUS_ADVICE: Readonly<Record<number, readonly [title: string, advice: string]>> = {
  400: ["Bad request", "The request breaks the rules of HTTP, so it was not passed on."],
  408: ["Request timeout", "The request was not complete in time."],
  413: ["Content too large", "The request is larger than this server takes."],
  414: ["URI too long", "The address of the request is longer than this server takes."],
  417: ["Expectation failed", "The request expects something that this server does not do."],
  421: ["Misdirected request", "The request came over a connection that was made for another site."],
  429: ["Too many requests", "There are more requests than this server takes. Try again in a moment."],
  431: ["Request header fields too large", "The header of the request is larger than this server takes."],
  501: ["Not implemented", "The request uses a method or coding that this server does not know."],
  503: ["Service unavailable", "The server has too much to do. Try again in a moment."],
  505: ["HTTP version not supported", "This server speaks HTTP/2 and HTTP/1.1."],
  508: [
    "Loop detected",
    "The request came back to this server again and again. The owner of the site has to look at its routes.",
  ],
};

export const UNKNOWN_HOSTNAME: EdgeError = {
  status: 404,
  code: 404,
  title: "No site here",
  advice: "No tunnel serves this hostname. If it is yours, route it to a tunnel on this edge.",
};

export const NO_CONNECTOR: EdgeError = {
  status: 530,
  code: 1033,
  title: "Tunnel error",
  advice: "The site's tunnel is not connected at the moment. If it is yours, check that its connector is running.",
};

export const BAD_GATEWAY: EdgeError = {
  status: 502,
  code: 502,
  title: "Bad gateway",
  advice: "The tunnel is up, but the service behind it did not answer. If it is yours, check that it is running.",
};

export function statusError(status: number): EdgeError {
  const [title, advice] = STATUS_ADVICE[status] ?? ["Error", "The request could not be served."];
  return { status, code: status, title, advice };
}

/** The same, with the seconds after which it may be worth to ask again (RFC 9110 section 10.2.3). */
export function tryLater(status: number, seconds: number): EdgeError {
  return { ...statusError(status), headers: ["Retry-After", String(seconds)] };
}

/** The same site over HTTPS; the method stays (RFC 9110 section 15.4.9). */
export function movedTo(location: string): EdgeError {
  return {
    status: 308,
    code: 308,
    title: "Permanent redirect",
    advice: "This site is served over HTTPS.",
    headers: ["Location", location],
  };
}

/** Renders an error as the visitor asked for it: JSON, a small page, or a line of text. */
export function renderError(
  error: EdgeError,
  request: RawHeaders,
  ray: string,
  pages: ErrorPages = BUILT_IN_PAGES,
): { headers: string[]; body: Uint8Array } {
  const accept = (headerValue(request, "accept") ?? "").toLowerCase();
  const [contentType, text] = accept.includes("application/json")
    ? ["application/json", renderJson(error, ray)]
    : accept.includes("text/html")
      ? ["text/html; charset=utf-8", pages.html(error, ray) ?? renderHtml(error, ray)]
      : [
          "text/plain; charset=utf-8",
          `${error.status} ${error.title} (error ${error.code})\n${error.advice}\nRay ID: ${ray}\n`,
        ];
  const body = new TextEncoder().encode(text);
  const headers = ["Content-Type", contentType, "Content-Length", String(body.length), "Cache-Control", "no-store"];
  return { headers: [...headers, ...(error.headers ?? []), "Cf-Ray", ray], body };
}

function renderJson(error: EdgeError, ray: string): string {
  const message = `${error.title}: ${error.advice}`;
  return `${JSON.stringify({ success: false, errors: [{ code: error.code, message }], ray })}\n`;
}

function renderHtml(error: EdgeError, ray: string): string {
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex"><title>${error.status} ${error.title}</title>
<style>:root{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}body{max-width:34rem;margin:15vh auto;padding:0 1rem}
h1{font-size:1.5rem}small{opacity:.7}</style></head><body>
<h1>${error.title} <small>error ${error.code}</small></h1>
<p>${error.advice}</p>
<p><small>Ray ID: ${ray}</small></p>
</body></html>
`;
}
