import { X509Certificate } from "node:crypto";
import type { Clock } from "../../core/clock.ts";
import { type CertifiedKey, createServerCertificate } from "../certificates.ts";
import { TokenBuckets } from "../policy/token-bucket.ts";
import type { CertificateSource, ServedCertificate } from "./source.ts";

/** Certificates kept; the one unused for longest goes first, and is made again when it is asked for. */
export const MAX_ISSUED = 1_000;
/** New ones a second, and at once: a visitor can ask for any name that a wildcard route takes. */
const ISSUES_PER_SECOND = 50;
const ISSUE_BURST = 200;
/** How long they are good for, and how much of that must be left, in days. */
const VALID_DAYS = 90;
const RENEW_BEFORE_DAYS = 30;
const DAY_MS = 86_400_000;
/** RFC 1035 section 2.3.4, and the labels that occur in practice. */
const HOSTNAME = /^(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*$/;

/**
 * Certificates made here, by the edge's own authority, the moment they are asked for: for the names of the edge itself
 * and every hostname that is routed. Visitors have to trust that authority (`ca.pem` in the state directory). Nothing
 * is stored: after a restart there are new ones.
 */
export class InternalCertificates implements CertificateSource {
  readonly #authority: CertifiedKey;
  readonly #own: readonly string[];
  readonly #isRouted: (hostname: string) => boolean;
  readonly #clock: Clock;
  readonly #pace = new TokenBuckets({ perSecond: ISSUES_PER_SECOND, burst: ISSUE_BURST }, 1);
  /** In the order of their last use. */
  readonly #issued = new Map<string, ServedCertificate>();

  /** `own`: names of the edge itself; the first one's certificate is the fallback. */
  constructor(
    options: {
      readonly authority: CertifiedKey;
      readonly own: readonly string[];
      readonly isRouted: (hostname: string) => boolean;
    },
    clock: Clock,
  ) {
    this.#authority = options.authority;
    this.#own = [...options.own, "localhost"];
    this.#isRouted = options.isRouted;
    this.#clock = clock;
  }

  find(serverName: string): ServedCertificate | undefined {
    const known = this.#issued.get(serverName);
    const nowMs = this.#clock.wallMs();
    if (known !== undefined && known.notAfterMs - nowMs > RENEW_BEFORE_DAYS * DAY_MS) {
      this.#issued.delete(serverName);
      this.#issued.set(serverName, known);
      return known;
    }
    if (!HOSTNAME.test(serverName) || !(this.#own.includes(serverName) || this.#isRouted(serverName))) return undefined;
    // An old one is good for a while yet.
    if (this.#pace.take("", this.#clock.nowMs()) > 0) return known;
    const made = this.#issue([serverName], nowMs);
    this.#issued.delete(serverName);
    this.#issued.set(serverName, made);
    if (this.#issued.size > MAX_ISSUED) {
      for (const oldest of this.#issued.keys()) {
        this.#issued.delete(oldest);
        break;
      }
    }
    return made;
  }

  /** For the edge's own names and this machine, addresses included. */
  fallback(): ServedCertificate {
    const nowMs = this.#clock.wallMs();
    const known = this.#issued.get("");
    if (known !== undefined && known.notAfterMs - nowMs > RENEW_BEFORE_DAYS * DAY_MS) return known;
    const made = this.#issue([...new Set([...this.#own, "127.0.0.1", "::1"])], nowMs);
    this.#issued.set("", made);
    return made;
  }

  all(): readonly ServedCertificate[] {
    return [...this.#issued.values()];
  }

  reload(): void {}

  watch(): void {}

  close(): void {}

  #issue(names: readonly string[], nowMs: number): ServedCertificate {
    const first = names[0] ?? "localhost";
    // Common names end at 64 characters (RFC 5280 appendix A.1), and nobody reads them.
    const commonName = first.length <= 64 ? first : "Culvert edge";
    const made = createServerCertificate(this.#authority, names, { nowMs, days: VALID_DAYS, commonName });
    const parsed = new X509Certificate(made.cert);
    return {
      identity: made,
      names,
      notBeforeMs: Date.parse(parsed.validFrom),
      notAfterMs: Date.parse(parsed.validTo),
      origin: "the edge's own authority",
      renewed: true,
    };
  }
}
