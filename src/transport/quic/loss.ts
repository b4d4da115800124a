import { type Retry, TunnelError } from "../../core/errors.ts";
import type { QuicClose } from "./engine.ts";

/**
 * What streams, pings and sessions are told when their connection is over. `retry`: `elsewhere` for the session; for a
 * stream nobody knows what of it had an effect.
 */
export function lossOf(close: QuicClose, retry: Retry = "never"): TunnelError {
  return new TunnelError("session.lost", describeClose(close), { retry });
}

function describeClose(close: QuicClose): string {
  switch (close.kind) {
    case "local":
      return "The tunnel connection was closed";
    case "peer":
      return `The other side closed the tunnel connection (code ${close.code})`;
    case "idle":
      return "The tunnel connection went silent";
    case "failed":
      return `The tunnel connection failed: ${close.detail}`;
  }
}
