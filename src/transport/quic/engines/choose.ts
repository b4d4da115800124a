import { TunnelError } from "../../../core/errors.ts";
import type { QuicEngine } from "../engine.ts";
import { createQuicheEngine } from "./quiche.ts";

let chosen: QuicEngine | undefined;

/** The best engine of this machine; throws a TunnelError (`edge.dial`) when it has none. */
export function chooseEngine(): QuicEngine {
  chosen ??= createQuicheEngine();
  if (chosen === undefined) throw new TunnelError("edge.dial", "No QUIC engine runs on this machine");
  return chosen;
}
