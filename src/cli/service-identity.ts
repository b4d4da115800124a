import { configFolders, parseConfigFile } from "../config/file.ts";
import { expandHome, type Host } from "../config/host.ts";
import { buildRunConfig } from "../config/run-config.ts";
import { ALL_RUN_FLAGS } from "../config/tunnel-flags.ts";
import { Values } from "../config/values.ts";
import { describe } from "../core/errors.ts";
import { parseTunnelId } from "../core/ids.ts";
import { parseCredentials } from "../wire/credentials.ts";
import { formatToken, parseToken, type TunnelToken } from "../wire/token.ts";

/** A tunnel's secret as a service keeps it, whatever form it came in. */
export interface Identity {
  readonly token: string;
  readonly parsed: TunnelToken;
}

export type Found<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly error: string };

/** A token, given as text. The error never quotes it. */
export function identityOfToken(text: string): Found<Identity> {
  const token = text.replace(/\s+/g, "");
  const parsed = parseToken(token);
  if (parsed.ok) return { ok: true, value: { token, parsed: parsed.value } };
  return fail(`The token is not valid: ${parsed.issues.map((issue) => issue.message).join("; ")}`);
}

/**
 * The identity that a configuration and flags stand for: `token`, else `token-file`, else the credentials of the tunnel
 * (surface: section 3.1). Undefined when nothing names one.
 */
export function identityOfConfig(
  host: Host,
  args: ReadonlyMap<string, readonly string[]>,
  positionals: readonly string[],
  config: { readonly path: string; readonly text: string } | undefined,
): Found<Identity> | undefined {
  const loaded = config === undefined ? undefined : parseConfigFile(config.path, config.text);
  const file = loaded?.kind === "loaded" ? loaded.file : undefined;
  const values = new Values(ALL_RUN_FLAGS, { args, env: host.env, file });
  const token = values.string("token");
  if (token !== undefined) return identityOfToken(token);
  const tokenFile = values.string("token-file");
  if (tokenFile !== undefined) {
    const text = read(host, tokenFile);
    return text.ok ? identityOfToken(text.value) : text;
  }
  const top = file?.top["tunnel"];
  const named = positionals[0] ?? (typeof top === "string" ? top : undefined);
  const contents = values.string("credentials-contents");
  const path = values.string("credentials-file") ?? findCredentials(host, named);
  if (contents === undefined && path === undefined) {
    return named === undefined ? undefined : fail(`Cannot find credentials of tunnel "${named}"`);
  }
  const text = contents === undefined ? read(host, path ?? "") : ({ ok: true, value: contents } as const);
  if (!text.ok) return text;
  const parsed = parseCredentials(text.value);
  if (!parsed.ok) return fail(`Cannot use the credentials: ${parsed.issues.map((issue) => issue.message).join("; ")}`);
  const tunnelId = parsed.value.tunnelId ?? (named === undefined ? undefined : parseTunnelId(named));
  if (tunnelId === undefined) return fail("The credentials do not name their tunnel");
  const full = { ...parsed.value, tunnelId, edges: [], ca: undefined };
  return { ok: true, value: { token: formatToken(full), parsed: full } };
}

/** What is wrong with a configuration for this tunnel, as `tunnel run` would say it. */
export function configProblems(host: Host, path: string, text: string, identity: Identity): readonly string[] {
  const built = buildRunConfig(
    // As the service has it: nothing of our own environment.
    { ...host, env: {}, readFile: (name) => (name === path ? text : host.readFile(name)) },
    new Map([
      ["config", [path]],
      ["token", [identity.token]],
    ]),
    [],
  );
  return built.kind === "failed" ? built.errors : [];
}

export function read(host: Host, path: string): Found<string> {
  try {
    return { ok: true, value: host.readFile(expandHome(host, path)) };
  } catch (error) {
    return fail(`Cannot read "${path}": ${describe(error)}`);
  }
}

function findCredentials(host: Host, named: string | undefined): string | undefined {
  if (named === undefined || parseTunnelId(named) === undefined) return undefined;
  return configFolders(host)
    .map((folder) => `${folder}/${named}.json`)
    .find((path) => host.exists(path));
}

function fail(error: string): { readonly ok: false; readonly error: string } {
  return { ok: false, error };
}
