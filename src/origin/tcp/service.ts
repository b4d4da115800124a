import { TunnelError } from "../../core/errors.ts";
import type { Logger } from "../../core/log.ts";
import type { IpRule } from "../../ingress/ip-rules.ts";
import { pipe } from "../../net/pipe.ts";
import type { Connection } from "../../net/sockets.ts";
import type { ProxyProtocolVersion } from "../../wire/proxy-protocol.ts";
import { proxyHeader } from "../http-service.ts";
import type { OriginEvents, OriginExchange, OriginRequest, OriginService } from "../port.ts";
import { allowedByRules, bastionPolicy } from "./address-policy.ts";
import { StreamExchange, type Take } from "./exchange.ts";
import { jumpDestination } from "./jump-destination.ts";
import { type Destination, type ReachOptions, reach } from "./reach.ts";
import { type SocksConnect, SocksSession } from "./socks-session.ts";

/** What the stream services have in common. */
export interface StreamServiceOptions {
  /** As the rule names it, for logs. */
  readonly label: string;
  readonly reach: ReachOptions;
  readonly log: Logger | undefined;
}

/** A service at one place. */
export interface TcpServiceOptions extends StreamServiceOptions {
  readonly to: Destination;
  /**
   * The client speaks SOCKS5 first, and whatever it asks for it is connected to `to` (`proxyType: socks`, surface:
   * section 11).
   */
  readonly socks: boolean;
  /** Header in front of each connection that names the visitor. */
  readonly proxyProtocol: ProxyProtocolVersion | undefined;
}

/** A service whose visitors choose where to go, within what the rules allow. */
export interface ReachingServiceOptions extends StreamServiceOptions {
  readonly ipRules: readonly IpRule[];
}

/** `tcp://`, `ssh://` and the like: bytes to one place. */
export function createTcpService(options: TcpServiceOptions): OriginService {
  const { to, socks, proxyProtocol } = options;
  return service(options, async (request, signal) => {
    const connect: SocksConnect = (_asked, aborted) =>
      reach(
        to,
        {
          ...options.reach,
          ...(proxyProtocol === undefined ? {} : { prelude: (peer) => proxyHeader(proxyProtocol, request, peer) }),
        },
        aborted,
      );
    return socks ? socksServer(connect, options) : join(await connect(to, signal));
  });
}

/** `bastion`: bytes to where the visitor's request says (protocol: section 9). */
export function createBastionService(options: ReachingServiceOptions): OriginService {
  const policy = bastionPolicy(options.ipRules);
  const open =
    "bastion has no ipRules: visitors may reach every address of this network but loopback, link-local and cloud metadata";
  return service(
    options,
    async (request, signal) => {
      const to = jumpDestination(request.headers);
      if (typeof to === "string") throw new TunnelError("request.malformed", to);
      return join(await reach(to, options.reach, signal, policy));
    },
    options.ipRules.length === 0 ? open : undefined,
  );
}

/** `socks-proxy`: a SOCKS5 server that reaches what the rules allow, and nothing without them (surface: section 11). */
export function createSocksService(options: ReachingServiceOptions): OriginService {
  const policy = allowedByRules(options.ipRules);
  const connect: SocksConnect = (to, signal) => reach(to, options.reach, signal, policy);
  return service(
    options,
    () => Promise.resolve(socksServer(connect, options)),
    options.ipRules.length === 0 ? "socks-proxy has no ipRules, so it refuses every destination" : undefined,
  );
}

function socksServer(connect: SocksConnect, options: StreamServiceOptions): Take {
  return (visitor) => void new SocksSession(visitor, connect, options.reach.clock);
}

function join({ channel }: Connection): Take {
  return (visitor) => pipe(visitor, channel, () => {});
}

/** `warning` is logged at every start. */
function service(
  { label, reach, log }: StreamServiceOptions,
  prepare: (request: OriginRequest, signal: AbortSignal) => Promise<Take>,
  warning?: string,
): OriginService {
  return {
    label,
    start: () => {
      if (warning !== undefined) log?.warn(warning);
      return Promise.resolve();
    },
    exchange: (request: OriginRequest, events: OriginEvents): OriginExchange =>
      new StreamExchange(request, events, (signal) => prepare(request, signal), reach.clock),
    close: () => Promise.resolve(),
  };
}
