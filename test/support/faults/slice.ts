import type { Fault } from "./fault.ts";

/** Cuts chunks into pieces of at most this many bytes, each sent in a turn of its own. */
export function slice(bytes: number): Fault {
  return async function* (source, link) {
    for await (const chunk of source) {
      for (let at = 0; at < chunk.length; at += bytes) {
        yield chunk.subarray(at, at + bytes);
        // Without a pause the kernel would join the pieces again.
        await link.wait(1);
      }
    }
  };
}
