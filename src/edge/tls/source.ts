import type { TlsIdentity } from "../../net/tls-identity.ts";

/** A certificate that visitors may be shown. */
export interface ServedCertificate {
  readonly identity: TlsIdentity;
  /** DNS names it is for, lower case; `*.` first for a wildcard. */
  readonly names: readonly string[];
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** Where it comes from, for people: a path. */
  readonly origin: string;
  /** Whether its source replaces it in time by itself: then nobody is warned. */
  readonly renewed: boolean;
}

/**
 * Where certificates come from: files, an authority of one's own, an ACME client. A handshake waits for nobody: a
 * source that has to fetch a certificate starts to, and answers undefined until it has it.
 */
export interface CertificateSource {
  /** The certificate for this name (lower case, no trailing dot): one for exactly it before one with a wildcard. */
  find(serverName: string): ServedCertificate | undefined;
  /** For visitors who ask for no name, or one that no source knows. */
  fallback(): ServedCertificate | undefined;
  /** All that can be named, to watch when they run out. */
  all(): readonly ServedCertificate[];
  /** Reads again what it rests on; what is broken leaves what was there before. */
  reload(): void;
  /** Calls back whenever answers may have changed. Ends with `close`. */
  watch(listener: () => void): void;
  close(): void;
}
