import type { Clock } from "../core/clock.ts";
import type { SlotEnd } from "../supervisor/model.ts";
import type { TransportScore } from "../supervisor/transports.ts";
import type { QuicStats } from "../transport/port.ts";
import type { MetricFamily, Sample } from "./exposition.ts";
import { Histogram } from "./histogram.ts";

/** Seconds, as cloudflared has them: 0.05 × 3ⁿ. */
const RPC_BOUNDS = [0.05, 0.15, 0.45, 1.35, 4.05] as const;
/** Places that connections were at and are not any more, and errors of registrations: an edge names them. */
const MAX_NAMES = 100;

/** Calls of registration RPC as cloudflared names them, by who makes them. */
const RPC_CALLS = {
  client: [
    ["registration", "register_connection"],
    ["registration", "unregister_connection"],
    ["registration", "update_local_configuration"],
  ],
  server: [["config", "update_configuration"]],
} as const;
export type RpcMethod =
  | "register_connection"
  | "unregister_connection"
  | "update_local_configuration"
  | "update_configuration";

const RECONNECT_CAUSES = ["dial_failed", "refused", "silent", "lost", "moved"] as const;
type ReconnectCause = (typeof RECONNECT_CAUSES)[number];

/** What is asked of a connection when somebody reads metrics. */
export interface ConnectionFacts {
  readonly connIndex: number;
  /** Latest and shortest round trip to the edge, in ms; undefined = not measured yet. */
  readonly latestRttMs: number | undefined;
  readonly minRttMs: number | undefined;
  /** Undefined over other transports. */
  readonly quic: QuicStats | undefined;
}

export interface TunnelMetricsSources {
  connections(): readonly ConnectionFacts[];
  /** Of each transport by its name, the preferred one first. */
  transports(): readonly { readonly name: string; readonly score: TransportScore }[];
}

interface Rpc {
  operations: number;
  failures: number;
  readonly latency: Histogram;
}

/** What a connection over QUIC leaves behind when it ends, so that counters of its index never go back. */
type Ended = Omit<QuicStats, "smoothedRttMs" | "congestionWindowBytes" | "mtuBytes" | "maxUdpPayloadBytes">;

/** Connections to the edge: registrations, calls, reconnects, round trips, QUIC. */
export class TunnelMetrics {
  readonly #clock: Clock;
  readonly #sources: TunnelMetricsSources;
  readonly #live = new Map<number, string>();
  /** By index and place: 1 = there now. */
  readonly #locations = new Map<string, { readonly index: number; readonly location: string; here: boolean }>();
  readonly #failures = new Map<string, number>();
  readonly #reconnects = new Map<ReconnectCause, number>(RECONNECT_CAUSES.map((cause) => [cause, 0]));
  readonly #rpc = new Map<string, Rpc>();
  readonly #ended = new Map<number, Ended>();
  #registrations = 0;
  #registeredAtMs: number | undefined;
  #quicOpened = 0;
  #quicClosed = 0;
  #configPushes = 0;
  #configPushErrors = 0;
  #version = -1;
  readonly #reloads = { applied: 0, refused: 0 };

  constructor(clock: Clock, sources: TunnelMetricsSources) {
    this.#clock = clock;
    this.#sources = sources;
    for (const calls of Object.values(RPC_CALLS)) {
      for (const [, method] of calls) {
        this.#rpc.set(method, { operations: 0, failures: 0, latency: new Histogram(RPC_BOUNDS) });
      }
    }
  }

  /** A connection registered at `location`. */
  registered(connIndex: number, location: string): void {
    this.#leave(connIndex);
    this.#live.set(connIndex, location);
    this.#registrations += 1;
    this.#registeredAtMs = this.#clock.nowMs();
    const key = `${connIndex} ${location}`;
    const known = this.#locations.get(key);
    if (known !== undefined) known.here = true;
    else {
      if (this.#locations.size >= MAX_NAMES) this.#forgetPlace();
      this.#locations.set(key, { index: connIndex, location, here: true });
    }
  }

  /** A registered connection ended; `quic`: what it had counted. */
  unregistered(connIndex: number): void {
    this.#leave(connIndex);
    this.#live.delete(connIndex);
  }

  registrationFailed(error: string): void {
    const name = this.#failures.has(error) || this.#failures.size < MAX_NAMES ? error : "other";
    this.#failures.set(name, (this.#failures.get(name) ?? 0) + 1);
  }

  /** An attempt to connect began; `transport`: its name. */
  attemptStarted(transport: string): void {
    if (transport === "quic") this.#quicOpened += 1;
  }

  /** An attempt, or the connection it became, is over, and another one is to follow. */
  attemptEnded(transport: string, end: SlotEnd, last: boolean): void {
    if (transport === "quic") this.#quicClosed += 1;
    if (last) return;
    const cause = causeOf(end);
    this.#reconnects.set(cause, (this.#reconnects.get(cause) ?? 0) + 1);
  }

  /** Keeps what a connection over QUIC had counted at its end. */
  sessionEnded(connIndex: number, quic: QuicStats | undefined): void {
    if (quic !== undefined) this.#ended.set(connIndex, sum(this.#ended.get(connIndex), quic));
  }

  /** Rules were applied as this version, or refused. */
  configured(result: "applied" | "refused", version: number | undefined): void {
    this.#reloads[result] += 1;
    if (version !== undefined) this.#version = version;
  }

  /** Counts and times a call; its failure is what `failed` says, or that it rejects. */
  async call<T>(method: RpcMethod, run: () => Promise<T>, failed: (result: T) => boolean = () => false): Promise<T> {
    const rpc = this.#rpc.get(method);
    const startedAtMs = this.#clock.nowMs();
    let failure = true;
    try {
      const result = await run();
      failure = failed(result);
      return result;
    } finally {
      if (rpc !== undefined) {
        rpc.operations += 1;
        if (failure) rpc.failures += 1;
        rpc.latency.observe((this.#clock.nowMs() - startedAtMs) / 1000);
      }
      if (method === "update_local_configuration") {
        this.#configPushes += 1;
        if (failure) this.#configPushErrors += 1;
      }
    }
  }

  *families(): Iterable<MetricFamily> {
    yield one("gauge", "cloudflared_tunnel_ha_connections", "Number of active ha connections", this.#live.size);
    yield {
      name: "cloudflared_tunnel_server_locations",
      help: "Where each tunnel is connected to. 1 means current location, 0 means previous locations.",
      type: "gauge",
      samples: [...this.#locations.values()].map(({ index, location, here }) => ({
        labels: { connection_id: String(index), edge_location: location },
        value: Number(here),
      })),
    };
    yield {
      name: "cloudflared_tunnel_tunnel_register_success",
      help: "Count of successful tunnel registrations",
      type: "counter",
      samples:
        this.#registrations === 0 ? [] : [{ labels: { rpcName: "registerConnection" }, value: this.#registrations }],
    };
    yield {
      name: "cloudflared_tunnel_tunnel_register_fail",
      help: "Count of tunnel registration errors by type",
      type: "counter",
      samples: [...this.#failures].map(([error, value]) => ({
        labels: { error, rpcName: "registerConnection" },
        value,
      })),
    };
    yield one("gauge", "cloudflared_orchestration_config_version", "Configuration Version", this.#version);
    yield one(
      "counter",
      "cloudflared_config_local_config_pushes",
      "Number of local configuration pushes to the edge",
      this.#configPushes,
    );
    yield one(
      "counter",
      "cloudflared_config_local_config_pushes_errors",
      "Number of errors occurred during local configuration pushes",
      this.#configPushErrors,
    );
    yield* this.#rpcFamilies("client", "requested");
    yield* this.#rpcFamilies("server", "served");
    yield {
      name: "culvert_config_reloads_total",
      help: "Times other ingress rules came, from this machine or an edge, while the connector ran",
      type: "counter",
      samples: Object.entries(this.#reloads).map(([result, value]) => ({ labels: { result }, value })),
    };
    yield {
      name: "culvert_reconnects_total",
      help: "Connections, and attempts at one, that ended and were followed by another attempt, by why they ended",
      type: "counter",
      samples: [...this.#reconnects].map(([cause, value]) => ({ labels: { cause }, value })),
    };
    yield {
      name: "culvert_time_since_registration_seconds",
      help: "Time since a connection last registered; absent before the first one",
      type: "gauge",
      samples:
        this.#registeredAtMs === undefined ? [] : [{ value: (this.#clock.nowMs() - this.#registeredAtMs) / 1000 }],
    };
    yield {
      name: "culvert_transport_score",
      help: "Times in a row that the network did not carry this transport; the one with the fewest is used, 0 = nothing against it",
      type: "gauge",
      samples: this.#sources.transports().map(({ name, score }) => ({
        labels: { transport: name },
        value: score.failures,
      })),
    };
    const connections = this.#sources.connections();
    yield {
      name: "culvert_connection_rtt_seconds",
      help: "Latest round trip to the edge, by connection",
      type: "gauge",
      samples: connections.flatMap(({ connIndex, latestRttMs }) =>
        latestRttMs === undefined ? [] : [{ labels: { conn_index: String(connIndex) }, value: latestRttMs / 1000 }],
      ),
    };
    yield* this.#quicFamilies(connections);
  }

  *#rpcFamilies(side: "client" | "server", what: string): Iterable<MetricFamily> {
    const each = (read: (rpc: Rpc, labels: { handler: string; method: string }) => readonly Sample[]): Sample[] =>
      RPC_CALLS[side].flatMap(([handler, method]) => {
        const rpc = this.#rpc.get(method);
        return rpc === undefined ? [] : read(rpc, { handler, method });
      });
    yield {
      name: `cloudflared_rpc_${side}_operations`,
      help: `Number of rpc methods by handler ${what}`,
      type: "counter",
      samples: each(({ operations }, labels) => [{ labels, value: operations }]),
    };
    yield {
      name: `cloudflared_rpc_${side}_failures`,
      help: `Number of rpc method failures by handler ${what}`,
      type: "counter",
      samples: each(({ failures }, labels) => [{ labels, value: failures }]),
    };
    yield {
      name: `cloudflared_rpc_${side}_latency_secs`,
      help: `Latency of rpc methods by handler ${what}`,
      type: "histogram",
      samples: each(({ latency }, labels) => [...latency.samples(labels)]),
    };
  }

  /** Only what the engine tells: it has no counts of most frames, of buffered or of dropped packets. */
  *#quicFamilies(connections: readonly ConnectionFacts[]): Iterable<MetricFamily> {
    const open = connections.flatMap((facts) => (facts.quic === undefined ? [] : [{ ...facts, quic: facts.quic }]));
    const gauge = (name: string, help: string, read: (facts: (typeof open)[number]) => number | undefined) => ({
      ...{ name: `quic_client_${name}`, help, type: "gauge" as const },
      samples: open.flatMap((facts) => {
        const value = read(facts);
        return value === undefined ? [] : [{ labels: { conn_index: String(facts.connIndex) }, value }];
      }),
    });
    const totals = new Map(this.#ended);
    for (const { connIndex, quic } of open) totals.set(connIndex, sum(totals.get(connIndex), quic));
    const counter = (name: string, help: string, read: (ended: Ended) => readonly Sample[]) => ({
      ...{ name: `quic_client_${name}`, help, type: "counter" as const },
      samples: [...totals].flatMap(([connIndex, ended]) =>
        read(ended).map((sample) => ({ ...sample, labels: { conn_index: String(connIndex), ...sample.labels } })),
      ),
    });
    yield one("counter", "quic_client_total_connections", "Number of connections initiated", this.#quicOpened);
    yield one(
      "counter",
      "quic_client_closed_connections",
      "Number of connections that has been closed",
      this.#quicClosed,
    );
    yield gauge(
      "smoothed_rtt",
      "Calculated smoothed RTT measured on a connection in millisec",
      ({ quic }) => quic.smoothedRttMs,
    );
    yield gauge("latest_rtt", "Latest RTT measured on a connection", ({ latestRttMs }) => latestRttMs);
    yield gauge("min_rtt", "Lowest RTT measured on a connection in millisec", ({ minRttMs }) => minRttMs);
    yield gauge("congestion_window", "Current congestion window size", ({ quic }) => quic.congestionWindowBytes);
    yield gauge(
      "congestion_state",
      "Current congestion control state (0=slow_start, 1=congestion_avoidance, 2=application_limited, 3=recovery, -1=unknown)",
      () => -1,
    );
    yield gauge("mtu", "Current maximum transmission unit (MTU) of a connection", ({ quic }) => quic.mtuBytes);
    yield gauge(
      "max_udp_payload",
      "Maximum UDP payload size in bytes for a QUIC packet",
      ({ quic }) => quic.maxUdpPayloadBytes,
    );
    yield counter("sent_bytes", "Number of bytes that have been sent through a connection", ({ sentBytes }) => [
      { value: sentBytes },
    ]);
    yield counter(
      "receive_bytes",
      "Number of bytes that have been received through a connection",
      ({ receivedBytes }) => [{ value: receivedBytes }],
    );
    yield counter("lost_packets", "Number of packets that have been lost from a connection", ({ lostPackets }) => [
      { labels: { reason: "unknown_reason" }, value: lostPackets },
    ]);
    yield counter(
      "sent_frames",
      "Number of frames that have been sent through a connection, of the types that the engine tells",
      ({ pingsSent, datagramsSent }) => [
        { labels: { frame_type: "Ping" }, value: pingsSent },
        { labels: { frame_type: "Datagram" }, value: datagramsSent },
      ],
    );
    yield counter(
      "received_frames",
      "Number of frames that have been received through a connection, of the types that the engine tells",
      ({ datagramsReceived }) => [{ labels: { frame_type: "Datagram" }, value: datagramsReceived }],
    );
    yield one(
      "counter",
      "quic_client_packet_too_big_dropped",
      "Count of packets received from origin that are too big to send to the edge and are dropped as a result",
      0,
    );
  }

  #leave(connIndex: number): void {
    const location = this.#live.get(connIndex);
    const place = location === undefined ? undefined : this.#locations.get(`${connIndex} ${location}`);
    if (place !== undefined) place.here = false;
  }

  #forgetPlace(): void {
    for (const [key, { here }] of this.#locations) {
      if (here) continue;
      this.#locations.delete(key);
      return;
    }
  }
}

function one(type: "counter" | "gauge", name: string, help: string, value: number): MetricFamily {
  return { name, help, type, samples: [{ value }] };
}

function causeOf(end: SlotEnd): ReconnectCause {
  switch (end.kind) {
    case "dial-failed":
      return "dial_failed";
    case "refused":
      return "refused";
    case "lost":
      return end.silent ? "silent" : "lost";
    case "drained":
      return "moved";
  }
}

function sum(before: Ended | undefined, now: Ended): Ended {
  return {
    sentBytes: (before?.sentBytes ?? 0) + now.sentBytes,
    receivedBytes: (before?.receivedBytes ?? 0) + now.receivedBytes,
    lostPackets: (before?.lostPackets ?? 0) + now.lostPackets,
    pingsSent: (before?.pingsSent ?? 0) + now.pingsSent,
    datagramsSent: (before?.datagramsSent ?? 0) + now.datagramsSent,
    datagramsReceived: (before?.datagramsReceived ?? 0) + now.datagramsReceived,
  };
}
