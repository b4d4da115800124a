import { createSecureContext, type SecureContext } from "node:tls";

/** What a server shows in a handshake: a chain with its own certificate first, and its private key; both PEM. */
export interface TlsIdentity {
  readonly cert: string;
  readonly key: string;
}

/**
 * Suites of TLS 1.2, the dearest first: forward secrecy and authenticated encryption only, which is also what HTTP/2
 * allows (RFC 9113 section 9.2.2). Those of TLS 1.3 are all good and cannot be chosen.
 */
export const SERVER_CIPHERS = [
  "ECDHE-ECDSA-AES128-GCM-SHA256",
  "ECDHE-RSA-AES128-GCM-SHA256",
  "ECDHE-ECDSA-AES256-GCM-SHA384",
  "ECDHE-RSA-AES256-GCM-SHA384",
  "ECDHE-ECDSA-CHACHA20-POLY1305",
  "ECDHE-RSA-CHACHA20-POLY1305",
].join(":");

export const SERVER_MIN_VERSION = "TLSv1.2";

const contexts = new WeakMap<TlsIdentity, SecureContext>();

/** The TLS library's form of an identity, made once. Throws when the library does not take it. */
export function secureContextOf(identity: TlsIdentity): SecureContext {
  const known = contexts.get(identity);
  if (known !== undefined) return known;
  const context = createSecureContext({
    cert: identity.cert,
    key: identity.key,
    minVersion: SERVER_MIN_VERSION,
    ciphers: SERVER_CIPHERS,
  });
  contexts.set(identity, context);
  return context;
}
