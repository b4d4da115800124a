import type { Clock } from "../core/clock.ts";
import { describe, systemCode, TunnelError } from "../core/errors.ts";
import { dial } from "../net/dial.ts";
import type { SeenCertificate } from "../net/sockets.ts";
import type { EdgeAddress } from "../supervisor/addresses.ts";
import type { DialTarget, Transport } from "../transport/port.ts";

/** Addresses that are tried; Cloudflare has some twenty. */
const MAX_ADDRESSES = 32;

/**
 * How far TCP and TLS got. `stalled`: connected, and then nothing came. `cut`: connected, and hung up on. `no-tls`: what
 * answers is no TLS.
 */
export type TcpEnd = "reached" | "refused" | "silent" | "unreachable" | "proxy" | "stalled" | "cut" | "no-tls";

export interface TcpProbe {
  readonly address: EdgeAddress;
  readonly end: TcpEnd;
  /** Time until TCP was connected, in ms; undefined = it never was. */
  readonly connectMs: number | undefined;
  readonly certificate: SeenCertificate | undefined;
  /** Our address on the connection. */
  readonly localIp: string | undefined;
  /** Why it got no further, for people; empty = it did. */
  readonly detail: string;
}

export interface UdpProbe {
  readonly address: EdgeAddress;
  /** `tls`: packets get through, and the edge's certificate is not trusted. */
  readonly end: "reached" | "tls" | "silent";
  readonly detail: string;
}

export interface EdgeProbes {
  readonly tcp: readonly TcpProbe[];
  /** Empty = QUIC was left out. */
  readonly udp: readonly UdpProbe[];
}

export interface EdgeProbeOptions {
  readonly target: (address: EdgeAddress) => DialTarget;
  /** Name that the edge's certificate must carry on TCP. */
  readonly tlsServerName: string;
  /** Undefined = QUIC is left out. */
  readonly quic: Transport | undefined;
  readonly timeoutMs: number;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/**
 * Knocks at every address as a connector would, all at once: TCP and TLS to the handshake's end, and a QUIC handshake.
 * Nothing is registered and nothing secret is sent. Never rejects.
 */
export async function probeEdge(addresses: readonly EdgeAddress[], options: EdgeProbeOptions): Promise<EdgeProbes> {
  const distinct = new Map(addresses.map((address) => [`${address.host} ${address.port}`, address]));
  const tried = [...distinct.values()].slice(0, MAX_ADDRESSES);
  const { quic } = options;
  const [tcp, udp] = await Promise.all([
    Promise.all(tried.map((address) => probeTcp(address, options))),
    Promise.all(quic === undefined ? [] : tried.map((address) => probeUdp(address, quic, options))),
  ]);
  return { tcp, udp };
}

async function probeTcp(address: EdgeAddress, options: EdgeProbeOptions): Promise<TcpProbe> {
  const { clock, signal, timeoutMs, tlsServerName: serverName } = options;
  const { host, port, ca, proxy, localAddress } = options.target(address);
  const startMs = clock.nowMs();
  let connectMs: number | undefined;
  let certificate: SeenCertificate | undefined;
  const onConnected = (): void => {
    connectMs = clock.nowMs() - startMs;
  };
  const onCertificate = (seen: SeenCertificate): void => {
    certificate = seen;
  };
  try {
    const tls = { serverName, ca, verify: false, onCertificate };
    const { channel, localIp } = await dial(
      { host, port },
      { tls, proxy, localAddress, timeoutMs, signal, onConnected },
    );
    channel.listen({ onData: () => {}, onEnd: () => {}, onDrain: () => {}, onClose: () => {} });
    channel.end();
    channel.abort(new TunnelError("aborted", "Seen enough"));
    return { address, end: "reached", connectMs, certificate, localIp, detail: "" };
  } catch (error) {
    const end = endOf(error, connectMs !== undefined, proxy !== undefined);
    return { address, end, connectMs, certificate, localIp: undefined, detail: describe(error) };
  }
}

function endOf(error: unknown, connected: boolean, proxied: boolean): TcpEnd {
  const cause = error instanceof TunnelError ? error.cause : error;
  const code = systemCode(cause) ?? "";
  if (!connected) {
    if (proxied) return "proxy";
    if (code === "ECONNREFUSED") return "refused";
    return code === "ENETUNREACH" || code === "EHOSTUNREACH" ? "unreachable" : "silent";
  }
  if (code.startsWith("ERR_SSL") || code === "EPROTO") return "no-tls";
  return code === "" || code === "ETIMEDOUT" ? "stalled" : "cut";
}

async function probeUdp(address: EdgeAddress, quic: Transport, options: EdgeProbeOptions): Promise<UdpProbe> {
  const { signal, timeoutMs } = options;
  try {
    const session = await quic.dial({ ...options.target(address), timeoutMs }, { signal });
    session.close();
    return { address, end: "reached", detail: "" };
  } catch (error) {
    const end = error instanceof TunnelError && error.code === "edge.tls" ? "tls" : "silent";
    return { address, end, detail: describe(error) };
  }
}
