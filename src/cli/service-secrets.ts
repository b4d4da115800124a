import { isDeepStrictEqual } from "node:util";
import { parseConfigFile } from "../config/file.ts";
import { ALL_RUN_FLAGS } from "../config/tunnel-flags.ts";
import { withoutKeys } from "../config/without-keys.ts";
import type { Found } from "./service-identity.ts";

/** They say who the tunnel is, which the service keeps in its token file. */
export const IDENTITY_KEYS: readonly string[] = ["token", "token-file", "credentials-file", "credentials-contents"];
const SECRET_FLAGS = ALL_RUN_FLAGS.filter(({ secret }) => secret === true);
/** Secrets that the service has in its token file, or that have no effect at all. */
const DROPPED: ReadonlySet<string> = new Set(
  SECRET_FLAGS.filter(({ name, inert }) => inert !== undefined || IDENTITY_KEYS.includes(name)).map(({ name }) => name),
);
const KEPT = SECRET_FLAGS.map(({ name }) => name).filter((name) => !DROPPED.has(name));
/** Secret only as far as there is a password in them. */
const ADDRESSES: ReadonlySet<string> = new Set(["edge-proxy", "autoupdate-from"]);
/** Characters of what is surely no other word of the file. */
const SECRET_LENGTH = 8;

/** A configuration as a service may have it. */
export interface ServiceConfig {
  readonly text: string;
  /** Names of secrets that are still in it, since the service has no other place for them. */
  readonly secrets: readonly string[];
}

/** The configuration without secrets that its service has elsewhere. The error never quotes one. */
export function withoutIdentity(path: string, text: string): Found<ServiceConfig> {
  const before = parseConfigFile(path, text);
  // Whoever runs it says what is wrong with it.
  if (before.kind !== "loaded") return { ok: true, value: { text, secrets: [] } };
  const { top } = before.file;
  const dropped = Object.keys(top).filter((name) => DROPPED.has(name));
  const stripped = dropped.length === 0 ? text : withoutKeys(text, DROPPED);
  const after = parseConfigFile(path, stripped);
  const rest = Object.fromEntries(Object.entries(top).filter(([name]) => !DROPPED.has(name)));
  const whole = after.kind === "loaded" && isDeepStrictEqual({ ...after.file.top }, rest);
  // In a comment, say.
  const elsewhere = dropped.some((name) => `${top[name]}`.length >= SECRET_LENGTH && stripped.includes(`${top[name]}`));
  if (!whole || elsewhere) {
    const error = `Cannot leave "${dropped.join('", "')}" out of a copy of "${path}": take it out by hand, and give the token`;
    return { ok: false, error };
  }
  const secrets = KEPT.filter((name) => name in rest && (!ADDRESSES.has(name) || /[@?]/.test(`${rest[name]}`)));
  return { ok: true, value: { text: stripped, secrets } };
}
