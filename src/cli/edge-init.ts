import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { expandHome } from "../config/host.ts";
import { Values } from "../config/values.ts";
import { systemClock } from "../core/clock.ts";
import { describe, TunnelError } from "../core/errors.ts";
import { newApiToken } from "../edge/api-token.ts";
import { DOMAIN_SHAPE, readDomain } from "../edge/hostname.ts";
import { loadSettings, saveSettings } from "../edge/settings-file.ts";
import { writeWhole } from "../edge/store/place-file.ts";
import { formatCertPem, parseCertPem } from "../wire/cert-pem.ts";
import { apiUrlProblem, readApiUrl } from "./api-url.ts";
import type { Context } from "./command.ts";
import { API_LISTEN_DEFAULT, EDGE_INIT_FLAGS } from "./edge-flags.ts";
import { type EdgeWork, withEdgeState } from "./edge-state.ts";
import { reportFailure } from "./failure.ts";
import { operator } from "./operator.ts";

/** `culvert edge init`: makes an edge's state, and the cert.pem that its owner manages tunnels with. */
export function init(context: Context): Promise<number> {
  // Looked at first: what is wrong must leave nothing behind.
  const given = new Values(EDGE_INIT_FLAGS, { args: context.args, env: context.host.env });
  const asked = given.string("domain");
  const domain = asked === undefined ? undefined : readDomain(asked);
  const askedUrl = given.string("api-url") ?? `http://${API_LISTEN_DEFAULT}`;
  const apiUrl = readApiUrl(askedUrl);
  const problems = [
    ...(asked !== undefined && domain === undefined ? [`--domain "${asked}" must be ${DOMAIN_SHAPE}`] : []),
    ...(apiUrl === undefined ? [apiUrlProblem(askedUrl)] : []),
  ];
  if (apiUrl === undefined || problems.length > 0) {
    return Promise.resolve(reportFailure(context, problems, { usage: true, command: "culvert edge init" }));
  }
  return withEdgeState(context, "edge init", EDGE_INIT_FLAGS, { make: true }, (edge) => {
    const { state, values } = edge;
    for (const made of state.created) context.note(`Made ${made}`);
    if (domain !== undefined) saveSettings(state, { ...loadSettings(state.dir), domain });
    const path = certPath(edge);
    const known = existsSync(path);
    if (known && !values.bool("force")) keepCert(edge, path);
    else replaceCert(edge, path, apiUrl);
    for (const line of nextSteps(edge)) context.note(line);
  });
}

/** What there is to do now, as it works before anything else on this machine or in DNS is changed. */
function nextSteps({ state, values }: EdgeWork): readonly string[] {
  const dir = values.string("state-dir");
  const { domain } = loadSettings(state.dir);
  const here = domain === undefined ? "" : " --edge 127.0.0.1:7844";
  return [
    "",
    `Start the edge:   culvert edge run --tls-internal${dir === undefined ? "" : ` --state-dir ${dir}`}`,
    "Make a tunnel:    culvert tunnel create web",
    "Give it a name:   culvert tunnel route dns web app.example.com",
    `Run a connector:  culvert tunnel run${here} --url http://localhost:3000 web`,
    "",
    `HTTPS:            visitors of --tls-internal must trust ${state.caPath}; --tls-dir DIR, or --tls-cert and`,
    "                  --tls-key, show certificates of your own instead (docs/edge.md)",
    ...(domain === undefined
      ? []
      : [`DNS:              once ${domain} leads to this machine, connectors find the edge without --edge`]),
  ];
}

/** Beside cloudflared's own, where every command looks; or where `--origincert` says. */
function certPath({ values, context }: EdgeWork): string {
  const asked = values.string("origincert");
  return asked === undefined ? join(context.host.homeDir, ".cloudflared", "cert.pem") : expandHome(context.host, asked);
}

/** A certificate of this edge stays good; one of anybody else must not be lost. */
function keepCert({ store, context }: EdgeWork, path: string): void {
  const parsed = parseCertPem(readFileSync(path, "utf8"));
  const token = parsed.ok ? store.tokens.find(parsed.value.apiToken, systemClock.wallMs()) : undefined;
  if (token !== undefined) {
    context.note(`Left ${path} as it is: it is for this edge`);
    return;
  }
  throw new TunnelError(
    "config.invalid",
    `"${path}" is for something else: move it away, write to another place with --origincert, or replace it with --force`,
  );
}

/** Writes a certificate. The token of an earlier one of this edge ends with it, since nobody would look for it. */
function replaceCert(edge: EdgeWork, path: string, apiUrl: string): void {
  const { store, context } = edge;
  const parsed = existsSync(path) ? parseCertPem(readFileSync(path, "utf8")) : undefined;
  const replaced = parsed?.ok === true ? store.tokens.find(parsed.value.apiToken, systemClock.wallMs()) : undefined;
  writeCert(edge, path, apiUrl);
  if (replaced === undefined) return;
  store.tokens.remove(replaced.id, operator());
  context.note(`Revoked the API token "${replaced.name}" of the certificate that was there`);
}

function writeCert({ store, state, context }: EdgeWork, path: string, apiUrl: string): void {
  const account = store.accounts.own();
  const [zone] = store.accounts.zones(account.tag);
  if (zone === undefined) throw new TunnelError("store.failed", "The edge's account has no zone");
  const { token, secret } = newApiToken({
    ...{ accountTag: account.tag, name: `${operator().id}'s cert.pem`, scopes: ["admin"] },
    ...{ nowMs: systemClock.wallMs(), expiresAtMs: undefined },
  });
  store.tokens.add(token, secret, operator());
  const text = formatCertPem({
    ...{ zoneId: zone.id, accountId: account.tag, apiToken: secret, endpoint: "", apiUrl },
    apiCa: apiUrl.startsWith("https:") ? state.authority.cert : undefined,
  });
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    writeWhole(path, text, 0o600);
  } catch (error) {
    store.tokens.remove(token.id, operator());
    throw new TunnelError("config.invalid", `Cannot write "${path}": ${describe(error)}`, { cause: error });
  }
  context.note(`Wrote ${path}, with which culvert tunnel manages this edge`);
}
