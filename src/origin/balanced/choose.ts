import type { Backend } from "./backend.ts";

/**
 * The backend with the least to do for its weight; equals take turns by weight, so that weights hold even when nobody
 * has anything to do. `tried` are those that have failed this request. When no backend is usable all are taken for
 * usable: what is known of them may be old, and an answer is worth a try. Undefined = all were tried.
 */
export function chooseBackend(backends: readonly Backend[], tried: ReadonlySet<Backend>): Backend | undefined {
  const left = backends.filter((backend) => !tried.has(backend));
  const usable = left.filter((backend) => backend.usable);
  const candidates = usable.length > 0 ? usable : left;
  const least = Math.min(...candidates.map((backend) => backend.pending / backend.weight));
  const equals = candidates.filter((backend) => backend.pending / backend.weight === least);
  return takeTurn(equals);
}

/** Smooth weighted round-robin: each gains its weight, the richest is chosen and pays for all. */
function takeTurn(equals: readonly Backend[]): Backend | undefined {
  let total = 0;
  let richest: Backend | undefined;
  for (const backend of equals) {
    total += backend.weight;
    backend.credit += backend.weight;
    if (richest === undefined || backend.credit > richest.credit) richest = backend;
  }
  if (richest !== undefined) richest.credit -= total;
  return richest;
}
