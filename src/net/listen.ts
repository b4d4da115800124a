import { listenBun } from "./bun-sockets.ts";
import { listenNode } from "./node-sockets.ts";
import type { Listener, ListenOptions } from "./sockets.ts";

/**
 * Accepts TCP connections, with TLS when asked. A slow handshake holds up nobody else. Rejects with `listen.failed`,
 * whose message says what to do about it.
 */
export async function listen(options: ListenOptions): Promise<Listener> {
  // Bun's own listener knows neither names nor ALPN nor a change of certificates.
  const byName = options.tls !== undefined && "choose" in options.tls;
  return typeof Bun === "undefined" || byName ? await listenNode(options) : listenBun(options);
}
