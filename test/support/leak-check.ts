import { readdirSync, readlinkSync } from "node:fs";
import { pollUntil } from "./poll-until.ts";

/**
 * Fails at the end of the scope when more sockets are open than at its start: `await using _ = leakCheck()`.
 * Reads /proc, so it only looks on Linux; timers are counted by `VirtualClock.pending`.
 */
export function leakCheck(options: { readonly deadlineMs?: number } = {}): AsyncDisposable {
  const before = openSockets();
  return {
    [Symbol.asyncDispose]: async () => {
      await pollUntil(() => openSockets() <= before, {
        what: `no more than ${before} sockets open (${openSockets()} are)`,
        deadlineMs: options.deadlineMs ?? 2_000,
      });
    },
  };
}

function openSockets(): number {
  if (process.platform !== "linux") return 0;
  let count = 0;
  for (const fd of readdirSync("/proc/self/fd")) {
    try {
      if (readlinkSync(`/proc/self/fd/${fd}`).startsWith("socket:")) count += 1;
    } catch {
      // The descriptor of the listing itself is gone by now.
    }
  }
  return count;
}
