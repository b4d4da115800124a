import { systemCode } from "../../core/errors.ts";

const WORDS: Readonly<Record<string, string>> = {
  ECONNREFUSED: "connection refused",
  ECONNRESET: "the connection was closed without an answer",
  EHOSTUNREACH: "no route to host",
  ENETUNREACH: "network unreachable",
  ENOTFOUND: "host name not found",
  EPROTO: "TLS handshake failed",
  ETIMEDOUT: "timed out",
  Malformed_HTTP_Response: "the answer is not HTTP",
};

/** As OpenSSL's: `DEPTH_ZERO_SELF_SIGNED_CERT`, `UNABLE_TO_VERIFY_LEAF_SIGNATURE`, `ERR_TLS_CERT_ALTNAME_INVALID`. */
const OF_CERTIFICATE = /CERT|SIGNATURE|CRL/;
const CODE = /^\w{1,64}$/;

/**
 * Why `fetch` failed, in our own words and with the error's code: what runtimes say is for those who program them.
 * Not all of them give a code.
 */
export function callProblem(thrown: unknown): string {
  const code = systemCode(thrown) ?? systemCode(thrown instanceof Error ? thrown.cause : undefined);
  if (code === undefined || !CODE.test(code)) return "the call failed";
  const words = WORDS[code] ?? (OF_CERTIFICATE.test(code) ? "its certificate is not trusted" : "the call failed");
  return `${words} (${code})`;
}
