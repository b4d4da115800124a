import { Session } from "node:inspector";
import { getHeapSnapshot } from "node:v8";
import { type Clock, delay } from "../core/clock.ts";
import { TunnelError } from "../core/errors.ts";

/** Bounds on one CPU profile, in seconds. */
const MAX_SECONDS = 60;
const DEFAULT_SECONDS = 10;

let busy = false;

/** Seconds that somebody asked for, within bounds. */
export function profileSeconds(asked: string | null): number {
  const seconds = asked === null ? DEFAULT_SECONDS : Number(asked);
  return Number.isFinite(seconds) && seconds > 0 ? Math.min(seconds, MAX_SECONDS) : DEFAULT_SECONDS;
}

/**
 * Where this process spends its time, as a `.cpuprofile` that browsers' developer tools, VS Code and speedscope open. One at
 * a time; rejects with `stream.limit` while another one runs. Ends early when `signal` aborts.
 */
export async function cpuProfile(seconds: number, clock: Clock, signal: AbortSignal): Promise<string> {
  if (busy) throw new TunnelError("stream.limit", "Another profile is being taken");
  busy = true;
  const session = new Session();
  session.connect();
  try {
    await post(session, "Profiler.enable");
    await post(session, "Profiler.start");
    await delay(clock, seconds * 1000, signal);
    const { profile } = (await post(session, "Profiler.stop")) as { readonly profile: unknown };
    return JSON.stringify(profile);
  } finally {
    session.disconnect();
    busy = false;
  }
}

/** What is in the heap, as a `.heapsnapshot` that browsers' developer tools open. The process stands still meanwhile. */
export async function heapSnapshot(): Promise<Uint8Array> {
  const chunks: Buffer[] = [];
  for await (const chunk of getHeapSnapshot()) chunks.push(Buffer.from(chunk as Uint8Array | string));
  return Buffer.concat(chunks);
}

function post(session: Session, method: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    session.post(method, (error, result) => {
      if (error === null) resolve(result);
      else reject(error);
    });
  });
}
