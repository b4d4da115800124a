import { TunnelError } from "../../../core/errors.ts";
import type { QuicEngine } from "../engine.ts";
import { createNodeQuicEngine } from "./node-quic.ts";
import { createQuicheEngine } from "./quiche.ts";

let chosen: Promise<QuicEngine | undefined> | undefined;

/**
 * The best engine of this machine: quiche where its addon runs, else the runtime's own. Rejects with a TunnelError
 * (`edge.dial`) when there is none.
 */
export async function chooseEngine(): Promise<QuicEngine> {
  chosen ??= Promise.resolve(createQuicheEngine() ?? createNodeQuicEngine());
  const engine = await chosen;
  if (engine === undefined) throw new TunnelError("edge.dial", "No QUIC engine runs on this machine");
  return engine;
}
