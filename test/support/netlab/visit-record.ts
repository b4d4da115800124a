/** What a visitor asks: `get` at once, `slow` after a while, `post`, or `download` over seconds. */
export type VisitKind = "get" | "slow" | "post" | "download";

/** One request as a visitor saw it; the load prints one such object a line. */
export interface VisitRecord {
  readonly id: number;
  readonly kind: VisitKind;
  /** Milliseconds since the epoch. */
  readonly startMs: number;
  readonly tookMs: number;
  /** Why it failed; absent when the whole answer came. */
  readonly failure?: string;
  /** Bytes of the body that are not the origin's. */
  readonly wrongBytes: number;
  /** Times it went out again: to the other edge, or because a kept connection had ended. */
  readonly moved: number;
}

/** What a load does; an argument of `load.ts`, as JSON. */
export interface LoadPlan {
  readonly edges: readonly { readonly host: string; readonly port: number }[];
  readonly hostname: string;
  /** Requests a second of each kind; each takes the next edge in turn. */
  readonly getsPerSecond: number;
  readonly slowPerSecond: number;
  readonly postsPerSecond: number;
  /** Downloads running at any time. */
  readonly downloads: number;
  readonly downloadBytes: number;
  readonly downloadBytesPerSecond: number;
  /** The load ends by itself after this long, in ms. */
  readonly atMostMs: number;
}
