import { isIP } from "node:net";
import type { Clock } from "../../core/clock.ts";
import { TunnelError } from "../../core/errors.ts";
import type { PrivateNetworkSettings } from "../../ingress/private-network.ts";
import type { Connection } from "../../net/sockets.ts";
import { bastionPolicy } from "./address-policy.ts";
import { type Destination, reach } from "./reach.ts";

/** The network behind the connector, as far as the edge may reach it. */
export interface PrivateNetwork {
  /** Streams at once; 0 = no bound. */
  readonly maxActiveFlows: number;
  /** True when nothing but the guarded addresses is out of reach, which whoever runs it should know. */
  readonly open: boolean;
  /**
   * Connects to an `IP:port`, IPv6 in brackets. Rejects with `request.malformed`, `origin.dial`, `origin.timeout`,
   * `origin.forbidden`, `aborted`.
   */
  connect(destination: string, signal: AbortSignal): Promise<Connection>;
}

/** Reaches what the settings allow. */
export function createPrivateNetwork(settings: PrivateNetworkSettings, clock: Clock): PrivateNetwork {
  const { connectTimeout, tcpKeepAlive, maxActiveFlows, ipRules } = settings;
  const policy = bastionPolicy(ipRules);
  const options = { connectTimeoutMs: connectTimeout, keepAliveMs: tcpKeepAlive, race: false, clock };
  return {
    maxActiveFlows,
    open: ipRules.length === 0,
    connect: async (destination, signal) => {
      const to = parseDestination(destination);
      if (to === undefined) {
        throw new TunnelError("request.malformed", "The destination is not an IP address and a port");
      }
      return await reach(to, options, signal, policy);
    },
  };
}

/** Names are refused as cloudflared does: what an edge routes by is addresses (protocol: section 2.7). */
function parseDestination(text: string): Destination | undefined {
  const parts = /^(?:\[([0-9a-f:.]{2,45})\]|([0-9.]{7,15})):([0-9]{1,5})$/i.exec(text);
  const host = parts?.[1] ?? parts?.[2] ?? "";
  const port = Number(parts?.[3]);
  if (isIP(host) !== (parts?.[1] === undefined ? 4 : 6) || port < 1 || port > 65_535) return undefined;
  return { host, port };
}
