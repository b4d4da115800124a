import { bytesOf, joined } from "./bytes.ts";
import { MAX_CORPUS_BYTES, MAX_CORPUS_INPUTS } from "./corpus.ts";
import { MAX_INPUT_BYTES, mutate, stretch } from "./mutate.ts";
import { type Chance, type Target, Violation } from "./target.ts";

/** CPU time one input may take, in ms; a slow one is tried again before it counts, since it may have paid for others' garbage. */
export const SLOW_MS = 1_000;
const SLOW_TRIES = 3;
/** Length of inputs that look for more than linear time. */
const STRETCHED_BYTES = 64 * 1024;
/** What a decoder is fed to see whether it keeps it. */
const FLOOD_BYTES = 12 * 1024 * 1024;
const FLOOD_CHUNK_BYTES = 16 * 1024;
/** More than the largest limit of any decoder, with its copies. */
const MAX_FLOOD_GROWTH_BYTES = 6 * 1024 * 1024;

/** Time to make a finding smaller. */
const MINIMISE_MS = 15_000;

/** Inputs with new outcomes that a search keeps; those that reach new lines are always kept. */
const MAX_SEARCH_INPUTS = 4_000;

/** Hit counts that count as one: what runs 5 times instead of 4 is nothing new. */
const BUCKETS = Uint8Array.from({ length: 256 }, (_, hits) =>
  hits === 0 ? 0 : 1 << Math.min(7, Math.floor(Math.log2(hits))),
);

/** An input that broke a promise. */
export interface Found {
  readonly target: string;
  readonly input: Uint8Array;
  readonly error: unknown;
}

/** Where lines are counted, if they are. */
export interface LineCounts {
  readonly counters: Uint8Array;
  count(): number;
}

/** Told of each input before it is tried, for a watchdog. */
export type Announce = (input: Uint8Array) => void;

/** One target, what is known to be interesting of it, and the search for more. */
export class Session {
  readonly target: Target;
  readonly #chance: Chance;
  readonly #lines: LineCounts | undefined;
  readonly #announce: Announce;
  readonly #words: readonly Uint8Array[];
  #corpus: Uint8Array[] = [];
  #seenLines: Uint8Array;
  #seenOutcomes = new Set<string>();
  executions = 0;

  constructor(target: Target, chance: Chance, options: { lines?: LineCounts | undefined; announce?: Announce } = {}) {
    this.target = target;
    this.#chance = chance;
    this.#lines = options.lines;
    this.#announce = options.announce ?? (() => {});
    this.#words = (target.words ?? []).map((word) => (typeof word === "string" ? bytesOf(word) : word));
    this.#seenLines = new Uint8Array(options.lines?.counters.length ?? 0);
  }

  get corpus(): readonly Uint8Array[] {
    return this.#corpus;
  }

  /** Tries seeds and saved inputs. */
  async start(saved: readonly Uint8Array[]): Promise<Found | undefined> {
    for (const input of [...this.target.seeds(), ...saved]) {
      const found = await this.#try(input, true);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /** Tries one new input. */
  async step(): Promise<Found | undefined> {
    const chance = this.#chance;
    if (this.target.generate !== undefined && chance.once(8)) {
      const fresh = this.target.generate(chance).subarray(0, MAX_INPUT_BYTES);
      return await this.#try(chance.once(2) ? fresh : this.#mutated(fresh), true);
    }
    if (chance.once(1000)) return await this.#try(stretch(this.#any(), chance, STRETCHED_BYTES), false);
    return await this.#try(this.#mutated(this.#any()), true);
  }

  /** Feeds a decoder for long, and looks whether its memory grows. */
  flood(): Found | undefined {
    const input = this.#any();
    if (this.target.open === undefined || input.length === 0) return undefined;
    const from = this.#chance.below(input.length);
    const again = input.subarray(from);
    const unit = joined(...Array.from({ length: Math.ceil(FLOOD_CHUNK_BYTES / again.length) }, () => again));
    this.#announce(joined(input, unit));
    const before = heldBytes();
    const feed = this.target.open();
    feed(input.slice());
    for (let fed = 0; fed < FLOOD_BYTES; fed += unit.length) feed(unit.slice());
    const grown = heldBytes() - before;
    // Used again, so that nothing of it was collected before it was measured.
    feed(new Uint8Array(0));
    if (grown < MAX_FLOOD_GROWTH_BYTES) return undefined;
    const promise = `${FLOOD_BYTES} bytes of the same from ${from} on are not kept: memory grew by ${grown}`;
    return { target: this.target.name, input, error: new Violation(promise) };
  }

  /** Few and short inputs that reach what the corpus does: all lines first, then as many outcomes as there is room for. */
  async minimal(): Promise<Uint8Array[]> {
    const inputs = [...this.#corpus].sort((a, b) => a.length - b.length);
    const kept = new Set<Uint8Array>();
    let bytes = 0;
    for (const isNew of [() => this.#reachesNewLines(), (outcome: string) => this.#isNewOutcome(outcome)]) {
      this.#seenLines.fill(0);
      this.#seenOutcomes.clear();
      for (const input of inputs) {
        this.#lines?.counters.fill(0);
        const news = isNew(await this.target.run(input));
        if (!news || kept.size === MAX_CORPUS_INPUTS || bytes + input.length > MAX_CORPUS_BYTES) continue;
        bytes += kept.has(input) ? 0 : input.length;
        kept.add(input);
      }
    }
    return [...kept];
  }

  /** The same failure from a smaller input. */
  async minimised(found: Found): Promise<Uint8Array> {
    let best = found.input;
    const wanted = kindOf(found.error);
    const fails = async (input: Uint8Array): Promise<boolean> => {
      const again = await this.#try(input, false);
      return again !== undefined && kindOf(again.error) === wanted;
    };
    if (!(await fails(best))) return best;
    const until = performance.now() + MINIMISE_MS;
    for (let step = best.length >> 1; step > 0; step >>= 1) {
      for (let at = 0; at < best.length && performance.now() < until; ) {
        const shorter = joined(best.subarray(0, at), best.subarray(at + step));
        if (await fails(shorter)) best = shorter;
        else at += step;
      }
    }
    return best;
  }

  /** One of the corpus; short ones, which are quick to try, and those that came last more often. */
  #any(): Uint8Array {
    const [one, other] = [this.#anyOf(), this.#anyOf()];
    return one.length <= other.length || this.#chance.once(4) ? one : other;
  }

  #anyOf(): Uint8Array {
    const { length } = this.#corpus;
    if (length === 0) return this.#chance.bytes(16);
    const at = this.#chance.once(2) ? this.#chance.below(length) : Math.max(0, length - 1 - this.#chance.below(16));
    return this.#corpus[at] as Uint8Array;
  }

  #mutated(input: Uint8Array): Uint8Array {
    return mutate(input, this.#chance, { words: this.#words, other: () => this.#any() });
  }

  async #try(input: Uint8Array, keep: boolean): Promise<Found | undefined> {
    this.executions += 1;
    this.#announce(input);
    this.#lines?.counters.fill(0, 0, this.#lines.count());
    let outcome: string;
    try {
      outcome = await this.#timed(input);
    } catch (error) {
      return { target: this.target.name, input, error };
    }
    const newLines = this.#reachesNewLines();
    const newOutcome = this.#isNewOutcome(outcome) && this.#corpus.length < MAX_SEARCH_INPUTS;
    if ((newOutcome || newLines) && keep && input.length <= MAX_INPUT_BYTES) this.#corpus.push(input.slice());
    return undefined;
  }

  async #timed(input: Uint8Array): Promise<string> {
    let outcome = "";
    let fastest = Number.POSITIVE_INFINITY;
    for (let tries = 0; tries < SLOW_TRIES; tries += 1) {
      const began = cpuMs();
      const running = this.target.run(input);
      outcome = typeof running === "string" ? running : await running;
      fastest = Math.min(fastest, cpuMs() - began);
      if (fastest < SLOW_MS) return outcome;
    }
    throw new Violation(`${input.length} bytes take less than ${SLOW_MS} ms, not ${Math.round(fastest)}`);
  }

  #isNewOutcome(outcome: string): boolean {
    const { size } = this.#seenOutcomes;
    return this.#seenOutcomes.add(outcome).size > size;
  }

  #reachesNewLines(): boolean {
    const lines = this.#lines;
    if (lines === undefined) return false;
    let news = false;
    const { counters } = lines;
    const seen = this.#seenLines;
    const count = lines.count();
    for (let i = 0; i < count; i += 1) {
      const bucket = BUCKETS[counters[i] as number] as number;
      if ((bucket & ~(seen[i] as number)) === 0) continue;
      seen[i] = (seen[i] as number) | bucket;
      news = true;
    }
    return news;
  }
}

/** What two failures share when they are the same one: numbers and quoted texts may differ. */
function kindOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const line = (error.message.split("\n")[0] ?? "").replace(/[0-9]+|"[^"]*"/g, "#");
  return `${error.name}: ${line}`;
}

/** Of this thread: a busy machine makes nothing slow. */
function cpuMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}

function heldBytes(): number {
  Bun.gc(true);
  return process.memoryUsage().heapUsed;
}
