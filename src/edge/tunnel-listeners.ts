import { type Clock, delay } from "../core/clock.ts";
import { describe, TunnelError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import { listen } from "../net/listen.ts";
import type { Listener } from "../net/sockets.ts";
import { acceptHttp2 } from "../transport/http2/edge.ts";
import type { EdgeSession } from "../transport/port.ts";
import { listenQuicEdge } from "../transport/quic/edge.ts";
import type { QuicEngine, QuicListener } from "../transport/quic/engine.ts";
import { chooseEngine } from "../transport/quic/engines/choose.ts";
import { quicheFailure } from "../transport/quic/engines/quiche-addon.ts";
import type { CertifiedKey } from "./certificates.ts";

/** Connections on each of the two sockets, those still shaking hands among them. */
const MAX_TUNNEL_CONNECTIONS = 10_000;
/** Tries to find a port that is free for TCP and UDP, when any will do. */
const PORT_TRIES = 8;
/** Wait before the next try to listen again, in ms. */
const RELISTEN_MS = 1_000;

export interface TunnelListenersOptions {
  readonly host: string;
  /** 0 = any that is free for both. */
  readonly port: number;
  readonly certificate: CertifiedKey;
  /** False = TCP only. */
  readonly quic: boolean;
  /** Secret that survives a restart; undefined = connectors learn of one by silence. */
  readonly resetKey: Uint8Array | undefined;
  /** Called for each connection after its handshake. Must not throw. */
  readonly onSession: (session: EdgeSession, ip: string) => void;
}

/** Where connectors come: HTTP/2 over TCP, and QUIC over UDP on the same port. */
export interface TunnelListeners {
  readonly host: string;
  readonly port: number;
  readonly protocols: readonly string[];
  /** Shows another certificate to connections to come; running ones go on. */
  renew(certificate: CertifiedKey): Promise<void>;
  /** Takes no new connections; resolves when the ports are free, which is when the last QUIC connection is over. */
  close(): Promise<void>;
  /** Frees the ports without waiting for what QUIC connections still have to say. */
  destroy(): void;
}

/** Opens both sockets. Rejects with `listen.failed`; then neither is open. */
export async function openTunnelListeners(
  options: TunnelListenersOptions,
  deps: { clock: Clock; log: Logger },
): Promise<TunnelListeners> {
  const engine = options.quic ? await engineFor(deps.log) : undefined;
  for (let tries = 1; ; tries++) {
    const tcp = await listenTcp(options, options.port, options.certificate, deps);
    if (engine === undefined) return new Listeners(options, deps, tcp, undefined);
    try {
      const udp = await listenUdp(engine, options, tcp.port, deps);
      return new Listeners(options, deps, tcp, udp);
    } catch (error) {
      await tcp.close();
      if (options.port !== 0 || tries >= PORT_TRIES) throw error;
    }
  }
}

/** An edge on an engine that cannot serve every connector takes none (DECISIONS.md of the transport, rule f). */
async function engineFor(log: Logger): Promise<QuicEngine | undefined> {
  const engine = await chooseEngine().catch((error: unknown) => {
    if (error instanceof TunnelError) return undefined;
    throw error;
  });
  if (engine?.listen !== undefined) return engine;
  const failure = quicheFailure();
  if (failure === undefined) {
    log.warn("QUIC is off: no QUIC engine for this platform can serve every connector; they use HTTP/2");
  } else {
    log.warn(
      "QUIC is off, and connectors use HTTP/2: its engine cannot be loaded. It is unpacked into the folder for temporary files: set TMPDIR to one that can be written to and may hold programs",
      { error: failure },
    );
  }
  return undefined;
}

class Listeners implements TunnelListeners {
  readonly host: string;
  readonly port: number;
  readonly protocols: readonly string[];
  readonly #options: TunnelListenersOptions;
  readonly #deps: { clock: Clock; log: Logger };
  #tcp: Listener;
  #closed = false;
  readonly #udp: QuicListener | undefined;

  constructor(
    options: TunnelListenersOptions,
    deps: { clock: Clock; log: Logger },
    tcp: Listener,
    udp: QuicListener | undefined,
  ) {
    this.host = tcp.host;
    this.port = tcp.port;
    this.protocols = udp === undefined ? ["http2"] : ["quic", "http2"];
    this.#options = options;
    this.#deps = deps;
    this.#tcp = tcp;
    this.#udp = udp;
  }

  async renew(certificate: CertifiedKey): Promise<void> {
    this.#udp?.setTls(certificate);
    // A TCP listener keeps the certificate it began with: a new one takes its place, and open connections go on.
    await this.#tcp.close();
    await this.#listenAgain(certificate);
  }

  /** Connectors are waiting, so this does not wait for the next renewal. */
  async #listenAgain(certificate: CertifiedKey): Promise<void> {
    while (!this.#closed) {
      try {
        this.#tcp = await listenTcp(this.#options, this.port, certificate, this.#deps);
        if (this.#closed) await this.#tcp.close();
        return;
      } catch (error) {
        this.#deps.log.error("Cannot listen for connectors with the new certificate", { error: describe(error) });
        await delay(this.#deps.clock, RELISTEN_MS);
      }
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([this.#tcp.close(), this.#udp?.close()]);
  }

  destroy(): void {
    this.#udp?.destroy();
  }
}

function listenTcp(
  options: TunnelListenersOptions,
  port: number,
  tls: CertifiedKey,
  { clock, log }: { clock: Clock; log: Logger },
): Promise<Listener> {
  return listen({
    host: options.host,
    port,
    tls,
    maxConnections: MAX_TUNNEL_CONNECTIONS,
    onConnection: (connection) => options.onSession(acceptHttp2(connection, { clock }), connection.remoteIp),
    onRefused: (ip, reason) => log.debug("Refused a tunnel connection", { ip, reason }),
  });
}

function listenUdp(
  engine: QuicEngine,
  options: TunnelListenersOptions,
  port: number,
  { clock }: { clock: Clock },
): Promise<QuicListener> {
  return listenQuicEdge(
    engine,
    {
      host: options.host,
      port,
      tls: options.certificate,
      resetKey: options.resetKey,
      maxConnections: MAX_TUNNEL_CONNECTIONS,
      onSession: (session) => options.onSession(session, session.remoteIp),
    },
    { clock },
  );
}
