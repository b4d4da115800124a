import { createLocalJWKSet, type JSONWebKeySet, type JWTVerifyGetKey } from "jose";
import type { Clock } from "../core/clock.ts";
import { describe, TunnelError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";

/** Least time between two questions for the keys, whatever visitors send, in ms. */
export const FETCH_INTERVAL_MS = 60_000;

/** Age from which keys are asked for again before they are used, in ms. */
export const KEYS_FRESH_MS = 600_000;

/** Age from which keys are no longer used although nobody gives newer ones, in ms. */
export const KEYS_USABLE_MS = 24 * 3_600_000;

/** How long an answer may take, in ms, and how long it may be, in bytes. */
export const FETCH_TIMEOUT_MS = 10_000;
export const MAX_KEYS_BYTES = 256 * 1024;

/** Gives the text at a URL; rejects with anything. */
export type FetchText = (url: string, signal: AbortSignal) => Promise<string>;

interface KnownKeys {
  readonly find: JWTVerifyGetKey;
  readonly fetchedAtMs: number;
}

/**
 * The keys that sign a team's tokens (RFC 7517): fetched when first needed, kept, and fetched again when they grow old
 * or a token names one that is not among them. While they cannot be fetched, those from before go on for a day.
 */
export class AccessKeys {
  readonly #url: string;
  readonly #clock: Clock;
  readonly #log: Logger | undefined;
  readonly #fetchText: FetchText;
  #known: KnownKeys | undefined;
  #triedAtMs = Number.NEGATIVE_INFINITY;
  #running: Promise<void> | undefined;

  constructor(
    url: string,
    deps: { readonly clock: Clock; readonly log?: Logger | undefined; readonly fetchText?: FetchText },
  ) {
    this.#url = url;
    this.#clock = deps.clock;
    this.#log = deps.log;
    this.#fetchText = deps.fetchText ?? fetchText;
  }

  /** The keys to check a token with; undefined = there are none that may be used. */
  async get(): Promise<JWTVerifyGetKey | undefined> {
    if (this.#age() >= KEYS_FRESH_MS) await this.#refresh();
    return this.#age() < KEYS_USABLE_MS ? this.#known?.find : undefined;
  }

  /** The keys, if there are others than those that did not know a token's key. */
  async getOtherThan(before: JWTVerifyGetKey): Promise<JWTVerifyGetKey | undefined> {
    if (this.#known?.find === before) await this.#refresh();
    const now = this.#known?.find;
    return now === before ? undefined : now;
  }

  #age(): number {
    return this.#known === undefined ? Number.POSITIVE_INFINITY : this.#clock.nowMs() - this.#known.fetchedAtMs;
  }

  async #refresh(): Promise<void> {
    if (this.#running === undefined) {
      if (this.#clock.nowMs() - this.#triedAtMs < FETCH_INTERVAL_MS) return;
      this.#triedAtMs = this.#clock.nowMs();
      this.#running = this.#fetch().finally(() => {
        this.#running = undefined;
      });
    }
    await this.#running;
  }

  async #fetch(): Promise<void> {
    const patience = new AbortController();
    const late = new TunnelError("timeout", `no answer within ${FETCH_TIMEOUT_MS} ms`);
    const timeUp = Promise.withResolvers<never>();
    const cancel = this.#clock.after(FETCH_TIMEOUT_MS, () => {
      patience.abort(late);
      timeUp.reject(late);
    });
    try {
      const text = await Promise.race([this.#fetchText(this.#url, patience.signal), timeUp.promise]);
      const find = createLocalJWKSet(JSON.parse(text) as JSONWebKeySet);
      this.#known = { find, fetchedAtMs: this.#clock.nowMs() };
    } catch (error) {
      const effect = this.#known === undefined ? "nobody passes" : "those from before are used";
      this.#log?.warn(`Access keys cannot be fetched, so ${effect}`, { url: this.#url, error: describe(error) });
    } finally {
      cancel();
    }
  }
}

/** A redirect is refused: it could lead to keys that somebody else chose. */
async function fetchText(url: string, signal: AbortSignal): Promise<string> {
  const answer = await fetch(url, { signal, redirect: "error", headers: { Accept: "application/json" } });
  if (answer.status !== 200) {
    await answer.body?.cancel();
    throw new TunnelError("request.malformed", `the answer has status ${answer.status}`);
  }
  const decoder = new TextDecoder();
  let text = "";
  let bytes = 0;
  for await (const chunk of answer.body ?? []) {
    bytes += chunk.length;
    if (bytes > MAX_KEYS_BYTES)
      throw new TunnelError("request.too-large", `the answer is longer than ${MAX_KEYS_BYTES} bytes`);
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}
