import type { CancelTimer, Clock } from "../../core/clock.ts";
import type { HealthCheckSettings } from "../../ingress/service.ts";
import type { OriginExchange } from "../port.ts";
import type { Backend } from "./backend.ts";

/** Bytes of an answer's body that are read; more is none of a check's business. */
export const MAX_ANSWER_BYTES = 64 * 1024;

/** Asks one backend again and again how it is. */
export class HealthChecks {
  readonly #backend: Backend;
  readonly #settings: HealthCheckSettings;
  readonly #host: string;
  readonly #clock: Clock;
  #cancelTimer: CancelTimer = () => {};
  #running: OriginExchange | undefined;
  #stopped = false;

  /** `host`: what checks say as Host. */
  constructor(backend: Backend, settings: HealthCheckSettings, host: string, clock: Clock) {
    this.#backend = backend;
    this.#settings = settings;
    this.#host = host;
    this.#clock = clock;
  }

  start(): void {
    if (!this.#stopped) this.#check();
  }

  stop(): void {
    this.#stopped = true;
    this.#cancelTimer();
    this.#running?.abort();
    this.#running = undefined;
  }

  #check(): void {
    let told = false;
    let over = false;
    let bytes = 0;
    const tell = (problem: string | undefined): void => {
      if (told || this.#stopped) return;
      told = true;
      this.#backend.checked(problem, this.#settings);
    };
    const finish = (): void => {
      if (over || this.#stopped) return;
      over = true;
      this.#running = undefined;
      this.#cancelTimer();
      this.#cancelTimer = this.#clock.after(this.#settings.interval, () => this.#check(), { background: true });
    };
    const giveUp = (problem: string): void => {
      tell(problem);
      const running = this.#running;
      finish();
      running?.abort();
    };
    const { path, timeout } = this.#settings;
    this.#cancelTimer = this.#clock.after(timeout, () => giveUp(`no answer within ${timeout} ms`), {
      background: true,
    });
    this.#running = this.#backend.service.exchange(
      {
        kind: "http",
        method: "GET",
        target: path,
        headers: ["Host", this.#host, "User-Agent", "culvert-health-check", "Connection", "keep-alive"],
        body: "none",
      },
      {
        onInformational: () => {},
        onResponse: (status) => tell(status >= 200 && status < 400 ? undefined : `status ${status}`),
        onUpgrade: (_headers, channel) => channel.end(),
        onData: (chunk) => {
          bytes += chunk.length;
          if (bytes > MAX_ANSWER_BYTES) giveUp("its answer is endless");
        },
        onEnd: finish,
        onDrain: () => {},
        onError: (error) => {
          tell(error.message);
          finish();
        },
      },
    );
  }
}
