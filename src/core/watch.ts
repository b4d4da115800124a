import { statSync } from "node:fs";
import type { CancelTimer, Clock } from "./clock.ts";

/** Between two looks, in ms. */
const LOOK_MS = 500;
/** How long what changed must stay as it is before it counts, in ms: who writes it may not be through. */
const SETTLE_MS = 100;
/** Looks after which what never rests counts all the same. */
const MAX_SETTLE_LOOKS = 20;
/** Looks without it after which somebody is told: between deletion and creation there is a moment without it. */
const MISSING_LOOKS = 4;

/**
 * Watches something by looking at it: `onChange` comes after each change of its signature, once that has settled; and
 * once at the start, unless `known` is what it is then. `onMissing` comes when there has been no signature for a while.
 *
 * @param deps.lookMs between two looks. @default 500
 * @returns ends the watch
 */
export function watchSignature(
  signature: () => string | undefined,
  deps: {
    readonly clock: Clock;
    readonly known?: string | undefined;
    readonly lookMs?: number;
    readonly onChange: () => void;
    readonly onMissing?: () => void;
  },
): () => void {
  const lookMs = deps.lookMs ?? LOOK_MS;
  let known = deps.known;
  let candidate: string | undefined;
  let settling = 0;
  let missing = 0;
  let cancel: CancelTimer = () => {};
  let stopped = false;

  /** How long until the next look, in ms. */
  const look = (): number => {
    const seen = signature();
    if (seen === undefined) {
      missing += 1;
      if (missing === MISSING_LOOKS) deps.onMissing?.();
      return lookMs;
    }
    missing = 0;
    if (seen === known) {
      candidate = undefined;
      return lookMs;
    }
    settling = candidate === undefined ? 0 : settling + 1;
    if (seen !== candidate && settling < MAX_SETTLE_LOOKS) {
      candidate = seen;
      return SETTLE_MS;
    }
    known = seen;
    candidate = undefined;
    deps.onChange();
    return lookMs;
  };
  const lookIn = (ms: number): void => {
    cancel = deps.clock.after(
      ms,
      () => {
        const nextMs = look();
        if (!stopped) lookIn(nextMs);
      },
      { background: true },
    );
  };
  lookIn(lookMs);
  return () => {
    stopped = true;
    cancel();
  };
}

/** Which file a path leads to and in which state it is; undefined = there is none, or nobody may look. */
export function fileSignature(path: string): string | undefined {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = statSync(path, { bigint: true });
    return `${dev}:${ino}:${size}:${mtimeNs}:${ctimeNs}`;
  } catch {
    return undefined;
  }
}
