import { createHmac } from "node:crypto";
import type { Clock, Random } from "../../../core/clock.ts";
import { delay } from "../../../core/clock.ts";
import { describe } from "../../../core/errors.ts";
import type { Logger } from "../../../core/log.ts";
import { VERSION } from "../../../core/version.ts";

/** Messages that wait, over all addresses; further ones are dropped. */
export const MAX_WAITING = 1_000;
/** Addresses that are called at once; each gets its messages one after the other, in order. */
export const MAX_CALLS = 16;
/** How often a message is offered, and how long each time may take, in ms. */
export const TRIES = 5;
export const CALL_TIMEOUT_MS = 10_000;
/** Waits between tries double from here, in ms, and differ by up to half. */
const RETRY_MS = 1_000;

/** Header with what proves that a message is this edge's: `t=SECONDS,v1=HEX`. */
export const SIGNATURE_HEADER = "Culvert-Signature";

/** A JSON object; `event` says what happened. */
export interface WebhookMessage {
  readonly event: string;
  readonly [name: string]: unknown;
}

/** HMAC-SHA256 over `SECONDS.BODY`, as the header has it. The key is the text of the secret. */
export function signature(secret: string, seconds: number, body: string): string {
  return `t=${seconds},v1=${createHmac("sha256", secret).update(`${seconds}.${body}`).digest("hex")}`;
}

interface Message {
  readonly event: string;
  readonly body: string;
}

/**
 * Tells other machines by POST of JSON. Never blocks and never fails its caller: what cannot be delivered is logged and
 * dropped. Redirects are not followed. Addresses are the operator's choice and are not shown, since they may hold
 * secrets.
 */
export class Webhooks {
  readonly #secret: string;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #log: Logger;
  readonly #queues = new Map<string, Message[]>();
  readonly #busy = new Set<string>();
  readonly #stop = new AbortController();
  #waiting = 0;
  /** Delivered, given up after all tries, and dropped because too many waited. */
  readonly counters = { delivered: 0, failed: 0, dropped: 0 };

  constructor(deps: { readonly secret: string; readonly clock: Clock; readonly random: Random; readonly log: Logger }) {
    this.#secret = deps.secret;
    this.#clock = deps.clock;
    this.#random = deps.random;
    this.#log = deps.log;
  }

  post(url: string, message: WebhookMessage): void {
    if (this.#stop.signal.aborted) return;
    if (this.#waiting >= MAX_WAITING) {
      this.counters.dropped += 1;
      if (this.counters.dropped === 1) this.#log.warn("Too many webhook messages wait: some are dropped");
      return;
    }
    this.#waiting += 1;
    const body = JSON.stringify({
      id: crypto.randomUUID(),
      time: new Date(this.#clock.wallMs()).toISOString(),
      ...message,
    });
    const queue = this.#queues.get(url) ?? [];
    this.#queues.set(url, queue);
    queue.push({ event: message.event, body });
    this.#next();
  }

  /** Gives up what waits and what is under way. */
  stop(): void {
    this.#stop.abort();
    this.#queues.clear();
  }

  #next(): void {
    for (const [url, queue] of this.#queues) {
      if (this.#busy.size >= MAX_CALLS) return;
      if (this.#busy.has(url)) continue;
      this.#busy.add(url);
      void this.#drain(url, queue).finally(() => {
        this.#busy.delete(url);
        this.#next();
      });
    }
  }

  async #drain(url: string, queue: Message[]): Promise<void> {
    for (let message = queue.shift(); message !== undefined; message = queue.shift()) {
      this.#waiting -= 1;
      await this.#deliver(url, message);
      if (this.#stop.signal.aborted) return;
    }
    this.#queues.delete(url);
  }

  async #deliver(url: string, { event, body }: Message): Promise<void> {
    let problem = "";
    for (let tries = 1; ; tries += 1) {
      const answer = await this.#call(url, body);
      if (this.#stop.signal.aborted) return;
      if (answer.kind === "taken") {
        this.counters.delivered += 1;
        return;
      }
      problem = answer.problem;
      if (answer.kind === "refused" || tries >= TRIES) break;
      const waitMs = RETRY_MS * 2 ** (tries - 1) * (1 + this.#random() / 2);
      if (!(await delay(this.#clock, waitMs, this.#stop.signal))) return;
    }
    this.counters.failed += 1;
    this.#log.warn("Cannot deliver a webhook message", { event, error: problem });
  }

  async #call(
    url: string,
    body: string,
  ): Promise<{ readonly kind: "taken" } | { readonly kind: "refused" | "failed"; readonly problem: string }> {
    const patience = new AbortController();
    const cancel = this.#clock.after(CALL_TIMEOUT_MS, () => patience.abort(), { background: true });
    try {
      const response = await fetch(url, {
        method: "POST",
        redirect: "manual",
        headers: {
          "Content-Type": "application/json",
          "User-Agent": `culvert/${VERSION}`,
          [SIGNATURE_HEADER]: signature(this.#secret, Math.floor(this.#clock.wallMs() / 1_000), body),
        },
        body,
        signal: AbortSignal.any([patience.signal, this.#stop.signal]),
      });
      // Nobody reads what is said beside the status.
      await response.body?.cancel();
      const { status } = response;
      if (status >= 200 && status < 300) return { kind: "taken" };
      // What is wrong with the message will be wrong with it later.
      const mayChange = status >= 500 || status === 408 || status === 429;
      return { kind: mayChange ? "failed" : "refused", problem: `status ${status}` };
    } catch (error) {
      const problem = patience.signal.aborted
        ? `no answer within ${CALL_TIMEOUT_MS} ms`
        : withoutUrl(describe(error), url);
      return { kind: "failed", problem };
    } finally {
      cancel();
    }
  }
}

function withoutUrl(text: string, url: string): string {
  return text.replaceAll(url, "its address");
}
