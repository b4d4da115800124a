import { z } from "zod";

/** What a running edge tells commands of its owner, since it started. Shapes are checked where they are read. */

const count = z.number().min(0);
/** Requests by the first digit of their answer's status; 0 = the visitor left without one. */
const Answers = z.object({ 0: count, 1: count, 2: count, 3: count, 4: count, 5: count });

export const TunnelStatsShape = z.object({
  /** `other` = all tunnels that are not told apart. */
  id: z.string(),
  name: z.string(),
  status: z.enum(["healthy", "degraded", "down", "inactive"]),
  connectors: count,
  connections: count,
  /** Requests that run now, WebSockets among them. */
  running: count,
  requests: count,
  answers: Answers,
  bytesIn: count,
  bytesOut: count,
  /** Times to the first byte: how many in each bucket, the last one without an end. */
  latency: z.array(count),
});

export const EdgeStatsShape = z.object({
  version: z.string(),
  location: z.string(),
  /** RFC 3339. */
  startedAt: z.string(),
  uptimeMs: count,
  addresses: z.object({
    http: z.string(),
    https: z.string().nullable(),
    tunnel: z.string(),
    api: z.string().nullable(),
    metrics: z.string().nullable(),
    inspect: z.string().nullable(),
  }),
  protocols: z.array(z.string()),
  visitors: z.object({
    openConnections: count,
    connections: count,
    requests: count,
    answers: Answers,
    malformed: count,
    limited: count,
    retries: count,
    bytesIn: count,
    bytesOut: count,
  }),
  tunnels: z.object({ total: count, connected: count, connections: count, hostnames: count }),
  /** Upper ends of the buckets of `latency`, in seconds. */
  latencyBounds: z.array(z.number()),
  /** Those that had connections or requests, the busiest first; `more` = how many were left out. */
  list: z.array(TunnelStatsShape),
  more: count,
});

export type TunnelNumbers = z.infer<typeof TunnelStatsShape>;
export type EdgeNumbers = z.infer<typeof EdgeStatsShape>;

/** Undefined for what no edge of this version says. */
export function readEdgeNumbers(value: unknown): EdgeNumbers | undefined {
  return EdgeStatsShape.safeParse(value).data;
}
