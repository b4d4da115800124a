import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { describe, TunnelError } from "../../core/errors.ts";
import { secureContextOf } from "../../net/tls-identity.ts";
import type { ServedCertificate } from "./source.ts";

const PEM_CERTIFICATE = /-----BEGIN (?:TRUSTED )?CERTIFICATE-----[^-]+-----END (?:TRUSTED )?CERTIFICATE-----/g;
/** Certificates of one chain. */
const MAX_CHAIN = 16;

/**
 * Reads a certificate chain and its key, both PEM, and makes sure that the TLS library takes them. The certificate that
 * the key belongs to goes first, whatever place it has in the file. Throws `config.invalid`, whose message says what is
 * wrong with the pair.
 */
export function readPair(chain: string, key: string, origin: string): ServedCertificate {
  const blocks = chain.match(PEM_CERTIFICATE) ?? [];
  if (blocks.length === 0) throw invalid("there is no certificate in it (PEM)");
  if (blocks.length > MAX_CHAIN) throw invalid(`it has more than ${MAX_CHAIN} certificates`);
  const privateKey = readKey(key);
  const parsed = blocks.map(readCertificate);
  const at = parsed.findIndex((certificate) => certificate.checkPrivateKey(privateKey));
  const own = parsed[at];
  if (own === undefined) throw invalid("the key belongs to another certificate");
  const ordered = [blocks[at], ...blocks.filter((_block, i) => i !== at)];
  const identity = { cert: `${ordered.join("\n")}\n`, key };
  try {
    secureContextOf(identity);
  } catch (error) {
    throw invalid(describe(error));
  }
  return {
    identity,
    names: dnsNames(own),
    notBeforeMs: Date.parse(own.validFrom),
    notAfterMs: Date.parse(own.validTo),
    origin,
    renewed: false,
  };
}

/** True for a text that holds a private key of its own. */
export function holdsKey(pem: string): boolean {
  return /-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(pem);
}

/** True for an authority's certificate, which is for no host. */
export function isAuthority(pem: string): boolean {
  try {
    return new X509Certificate(pem).ca;
  } catch {
    return false;
  }
}

function readKey(pem: string): KeyObject {
  if (!holdsKey(pem)) throw invalid("there is no private key in its key file (PEM)");
  if (pem.includes("ENCRYPTED")) throw invalid("its key is encrypted; store it without a passphrase, mode 0600");
  try {
    return createPrivateKey(pem);
  } catch {
    // What a library says about a key may quote it.
    throw invalid("its private key cannot be read");
  }
}

function readCertificate(block: string): X509Certificate {
  try {
    return new X509Certificate(block);
  } catch (error) {
    throw invalid(`a certificate in it cannot be read: ${describe(error)}`);
  }
}

/** Names of the certificate; the common name has not counted for years (RFC 9525 section 2). */
function dnsNames(certificate: X509Certificate): readonly string[] {
  const list = certificate.subjectAltName ?? "";
  return [...list.matchAll(/(?:^|, )DNS:([^,"]+)/g)].map((match) => (match[1] as string).toLowerCase());
}

function invalid(why: string): TunnelError {
  return new TunnelError("config.invalid", why);
}
