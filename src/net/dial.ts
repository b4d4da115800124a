import { dialBun } from "./bun-sockets.ts";
import { isLocalName } from "./loopback.ts";
import { dialNode } from "./node-sockets.ts";
import type { Connection, DialAddress, DialOptions } from "./sockets.ts";

/**
 * Connects to a TCP address or unix socket, with TLS when asked. A name below `localhost` leads where that does. The channel is paused until somebody listens.
 * Rejects with `dial.failed`, `dial.tls` or `aborted`.
 */
export function dial(to: DialAddress, options: DialOptions = {}): Promise<Connection> {
  const isLocal = options.proxy === undefined && "host" in to && isLocalName(to.host);
  const address = isLocal ? { ...to, host: "localhost" } : to;
  // Bun's own sockets cannot put TLS on a connection that has already carried the proxy's conversation or a prelude,
  // and neither let us choose where to dial from nor show a certificate that is not trusted.
  const tlsOnTop = options.proxy !== undefined || (options.prelude !== undefined && options.tls !== undefined);
  const wantsNode = options.localAddress !== undefined || options.tls?.onCertificate !== undefined;
  return typeof Bun === "undefined" || tlsOnTop || wantsNode ? dialNode(address, options) : dialBun(address, options);
}
