import { dirname } from "node:path";
import { stringify } from "yaml";
import { ApiClient, CLOUDFLARE_API, FEDRAMP_API } from "../api-client/client.ts";
import { listTunnels } from "../api-client/tunnels.ts";
import { configFolders, loadConfigFile } from "../config/file.ts";
import { API_FLAGS, type Flag } from "../config/flags.ts";
import { expandHome } from "../config/host.ts";
import { Values } from "../config/values.ts";
import { describe, TunnelError } from "../core/errors.ts";
import { parseTunnelId, type TunnelId } from "../core/ids.ts";
import { printable } from "../core/printable.ts";
import { VERSION } from "../core/version.ts";
import { type OriginCert, parseCertPem } from "../wire/cert-pem.ts";
import { apiUrlProblem, readApiUrl } from "./api-url.ts";
import { type Context, EXIT } from "./command.ts";
import { reportError, reportFailure } from "./failure.ts";

/** What a command that asks the management API works with. */
export interface Management {
  readonly api: ApiClient;
  readonly values: Values;
  /** Folder of cert.pem, where credentials are kept. */
  readonly folder: string;
  readonly context: Context;
}

/** How a result is printed; `table` for people. */
export type Format = "table" | "json" | "yaml";

/** The command line is wrong: exit code 255. */
export class UsageError extends Error {}

/**
 * Runs a command with a client for the API that cert.pem is for, and turns what it throws into lines and exit codes.
 * `command`: its name behind `culvert`, for hints.
 */
export async function withApi(
  context: Context,
  command: string,
  flags: readonly Flag[],
  work: (management: Management) => Promise<void>,
): Promise<number> {
  const file = loadConfigFile(context.host, context.args.get("config")?.at(-1));
  const values = new Values([...flags, ...API_FLAGS], {
    args: context.args,
    env: context.host.env,
    file: file.kind === "loaded" ? file.file : undefined,
  });
  const problems = values.issues.map((issue) => issue.message);
  if (problems.length > 0) return reportFailure(context, problems, { usage: true, command: `culvert ${command}` });
  try {
    await work(openManagement(context, values));
    return EXIT.ok;
  } catch (error) {
    if (!(error instanceof UsageError)) return reportError(context, error);
    return reportFailure(context, [error.message], { usage: true, command: `culvert ${command}` });
  }
}

/** The API that cert.pem is for. Throws where there is none to go by. `values`: those of `API_FLAGS` at least. */
export function openManagement(context: Context, values: Values): Management {
  const path = findCert(context, values);
  return { api: createApi(context, values, readCert(context, path)), values, folder: dirname(path), context };
}

/** A client for the API that a certificate is for; `--api-url` names another one. */
export function createApi(context: Context, values: Values, cert: OriginCert): ApiClient {
  const pageSize = values.number("max-fetch-size");
  const asked = values.string("api-url");
  const baseUrl =
    asked === undefined ? (cert.apiUrl ?? (cert.endpoint === "fed" ? FEDRAMP_API : CLOUDFLARE_API)) : readApiUrl(asked);
  if (baseUrl === undefined) throw new UsageError(apiUrlProblem(asked ?? ""));
  return new ApiClient({
    baseUrl,
    token: cert.apiToken,
    accountId: cert.accountId,
    zoneId: cert.zoneId,
    ca: isSameOrigin(baseUrl, cert.apiUrl) ? cert.apiCa : undefined,
    userAgent: `culvert/${VERSION}`,
    signal: context.stop,
    ...(pageSize > 0 ? { pageSize } : {}),
  });
}

function isSameOrigin(url: string, other: string | undefined): boolean {
  return other !== undefined && URL.canParse(other) && new URL(url).origin === new URL(other).origin;
}

/** Path of cert.pem: `--origincert`, else the first there is in the usual folders (protocol: section 5). */
function findCert(context: Context, values: Values): string {
  const { host } = context;
  const asked = values.string("origincert");
  const path = asked === undefined ? undefined : expandHome(host, asked);
  const found =
    path ??
    configFolders(host)
      .map((folder) => `${folder}/cert.pem`)
      .find((file) => host.exists(file));
  if (found !== undefined && host.exists(found)) return found;
  const where = asked === undefined ? `in ${configFolders(host).join(", ")}` : `at "${asked}"`;
  throw new TunnelError(
    "config.invalid",
    `Cannot find cert.pem ${where}: get one with culvert tunnel login, or with culvert edge init for an edge of your own, or name it with --origincert`,
  );
}

function readCert(context: Context, path: string): OriginCert {
  let text: string;
  try {
    text = context.host.readFile(path);
  } catch (error) {
    throw new TunnelError("config.invalid", `Cannot read "${path}": ${describe(error)}`, { cause: error });
  }
  const parsed = parseCertPem(text);
  if (!parsed.ok) {
    throw new TunnelError("config.invalid", `Cannot use "${path}": ${parsed.issues.map((i) => i.message).join("; ")}`);
  }
  if (parsed.value.accountId === "") {
    throw new TunnelError("config.invalid", `Cannot use "${path}": it names no account; log in again`);
  }
  return parsed.value;
}

/** A tunnel by name or id. Throws `api.missing` with what to do. */
export async function findTunnel(api: ApiClient, text: string): Promise<TunnelId> {
  const id = parseTunnelId(text);
  if (id !== undefined) return id;
  const found = (await listTunnels(api, { name: text, is_deleted: false })).find(({ name }) => name === text);
  if (found !== undefined) return found.id;
  throw new TunnelError("api.missing", `There is no tunnel "${text}": see those there are with culvert tunnel list`);
}

/** Exactly these positional arguments; `names` are for the message. */
export function positionals<const N extends readonly string[]>(
  context: Context,
  names: N,
): { readonly [K in keyof N]: string } {
  if (context.positionals.length !== names.length) {
    if (names.length === 0) throw new UsageError(`This takes no arguments, but got "${context.positionals.join(" ")}"`);
    throw new UsageError(`Give ${names.join(" ")}: ${names.length} in all, not ${context.positionals.length}`);
  }
  return context.positionals as unknown as { readonly [K in keyof N]: string };
}

/** What `--output` asks for. The flag of the same name further up formats log lines, and `default` is its word. */
export function formatOf(values: Values): Format {
  const text = values.string("output");
  if (text === undefined || text === "default") return "table";
  if (text === "json" || text === "yaml") return text;
  throw invalid(`--output "${text}" must be json or yaml`);
}

/** What was given is none of what it should be: exit code 1, as with cloudflared. */
export function invalid(message: string): TunnelError {
  return new TunnelError("config.invalid", message);
}

/** A result as cloudflared prints it: times as Go writes them, and in YAML the names of Go's fields. */
export function printValue(context: Context, format: "json" | "yaml", value: unknown): void {
  const shown = shownAsGo(value, format === "yaml");
  context.print(format === "json" ? JSON.stringify(shown, undefined, 2) : stringify(shown).trimEnd());
}

/** Names of Go's fields where they are others than those of the API. */
const GO_NAMES: Readonly<Record<string, string>> = {
  conns: "connections",
  is_default_network: "isdefault",
  virtual_network_id: "vnetid",
};
/** What Go writes for what did not happen. */
const ZERO_TIME = "0001-01-01T00:00:00Z";

function shownAsGo(value: unknown, yaml: boolean): unknown {
  if (Array.isArray(value)) return value.map((each) => shownAsGo(each, yaml));
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).map(([name, each]) => {
    const shown = /(_at|At)$/.test(name) ? goTime(each) : shownAsGo(each, yaml);
    return [yaml ? (GO_NAMES[name] ?? name.replaceAll("_", "").toLowerCase()) : name, shown] as const;
  });
  return Object.fromEntries(entries);
}

function goTime(time: unknown): unknown {
  if (time === null || time === undefined || time === "") return ZERO_TIME;
  return typeof time === "string" ? time.replace(/(\.\d*?)0+Z$/, "$1Z").replace(/\.Z$/, "Z") : time;
}

/**
 * Columns as Go's tabwriter sets them: each as wide as its longest cell, and one blank. Others chose what is in the
 * cells: it does not steer the terminal.
 */
export function renderTable(rows: readonly (readonly string[])[]): readonly string[] {
  const shown = rows.map((row) => row.map(printable));
  const widths = (shown[0] ?? []).map((_, i) => Math.max(...shown.map((row) => row[i]?.length ?? 0)));
  return shown.map((row) => row.map((cell, i) => `${cell.padEnd(widths[i] ?? 0)} `).join(""));
}
