import type { PeerCertificate, TLSSocket } from "node:tls";
import { systemCode } from "../core/errors.ts";
import type { Distrust, SeenCertificate } from "./sockets.ts";

const REASONS: ReadonlyMap<string, Distrust> = new Map([
  ["UNABLE_TO_VERIFY_LEAF_SIGNATURE", "issuer"],
  ["UNABLE_TO_GET_ISSUER_CERT", "issuer"],
  ["UNABLE_TO_GET_ISSUER_CERT_LOCALLY", "issuer"],
  ["SELF_SIGNED_CERT_IN_CHAIN", "issuer"],
  ["DEPTH_ZERO_SELF_SIGNED_CERT", "self-signed"],
  ["ERR_TLS_CERT_ALTNAME_INVALID", "name"],
  ["CERT_HAS_EXPIRED", "expired"],
  ["CERT_NOT_YET_VALID", "not-yet-valid"],
]);

/** What is wrong with a certificate by an error's code; undefined = the error is not about it. */
export function distrustOf(code: string | undefined): Distrust | undefined {
  return REASONS.get(code ?? "");
}

/** What a peer showed in a handshake that is done. */
export function seenCertificate(socket: TLSSocket): SeenCertificate {
  const certificate = socket.getPeerCertificate();
  // Runtimes do not agree on whether this is an error, its code or null.
  const problem: unknown = socket.authorizationError;
  const code = typeof problem === "string" ? problem : systemCode(problem);
  return {
    subject: nameOf(certificate.subject),
    issuer: nameOf(certificate.issuer),
    names: namesIn(certificate.subjectaltname),
    fromMs: Date.parse(certificate.valid_from ?? ""),
    toMs: Date.parse(certificate.valid_to ?? ""),
    distrust: socket.authorized ? undefined : (distrustOf(code) ?? "other"),
  };
}

function nameOf(name: PeerCertificate["subject"] | undefined): string {
  const text: unknown = name?.CN ?? name?.O ?? "";
  return Array.isArray(text) ? text.join(", ") : String(text);
}

/** `DNS:a.example, IP Address:10.0.0.1` as a list. */
function namesIn(text: string | undefined): readonly string[] {
  return (text ?? "")
    .split(/,\s*/)
    .map((entry) => entry.replace(/^(?:DNS|IP Address):/, ""))
    .filter((name) => name !== "");
}
