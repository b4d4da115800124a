import type { Clock } from "../core/clock.ts";
import { fileSignature, watchSignature } from "../core/watch.ts";

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
  return watchSignature(() => fileSignature(path), deps);
}
