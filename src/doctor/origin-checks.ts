import { isIP } from "node:net";
import type { IngressRule, IngressRules } from "../ingress/rules.ts";
import { formatService, type ServiceSpec } from "../ingress/service.ts";
import type { SeenCertificate } from "../net/sockets.ts";
import { type CheckResult, type Finding, finding, judged, skipped } from "./finding.ts";
import { type OriginProbe, type OriginProbeOptions, originAddress, probeOrigin } from "./origin-probe.ts";

/** Services that are tried, all at once: one that hangs must not hold up the next. */
const MAX_ORIGINS = 64;
/** A connection on the way to an origin that takes this long is felt, in ms. */
const SLOW_MS = 200;
/** Connecting that takes more than this part of `connectTimeout` will fail one day. */
const NEAR_TIMEOUT = 0.5;

/** One service of one rule, and how it went. */
export interface ProbedOrigin {
  /** From 1. */
  readonly rule: number;
  readonly spec: ServiceSpec;
  readonly settings: IngressRule["settings"];
  readonly probe: OriginProbe;
}

/** Tries the service of every rule; the same service with the same settings once. Never rejects. */
export async function probeOrigins(rules: IngressRules, options: OriginProbeOptions): Promise<readonly ProbedOrigin[]> {
  const wanted = new Map<string, { rule: number; of: IngressRule; spec: ServiceSpec }>();
  for (const [index, of] of rules.rules.entries()) {
    const specs = of.service.kind === "balanced" ? of.service.backends.map(({ service }) => service) : [of.service];
    for (const spec of specs) {
      const key = JSON.stringify([spec, of.settings, of.settings.matchSNItoHost ? of.hostname : ""]);
      if (originAddress(spec) !== undefined && !wanted.has(key)) wanted.set(key, { rule: index + 1, of, spec });
    }
  }
  const waiting = [...wanted.values()].slice(0, MAX_ORIGINS);
  return await Promise.all(
    waiting.map(async ({ rule, of, spec }) => ({
      ...{ rule, spec, settings: of.settings },
      probe: await probeOrigin(spec, of, options),
    })),
  );
}

export function checkOrigins(probed: readonly ProbedOrigin[]): CheckResult {
  if (probed.length === 0) return skipped("no rule names a service to reach");
  const findings = probed.flatMap(findingsOf);
  return judged(findings, probed.length === 1 ? "the one origin answers" : `all ${probed.length} origins answer`);
}

function findingsOf(origin: ProbedOrigin): readonly Finding[] {
  const { probe, spec, settings } = origin;
  const at = `Rule #${origin.rule}, ${formatService(spec)}`;
  const wrongScheme = ofScheme(at, spec, probe);
  if (wrongScheme !== undefined) return [wrongScheme];
  const trust = ofCertificate(at, origin);
  const slow = ofSpeed(at, probe, settings.connectTimeout);
  const answer = ofEnd(at, probe, settings.connectTimeout);
  return [answer, trust, slow].filter((found) => found !== undefined);
}

function ofScheme(at: string, spec: ServiceSpec, { otherSchemeWorks }: OriginProbe): Finding | undefined {
  if (!otherSchemeWorks) return undefined;
  const written = formatService(spec);
  const secure = spec.kind === "https" || spec.kind === "unix+tls";
  return secure
    ? finding(
        "C-511",
        `${at}: there is plain HTTP, no TLS`,
        `Write ${written.replace(/^https|^wss|^unix\+tls/, (word) => (word === "unix+tls" ? "unix" : word.slice(0, -1)))} in the rule`,
      )
    : finding(
        "C-512",
        `${at}: there is TLS, which plain HTTP does not reach`,
        `Write ${written.replace(/^http|^ws/, (word) => `${word}s`).replace(/^unix:/, "unix+tls:")} in the rule`,
      );
}

function ofEnd(at: string, { end }: OriginProbe, connectTimeoutMs: number): Finding | undefined {
  switch (end.kind) {
    case "answered":
      // 501 says that HEAD is not known there; 503 and the like are what visitors would get.
      if (end.status < 500 || end.status === 501) return undefined;
      return finding(
        "C-515",
        `${at} answers ${end.status} to HEAD /`,
        "Look into the log of that service: the tunnel reaches it, and it fails by itself",
      );
    case "refused":
      return finding("C-501", `${at}: ${end.detail}`, "Start that service, or correct the port in the rule");
    case "unreachable":
      return finding(
        "C-502",
        `${at}: ${end.detail}; connectTimeout is ${connectTimeoutMs} ms`,
        "Correct the address in the rule, or open the firewall between this machine and that service",
      );
    case "no-name":
      return finding("C-503", `${at}: ${end.detail}`, "Correct the name in the rule, or give an IP address");
    case "tls":
      return finding(
        "C-525",
        `${at}: ${end.detail}`,
        "Look at the TLS settings of that service: version, certificate, and whether it asks for a client's",
      );
    case "no-http":
      return finding(
        "C-513",
        `${at} answers with ${end.detail}`,
        "Correct the port, or write the service's own scheme in the rule: ssh://, rdp://, tcp://",
      );
    case "mute":
      return finding(
        "C-514",
        `${at}: ${end.detail}`,
        "Look into the log of that service, or correct the port in the rule",
      );
  }
}

function ofSpeed(at: string, { connectMs }: OriginProbe, connectTimeoutMs: number): Finding | undefined {
  if (connectMs === undefined) return undefined;
  const near = connectMs > connectTimeoutMs * NEAR_TIMEOUT;
  if (connectMs <= SLOW_MS && !(near && connectMs > 10)) return undefined;
  const took = Math.round(connectMs);
  return near
    ? finding(
        "C-504",
        `${at} took ${took} ms to connect, and connectTimeout is ${connectTimeoutMs} ms`,
        "Raise originRequest.connectTimeout of that rule",
      )
    : finding(
        "C-504",
        `${at} took ${took} ms to connect, without the tunnel`,
        "Run the connector nearer to that service, or look at what keeps it busy: the tunnel adds to this",
      );
}

/** Checked by the connector, or not: what is wrong with it is said in both cases. */
function ofCertificate(at: string, { probe, settings }: ProbedOrigin): Finding | undefined {
  const { certificate, serverName } = probe;
  if (certificate === undefined) return undefined;
  const remedy = remedyFor(certificate, serverName, settings.caPool);
  if (settings.noTLSVerify) {
    const todo =
      remedy === undefined ? "Remove noTLSVerify: the certificate is good" : `${remedy}, and remove noTLSVerify`;
    return finding("C-524", `${at} has noTLSVerify: anybody in between can read and change everything`, todo);
  }
  if (remedy === undefined) return undefined;
  const { distrust, issuer, names, fromMs, toMs } = certificate;
  switch (distrust) {
    case "name":
      return finding("C-522", `${at} shows a certificate for ${names.join(", ")}, and not for ${serverName}`, remedy);
    case "expired":
    case "not-yet-valid": {
      const span = `from ${new Date(fromMs).toISOString()} to ${new Date(toMs).toISOString()}`;
      return finding("C-523", `${at} shows a certificate that is valid ${span}`, remedy);
    }
    default: {
      const who = distrust === "self-signed" ? "that it signed itself" : `from "${issuer}", which is not trusted here`;
      return finding("C-521", `${at} shows a certificate ${who}`, remedy);
    }
  }
}

/** What makes a certificate pass; undefined = it does. */
function remedyFor(
  { distrust, issuer, names }: SeenCertificate,
  serverName: string,
  caPool: string,
): string | undefined {
  if (distrust === undefined) return undefined;
  const right = names.find((name) => isIP(name) === 0 && !name.includes("*")) ?? names[0];
  const naming =
    matches(names, serverName) || right === undefined ? "" : ` and originRequest.originServerName to ${right}`;
  switch (distrust) {
    case "name":
      return right === undefined
        ? "Give that service a certificate that names it"
        : `Set originRequest.originServerName to ${right}`;
    case "expired":
    case "not-yet-valid":
      return "Renew that certificate; if it is valid by the calendar, set the clock";
    case "self-signed":
      return `Set originRequest.caPool to a file with that certificate${naming}`;
    default:
      return caPool === ""
        ? `Set originRequest.caPool to a file with the certificate of "${issuer}"${naming}`
        : `Put the certificate of "${issuer}" into ${caPool}, or set caPool to the file that holds it${naming}`;
  }
}

function matches(names: readonly string[], serverName: string): boolean {
  const wanted = serverName.toLowerCase();
  return names.some((name) => {
    const pattern = name.toLowerCase();
    return pattern.startsWith("*.") ? wanted.slice(wanted.indexOf(".")) === pattern.slice(1) : pattern === wanted;
  });
}
