import { STATUS_CODES } from "node:http";
import { redactTarget } from "../../core/redact-target.ts";
import type { RawHeaders } from "../../wire/headers.ts";
import { type Html, type HtmlPart, html } from "../pages/html.ts";
import { pageResponse } from "../pages/page.ts";
import type { ShownBody } from "./body-text.ts";
import { urlOf } from "./har.ts";
import { type BodyCopy, isReplayable, MAX_BODY_BYTES, type Recording } from "./recording.ts";
import { redactHeaders, redactPairs } from "./redact.ts";

const SITE = "Culvert inspector";
/** How often the page asks for news, in ms. */
const REFRESH_MS = 1_000;

export interface ListView {
  /** Newest first, those that fit the search. */
  readonly recordings: readonly Recording[];
  readonly search: string;
  readonly seen: number;
  readonly kept: number;
  /** How many are kept at most. */
  readonly max: number;
}

export function listPage({ recordings, search, seen, kept, max }: ListView): Response {
  const rows = recordings.map(
    (one) => html`<tr>
<td>${new Date(one.startedAtMs).toISOString().slice(11, 23)}</td>
<td>${one.request.method}${one.replayOf !== undefined && html` <small>(replay)</small>`}</td>
<td><a id="r${one.id}" href="/requests/${one.id}">${redactTarget(clip(one.request.path))}</a><br><small>${one.request.authority}</small></td>
<td>${statusOf(one)}</td>
<td class="number">${ms(one.durationMs)}</td>
<td class="number">${size(one.body.total)}</td>
</tr>`,
  );
  const empty =
    search === ""
      ? html`<p>No request yet. Open the public URL: what goes through the tunnel shows here.</p>`
      : html`<p>No request fits.</p>`;
  return pageResponse({
    title: "Requests",
    site: SITE,
    content: html`<h1>Requests</h1>
<form class="row" method="get" action="/" role="search">
<div><label for="q">Search method, host, path or status</label><input id="q" name="q" type="search" value="${search}"></div>
<button>Search</button>
</form>
<div id="list" data-live="${REFRESH_MS}">
<p class="hint">${seen} seen, ${kept} kept (the last ${max}). Times are UTC.</p>
${
  rows.length === 0
    ? empty
    : html`<div class="scroll"><table>
<caption class="unseen">Requests, newest first</caption>
<thead><tr><th scope="col">Time</th><th scope="col">Method</th><th scope="col">Path</th><th scope="col">Answer</th><th scope="col" class="number">Duration</th><th scope="col" class="number">Size</th></tr></thead>
<tbody>${rows}</tbody></table></div>`
}
</div>
<div class="row">
<p><a href="/requests.har" download="culvert.har">Save all as HAR</a></p>
<form method="post" action="/clear" data-confirm="Forget all requests?"><button class="danger">Clear</button></form>
</div>
<p class="hint">Values that look like secrets are shown as REDACTED. Of bodies the first ${size(MAX_BODY_BYTES)} are kept.</p>`,
  });
}

/** `show`: a body as it may be shown. */
export async function requestPage(
  one: Recording,
  show: (body: BodyCopy, headers: RawHeaders) => Promise<ShownBody>,
): Promise<Response> {
  const { request } = one;
  const asked = await show(one.requestBody, request.headers);
  const answered = await show(one.body, one.headers);
  const query = redactPairs(request.path.slice(request.path.indexOf("?") + 1));
  return pageResponse({
    title: `${request.method} ${redactTarget(clip(request.path))}`,
    site: SITE,
    content: html`<p><a href="/">All requests</a></p>
<h1>${request.method} ${redactTarget(clip(request.path))}</h1>
<div id="summary" data-live="${REFRESH_MS}" data-say="${one.durationMs === undefined ? "Running" : `Answered ${one.status ?? "with nothing"}`}">
<dl>
<dt>URL</dt><dd><code>${redactTarget(urlOf(one))}</code></dd>
<dt>Came</dt><dd>${new Date(one.startedAtMs).toISOString()}</dd>
<dt>Answer</dt><dd>${statusOf(one)}${one.answeredBy === "connector" && " (by the connector, not by the service)"}</dd>
<dt>First byte after</dt><dd>${ms(one.firstByteMs)}</dd>
<dt>Over after</dt><dd>${ms(one.durationMs)}</dd>
<dt>Connector</dt><dd><code>${one.connectorId ?? "-"}</code></dd>
${one.retries > 0 && html`<dt>Retries</dt><dd>${one.retries}</dd>`}
${one.replayOf !== undefined && html`<dt>Replay of</dt><dd><a href="/requests/${one.replayOf}">request ${one.replayOf}</a></dd>`}
${one.error !== undefined && html`<dt>Error</dt><dd>${one.error}</dd>`}
</dl>
</div>
<div class="row">
${
  isReplayable(one)
    ? html`<form method="post" action="/requests/${one.id}/replay"><button class="first">Replay</button></form>`
    : html`<p class="hint">It cannot be replayed: ${request.kind === "http" ? "its body was not kept as a whole" : "it is a WebSocket"}.</p>`
}
<p><a href="/requests/${one.id}.har" download="culvert-${one.id}.har">Save as HAR</a></p>
</div>
<section aria-labelledby="asked"><h2 id="asked">Request</h2>
${query.length > 0 && request.path.includes("?") && pairs("Query", query)}
${pairs("Headers of the request", redactHeaders(request.headers))}
${bodyPart("Body of the request", asked, one.requestBody)}
</section>
<section aria-labelledby="answered"><h2 id="answered">Answer</h2>
<div id="answer" data-live="${REFRESH_MS}">
${one.status === undefined ? html`<p>None yet.</p>` : pairs("Headers of the answer", redactHeaders(one.headers))}
${bodyPart("Body of the answer", answered, one.body)}
${one.trailers.length > 0 && pairs("Trailers of the answer", redactHeaders(one.trailers))}
</div>
</section>`,
  });
}

export function problemPage(status: number, title: string, text: string): Response {
  return pageResponse({ title, site: SITE, content: html`<h1>${title}</h1><p>${text}</p>` }, status);
}

function pairs(caption: string, list: readonly (readonly [string, string])[]): Html {
  if (list.length === 0) return html`<p>${caption}: none.</p>`;
  return html`<div class="scroll"><table><caption>${caption}</caption>
<thead><tr><th scope="col">Name</th><th scope="col">Value</th></tr></thead>
<tbody>${list.map(([name, value]) => html`<tr><td><code>${name}</code></td><td><code>${value}</code></td></tr>`)}</tbody></table></div>`;
}

function bodyPart(title: string, body: ShownBody, { total }: BodyCopy): HtmlPart {
  const heading = html`<h3>${title}</h3>`;
  switch (body.kind) {
    case "none":
      return html`${heading}<p>Empty.</p>`;
    case "binary":
      return html`${heading}<p>${size(total)} of ${body.type || "unknown type"}, not shown.</p>`;
    case "text":
      return html`${heading}<pre tabindex="0" aria-label="${title}">${body.text}</pre>
${body.cut && html`<p class="hint">Only its beginning is shown; ${size(total)} went by.</p>`}`;
  }
}

function statusOf({ status, durationMs, error }: Recording): Html {
  if (status !== undefined) {
    return html`<span class="s${Math.floor(status / 100)}">${status} ${STATUS_CODES[status] ?? ""}</span>`;
  }
  if (durationMs === undefined) return html`<span>running</span>`;
  return html`<span class="s0">${error === undefined ? "none" : "failed"}</span>`;
}

function clip(text: string): string {
  return text.length > 200 ? `${text.slice(0, 200)}…` : text;
}

function ms(value: number | undefined): string {
  if (value === undefined) return "-";
  return value < 10 ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`;
}

function size(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  return bytes < 1024 * 1024 ? `${(bytes / 1024).toFixed(1)} KiB` : `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
}
