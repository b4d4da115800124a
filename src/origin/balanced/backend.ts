import type { Clock } from "../../core/clock.ts";
import type { TunnelError } from "../../core/errors.ts";
import type { Logger } from "../../core/log.ts";
import type { BalanceSettings, HealthCheckSettings } from "../../ingress/service.ts";
import type { BackendStatus, OriginService } from "../port.ts";

/** The longest that a backend is left out at a time, in ms. */
export const MAX_EJECT_MS = 300_000;

/** Failures that are the backend's: those of a visitor, or of our own limits, say nothing about it. */
const FAULTS: ReadonlySet<TunnelError["code"]> = new Set([
  "origin.dial",
  "origin.tls",
  "origin.timeout",
  "origin.slow",
  "origin.reset",
  "origin.truncated",
  "origin.malformed",
]);

/** One of several services, and what is known of its health: by requests (`ejected`) and by checks (`healthy`). */
export class Backend {
  readonly service: OriginService;
  readonly weight: number;
  /** What a sticky cookie calls it. */
  readonly id: string;
  /** Requests it has not answered to the end. */
  pending = 0;
  /** Standing in the round that decides between equals. */
  credit = 0;
  readonly #clock: Clock;
  readonly #log: Logger | undefined;
  readonly #balance: BalanceSettings;
  #healthy = true;
  #checksInRow = 0;
  #failuresInRow = 0;
  /** In a row: how often it was left out since it last answered. */
  #ejections = 0;
  #allEjections = 0;
  #failedChecks = 0;
  #ejectedUntilMs = Number.NEGATIVE_INFINITY;

  constructor(
    service: OriginService,
    options: { readonly weight: number; readonly id: string; readonly balance: BalanceSettings },
    deps: { readonly clock: Clock; readonly log?: Logger | undefined },
  ) {
    this.service = service;
    this.weight = options.weight;
    this.id = options.id;
    this.#balance = options.balance;
    this.#clock = deps.clock;
    this.#log = deps.log;
  }

  /** True when requests may go to it. */
  get usable(): boolean {
    return this.#healthy && this.#clock.nowMs() >= this.#ejectedUntilMs;
  }

  get status(): BackendStatus {
    return {
      up: this.usable,
      pending: this.pending,
      ejections: this.#allEjections,
      failedChecks: this.#failedChecks,
    };
  }

  /** It began to answer a request. */
  answered(): void {
    this.#failuresInRow = 0;
    this.#ejections = 0;
  }

  /** A request to it failed. Each time in a row it is left out for twice as long. */
  failed(error: TunnelError): void {
    const { ejectAfter, ejectFor } = this.#balance;
    if (!FAULTS.has(error.code) || ejectAfter === 0) return;
    this.#failuresInRow += 1;
    const nowMs = this.#clock.nowMs();
    if (this.#failuresInRow < ejectAfter || nowMs < this.#ejectedUntilMs) return;
    const forMs = Math.min(ejectFor * 2 ** this.#ejections, MAX_EJECT_MS);
    this.#ejections = Math.min(this.#ejections + 1, 30);
    this.#allEjections += 1;
    this.#ejectedUntilMs = nowMs + forMs;
    this.#log?.warn("A backend fails and is left out for a while", {
      originService: this.service.label,
      forMs,
      error: error.message,
    });
  }

  /** What a check found: undefined = it is well, else what is wrong. */
  checked(problem: string | undefined, { healthyAfter, unhealthyAfter }: HealthCheckSettings): void {
    const well = problem === undefined;
    if (!well) this.#failedChecks += 1;
    if (well === this.#healthy) {
      this.#checksInRow = 0;
      return;
    }
    this.#checksInRow += 1;
    if (this.#checksInRow < (well ? healthyAfter : unhealthyAfter)) return;
    this.#checksInRow = 0;
    this.#healthy = well;
    const fields = { originService: this.service.label, error: problem };
    if (well) this.#log?.info("A backend is well again", fields);
    else this.#log?.warn("A backend is not well and gets no requests", fields);
  }
}
