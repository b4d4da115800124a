import type { Clock } from "../../core/clock.ts";
import { TunnelError } from "../../core/errors.ts";

/**
 * Runs work that may hang or ignore its signal, and waits no longer than `ms` for it. The work's signal aborts at the
 * bound and when the caller's does. Rejects with `timeout`, `aborted`, or what the work rejects with.
 */
export async function bounded<T>(
  work: (signal: AbortSignal) => Promise<T>,
  options: { readonly ms: number; readonly clock: Clock; readonly signal: AbortSignal },
): Promise<T> {
  const { ms, clock, signal } = options;
  const given = new AbortController();
  const stopped = Promise.withResolvers<never>();
  const stop = (error: TunnelError): void => {
    stopped.reject(error);
    given.abort(error);
  };
  const onAbort = (): void => stop(new TunnelError("aborted", "Given up"));
  if (signal.aborted) throw new TunnelError("aborted", "Given up");
  signal.addEventListener("abort", onAbort, { once: true });
  const cancel = clock.after(ms, () => stop(new TunnelError("timeout", `no answer within ${ms} ms`)));
  try {
    return await Promise.race([work(given.signal), stopped.promise]);
  } finally {
    cancel();
    signal.removeEventListener("abort", onAbort);
  }
}
