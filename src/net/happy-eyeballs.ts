import { lookup as nodeLookup } from "node:dns/promises";
import { isIP } from "node:net";
import type { CancelTimer, Clock } from "../core/clock.ts";
import { TunnelError } from "../core/errors.ts";
import { dial } from "./dial.ts";
import { lookupLocal } from "./local-names.ts";
import { DIAL_TIMEOUT_MS, dialError } from "./socket-errors.ts";
import type { Connection, DialAddress, DialOptions } from "./sockets.ts";

/** Wait for an address before the next one is tried beside it, in ms (RFC 8305 section 8, Connection Attempt Delay). */
export const ATTEMPT_DELAY_MS = 250;

/** Addresses of one name that are tried; a name with more of them is answered by the first. */
export const MAX_ADDRESSES = 16;

/** Least time for one address where they are tried in turn, in ms: less would fail on a slow link for no reason. */
export const MIN_TURN_MS = 2_000;

export interface NameDialOptions extends DialOptions {
  /** True: an address that does not answer soon gets company. False: one address after another, in the system's order. */
  readonly race: boolean;
}

/** What dialling by name rests on; tests give their own. */
export interface NameDialDeps {
  readonly clock: Clock;
  /** Addresses of a name as the system sorts them (RFC 6724). @default the system's resolver */
  readonly lookup?: (name: string) => Promise<readonly string[]>;
  /** @default `dial` of dial.ts */
  readonly dial?: (address: DialAddress, options: DialOptions) => Promise<Connection>;
}

/**
 * Dials a name that may have several addresses (RFC 8305): families take turns, the next address is tried as soon as one
 * fails or lets us wait, and the first to take the connection wins; TLS is its alone. Both families come from one
 * question to the system, so there is no wait for the second answer. Same contract as `dial`.
 */
export async function dialName(
  address: DialAddress,
  options: NameDialOptions,
  deps: NameDialDeps,
): Promise<Connection> {
  const dialOne = deps.dial ?? dial;
  if ("path" in address || isIP(address.host) !== 0) return await dialOne(address, options);
  const found = await unlessAborted(
    (deps.lookup ?? systemLookup)(address.host).catch((cause: unknown): never => {
      throw dialError(address, notFound(cause), "connect");
    }),
    options.signal,
  );
  const hosts = (options.race ? alternateFamilies(found) : found).slice(0, MAX_ADDRESSES);
  if (hosts.length === 0) throw dialError(address, notFound(undefined), "connect");
  return await new Race(hosts, address.port, options, deps.clock, dialOne).run();
}

/** Keeps the order within a family; the first address stays the first (RFC 8305 section 4). */
export function alternateFamilies(addresses: readonly string[]): string[] {
  const first = isIP(addresses[0] ?? "");
  const preferred = addresses.filter((address) => isIP(address) === first);
  const other = addresses.filter((address) => isIP(address) !== first);
  const order: string[] = [];
  for (let i = 0; i < Math.max(preferred.length, other.length); i += 1) {
    order.push(...[preferred[i], other[i]].filter((address) => address !== undefined));
  }
  return order;
}

class Race {
  readonly #hosts: readonly string[];
  readonly #port: number;
  readonly #options: NameDialOptions;
  readonly #clock: Clock;
  readonly #dial: NonNullable<NameDialDeps["dial"]>;
  readonly #done = Promise.withResolvers<Connection>();
  readonly #running = new Map<number, AbortController>();
  readonly #endsAtMs: number;
  #next = 0;
  #winner: number | undefined;
  #firstFailure: unknown;
  #cancelWait: CancelTimer = () => {};

  constructor(
    hosts: readonly string[],
    port: number,
    options: NameDialOptions,
    clock: Clock,
    dialOne: NonNullable<NameDialDeps["dial"]>,
  ) {
    this.#hosts = hosts;
    this.#port = port;
    this.#options = options;
    this.#clock = clock;
    this.#dial = dialOne;
    this.#endsAtMs = clock.nowMs() + (options.timeoutMs ?? DIAL_TIMEOUT_MS);
  }

  async run(): Promise<Connection> {
    const { signal } = this.#options;
    const onAbort = (): void => this.#done.reject(new TunnelError("aborted", "Dial aborted"));
    signal?.addEventListener("abort", onAbort, { once: true });
    if (signal?.aborted === true) onAbort();
    else this.#tryNext();
    try {
      return await this.#done.promise;
    } finally {
      signal?.removeEventListener("abort", onAbort);
      this.#stop(this.#winner);
    }
  }

  #tryNext(): void {
    this.#cancelWait();
    const at = this.#next;
    const host = this.#hosts[at];
    if (host === undefined || this.#winner !== undefined) return;
    this.#next += 1;
    const controller = new AbortController();
    this.#running.set(at, controller);
    const options: DialOptions = {
      ...this.#options,
      timeoutMs: this.#timeFor(this.#hosts.length - at),
      signal: controller.signal,
      onConnected: () => this.#connected(at),
    };
    this.#dial({ host, port: this.#port }, options).then(
      (connection) => this.#succeeded(at, connection),
      (error: unknown) => this.#failed(at, error),
    );
    if (this.#options.race && this.#next < this.#hosts.length) {
      this.#cancelWait = this.#clock.after(ATTEMPT_DELAY_MS, () => this.#tryNext(), { background: true });
    }
  }

  /** In a race everybody may take all the time there is; in turn, an address may not use up that of those behind it. */
  #timeFor(candidates: number): number {
    const leftMs = Math.max(1, this.#endsAtMs - this.#clock.nowMs());
    return this.#options.race ? leftMs : Math.min(leftMs, Math.max(MIN_TURN_MS, leftMs / candidates));
  }

  #connected(at: number): void {
    if (this.#winner !== undefined) return;
    this.#winner = at;
    this.#options.onConnected?.();
    this.#stop(at);
  }

  #succeeded(at: number, connection: Connection): void {
    this.#running.delete(at);
    if (this.#winner === undefined) this.#connected(at);
    // Two may have been taken in the same turn of the loop, and the race may be over by the caller's wish.
    if (this.#winner !== at || this.#options.signal?.aborted === true) {
      connection.channel.abort(new TunnelError("aborted", "Another address was faster"));
    } else this.#done.resolve(connection);
  }

  #failed(at: number, error: unknown): void {
    this.#running.delete(at);
    this.#firstFailure ??= error;
    if (this.#winner === at) this.#done.reject(error);
    else if (this.#winner === undefined && this.#next < this.#hosts.length) this.#tryNext();
    else if (this.#running.size === 0) this.#done.reject(this.#firstFailure);
  }

  #stop(except: number | undefined): void {
    this.#cancelWait();
    for (const [at, controller] of [...this.#running]) if (at !== except) controller.abort();
  }
}

export async function systemLookup(name: string): Promise<readonly string[]> {
  const local = await lookupLocal(name);
  if (local !== undefined) return local;
  // Bun's node:dns asks name servers by itself; the system's way also knows names of the local network (mDNS).
  const found =
    typeof Bun === "undefined"
      ? await nodeLookup(name, { all: true, verbatim: true })
      : await Bun.dns.lookup(name, { backend: "system" });
  return found.map(({ address }) => address);
}

function notFound(cause: unknown): Error {
  return Object.assign(new Error("host name not found", { cause }), { code: "ENOTFOUND" });
}

/** A lookup cannot be cancelled; what it finds is dropped. */
function unlessAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work;
  const aborted = (): TunnelError => new TunnelError("aborted", "Dial aborted");
  if (signal.aborted) {
    work.catch(() => {});
    return Promise.reject(aborted());
  }
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(aborted());
    signal.addEventListener("abort", onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}
