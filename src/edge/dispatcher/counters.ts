/** What a dispatcher decided; one object for all its requests. */
export interface DispatchCounters {
  readonly lookups: Record<"tunnel" | "unknown-hostname" | "no-connection" | "store-failed", number>;
  /** By name of the transport. */
  readonly streams: Record<string, number>;
  readonly choices: {
    /** Given to another connection after one did not take it. */
    retried: number;
    /** Given to another tunnel of its load balancer. */
    another_tunnel: number;
    /** Held back for a tunnel that had just gone. */
    waited: number;
    /** Held back, and served. */
    waited_served: number;
    /** Given up: nobody took it. */
    failed: number;
  };
}

export function newDispatchCounters(): DispatchCounters {
  return {
    lookups: { tunnel: 0, "unknown-hostname": 0, "no-connection": 0, "store-failed": 0 },
    streams: { http2: 0, quic: 0 },
    choices: { retried: 0, another_tunnel: 0, waited: 0, waited_served: 0, failed: 0 },
  };
}
