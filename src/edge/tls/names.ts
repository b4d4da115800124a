import type { ServedCertificate } from "./source.ts";

/**
 * Whether a certificate with these names is good for this hostname: the name itself, or a wildcard for its first label
 * (RFC 9525 section 6.3). Both lower case.
 */
export function coversHostname(names: readonly string[], hostname: string): boolean {
  return names.includes(hostname) || names.includes(wildcardOf(hostname));
}

/** `*.example.com` for `app.example.com`. */
function wildcardOf(hostname: string): string {
  const dot = hostname.indexOf(".");
  return dot <= 0 ? "" : `*${hostname.slice(dot)}`;
}

/** Certificates by name. Of several for one name the one that is valid now and stays so longest is shown. */
export class CertificateIndex {
  readonly #byName = new Map<string, ServedCertificate>();

  constructor(certificates: readonly ServedCertificate[], nowMs: number) {
    for (const certificate of certificates) {
      for (const name of certificate.names) {
        const other = this.#byName.get(name);
        if (other === undefined || isBetter(certificate, other, nowMs)) this.#byName.set(name, certificate);
      }
    }
  }

  find(hostname: string): ServedCertificate | undefined {
    return this.#byName.get(hostname) ?? this.#byName.get(wildcardOf(hostname));
  }
}

function isBetter(one: ServedCertificate, other: ServedCertificate, nowMs: number): boolean {
  const valid = isValid(one, nowMs);
  return valid === isValid(other, nowMs) ? one.notAfterMs > other.notAfterMs : valid;
}

function isValid(certificate: ServedCertificate, nowMs: number): boolean {
  return certificate.notBeforeMs <= nowMs && nowMs < certificate.notAfterMs;
}
