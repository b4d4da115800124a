import { CODES, type FindingCode, type Severity } from "./codes.ts";

/** One thing that is wrong. */
export interface Finding {
  readonly code: FindingCode;
  readonly severity: Severity;
  /** What is the case here; one sentence. */
  readonly message: string;
  /** The next thing to do; one sentence. */
  readonly todo: string;
}

/** What is checked, in the order of the report. */
export const CHECKS = {
  clock: "Clock",
  dns: "DNS",
  network: "Way to the edge",
  tls: "TLS to the edge",
  mtu: "Packet size",
  tunnel: "Token and tunnel",
  connectors: "Connectors here",
  config: "Configuration",
  origins: "Origins",
  limits: "Limits of the system",
  service: "Service",
  version: "Version",
} as const;
export type CheckId = keyof typeof CHECKS;
export const CHECK_ORDER = Object.keys(CHECKS) as readonly CheckId[];

/** How one check went. `summary`: what was seen when nothing is wrong, or why it was left out; one line. */
export interface CheckResult {
  readonly status: "pass" | Severity | "skip";
  readonly summary: string;
  readonly findings: readonly Finding[];
}

export function finding(
  code: FindingCode,
  message: string,
  todo: string,
  severity: Severity = CODES[code].severity,
): Finding {
  return { code, severity, message, todo };
}

/** The result of a check that found these; none = it passed, and `summary` says what was seen. */
export function judged(findings: readonly Finding[], summary: string): CheckResult {
  const failed = findings.some(({ severity }) => severity === "fail");
  const status = failed ? "fail" : findings.length > 0 ? "warn" : "pass";
  const [first, ...others] = findings;
  const told =
    first === undefined
      ? summary
      : `${CODES[first.code].title}${others.length > 0 ? ` (and ${others.length} more)` : ""}`;
  return { status, summary: told, findings };
}

export function skipped(why: string): CheckResult {
  return { status: "skip", summary: why, findings: [] };
}
