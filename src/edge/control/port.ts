import type { TunnelId } from "../../core/ids.ts";
import type { EdgeNumbers } from "./stats.ts";

/**
 * A connection of a connector, with the fields of Cloudflare's API (protocol: section 10) and our `conn_index` and
 * `protocol`. Times are RFC 3339.
 */
export interface ActiveConnection {
  readonly id: string;
  /** Location of the edge it ends at. */
  readonly colo_name: string;
  readonly conn_index: number;
  /** Where the connector comes from, without port. */
  readonly origin_ip: string;
  readonly opened_at: string;
  /** Transport, `http2` or `quic`. */
  readonly protocol: string;
  /** It takes no new requests: its connector leaves, or has come back on another connection. */
  readonly is_pending_reconnect: boolean;
}

/** A connector that is connected now (protocol: section 10, `ActiveClient` of its connections call). */
export interface ActiveConnector {
  readonly id: string;
  /** Feature names, unordered (protocol: section 4.8). */
  readonly features: readonly string[];
  readonly version: string;
  /** `GOOS_GOARCH`, such as `linux_amd64`. */
  readonly arch: string;
  /** When the oldest of its connections was made: connectors do not say when they started. */
  readonly run_at: string;
  /** By index; never empty. */
  readonly conns: readonly ActiveConnection[];
}

/** Connections at one location that take requests. */
export interface LocationCount {
  readonly colo_name: string;
  readonly count: number;
}

/**
 * What another process can ask a running edge. All answer undefined when no edge is running, and reject with
 * `timeout` when one is there and says nothing.
 */
export interface EdgeControl {
  /** Connectors of a tunnel, oldest first; empty for a tunnel the edge does not know. */
  connectors(tunnel: TunnelId): Promise<readonly ActiveConnector[] | undefined>;
  /** Tunnels with connections that take requests, and where; the others are left out. */
  served(): Promise<ReadonlyMap<string, readonly LocationCount[]> | undefined>;
  /** What it does; undefined also for an edge of another version that tells something else. */
  numbers(): Promise<EdgeNumbers | undefined>;
}
