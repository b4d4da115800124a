import { type Clock, systemClock } from "../../../core/clock.ts";
import { describe, systemCode, TunnelError } from "../../../core/errors.ts";
import { formatAddress } from "../../../net/socket-errors.ts";
import type { QuicClose, QuicConnection, QuicConnectionEvents, QuicConnectOptions, QuicEngine } from "../engine.ts";
import { lossOf } from "../loss.ts";
import {
  errorNumber,
  loadNodeQuic,
  type NodeQuic,
  type NodeQuicSession,
  type NodeQuicStream,
} from "./node-quic-api.ts";
import { NodeQuicEngineStream, type NodeStreamOwner } from "./node-quic-stream.ts";

const HANDSHAKE_TIMEOUT_MS = 5_000;
const STREAM_WINDOW_BYTES = 1024n * 1024n;
const CONNECTION_WINDOW_BYTES = 16n * 1024n * 1024n;
/**
 * Streams an edge may have open at once. The library ends the whole connection somewhere above 100, whatever was
 * announced, so the announcement stays well below.
 */
export const MAX_STREAMS = 50;
const SAMPLE_MS = 250;
const DATAGRAM_BYTES = 1_350n;
/** What Cloudflare's and our edges support (protocol: section 1.5). */
const GROUPS = "X25519MLKEM768:P-256";

/**
 * The engine on Bun's `node:quic`, for connectors only: an edge on it can open no stream to current connectors, and so
 * must not take their registration (DECISIONS.md). Undefined where the runtime has none.
 */
export async function createNodeQuicEngine(deps: { clock: Clock } = { clock: systemClock }) {
  const library = await loadNodeQuic();
  if (library === undefined) return undefined;
  const engine: QuicEngine = {
    name: "node-quic",
    provesEnd: false,
    connect: (options) => connectNodeQuic(library, options, deps.clock),
    listen: undefined,
  };
  return engine;
}

/** What a busy machine may keep a timer of ours back, in ms. */
const LATE_TIMER_MS = 5_000;

async function connectNodeQuic(library: NodeQuic, options: QuicConnectOptions, clock: Clock): Promise<QuicConnection> {
  const timeoutMs = options.handshakeTimeoutMs ?? HANDSHAKE_TIMEOUT_MS;
  const early: NodeQuicStream[] = [];
  let onStream = (stream: NodeQuicStream): void => void early.push(stream);
  const open = (localPort: number): Promise<NodeQuicSession> =>
    library.connect(formatAddress(options), {
      servername: options.serverName,
      ...(options.ca === undefined ? {} : { ca: [new TextEncoder().encode(options.ca)] }),
      alpn: options.alpn,
      groups: GROUPS,
      transportParams: {
        maxIdleTimeout: BigInt(Math.max(1, Math.round(options.idleTimeoutMs / 1000))),
        initialMaxStreamsBidi: BigInt(Math.min(options.maxPeerStreams, MAX_STREAMS)),
        initialMaxStreamsUni: 0n,
        initialMaxData: CONNECTION_WINDOW_BYTES,
        initialMaxStreamDataBidiLocal: STREAM_WINDOW_BYTES,
        initialMaxStreamDataBidiRemote: STREAM_WINDOW_BYTES,
        maxDatagramFrameSize: DATAGRAM_BYTES,
      },
      ...(options.keepAliveMs === undefined ? {} : { keepAlive: options.keepAliveMs }),
      // Only where ours is late: the library's looks like an alert of the edge's TLS.
      handshakeTimeout: 2 * timeoutMs + LATE_TIMER_MS,
      reuseEndpoint: false,
      ...(localPort === 0 && options.localAddress === undefined
        ? {}
        : {
            endpoint: {
              address: formatAddress({ host: options.localAddress ?? anyAddress(options), port: localPort }),
            },
          }),
      onerror: () => {},
      onstream: (stream) => onStream(stream),
    });
  let session: NodeQuicSession;
  try {
    session = await open(options.localPort ?? 0).catch((error: unknown) => {
      if (options.localPort === undefined) throw error;
      return open(0);
    });
  } catch (cause) {
    throw dialError(options, cause);
  }
  const connection = new NodeQuicConnection(session, options, clock);
  onStream = (stream) => connection.peerStream(stream);
  for (const stream of early) connection.peerStream(stream);
  await handshake(session, connection, options, timeoutMs, clock);
  return connection;
}

function handshake(
  session: NodeQuicSession,
  connection: NodeQuicConnection,
  options: QuicConnectOptions,
  timeoutMs: number,
  clock: Clock,
): Promise<void> {
  const { signal } = options;
  return new Promise((resolve, reject) => {
    const settle = (): void => {
      cancel();
      signal.removeEventListener("abort", onAbort);
    };
    const fail = (error: TunnelError): void => {
      settle();
      connection.close(0, "");
      reject(error);
    };
    const onAbort = (): void => {
      const reason: unknown = signal.reason;
      fail(reason instanceof TunnelError ? reason : new TunnelError("aborted", "Gave up dialling", { cause: reason }));
    };
    const cancel = clock.after(timeoutMs, () => fail(dialError(options, new Error(`no answer in ${timeoutMs} ms`))));
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) onAbort();
    session.opened.then(
      () => {
        settle();
        resolve();
      },
      (cause: unknown) => fail(dialError(options, cause)),
    );
  });
}

class NodeQuicConnection implements QuicConnection, NodeStreamOwner {
  readonly clock: Clock;
  readonly remoteIp: string;
  readonly remotePort: number;
  readonly localPort: number;
  lost: TunnelError | undefined;
  readonly #session: NodeQuicSession;
  readonly #streams = new Set<NodeQuicEngineStream>();
  #events: QuicConnectionEvents | undefined;
  #early: NodeQuicEngineStream[] = [];
  #opened = 0;
  #closed: QuicClose | undefined;
  #receivedAtMs: number;
  #receivedBytes = 0n;
  readonly #idleTimeoutMs: number;
  #silentLooks = 0;

  constructor(session: NodeQuicSession, options: QuicConnectOptions, clock: Clock) {
    this.#session = session;
    this.clock = clock;
    this.remoteIp = session.path?.remote?.address ?? options.host;
    this.remotePort = options.port;
    this.localPort = session.endpoint?.address?.port ?? 0;
    this.#receivedAtMs = clock.nowMs();
    const { endpoint } = session;
    this.#idleTimeoutMs = options.idleTimeoutMs;
    this.#sample();
    session.closed.then(
      () => this.#down(this.#cleanEnd()),
      (error: unknown) => this.#down(closeOf(error)),
    );
    // Nobody else closes the socket of this one session.
    session.closed.catch(() => {}).finally(() => void endpoint?.close().catch(() => {}));
  }

  get lastReceivedAtMs(): number {
    const bytes = this.#session.stats.bytesReceived;
    if (bytes !== this.#receivedBytes) {
      this.#receivedBytes = bytes;
      this.#receivedAtMs = this.clock.nowMs();
    }
    return this.#receivedAtMs;
  }

  /**
   * The library tells by bytes only whether the peer still lives, and not at all of some failures of its own. Looks are
   * counted instead of time, so that this process standing still is not taken for silence.
   */
  #sample(): void {
    if (this.lost !== undefined) return;
    const before = this.#receivedBytes;
    void this.lastReceivedAtMs;
    this.#silentLooks = this.#receivedBytes === before ? this.#silentLooks + 1 : 0;
    if (this.#silentLooks * SAMPLE_MS > this.#idleTimeoutMs) {
      this.#session.destroy();
      this.#down({ kind: "idle" });
      return;
    }
    this.clock.after(SAMPLE_MS, () => this.#sample(), { background: true });
  }

  /** A peer's close with code 0 and silence end a session alike; only silence comes after silence. */
  #cleanEnd(): QuicClose {
    const silentForMs = this.clock.nowMs() - this.#receivedAtMs;
    return silentForMs >= this.#idleTimeoutMs / 2
      ? { kind: "idle" }
      : { kind: "peer", application: true, code: 0, reason: "" };
  }

  get maxDatagramBytes(): number {
    return this.#closed === undefined ? this.#session.maxDatagramSize : 0;
  }

  listen(events: QuicConnectionEvents): void {
    this.#events = events;
    this.#session.ondatagram = (bytes) => events.onDatagram(bytes);
    queueMicrotask(() => {
      for (const stream of this.#early.splice(0)) events.onStream(stream);
      if (this.#closed !== undefined) this.#tell(this.#closed);
    });
  }

  /** The library queues streams that the peer does not allow yet. */
  get takesStreams(): boolean {
    return this.#closed === undefined;
  }

  openStream(): NodeQuicEngineStream | undefined {
    if (!this.takesStreams) return undefined;
    const stream = new NodeQuicEngineStream(this, 4 * this.#opened);
    this.#opened += 1;
    this.#streams.add(stream);
    this.#session.createBidirectionalStream().then(
      (raw) => stream.attach(raw),
      () => stream.lose(new TunnelError("stream.refused", "The connection took no new stream", { retry: "elsewhere" })),
    );
    return stream;
  }

  /** Only an edge expects a stream of its peer. */
  expectStream(): NodeQuicEngineStream {
    throw new TunnelError("session.protocol", "This engine serves connectors only");
  }

  sendDatagram(bytes: Uint8Array): boolean {
    if (this.#closed !== undefined || bytes.length > this.maxDatagramBytes) return false;
    this.#session.sendDatagram(bytes).catch(() => {});
    return true;
  }

  /** The library sends its own keep-alive; what can be seen is whether bytes still come. */
  ping(): Promise<number> {
    const sentAtMs = this.clock.nowMs();
    const before = this.#session.stats.bytesReceived;
    return new Promise((resolve, reject) => {
      const look = (): void => {
        if (this.lost !== undefined) reject(this.lost);
        else if (this.#session.stats.bytesReceived !== before) resolve(this.clock.nowMs() - sentAtMs);
        else this.clock.after(25, look, { background: true });
      };
      look();
    });
  }

  closeGently(): void {
    this.#closed ??= { kind: "local" };
    this.#session.close({ code: 0n }).catch(() => {});
  }

  close(code: number, reason: string): void {
    if (this.#closed !== undefined) return;
    this.#closed = { kind: "local" };
    this.#session.close({ code: BigInt(code), reason }).catch(() => {});
    queueMicrotask(() => this.#down({ kind: "local" }));
    // Its own close waits for every stream.
    this.clock.after(250, () => this.#session.destroy(), { background: true });
  }

  // ---- for streams and the library ----

  noteReceived(): void {
    this.#receivedAtMs = this.clock.nowMs();
  }

  forget(stream: NodeQuicEngineStream): void {
    this.#streams.delete(stream);
  }

  peerStream(raw: NodeQuicStream): void {
    const stream = new NodeQuicEngineStream(this, Number(raw.id));
    this.#streams.add(stream);
    stream.attach(raw);
    // An exception here would end the whole session.
    if (this.#events === undefined) this.#early.push(stream);
    else this.#events.onStream(stream);
  }

  #down(close: QuicClose): void {
    if (this.lost !== undefined) return;
    this.#closed ??= close;
    this.lost = lossOf(this.#closed);
    if (this.#events !== undefined) this.#tell(this.#closed);
  }

  #tell(close: QuicClose): void {
    const events = this.#events;
    if (events === undefined) return;
    this.#events = undefined;
    const error = lossOf(close);
    for (const stream of [...this.#streams]) stream.lose(error);
    this.#streams.clear();
    events.onClosed(close);
  }
}

/** The library tells a lost peer and a clean close by error codes; code 0 from the peer looks like no error. */
function closeOf(error: unknown): QuicClose {
  if (systemCode(error) === "ERR_QUIC_APPLICATION_ERROR") {
    return { kind: "peer", application: true, code: errorNumber(error), reason: "" };
  }
  if (systemCode(error) === "ERR_QUIC_TRANSPORT_ERROR") {
    return { kind: "failed", tls: false, detail: describe(error) };
  }
  return { kind: "idle" };
}

function anyAddress({ host }: { readonly host: string }): string {
  return host.includes(":") ? "::" : "0.0.0.0";
}

/** A certificate that does not fit ends the handshake with transport error 0, an alert with 0x100 and above. */
function dialError(options: QuicConnectOptions, cause: unknown): TunnelError {
  const isTransport = systemCode(cause) === "ERR_QUIC_TRANSPORT_ERROR";
  const code = isTransport ? "edge.tls" : "edge.dial";
  const message = `Cannot reach ${formatAddress(options)} over QUIC: ${describe(cause)}`;
  return new TunnelError(code, message, { retry: "elsewhere", cause });
}
