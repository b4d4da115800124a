import type { CancelTimer, Clock } from "../../core/clock.ts";
import type { Logger } from "../../core/log.ts";
import { coversHostname } from "./names.ts";
import type { CertificateSource, ServedCertificate } from "./source.ts";

/** How long before a certificate runs out people are warned, in days. */
export const WARN_BEFORE_DAYS = 14;
/** Between two looks at when certificates run out, in ms. */
const EXPIRY_CHECK_MS = 12 * 3_600_000;
const DAY_MS = 86_400_000;

/** What visitors are shown: the first source that knows a name decides. */
export class Certificates {
  readonly #sources: readonly CertificateSource[];
  readonly #clock: Clock;
  readonly #log: Logger;
  #cancel: CancelTimer = () => {};
  #listener: () => void = () => {};

  constructor(sources: readonly CertificateSource[], deps: { readonly clock: Clock; readonly log: Logger }) {
    this.#sources = sources;
    this.#clock = deps.clock;
    this.#log = deps.log;
    for (const source of sources) {
      source.watch(() => {
        this.#warn();
        this.#listener();
      });
    }
    this.#check();
  }

  /** The certificate of a name a visitor asks for. */
  choose(serverName: string): ServedCertificate | undefined {
    const name = serverName.replace(/\.$/, "");
    for (const source of this.#sources) {
      const found = source.find(name);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  fallback(): ServedCertificate | undefined {
    for (const source of this.#sources) {
      const found = source.fallback();
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /**
   * Whether a request for this hostname may come over a connection that was made for `serverName`: it was made for it,
   * or the certificate shown is good for both (RFC 9113 section 9.1.1). A connection for no name may carry anything.
   */
  mayCarry(serverName: string | undefined, hostname: string): boolean {
    if (serverName === undefined || serverName === "") return true;
    const asked = serverName.replace(/\.$/, "");
    if (asked === hostname) return true;
    const shown = this.choose(asked) ?? this.fallback();
    return shown !== undefined && coversHostname(shown.names, hostname);
  }

  /** When the first certificate of those that nobody renews runs out, in ms since 1970; undefined = there is none. */
  soonestExpiryMs(): number | undefined {
    const ends = this.#watched().map((certificate) => certificate.notAfterMs);
    return ends.length === 0 ? undefined : ends.reduce((soonest, end) => Math.min(soonest, end));
  }

  reload(): void {
    for (const source of this.#sources) source.reload();
  }

  /** Calls back when answers, the fallback above all, may have changed. */
  watch(listener: () => void): void {
    this.#listener = listener;
  }

  close(): void {
    this.#cancel();
    for (const source of this.#sources) source.close();
  }

  #check(): void {
    this.#warn();
    this.#cancel = this.#clock.after(
      EXPIRY_CHECK_MS,
      () => {
        // The fallback of one's own authority is renewed by being asked for.
        this.#listener();
        this.#check();
      },
      { background: true },
    );
  }

  #watched(): readonly ServedCertificate[] {
    return this.#sources.flatMap((source) => source.all()).filter((certificate) => !certificate.renewed);
  }

  #warn(): void {
    const nowMs = this.#clock.wallMs();
    for (const { notAfterMs, origin, names } of this.#watched()) {
      const days = Math.floor((notAfterMs - nowMs) / DAY_MS);
      const fields = { file: origin, names: names.join(","), until: new Date(notAfterMs).toISOString() };
      if (notAfterMs <= nowMs) this.#log.error("A certificate has run out", fields);
      else if (days < WARN_BEFORE_DAYS) this.#log.warn(`A certificate runs out in ${days} days`, fields);
    }
  }
}
