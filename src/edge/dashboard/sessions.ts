import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import type { Clock } from "../../core/clock.ts";

/** How long somebody stays signed in, in ms. */
const MAX_AGE_MS = 12 * 3_600_000;
/** The same without a sign of life, in ms. */
const MAX_IDLE_MS = 2 * 3_600_000;
const MAX_SESSIONS = 1_000;
const ID_BYTES = 32;

/** Somebody who signed in with an API token. */
export interface DashboardSession {
  /** Of the token; it never leaves this process. */
  readonly secret: string;
  /** Stands in every form of this session. */
  readonly formKey: string;
  readonly account: string;
  readonly startedAtMs: number;
  seenAtMs: number;
}

/** Who is signed in. Browsers have an id that means nothing elsewhere; a restart of the edge signs everybody out. */
export class Sessions {
  readonly #clock: Clock;
  /** By the digest of the id, so that no lookup tells how much of a guess was right. */
  readonly #sessions = new Map<string, DashboardSession>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Signs somebody in; gives the id for the cookie. The longest unused session goes when there are too many. */
  start(secret: string, account: string): string {
    const nowMs = this.#clock.nowMs();
    for (const [key, session] of this.#sessions) if (isOver(session, nowMs)) this.#sessions.delete(key);
    const [oldest] = this.#sessions.keys();
    if (this.#sessions.size >= MAX_SESSIONS && oldest !== undefined) this.#sessions.delete(oldest);
    const id = randomBytes(ID_BYTES).toString("base64url");
    const formKey = randomBytes(ID_BYTES).toString("base64url");
    this.#sessions.set(digest(id), { secret, account, formKey, startedAtMs: nowMs, seenAtMs: nowMs });
    return id;
  }

  find(id: string): DashboardSession | undefined {
    const key = digest(id);
    const session = this.#sessions.get(key);
    if (session === undefined) return undefined;
    const nowMs = this.#clock.nowMs();
    this.#sessions.delete(key);
    if (isOver(session, nowMs)) return undefined;
    // Back in as the last one: the first is the longest unused.
    this.#sessions.set(key, session);
    session.seenAtMs = nowMs;
    return session;
  }

  end(id: string): void {
    this.#sessions.delete(digest(id));
  }
}

/** Whether a form was made for this session. */
export function isFormOf(session: DashboardSession, key: string | null): boolean {
  if (key === null || key.length !== session.formKey.length) return false;
  return timingSafeEqual(Buffer.from(key), Buffer.from(session.formKey));
}

function isOver({ startedAtMs, seenAtMs }: DashboardSession, nowMs: number): boolean {
  return nowMs - startedAtMs > MAX_AGE_MS || nowMs - seenAtMs > MAX_IDLE_MS;
}

function digest(id: string): string {
  return createHash("sha256").update(id).digest("base64");
}
