import { TunnelError } from "../../core/errors.ts";
import type { QuicClose } from "./engine.ts";

/** What streams and pings are told when their connection is over; nobody knows what of a stream had an effect. */
export function lossOf(close: QuicClose): TunnelError {
  return new TunnelError("session.lost", describeClose(close));
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
