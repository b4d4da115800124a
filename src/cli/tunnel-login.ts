import { existsSync, mkdirSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { Writable } from "node:stream";
import nacl from "tweetnacl";
import { z } from "zod";
import { ApiClient } from "../api-client/client.ts";
import { sendJson } from "../api-client/http-json.ts";
import { API_FLAGS, TUNNEL_FLAGS } from "../config/flags.ts";
import { expandHome } from "../config/host.ts";
import { Values } from "../config/values.ts";
import { delay, systemClock } from "../core/clock.ts";
import { TunnelError } from "../core/errors.ts";
import { VERSION } from "../core/version.ts";
import { formatCertPem, parseCertPem } from "../wire/cert-pem.ts";
import { apiUrlProblem, readApiUrl } from "./api-url.ts";
import { type Context, EXIT } from "./command.ts";
import { reportError, reportFailure } from "./failure.ts";
import { LOGIN_FLAGS } from "./management-flags.ts";

/** The service holds a question for up to a minute, in ms (protocol: section 5). */
const POLL_TIMEOUT_MS = 75_000;
/** Wait between questions that were answered at once, in ms. */
const POLL_PAUSE_MS = 1_000;
/** How long somebody may take to log in, in ms. */
const LOGIN_MS = 10 * 60_000;

/** Where a person logs in, and where the answer comes. */
interface LoginPlace {
  readonly page: string;
  readonly callback: string;
  readonly ca: string | undefined;
}

/** `culvert tunnel login`: writes cert.pem, after a login at Cloudflare or at an edge of one's own. */
export async function login(context: Context): Promise<number> {
  const values = new Values([...LOGIN_FLAGS, ...API_FLAGS, ...TUNNEL_FLAGS], {
    args: context.args,
    env: context.host.env,
  });
  const problems = values.issues.map((issue) => issue.message);
  const askedUrl = values.string("api-url");
  const apiUrl = askedUrl === undefined ? undefined : readApiUrl(askedUrl);
  if (askedUrl !== undefined && apiUrl === undefined) problems.push(apiUrlProblem(askedUrl));
  if (problems.length > 0) return reportFailure(context, problems, { usage: true, command: "culvert tunnel login" });
  try {
    const asked = values.string("origincert");
    const { host } = context;
    const path = asked === undefined ? join(host.homeDir, ".cloudflared", "cert.pem") : expandHome(host, asked);
    if (existsSync(path) && statSync(path).size > 0) {
      throw new TunnelError(
        "config.invalid",
        `There is a certificate at "${path}" already: move it away first if you want another one, or choose another place with --origincert`,
      );
    }
    const cert = apiUrl === undefined ? await atCloudflare(context, values) : await atOwnEdge(context, values, apiUrl);
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    writeFileSync(path, cert, { mode: 0o600 });
    context.note("You have successfully logged in.");
    context.note(`If you wish to copy your credentials to a server, they have been saved to:\n${path}`);
    return EXIT.ok;
  } catch (error) {
    return reportError(context, error);
  }
}

function atCloudflare(context: Context, values: Values): Promise<string> {
  const page = new URL(values.string("loginURL") ?? "");
  if (values.bool("fedramp")) page.host = page.host.replace(/^dash\./, "dash.fed.");
  const place = { page: page.href, callback: values.string("callbackURL") ?? "", ca: undefined };
  return fromBrowser(context, place, context.stop);
}

/** With a token that is given, or pasted, or by a browser: whichever comes first. */
async function atOwnEdge(context: Context, values: Values, apiUrl: string): Promise<string> {
  const caPath = values.string("cacert");
  const ca = caPath === undefined ? undefined : context.host.readFile(expandHome(context.host, caPath));
  const given = values.string("api-token");
  if (given !== undefined) return await fromToken(context, { apiUrl, ca, token: given });
  const { origin } = new URL(apiUrl);
  const done = new AbortController();
  const stop = AbortSignal.any([context.stop, done.signal]);
  const pasted = readLine("Or paste an API token of the edge (culvert edge token create) here: ", stop);
  try {
    const byToken = pasted.then((token) => fromToken(context, { apiUrl, ca, token }));
    if (!process.stdin.isTTY) return await byToken;
    const place = { page: `${origin}/login`, callback: `${origin}/login/`, ca };
    return await Promise.race([byToken, fromBrowser(context, place, stop)]);
  } finally {
    done.abort();
    pasted.catch(() => {});
  }
}

/** One line of standard input. A terminal does not show it: it is a secret. */
async function readLine(question: string, signal: AbortSignal): Promise<string> {
  const { isTTY } = process.stdin;
  if (isTTY) process.stderr.write(question);
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
  const terminal = createInterface({ input: process.stdin, output: nowhere, terminal: isTTY });
  try {
    const line = await new Promise<string>((resolve, reject) => {
      const given = (): void => reject(new TunnelError("aborted", "Given up"));
      signal.addEventListener("abort", given, { once: true });
      // A terminal that is read like this sends no signal for Ctrl-C.
      terminal.once("SIGINT", given);
      terminal.once("line", resolve);
      terminal.once("close", () => resolve(""));
    });
    if (line.trim() === "") throw new TunnelError("config.invalid", "Nothing was pasted: give an API token");
    return line.trim();
  } finally {
    terminal.close();
    if (isTTY) process.stderr.write("\n");
  }
}

const Named = z.array(z.object({ id: z.string(), name: z.string().default("") }));

/** Makes a certificate of a token, as far as the edge says it is one. */
async function fromToken(
  context: Context,
  edge: { readonly apiUrl: string; readonly ca: string | undefined; readonly token: string },
): Promise<string> {
  const { apiUrl, ca, token } = edge;
  const api = new ApiClient({
    ...{ baseUrl: apiUrl, token, ca, accountId: "", zoneId: "" },
    ...{ userAgent: `culvert/${VERSION}`, signal: context.stop },
  });
  const [account] = await api.call("GET", "/accounts", Named);
  const [zone] = await api.call("GET", "/zones", Named);
  if (account === undefined || zone === undefined) {
    throw new TunnelError("api.failed", "The token is good, but it is for no account");
  }
  return formatCertPem({
    ...{ zoneId: zone.id, accountId: account.id, apiToken: token, endpoint: "" },
    ...{ apiUrl, apiCa: ca },
  });
}

/** Lets a person log in anywhere, and waits for the certificate, which only who knows our key's name can fetch. */
async function fromBrowser(context: Context, place: LoginPlace, signal: AbortSignal): Promise<string> {
  const callback = `${place.callback}${Buffer.from(nacl.box.keyPair().publicKey).toString("base64url")}=`;
  const page = new URL(place.page);
  page.searchParams.set("aud", "");
  page.searchParams.set("callback", callback);
  context.note(`Please open the following URL and log in:\n\n${page.href}\n`);
  context.note("Leave culvert running to download the cert automatically.");
  const endMs = systemClock.nowMs() + LOGIN_MS;
  while (systemClock.nowMs() < endMs) {
    const answer = await sendJson({
      ...{ method: "GET", url: new URL(callback), headers: { "user-agent": `culvert/${VERSION}` }, body: undefined },
      ...{ ca: place.ca, timeoutMs: POLL_TIMEOUT_MS, signal },
    }).catch((error: unknown) => {
      if (error instanceof TunnelError && error.code === "timeout") return undefined;
      throw error;
    });
    if (answer !== undefined && answer.status >= 500) {
      throw new TunnelError("api.failed", `${new URL(callback).origin} answered ${answer.status}`);
    }
    if (answer?.status === 200 && answer.text !== "") {
      if (parseCertPem(answer.text).ok) return answer.text;
      throw new TunnelError("api.failed", `${new URL(callback).origin} sent a certificate that cannot be read`);
    }
    if (!(await delay(systemClock, POLL_PAUSE_MS, signal))) break;
  }
  throw signal.aborted
    ? new TunnelError("aborted", "Given up")
    : new TunnelError("timeout", "Nobody logged in within ten minutes");
}
