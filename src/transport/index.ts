import { http2 } from "./http2/connector.ts";
import type { Transport } from "./port.ts";
import { quic } from "./quic/connector.ts";

/** The transports a connector has, the preferred one first. `--protocol auto` uses all of them. */
export const TRANSPORTS = [quic, http2] as const satisfies readonly Transport[];
