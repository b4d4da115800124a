/** One thing wrong with a text that somebody gave us. Messages never quote secrets. */
export type Issue = {
  /** Where: a key such as `x_edges[0].addr`, or "" for the whole. */
  readonly path: string;
  readonly message: string;
};

/** A parsed text, or everything that is wrong with it. */
export type Parsed<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly issues: readonly Issue[] };

/** A refusal with a single reason. */
export function refused(path: string, message: string): { readonly ok: false; readonly issues: readonly Issue[] } {
  return { ok: false, issues: [{ path, message }] };
}
