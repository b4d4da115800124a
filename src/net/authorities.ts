import { getCACertificates, rootCertificates } from "node:tls";

/** PEM text of the authorities that TLS trusts on this machine when none are named. */
export function systemAuthorities(): string {
  try {
    return getCACertificates("default").join("\n");
  } catch {
    return rootCertificates.join("\n");
  }
}
