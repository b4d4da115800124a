import type { TunnelError } from "../../core/errors.ts";
import type { TunnelId } from "../../core/ids.ts";
import type { RawHeaders } from "../../wire/headers.ts";

/** What is known of whoever asks, when a balancer chooses a tunnel for the request. */
export interface Visitor {
  /** Address, without port. */
  readonly ip: string;
  /** Fields of the request. */
  readonly headers: RawHeaders;
  /** It speaks HTTPS. */
  readonly secure: boolean;
}

/** One request's way through the tunnels of a balancer. */
export interface BalancedRoute {
  /** Tunnels that the request may wait for when none of them has a connection. */
  readonly tunnels: readonly TunnelId[];
  /** True when `another` would give one. */
  readonly hasMore: boolean;
  /** A tunnel that was not chosen for this request before; undefined = there is none left that has a connection. */
  another(): TunnelId | undefined;
  /** Fields to add to this tunnel's answer. */
  answerFields(tunnelId: TunnelId): RawHeaders;
  /** The tunnel answered with this status. */
  answered(tunnelId: TunnelId, status: number): void;
  /** The request failed on the tunnel before there was an answer. */
  failed(tunnelId: TunnelId, error: TunnelError): void;
}

/**
 * Chooses a tunnel of a balancer, and the way on from there; undefined = none may get requests. `mayCome`: whether the tunnel has a
 * connection, or is expected to have one in a moment.
 */
export type Balance = (
  balancerId: string,
  visitor: Visitor,
  mayCome: (tunnelId: TunnelId) => boolean,
) => { readonly tunnelId: TunnelId; readonly route: BalancedRoute } | undefined;
