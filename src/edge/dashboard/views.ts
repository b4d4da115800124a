import { type Html, type HtmlPart, html } from "../pages/html.ts";
import { PAGE_HEADERS, pageResponse } from "../pages/page.ts";
import type { ConnectorView, HostnameView, TunnelView, ZoneView } from "./api-caller.ts";
import { MAX_HOSTNAMES } from "./api-caller.ts";

const SITE = "Culvert edge";
/** How often pages ask for news, in ms. */
const REFRESH_MS = 3_000;

/** What is told above a page. */
export interface Notice {
  readonly kind: "done" | "wrong";
  readonly text: string;
}

export function signInPage(options: { readonly wrong?: string; readonly status?: number } = {}): Response {
  const { wrong, status = 200 } = options;
  return pageResponse(
    {
      title: "Sign in",
      site: SITE,
      content: html`<h1>Sign in</h1>
${wrong !== undefined && html`<p class="note wrong" role="alert">${wrong}</p>`}
<form method="post" action="/session">
<label for="token">API token</label>
<input id="token" name="token" type="password" required autocomplete="current-password" aria-describedby="token-hint">
<p id="token-hint" class="hint">The owner of the edge makes one with <code>culvert edge token create NAME</code>.</p>
<button class="first">Sign in</button>
</form>`,
    },
    status,
  );
}

export function messagePage(
  status: number,
  title: string,
  text: string,
  headers: Readonly<Record<string, string>> = {},
): Response {
  const content = html`<h1>${title}</h1><p>${text}</p><p><a href="/">To the tunnels</a></p>`;
  return pageResponse({ title, site: SITE, content }, status, headers);
}

/** The parts of a page that keep up, without the page. */
function partsResponse(parts: Html): Response {
  return new Response(parts.text, { headers: PAGE_HEADERS });
}

export interface ListView {
  readonly formKey: string;
  readonly tunnels: readonly TunnelView[];
  readonly total: number;
  readonly page: number;
  readonly perPage: number;
  readonly prefix: string;
  readonly notice: Notice | undefined;
  /** What was typed into the form that was refused. */
  readonly name?: string;
}

type ListParts = Pick<ListView, "tunnels" | "total" | "page" | "perPage" | "prefix">;

export function listRefresh(view: ListParts): Response {
  return partsResponse(listPart(view));
}

function listPart({ tunnels, total, page, perPage, prefix }: ListParts): Html {
  const pages = Math.max(1, Math.ceil(total / perPage));
  const link = (to: number): string => `/?${new URLSearchParams({ page: String(to), name: prefix })}`;
  const rows = tunnels.map(
    (tunnel) => html`<tr>
<td><a id="t-${tunnel.id}" href="/tunnels/${tunnel.id}">${tunnel.name}</a></td>
<td>${stateOf(tunnel)}</td>
<td class="number">${new Set(tunnel.connections.map(({ client_id }) => client_id)).size}</td>
<td class="number">${tunnel.connections.length}</td>
<td>${tunnel.remote_config ? "this edge" : "connectors"}</td>
<td>${day(tunnel.created_at)}</td>
</tr>`,
  );
  const states = tunnels.map(({ name, status }) => `${name} ${status}`).join(", ");
  return html`<div id="tunnels" data-live="${REFRESH_MS}" data-from="${link(page)}" data-say="${states.slice(0, 200)}">
${
  rows.length === 0
    ? html`<p>${prefix === "" ? "There is no tunnel yet: create one below." : "No tunnel fits."}</p>`
    : html`<div class="scroll"><table>
<caption>${total} ${total === 1 ? "tunnel" : "tunnels"}, oldest first</caption>
<thead><tr><th scope="col">Name</th><th scope="col">State</th><th scope="col" class="number">Connectors</th><th scope="col" class="number">Connections</th><th scope="col">Rules by</th><th scope="col">Created</th></tr></thead>
<tbody>${rows}</tbody></table></div>`
}
${
  pages > 1 &&
  html`<p>Page ${page} of ${pages} ${page > 1 && html`<a id="previous" href="${link(page - 1)}">Previous page</a>`} ${page < pages && html`<a id="next" href="${link(page + 1)}">Next page</a>`}</p>`
}
</div>`;
}

export function listPage(view: ListView, status = 200): Response {
  const { prefix, formKey } = view;
  return signedInPage(
    "Tunnels",
    formKey,
    html`<h1>Tunnels</h1>
${noticePart(view.notice)}
<form class="row" method="get" action="/" role="search">
<div><label for="name">Name begins with</label><input id="name" name="name" type="search" value="${prefix}"></div>
<button>Search</button>
</form>
${listPart(view)}
<h2 id="create">Create a tunnel</h2>
<form method="post" action="/tunnels" aria-labelledby="create">
${keyField(formKey)}
<label for="new-name">Name</label>
<input id="new-name" name="name" type="text" required maxlength="100" autocomplete="off" value="${view.name ?? ""}">
<p><button class="first">Create</button></p>
</form>`,
    status,
  );
}

export interface DetailView {
  readonly formKey: string;
  readonly tunnel: TunnelView;
  readonly connectors: readonly ConnectorView[];
  readonly hostnames: readonly HostnameView[];
  readonly zones: readonly ZoneView[];
  readonly notice: Notice | undefined;
  /** The rules as YAML, or what was typed and refused. */
  readonly configuration: string;
  readonly configurationVersion: number;
  /** Shown when it was asked for. */
  readonly install: readonly { readonly title: string; readonly command: string }[] | undefined;
  /** Whether connectors can be asked for their log. */
  readonly hasLogs: boolean;
  /** What was typed into the form that was refused. */
  readonly hostname?: string;
}

type DetailParts = Pick<DetailView, "tunnel" | "connectors">;

export function detailRefresh(view: DetailParts): Response {
  return partsResponse(html`${statePart(view)}${connectorsPart(view)}`);
}

export function detailPage(view: DetailView, status = 200): Response {
  const { tunnel, formKey } = view;
  const path = `/tunnels/${tunnel.id}`;
  return signedInPage(
    tunnel.name,
    formKey,
    html`<p><a href="/">All tunnels</a></p>
<h1>${tunnel.name}</h1>
${noticePart(view.notice)}
${statePart(view)}
<section aria-labelledby="connectors-title">
<h2 id="connectors-title">Connectors</h2>
${connectorsPart(view)}
${installPart(view)}
</section>
<section aria-labelledby="hostnames-title">
<h2 id="hostnames-title">Hostnames</h2>
${hostnameTable(view)}
<form method="post" action="${path}/hostnames" class="row">
${keyField(formKey)}
<div><label for="hostname">New hostname</label><input id="hostname" name="hostname" type="text" required maxlength="253" autocomplete="off" spellcheck="false" placeholder="app.example.com" value="${view.hostname ?? ""}"></div>
${zonePicker(view.zones)}
<button class="first">Add</button>
</form>
</section>
<section aria-labelledby="configuration-title">
<h2 id="configuration-title">Configuration</h2>
<form method="post" action="${path}/configuration">
${keyField(formKey)}
<p id="configuration-hint" class="hint">${
      tunnel.remote_config
        ? `Version ${view.configurationVersion}. Connectors get a new one at once.`
        : "Its connectors have rules of their own. Once rules are saved here, those count instead."
    } YAML or JSON: <code>ingress</code>, <code>originRequest</code> and <code>warp-routing</code> as in a config file, times in seconds.</p>
<label for="rules">Rules</label>
<textarea id="rules" name="rules" class="code" rows="14" spellcheck="false" aria-describedby="configuration-hint">${view.configuration}</textarea>
<div class="row"><button name="do" value="check">Check</button><button class="first" name="do" value="save">Save</button></div>
</form>
</section>
${view.hasLogs && logPart(path)}
<section aria-labelledby="delete-title">
<h2 id="delete-title">Delete</h2>
<form method="post" action="${path}/delete" data-confirm="Delete the tunnel ${tunnel.name}?">
${keyField(formKey)}
<p class="hint">Its hostnames lead nowhere afterwards, and its token is void.</p>
<p><label><input type="checkbox" name="force" value="yes"> Also when it is connected</label></p>
<button class="danger">Delete this tunnel</button>
</form>
</section>`,
    status,
  );
}

const MEANING: Readonly<Record<TunnelView["status"], string>> = {
  healthy: "- all its connectors have all their connections",
  degraded: "- it is served, but connections are missing",
  down: "- it was connected, and is not now",
  inactive: "- no connector has ever been connected",
};

function statePart({ tunnel }: DetailParts): Html {
  return html`<div id="state" ${liveOf(tunnel)} data-say="The tunnel is ${tunnel.status}">
<dl>
<dt>State</dt><dd>${stateOf(tunnel)} ${MEANING[tunnel.status]}</dd>
<dt>Id</dt><dd><code>${tunnel.id}</code></dd>
<dt>Created</dt><dd>${time(tunnel.created_at)}</dd>
${tunnel.conns_active_at !== null && html`<dt>Connected since</dt><dd>${time(tunnel.conns_active_at)}</dd>`}
${tunnel.conns_inactive_at !== null && html`<dt>Last without connection</dt><dd>${time(tunnel.conns_inactive_at)}</dd>`}
<dt>Rules by</dt><dd>${tunnel.remote_config ? "this edge" : "its connectors' own files and flags"}</dd>
</dl>
</div>`;
}

function connectorsPart({ tunnel, connectors }: DetailParts): Html {
  return html`<div id="connectors" ${liveOf(tunnel)}>${connectorTable(connectors)}</div>`;
}

/** A page that a form led to has an address that only forms have: news come from the tunnel's own. */
function liveOf({ id }: TunnelView): Html {
  return html`data-live="${REFRESH_MS}" data-from="/tunnels/${id}"`;
}

function connectorTable(connectors: readonly ConnectorView[]): Html {
  if (connectors.length === 0) return html`<p>None is connected.</p>`;
  const rows = connectors.map(({ id, version, arch, run_at, conns }) => {
    const protocols = [...new Set(conns.map(({ protocol }) => protocol))].join(", ");
    const leaving = conns.filter((one) => one.is_pending_reconnect).length;
    return html`<tr>
<td><code>${id}</code></td>
<td>${version} <small>${arch}</small></td>
<td>${[...new Set(conns.map(({ origin_ip }) => origin_ip))].join(", ")}</td>
<td>${conns.length} over ${protocols}${leaving > 0 && `, ${leaving} leaving`}</td>
<td>${time(run_at)}</td>
</tr>`;
  });
  return html`<div class="scroll"><table>
<caption>${connectors.length} connected</caption>
<thead><tr><th scope="col">Connector</th><th scope="col">Version</th><th scope="col">Comes from</th><th scope="col">Connections</th><th scope="col">Since</th></tr></thead>
<tbody>${rows}</tbody></table></div>`;
}

function installPart({ install, tunnel, formKey }: DetailView): HtmlPart {
  if (install === undefined) {
    return html`<form method="post" action="/tunnels/${tunnel.id}/install">${keyField(formKey)}
<button>Show how to run a replica</button></form>`;
  }
  return html`<h3 id="install">Run a replica</h3>
<p class="hint">The token in these commands is the tunnel's secret: whoever has it can serve its hostnames.</p>
${install.map(
  ({ title, command }, i) => html`<p id="install-title-${i}">${title}</p>
<pre id="install-${i}" tabindex="0" aria-labelledby="install-title-${i}">${command}</pre>
<button type="button" data-copy="install-${i}" aria-describedby="install-title-${i}">Copy</button>`,
)}`;
}

function hostnameTable({ hostnames, tunnel, formKey }: DetailView): Html {
  if (hostnames.length === 0) return html`<p>No hostname leads here.</p>`;
  const rows = hostnames.map(
    ({ hostname, zoneId }) => html`<tr>
<td><code>${hostname}</code></td>
<td><form method="post" action="/tunnels/${tunnel.id}/hostnames/delete" data-confirm="Let ${hostname} lead nowhere?">
${keyField(formKey)}
<input type="hidden" name="zone" value="${zoneId}"><input type="hidden" name="hostname" value="${hostname}">
<button class="danger" aria-label="Delete ${hostname}">Delete</button></form></td>
</tr>`,
  );
  return html`<div class="scroll"><table>
<caption>${hostnames.length >= MAX_HOSTNAMES ? `The first ${MAX_HOSTNAMES}` : `${hostnames.length} of this tunnel`}</caption>
<thead><tr><th scope="col">Hostname</th><th scope="col">Action</th></tr></thead>
<tbody>${rows}</tbody></table></div>`;
}

function zonePicker(zones: readonly ZoneView[]): HtmlPart {
  const [only] = zones;
  if (zones.length === 1 && only !== undefined) return html`<input type="hidden" name="zone" value="${only.id}">`;
  return html`<div><label for="zone">Domain</label><select id="zone" name="zone">${zones.map(
    ({ id, name }) => html`<option value="${id}">${name === "" ? "any" : name}</option>`,
  )}</select></div>`;
}

function logPart(path: string): Html {
  return html`<section aria-labelledby="logs-title">
<h2 id="logs-title">Live log</h2>
<p id="log-state" role="status" class="hint">Press Start to see what a connector logs from now on.</p>
<pre id="log" class="logs" tabindex="0" role="log" aria-labelledby="logs-title" data-log="${path}/logs" data-state="log-state"></pre>
<button type="button" data-follow="log" hidden>Start</button>
<noscript><p>The live log needs scripts.</p></noscript>
</section>`;
}

function signedInPage(title: string, formKey: string, content: Html, status: number): Response {
  const nav = html`<a href="/">Tunnels</a><form method="post" action="/session/end">${keyField(formKey)}<button>Sign out</button></form>`;
  return pageResponse({ title, site: SITE, nav, content }, status);
}

function noticePart(notice: Notice | undefined): HtmlPart {
  if (notice === undefined) return undefined;
  return notice.kind === "wrong"
    ? html`<p class="note wrong" role="alert">${notice.text}</p>`
    : html`<p class="note" role="status">${notice.text}</p>`;
}

function keyField(formKey: string): Html {
  return html`<input type="hidden" name="key" value="${formKey}">`;
}

function stateOf({ status }: TunnelView): Html {
  return html`<span class="state ${status}">${status}</span>`;
}

function time(text: string): Html {
  return html`<time datetime="${text}">${text.slice(0, 19).replace("T", " ")} UTC</time>`;
}

function day(text: string): Html {
  return html`<time datetime="${text}">${text.slice(0, 10)}</time>`;
}
