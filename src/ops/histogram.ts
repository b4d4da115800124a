import type { Exemplar, Labels, Sample } from "./exposition.ts";

/** Counts values by size. Adding one costs a short walk over the bounds and no allocation. */
export class Histogram {
  readonly #bounds: readonly number[];
  readonly #counts: number[];
  readonly #exemplars: (Exemplar | undefined)[];
  #sum = 0;
  #count = 0;

  /** `bounds`: upper ends of the buckets, rising; one without an end comes on top. */
  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.#counts = new Array<number>(bounds.length + 1).fill(0);
    this.#exemplars = new Array<Exemplar | undefined>(bounds.length + 1).fill(undefined);
  }

  get count(): number {
    return this.#count;
  }

  /** Gives the number of the bucket. */
  observe(value: number): number {
    const bounds = this.#bounds;
    let bucket = 0;
    while (bucket < bounds.length && value > (bounds[bucket] as number)) bucket += 1;
    this.#counts[bucket] = (this.#counts[bucket] as number) + 1;
    this.#sum += value;
    this.#count += 1;
    return bucket;
  }

  /** Names what stands for this bucket from now on. */
  exemplify(bucket: number, exemplar: Exemplar): void {
    this.#exemplars[bucket] = exemplar;
  }

  *samples(labels: Labels = {}): Iterable<Sample> {
    let below = 0;
    for (let bucket = 0; bucket <= this.#bounds.length; bucket += 1) {
      below += this.#counts[bucket] as number;
      const le = bucket < this.#bounds.length ? String(this.#bounds[bucket]) : "+Inf";
      yield { suffix: "_bucket", labels: { ...labels, le }, value: below, exemplar: this.#exemplars[bucket] };
    }
    const own = Object.keys(labels).length === 0 ? {} : { labels };
    yield { suffix: "_sum", ...own, value: this.#sum };
    yield { suffix: "_count", ...own, value: this.#count };
  }
}
