import type { Clock } from "../../core/clock.ts";
import { TunnelError } from "../../core/errors.ts";
import { listen } from "../../net/listen.ts";
import type { Listener } from "../../net/sockets.ts";
import { ipGroup } from "../../wire/ip-bytes.ts";
import type { Dispatcher } from "../dispatcher/dispatcher.ts";
import type { RequestPolicy } from "./request-policy.ts";
import { Visitor } from "./visitor.ts";
import type { AccessEntry, ListenerCounters } from "./visitor-deps.ts";

/** Visitors' connections open at once. */
export const MAX_VISITOR_CONNECTIONS = 20_000;
/** The same from one address. */
export const MAX_VISITOR_CONNECTIONS_PER_IP = 2_000;
/** How often deadlines are looked at, in ms: one timer for all connections instead of one for each. */
const SWEEP_MS = 1_000;

export interface PublicListener {
  readonly host: string;
  readonly port: number;
  readonly counters: Readonly<ListenerCounters>;
  /** Takes no new connections and no further requests; resolves when the running ones are over. */
  close(): Promise<void>;
  /** Cuts what is left. */
  abort(): void;
}

/** Listens for visitors over HTTP/1.1 and HTTP/2. Rejects with `listen.failed`. */
export async function startPublicListener(options: {
  host: string;
  port: number;
  dispatcher: Dispatcher;
  clock: Clock;
  policy: RequestPolicy;
  /** Name of this place; ends each ray id. */
  location: string;
  onAccess: (entry: AccessEntry) => void;
}): Promise<PublicListener> {
  const counters: ListenerCounters = { connections: 0, requests: 0, malformed: 0, timeouts: 0, retries: 0 };
  const open = new Set<Visitor>();
  const perIp = new Map<string, number>();
  let closing = false;
  let idle = (): void => {};
  const deps = {
    dispatcher: options.dispatcher,
    clock: options.clock,
    scheme: "http" as const,
    policy: options.policy,
    counters,
    nextRay: createRaySource(options.location),
    closing: () => closing,
    onAccess: options.onAccess,
  };

  const onGone = (connection: Visitor): void => {
    open.delete(connection);
    const group = ipGroup(connection.ip);
    const left = (perIp.get(group) ?? 1) - 1;
    if (left === 0) perIp.delete(group);
    else perIp.set(group, left);
    if (closing && open.size === 0) idle();
  };
  const socket: Listener = await listen({
    host: options.host,
    port: options.port,
    maxConnections: MAX_VISITOR_CONNECTIONS,
    onConnection: (connection) => {
      const group = ipGroup(connection.remoteIp);
      const fromIp = perIp.get(group) ?? 0;
      if (fromIp >= MAX_VISITOR_CONNECTIONS_PER_IP) {
        connection.channel.abort(new TunnelError("stream.limit", "Too many connections from one address"));
        return;
      }
      counters.connections += 1;
      perIp.set(group, fromIp + 1);
      open.add(new Visitor(connection, deps, onGone));
    },
  });

  let cancelSweep = (): void => {};
  const sweep = (): void => {
    const nowMs = options.clock.nowMs();
    for (const connection of open) connection.checkDeadline(nowMs);
    cancelSweep = options.clock.after(SWEEP_MS, sweep, { background: true });
  };
  sweep();

  return {
    host: socket.host,
    port: socket.port,
    counters,
    close: async () => {
      closing = true;
      // Not awaited yet: some runtimes free the port only when the last connection is gone.
      const freed = socket.close();
      const gone = new Promise<void>((resolve) => {
        idle = resolve;
      });
      for (const connection of [...open]) connection.retire();
      if (open.size > 0) await gone;
      cancelSweep();
      await freed;
    },
    abort: () => {
      for (const connection of [...open]) connection.abort(new TunnelError("aborted", "The edge is shutting down"));
      cancelSweep();
    },
  };
}

/** Ray ids: 16 hexadecimal digits and the place, unique for this process and hard to mistake for another's. */
function createRaySource(location: string): () => string {
  const seed = crypto.getRandomValues(new Uint32Array(2));
  const prefix = (seed[0] as number).toString(16).padStart(8, "0");
  const place = location.replace(/[0-9]+$/, "").toUpperCase();
  let count = seed[1] as number;
  return () => {
    count = (count + 1) >>> 0;
    return `${prefix}${count.toString(16).padStart(8, "0")}-${place}`;
  };
}
