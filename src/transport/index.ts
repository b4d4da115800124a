import { http2 } from "./http2/connector.ts";
import type { Transport } from "./port.ts";

/** The transports a connector has, the preferred one first. `--protocol auto` takes the first. */
export const TRANSPORTS = [http2] as const satisfies readonly Transport[];
