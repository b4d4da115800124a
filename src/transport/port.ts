import type { TunnelError } from "../core/errors.ts";
import type { ByteChannel, ChannelEvents } from "../net/channel.ts";
import type { ProxySettings } from "../net/proxy-settings.ts";
import type { RawHeaders } from "../wire/headers.ts";

/**
 * The transport port: what the connector and the edge need from a tunnel protocol, whatever carries it.
 *
 * A *session* is one outbound connection of a connector. The edge opens one *stream* per visitor request on it; the
 * control stream carries registration RPC. How these look on the wire is the transport's business (protocol:
 * section 2 for HTTP/2, section 4 for QUIC).
 */

/**
 * Feature of our own connectors: they read the visitor's spelling of header names from an internal header, which
 * HTTP/2 alone would lose to lower case.
 */
export const FEATURE_HEADER_CASE = "culvert_header_case";

/** Feature of our own connectors: they go elsewhere when an edge says that it will leave. */
export const FEATURE_EDGE_LEAVING = "culvert_edge_leaving";
/**
 * Feature of our own connectors: they read and write framed bodies over QUIC, with trailers behind them and interim
 * answers in front (design: decision 1).
 */
export const FEATURE_QUIC_FRAMES = "culvert_quic_frames";

/** Kinds of stream an edge opens for a visitor (protocol: section 2.2 and 4.3). */
export type StreamKind = "http" | "websocket" | "tcp";

/** The head of a request as it travels from edge to connector. */
export interface StreamRequest {
  readonly kind: StreamKind;
  readonly method: string;
  /** Host of the request (`:authority`), or `IP:port` for a tcp stream. */
  readonly authority: string;
  /** Request target in origin form, byte for byte as the visitor sent it. */
  readonly path: string;
  /** End-to-end header fields without Host and without connection-specific ones. */
  readonly headers: RawHeaders;
  /** True when no body follows; the stream's sending half is over with the head. */
  readonly bodyless: boolean;
}

/** The head of an answer as it travels from connector to edge. */
export interface StreamResponse {
  /** HTTP status. A completed WebSocket handshake is 101 on every transport. */
  readonly status: number;
  /** Header fields of the origin, case and order kept. */
  readonly headers: RawHeaders;
  /** Who made the answer (protocol: section 2.5, `cf-cloudflared-response-meta`). */
  readonly source: "origin" | "cloudflared";
  /** Set when the connector's flow limit refused the request. */
  readonly flowRateLimited?: boolean;
  /** Spans for an edge that asked for them with `cf-trace-id`, in base64; edges of ours have their own. */
  readonly spans?: string | undefined;
}

/** A request's stream at the edge: `write`/`end` send the request body, events bring the answer. */
export interface RequestEvents extends ChannelEvents {
  /** Interim answers (103 and others below 200, never 101), where the connector forwards them. */
  onInformational(status: number, headers: RawHeaders): void;
  /** The answer's head; before any `onData`. */
  onResponse(response: StreamResponse): void;
}

/** A request's stream at the connector: events bring the request body, `respond` and `write`/`end` send the answer. */
export interface IncomingStream extends ByteChannel {
  readonly request: StreamRequest;
  /** Sends an interim answer; dropped when the peer has not said that it forwards them. */
  inform(status: number, headers: RawHeaders): void;
  /**
   * Sends the answer's head. Without effect after the first time. `bodyless` ends our direction with it: one frame
   * instead of two.
   */
  respond(response: StreamResponse, options?: { bodyless?: boolean }): void;
}

/** Why a session is over. `drained` and `closed` are ends somebody asked for; `lost` is everything else. */
export type CloseReason =
  | { readonly kind: "drained" }
  | { readonly kind: "closed"; readonly by: "us" | "peer" }
  | { readonly kind: "lost"; readonly error: TunnelError };

/** What both ends of a session share. */
export interface Session {
  readonly protocol: string;
  /** Peer address, `host:port` with IPv6 in brackets. */
  readonly remoteAddress: string;
  /** Our own address on this connection, without port; undefined when the system does not tell. */
  readonly localIp: string | undefined;
  /** Streams of visitors now open. */
  readonly streamCount: number;
  /** Registration RPC. Ends with the session at the latest. */
  readonly control: Promise<ByteChannel>;
  /** Resolves once when the session is over; never rejects. */
  readonly closed: Promise<CloseReason>;
  /** Monotonic time of the last byte received, in ms of the transport's clock: what liveness is judged by. */
  readonly lastReceivedAtMs: number;
  /** Asks the peer for a sign of life; resolves to the round trip in ms, rejects when the session ends first. */
  ping(): Promise<number>;
  /** Refuses new streams, lets running ones finish, then closes; `closed` resolves to `drained`. */
  drain(): void;
  /** Closes now; running streams are reset. */
  close(): void;
}

/** Bytes the JSON of one pushed configuration may have; a little less than one RPC message. */
export const MAX_CONFIGURATION_BYTES = 1_000_000;

/** A configuration that an edge pushes to a connector (protocol: section 6). */
export interface ConfigurationUpdate {
  /** 32 bits; connectors apply only what is newer than what they have. */
  readonly version: number;
  /** JSON text; nothing in it has been checked. */
  readonly config: string;
}

/** What a connector answers to a pushed configuration. */
export interface ConfigurationAnswer {
  /** The version in force now; -1 = none was ever applied. */
  readonly latestAppliedVersion: number;
  /** Why the configuration was refused; "" when it was not. */
  readonly error: string;
}

/** A session at the edge, which opens streams. */
export interface EdgeSession extends Session {
  /** What the connector can do, as it said when it registered; streams opened afterwards make use of it. */
  usePeerFeatures(features: readonly string[]): void;
  /**
   * Says that this edge will go, to a connector that understands it ({@link FEATURE_EDGE_LEAVING}); nothing changes for
   * streams, old or new.
   */
  announceLeaving(): void;
  /** False = the connector allows no stream now; right after its registration: never. */
  readonly takesStreams: boolean;
  /**
   * Opens a stream. Never throws: a session that cannot take it reports through `onClose` with an error whose
   * `retry` is `elsewhere` as long as nothing can have reached the origin.
   */
  open(request: StreamRequest, events: RequestEvents): ByteChannel;
  /**
   * Gives the connector a configuration; nothing of it touches visitors' streams. Rejects with a TunnelError within 5 s:
   * `timeout`, `config.invalid` (too large), `stream.*`, `session.lost`; what the connector did is unknown then.
   */
  pushConfiguration(update: ConfigurationUpdate): Promise<ConfigurationAnswer>;
}

export type ConfigurationHandler = (update: ConfigurationUpdate) => Promise<ConfigurationAnswer>;

/** What a QUIC connection tells of itself. Counters are from its start. */
export interface QuicStats {
  readonly smoothedRttMs: number;
  readonly congestionWindowBytes: number;
  /** Longest packet that is sent. */
  readonly mtuBytes: number;
  /** Longest packet that the peer takes. */
  readonly maxUdpPayloadBytes: number;
  readonly sentBytes: number;
  readonly receivedBytes: number;
  readonly lostPackets: number;
  readonly pingsSent: number;
  readonly datagramsSent: number;
  readonly datagramsReceived: number;
}

/** A session at the connector, which is offered streams. */
export interface ConnectorSession extends Session {
  /** Absent, or undefined, where the transport or its engine does not tell. */
  quicStats?(): QuicStats | undefined;
  /** Sets who serves visitors' streams. Streams that came before wait for it. */
  serve(handler: (stream: IncomingStream) => void): void;
  /** Sets who takes pushed configurations; without it they are refused. `handler` must not reject. */
  onConfiguration(handler: ConfigurationHandler): void;
  /** Resolves when the edge says that it will go; never when it does not. */
  readonly leaving: Promise<void>;
}

/** Where and how a connector dials one edge address. */
export interface DialTarget {
  readonly host: string;
  readonly port: number;
  /** PEM text of the certificate authorities to trust; undefined = the system's. */
  readonly ca: string | undefined;
  /** Way out of this network, for transports that can use one. */
  readonly proxy?: ProxySettings | undefined;
  /** Slot of the connection, for transports that come back from the port it had before. */
  readonly connIndex?: number | undefined;
  /** Bound on reaching the edge, in ms. @default what the transport thinks fit */
  readonly timeoutMs?: number | undefined;
  /** Our own address to dial from (`--edge-bind-address`). */
  readonly localAddress?: string | undefined;
}

/** A transport protocol. Adding one is a file and a line in `transport/index.ts`. */
export interface Transport {
  readonly name: string;
  /** Name the edge's certificate must carry (protocol: section 1.5). */
  readonly tlsServerName: string;
  /** False = it cannot go through HTTP CONNECT and SOCKS5 proxies, and is left out where one must be used. */
  readonly takesProxy: boolean;
  /** Dials an edge; rejects with a TunnelError (`edge.dial`, `edge.tls`, `aborted`). */
  dial(target: DialTarget, options: { signal: AbortSignal }): Promise<ConnectorSession>;
}
