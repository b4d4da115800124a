import { randomBytes } from "node:crypto";
import { lookup } from "node:dns/promises";
import { isIP, isIPv6 } from "node:net";
import { type Clock, systemClock } from "../../../core/clock.ts";
import { describe, TunnelError } from "../../../core/errors.ts";
import { isLoopbackIp } from "../../../net/loopback.ts";
import { formatAddress } from "../../../net/socket-errors.ts";
import type { QuicClose, QuicConnection, QuicConnectOptions, QuicEngine } from "../engine.ts";
import { loadQuiche, type QuicheAddon } from "./quiche-addon.ts";
import { clientConfig } from "./quiche-config.ts";
import { QuicheConnection } from "./quiche-connection.ts";
import { QuicheEndpoint } from "./quiche-endpoint.ts";
import { listenQuiche } from "./quiche-listener.ts";

const HANDSHAKE_TIMEOUT_MS = 5_000;
const CID_BYTES = 16;

/** The engine on quiche, or undefined on a machine its addon was not built for. */
export function createQuicheEngine(deps: { clock: Clock } = { clock: systemClock }): QuicEngine | undefined {
  const addon = loadQuiche();
  if (addon === undefined) return undefined;
  return {
    name: "quiche",
    provesEnd: true,
    connect: (options) => connectQuiche(addon, options, deps.clock),
    listen: (options) => listenQuiche(addon, options, deps.clock),
  };
}

async function connectQuiche(addon: QuicheAddon, options: QuicConnectOptions, clock: Clock): Promise<QuicConnection> {
  const { signal } = options;
  const ip = await resolveHost(options.host);
  if (signal.aborted) throw aborted(signal);
  const loopback = isLoopbackIp(ip);
  const endpoint = new QuicheEndpoint(clock, () => endpoint.close());
  let connection: QuicheConnection | undefined;
  const onPacket = (bytes: Uint8Array, port: number, from: string): void => {
    if (port === options.port && from === ip) connection?.receive(bytes, port);
  };
  const bindTo = options.localAddress ?? (isIPv6(ip) ? "::" : "0.0.0.0");
  try {
    await endpoint.open(bindTo, options.localPort ?? 0, onPacket);
  } catch (error) {
    if (options.localPort === undefined) throw dialError(options, describe(error), error);
    await endpoint.open(bindTo, 0, onPacket);
  }
  return await new Promise((resolve, reject) => {
    const settle = (): void => {
      cancelTimer();
      signal.removeEventListener("abort", onAbort);
    };
    const fail = (error: TunnelError): void => {
      settle();
      connection?.abandonAll();
      endpoint.close();
      reject(error);
    };
    const onAbort = (): void => fail(aborted(signal));
    const timeoutMs = options.handshakeTimeoutMs ?? HANDSHAKE_TIMEOUT_MS;
    const cancelTimer = clock.after(timeoutMs, () => fail(dialError(options, `no answer in ${timeoutMs} ms`)));
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      const local = { host: bindTo, port: endpoint.localPort };
      const remote = { host: ip, port: options.port };
      const config = clientConfig(addon, options.ca, options.alpn, options, loopback);
      const native = addon.Connection.connect(options.serverName, randomBytes(CID_BYTES), local, remote, config);
      const made = new QuicheConnection(endpoint, native, { local, remote, isServer: false }, () => {
        settle();
        if (options.keepAliveMs !== undefined) made.keepAlive(options.keepAliveMs);
        resolve(made);
      });
      connection = made;
      endpoint.connections = () => [made];
      made.onEarlyClose = (close) => fail(closeError(options, close));
      endpoint.schedule(made);
    } catch (error) {
      fail(error instanceof TunnelError ? error : dialError(options, describe(error), error));
    }
  });
}

async function resolveHost(host: string): Promise<string> {
  if (isIP(host) !== 0) return host;
  try {
    return (await lookup(host)).address;
  } catch (cause) {
    throw new TunnelError("edge.dial", `Cannot resolve "${host}"`, { retry: "elsewhere", cause });
  }
}

function closeError(options: QuicConnectOptions, close: QuicClose): TunnelError {
  if (close.kind === "failed" && close.tls) {
    const where = formatAddress(options);
    return new TunnelError("edge.tls", `QUIC handshake with ${where} failed: ${close.detail}`, { retry: "elsewhere" });
  }
  const why =
    close.kind === "peer" ? `refused with code ${close.code}` : close.kind === "failed" ? close.detail : "no answer";
  return dialError(options, why);
}

function dialError(options: QuicConnectOptions, why: string, cause?: unknown): TunnelError {
  return new TunnelError("edge.dial", `Cannot reach ${formatAddress(options)} over QUIC: ${why}`, {
    retry: "elsewhere",
    cause,
  });
}

function aborted(signal: AbortSignal): TunnelError {
  const reason: unknown = signal.reason;
  return reason instanceof TunnelError ? reason : new TunnelError("aborted", "Gave up dialling", { cause: reason });
}
