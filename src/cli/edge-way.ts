import type { Protocol, RunConfig } from "../config/run-config.ts";
import { cloudflareAuthorities } from "../connector/cloudflare-authorities.ts";
import type { ProxySettings } from "../net/proxy-settings.ts";
import { TRANSPORTS } from "../transport/index.ts";
import type { DialTarget, Transport } from "../transport/port.ts";

/** Stands for Cloudflare's edge where only the choice of a proxy depends on it. */
const CLOUDFLARE_EDGE = { host: "region1.v2.argotunnel.com", port: 7844 } as const;

/** How a connector with this configuration goes to its edge. */
export interface EdgeWay {
  readonly target: (address: { readonly host: string; readonly port: number }) => DialTarget;
  readonly isProxied: (address: { readonly host: string; readonly port: number }) => boolean;
  /** The proxy on the way; undefined = none. */
  readonly proxy: ProxySettings | undefined;
  /** The preferred one first; undefined when what was asked for cannot go through a proxy. */
  readonly transports: readonly [Transport, ...Transport[]] | undefined;
}

export function wayToEdge(config: RunConfig): EdgeWay {
  const { bindAddress, edge, proxyFor } = config;
  const ca = config.ca ?? (edge.kind === "cloudflare" ? cloudflareAuthorities() : undefined);
  const reached = edge.kind === "static" ? edge.edges : [CLOUDFLARE_EDGE];
  const proxy = reached.map(proxyFor).find((found) => found !== undefined);
  return {
    target: ({ host, port }) => ({ host, port, ca, proxy: proxyFor({ host, port }), localAddress: bindAddress }),
    isProxied: (address) => proxyFor(address) !== undefined,
    proxy,
    transports: chooseTransports(config.protocol, proxy !== undefined),
  };
}

function chooseTransports(protocol: Protocol, proxied: boolean): EdgeWay["transports"] {
  const [first, ...others] = TRANSPORTS.filter(
    ({ name, takesProxy }) => (protocol === "auto" || protocol === name) && (takesProxy || !proxied),
  );
  return first === undefined ? undefined : [first, ...others];
}
