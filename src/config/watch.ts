import { statSync } from "node:fs";
import type { CancelTimer, Clock } from "../core/clock.ts";

/** Between two looks at the file, in ms. */
const LOOK_MS = 500;
/** How long a changed file must stay as it is before it counts, in ms: who writes it may not be through. */
const SETTLE_MS = 100;
/** Looks after which a file that never rests counts all the same. */
const MAX_SETTLE_LOOKS = 20;
/** Looks without the file after which somebody is told: between deletion and creation there is a moment without it. */
const MISSING_LOOKS = 4;

/**
 * Watches a file by looking at it: `onChange` comes after each change of what its path leads to, and once at the
 * start. Unlike notices of the system this sees every way to change a file: writing it, renaming another one onto it,
 * swapping a symbolic link anywhere in its path (as Kubernetes does), deleting and creating it; and it sees them on
 * network and container file systems that give no notice. `onMissing` comes when the file is gone for seconds.
 *
 * @returns ends the watch
 */
export function watchFile(
  path: string,
  deps: { readonly clock: Clock; readonly onChange: () => void; readonly onMissing: () => void },
): () => void {
  let known: string | undefined;
  let candidate: string | undefined;
  let settling = 0;
  let missing = 0;
  let cancel: CancelTimer = () => {};
  let stopped = false;

  /** How long until the next look, in ms. */
  const look = (): number => {
    const seen = fileSignature(path);
    if (seen === undefined) {
      missing += 1;
      if (missing === MISSING_LOOKS) deps.onMissing();
      return LOOK_MS;
    }
    missing = 0;
    if (seen === known) {
      candidate = undefined;
      return LOOK_MS;
    }
    settling = candidate === undefined ? 0 : settling + 1;
    if (seen !== candidate && settling < MAX_SETTLE_LOOKS) {
      candidate = seen;
      return SETTLE_MS;
    }
    known = seen;
    candidate = undefined;
    deps.onChange();
    return LOOK_MS;
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
  lookIn(LOOK_MS);
  return () => {
    stopped = true;
    cancel();
  };
}

/** Which file a path leads to and in which state it is; undefined = there is none, or nobody may look. */
function fileSignature(path: string): string | undefined {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = statSync(path, { bigint: true });
    return `${dev}:${ino}:${size}:${mtimeNs}:${ctimeNs}`;
  } catch {
    return undefined;
  }
}
