import { formatToken } from "../wire/token.ts";
import type { Store, StoredTunnel } from "./store/port.ts";

/**
 * The token of a tunnel of this edge: credentials, and where the edge is and whom to trust, so that a connector of
 * ours needs nothing else. cloudflared ignores the additions.
 */
export function createTunnelToken(
  store: Store,
  tunnel: StoredTunnel,
  edge: {
    readonly addresses: readonly string[];
    readonly ca: string;
    /** Public key of management tokens, as `formatPublicKey` writes it. */
    readonly managementKey?: string;
  },
): string | undefined {
  const credentials = store.tunnels.credentials(tunnel.id);
  if (credentials === undefined) return undefined;
  return formatToken({
    accountTag: tunnel.accountTag,
    tunnelSecret: credentials.secret,
    tunnelId: tunnel.id,
    endpoint: "",
    edges: edge.addresses.map((addr, i) => ({ addr, region: i % 2 })),
    ca: edge.ca,
    managementKey: edge.managementKey,
  });
}
