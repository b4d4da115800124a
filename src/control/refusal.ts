// How refusals of a registration are told apart (protocol: section 3.6): the wire has only texts, and this is the one
// place that knows them.

import type { ConnectionResponse } from "../wire/schema/registration-server.ts";

/**
 * `duplicate`: this edge has the connection already, take another address. `unauthorized`: unknown tunnel or wrong
 * secret.
 */
export type RefusalCode = "duplicate" | "unauthorized" | "other";

export type Refusal = {
  readonly kind: "refused";
  readonly code: RefusalCode;
  /** The edge's own words. */
  readonly cause: string;
  /** How long the edge asks to wait; 0 = it does not say. */
  readonly retryAfterMs: number;
  /** False = the edge says that repeating cannot help. */
  readonly shouldRetry: boolean;
};

/** Longest wait an edge may ask for: an hour. A tunnel must not stay down because of one strange answer. */
export const MAX_RETRY_AFTER_MS = 3_600_000;

const DUPLICATE_CAUSE = "EDUPCONN";
const UNAUTHORIZED_MARK = "Unauthorized";
const MAX_CAUSE_CHARS = 1024;
const NS_PER_MS = 1_000_000;

export function readRefusal(cause: string, retryAfterNs: bigint, shouldRetry: boolean): Refusal {
  const retryAfterMs = Math.min(MAX_RETRY_AFTER_MS, Math.max(0, Math.ceil(Number(retryAfterNs) / NS_PER_MS)));
  return { kind: "refused", code: codeOf(cause), cause: cause.slice(0, MAX_CAUSE_CHARS), retryAfterMs, shouldRetry };
}

/** The texts a cloudflared decides by are added where the cause lacks them. */
export function writeRefusal(refusal: Refusal): ConnectionResponse {
  return {
    kind: "error",
    cause: causeFor(refusal),
    retryAfterNs: BigInt(Math.round(refusal.retryAfterMs * NS_PER_MS)),
    shouldRetry: refusal.shouldRetry,
  };
}

function codeOf(cause: string): RefusalCode {
  if (cause === DUPLICATE_CAUSE) return "duplicate";
  return cause.includes(UNAUTHORIZED_MARK) ? "unauthorized" : "other";
}

function causeFor(refusal: Refusal): string {
  if (refusal.code === "duplicate") return DUPLICATE_CAUSE;
  if (refusal.code === "unauthorized" && !refusal.cause.includes(UNAUTHORIZED_MARK)) {
    return `${UNAUTHORIZED_MARK}: ${refusal.cause}`;
  }
  return refusal.cause;
}
