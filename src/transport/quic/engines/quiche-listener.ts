import { randomBytes } from "node:crypto";
import type { Clock } from "../../../core/clock.ts";
import { isLoopbackIp } from "../../../net/loopback.ts";
import { ipGroup } from "../../../wire/ip-bytes.ts";
import {
  encodeVersionNegotiation,
  isLongHeader,
  type LongHeader,
  MIN_INITIAL_BYTES,
  mayOpenConnection,
  parseLongHeader,
  QUIC_V1,
} from "../../../wire/quic/packet-header.ts";
import type { QuicListener, QuicListenOptions } from "../engine.ts";
import type { NativeConfig, QuicheAddon } from "./quiche-addon.ts";
import { serverConfig } from "./quiche-config.ts";
import { QuicheConnection } from "./quiche-connection.ts";
import { QuicheEndpoint } from "./quiche-endpoint.ts";
import { RetryTokens } from "./retry-token.ts";
import { StatelessResets } from "./stateless-reset.ts";

/** Bytes of the connection ids we give out; packets with a short header carry nothing else to route by. */
const CID_BYTES = 16;
/** Handshakes at once; further clients are not answered and try again. */
export const MAX_HANDSHAKES = 512;
/** The same from one address. */
export const MAX_HANDSHAKES_PER_IP = 64;
/** From this many handshakes on, a client must first prove that it receives at its address. */
export const RETRY_FROM_HANDSHAKES = 32;
/** Time a handshake may take, in ms. */
const HANDSHAKE_TIMEOUT_MS = 5_000;

/** Opens an edge's UDP socket on the quiche engine. */
export async function listenQuiche(
  addon: QuicheAddon,
  options: QuicListenOptions,
  clock: Clock,
): Promise<QuicListener> {
  const listener = new Listener(addon, options, clock);
  await listener.open();
  return listener;
}

interface Route {
  readonly connection: QuicheConnection;
  readonly cid: string;
  /** Before its first answer a client uses an id of its own choice; with its address, since anybody may choose it. */
  readonly firstId: string;
  handshaking: boolean;
}

class Listener implements QuicListener {
  readonly host: string;
  readonly #addon: QuicheAddon;
  readonly #options: QuicListenOptions;
  readonly #clock: Clock;
  readonly #endpoint: QuicheEndpoint;
  readonly #byCid = new Map<string, Route>();
  readonly #byFirstId = new Map<string, Route>();
  readonly #routes = new Map<QuicheConnection, Route>();
  readonly #tokens = new RetryTokens(randomBytes(32));
  readonly #resets: StatelessResets;
  readonly #handshakesByIp = new Map<string, number>();
  #handshakes = 0;
  #configs: { readonly network: NativeConfig; readonly loopback: NativeConfig };
  #closing: (() => void) | undefined;

  constructor(addon: QuicheAddon, options: QuicListenOptions, clock: Clock) {
    this.host = options.host;
    this.#addon = addon;
    this.#options = options;
    this.#clock = clock;
    this.#configs = this.#makeConfigs(options.tls);
    this.#resets = new StatelessResets(options.resetKey ?? randomBytes(32));
    this.#endpoint = new QuicheEndpoint(clock, (connection) => this.#released(connection));
    this.#endpoint.connections = () => this.#routes.keys();
  }

  get port(): number {
    return this.#endpoint.localPort;
  }

  open(): Promise<void> {
    return this.#endpoint.open(this.host, this.#options.port, (bytes, port, ip) => this.#onPacket(bytes, port, ip));
  }

  setTls(tls: { cert: string; key: string }): void {
    this.#configs = this.#makeConfigs(tls);
  }

  close(): Promise<void> {
    return new Promise((resolve) => {
      this.#closing = () => {
        this.#endpoint.close();
        resolve();
      };
      if (this.#routes.size === 0) this.#closing();
    });
  }

  destroy(): void {
    this.#endpoint.close();
    this.#closing ??= () => {};
  }

  #makeConfigs(tls: { cert: string; key: string }) {
    const { alpn } = this.#options;
    return {
      network: serverConfig(this.#addon, tls, alpn, this.#options, false),
      loopback: serverConfig(this.#addon, tls, alpn, this.#options, true),
    };
  }

  #onPacket(bytes: Uint8Array, port: number, ip: string): void {
    if (!isLongHeader(bytes)) {
      if (bytes.length <= CID_BYTES) return;
      const route = this.#byCid.get(cidKey(bytes, 1));
      if (route !== undefined) deliver(route, bytes, port, ip);
      else this.#sendReset(bytes, port, ip);
      return;
    }
    const header = parseLongHeader(bytes);
    if (header === undefined) return;
    if (header.version !== QUIC_V1) {
      if (bytes.length >= MIN_INITIAL_BYTES && header.version !== 0) {
        this.#endpoint.send([encodeVersionNegotiation(header), port, ip]);
      }
      return;
    }
    const known = header.dcid.length === CID_BYTES ? this.#byCid.get(cidKey(header.dcid, 0)) : undefined;
    const route = known ?? this.#byFirstId.get(firstIdKey(header.dcid, port, ip));
    if (route !== undefined) deliver(route, bytes, port, ip);
    else if (this.#closing === undefined && mayOpenConnection(header, bytes.length)) {
      this.#accept(header, bytes, port, ip);
    }
  }

  #accept(header: LongHeader, bytes: Uint8Array, port: number, ip: string): void {
    const group = ipGroup(ip);
    const fromIp = this.#handshakesByIp.get(group) ?? 0;
    if (this.#routes.size >= this.#options.maxConnections) return;
    if (this.#handshakes >= MAX_HANDSHAKES || fromIp >= MAX_HANDSHAKES_PER_IP) return;
    let scid: Uint8Array = randomBytes(CID_BYTES);
    let originalDcid: Uint8Array | null = null;
    if (header.token.length > 0) {
      // A token that is not ours may be left from an edge that stood here before: such a client starts anew.
      originalDcid = this.#tokens.open(header.token, header.dcid, ip, port, this.#clock.wallMs()) ?? null;
      if (originalDcid !== null) scid = header.dcid.slice();
    }
    if (originalDcid === null && this.#handshakes >= RETRY_FROM_HANDSHAKES) {
      this.#sendRetry(header, scid, port, ip);
      return;
    }
    if (scid.length !== CID_BYTES) return;
    const config = isLoopbackIp(ip) ? this.#configs.loopback : this.#configs.network;
    const local = { host: this.host, port: this.port };
    const remote = { host: ip, port };
    config.setStatelessResetToken(BigInt(`0x${Buffer.from(this.#resets.token(scid)).toString("hex")}`));
    const native = this.#addon.Connection.accept(scid, originalDcid, local, remote, config);
    const connection = new QuicheConnection(this.#endpoint, native, { local, remote, isServer: true }, () => {
      this.#shookHands(route);
      if (this.#options.keepAliveMs !== undefined) connection.keepAlive(this.#options.keepAliveMs);
      this.#options.onConnection(connection);
    });
    const route: Route = {
      connection,
      cid: cidKey(scid, 0),
      firstId: firstIdKey(header.dcid, port, ip),
      handshaking: true,
    };
    this.#byCid.set(route.cid, route);
    this.#byFirstId.set(route.firstId, route);
    this.#routes.set(connection, route);
    this.#handshakes += 1;
    this.#handshakesByIp.set(group, fromIp + 1);
    this.#clock.after(HANDSHAKE_TIMEOUT_MS, () => route.handshaking && connection.abandonAll(), { background: true });
    connection.receive(bytes, port);
  }

  #sendReset(bytes: Uint8Array, port: number, ip: string): void {
    const connectionId = bytes.subarray(1, 1 + CID_BYTES);
    const reset = this.#resets.answer(bytes, connectionId, this.#clock.nowMs());
    if (reset !== undefined) this.#endpoint.send([reset, port, ip]);
  }

  #sendRetry(header: LongHeader, scid: Uint8Array, port: number, ip: string): void {
    const token = this.#tokens.make(header.dcid, scid, ip, port, this.#clock.wallMs());
    const packet = new Uint8Array(MIN_INITIAL_BYTES);
    const length = this.#addon.retry(header.scid, header.dcid, scid, token, QUIC_V1, packet);
    this.#endpoint.send([packet.subarray(0, length), port, ip]);
  }

  #shookHands(route: Route): void {
    if (!route.handshaking) return;
    route.handshaking = false;
    this.#handshakes -= 1;
    const group = ipGroup(route.connection.remoteIp);
    const left = (this.#handshakesByIp.get(group) ?? 1) - 1;
    if (left === 0) this.#handshakesByIp.delete(group);
    else this.#handshakesByIp.set(group, left);
  }

  #released(connection: QuicheConnection): void {
    const route = this.#routes.get(connection);
    if (route === undefined) return;
    this.#shookHands(route);
    this.#routes.delete(connection);
    this.#byCid.delete(route.cid);
    this.#byFirstId.delete(route.firstId);
    if (this.#routes.size === 0) this.#closing?.();
  }
}

/** A connection stays with its address; only the port may change, as a NAT does it (DECISIONS.md). */
function deliver(route: Route, bytes: Uint8Array, port: number, ip: string): void {
  if (ip === route.connection.remoteIp) route.connection.receive(bytes, port);
}

/** 16 random bytes as a string of 16 chars: what a map finds fastest. */
function cidKey(bytes: Uint8Array, at: number): string {
  return String.fromCharCode(...bytes.subarray(at, at + CID_BYTES));
}

function firstIdKey(dcid: Uint8Array, port: number, ip: string): string {
  return `${String.fromCharCode(...dcid)} ${port} ${ip}`;
}
