import { join } from "node:path";
import { systemCode, TunnelError } from "../core/errors.ts";
import { distrustOf } from "../net/seen-certificate.ts";
import type { Context } from "./command.ts";

/** Whether a dial failed because nobody whom we trust has signed the certificate. */
export function isUnknownIssuer(error: unknown): error is TunnelError {
  if (!(error instanceof TunnelError) || error.code !== "dial.tls") return false;
  const distrust = distrustOf(systemCode(error.cause));
  return distrust === "issuer" || distrust === "self-signed";
}

/**
 * Authorities of edges that this account knows, to try where those of the system do not do: the one that cert.pem names
 * for the API that gave the token, and that of the edge on this machine, if its state may be read. PEM texts.
 */
export async function knownAuthorities(context: Context, ofApi: string | undefined): Promise<readonly string[]> {
  const { usualStateDir } = await import("./edge-state.ts");
  const known = new Set(ofApi === undefined ? [] : [ofApi]);
  try {
    known.add(context.host.readFile(join(usualStateDir(context.host), "ca.pem")));
  } catch {
    // No edge here, or another account's.
  }
  return [...known];
}

/** What whoever follows the log can do about it. */
export function withTrustHint(error: TunnelError): TunnelError {
  const hint = "where this is an edge's own, trust the ca.pem of its state directory with --ca-file ca.pem";
  return new TunnelError(error.code, `${error.message}: ${hint}`, { retry: error.retry, cause: error.cause });
}
