import { describe, TunnelError } from "../../../core/errors.ts";

/**
 * The native half of the quiche engine: an N-API build of quiche 0.18, sans-IO, for linux-x64 with glibc. Only what is
 * used is typed. Offsets, ids and times are numbers; absent values are null.
 */

export interface Address {
  readonly host: string;
  readonly port: number;
}

export interface NativeConfig {
  setApplicationProtos(protocols: string[]): void;
  setMaxIdleTimeout(ms: number): void;
  setMaxRecvUdpPayloadSize(bytes: number): void;
  setMaxSendUdpPayloadSize(bytes: number): void;
  setInitialMaxData(bytes: number): void;
  setInitialMaxStreamDataBidiLocal(bytes: number): void;
  setInitialMaxStreamDataBidiRemote(bytes: number): void;
  setInitialMaxStreamsBidi(count: number): void;
  setInitialMaxStreamsUni(count: number): void;
  setMaxStreamWindow(bytes: number): void;
  setMaxConnectionWindow(bytes: number): void;
  setMaxAckDelay(ms: number): void;
  setActiveConnectionIdLimit(count: number): void;
  setDisableActiveMigration(disable: boolean): void;
  setCcAlgorithmName(name: string): void;
  enablePacing(enable: boolean): void;
  /** Of the connections accepted from now on, as a big-endian number of 128 bits. */
  setStatelessResetToken(token: bigint): void;
  enableDgram(enable: boolean, receiveQueue: number, sendQueue: number): void;
}

export interface NativeConnection {
  recv(packet: Uint8Array, info: { from: Address; to: Address }): number;
  send(into: Uint8Array): readonly [number, unknown] | null;
  streamRecv(id: number, into: Uint8Array): readonly [number, boolean] | null;
  streamSend(id: number, bytes: Uint8Array, fin: boolean): number | null;
  streamShutdown(id: number, direction: number, code: number): unknown;
  streamCapacity(id: number): number;
  peerStreamsLeftBidi(): number;
  readable(): Iterable<number>;
  dgramSend(bytes: Uint8Array): unknown;
  dgramRecvVec(): Uint8Array | null;
  dgramRecvQueueLen(): number;
  dgramMaxWritableLen(): number | null;
  timeout(): number | null;
  onTimeout(): void;
  close(application: boolean, code: number, reason: Uint8Array): unknown;
  isEstablished(): boolean;
  isDraining(): boolean;
  isClosed(): boolean;
  isTimedOut(): boolean;
  peerError(): NativeError | null;
  localError(): NativeError | null;
  stats(): {
    readonly recv: number;
    readonly lost: number;
    readonly sentBytes: number;
    readonly recvBytes: number;
    readonly peerMaxUdpPayloadSize: number;
  };
  /** Of each path, the one in use among them; `rtt` is smoothed, in ms. */
  pathStats(): Iterable<{
    readonly active: boolean;
    readonly rtt: number;
    readonly cwnd: number;
    readonly pmtu: number;
  }>;
  sendAckEliciting(): void;
}

export interface NativeError {
  readonly isApp: boolean;
  readonly errorCode: number;
  readonly reason: Uint8Array;
}

export interface QuicheAddon {
  readonly Config: {
    /** PEM texts; `allowFail` accepts any peer. */
    withBoringSslCtx(
      verifyPeer: boolean,
      allowFail: boolean,
      ca: Uint8Array | null,
      keys: Uint8Array[] | null,
      certs: Uint8Array[] | null,
      signatureAlgorithms: string | null,
    ): NativeConfig;
  };
  readonly Connection: {
    accept(
      scid: Uint8Array,
      originalDcid: Uint8Array | null,
      local: Address,
      remote: Address,
      config: NativeConfig,
    ): NativeConnection;
    connect(
      serverName: string,
      scid: Uint8Array,
      local: Address,
      remote: Address,
      config: NativeConfig,
    ): NativeConnection;
  };
  /** Writes a Retry packet and answers its length. */
  retry(
    scid: Uint8Array,
    dcid: Uint8Array,
    newScid: Uint8Array,
    token: Uint8Array,
    version: number,
    into: Uint8Array,
  ): number;
}

export const SHUTDOWN_READ = 0;
export const SHUTDOWN_WRITE = 1;

/** A build for a machine that the addon is not for says false. */
declare const CULVERT_QUICHE: boolean | undefined;

let failure: string | undefined;

/** Why the addon, which is for this machine, could not be loaded; undefined = it could, or is for others. */
export function quicheFailure(): string | undefined {
  return failure;
}

/** The addon, or undefined on a machine it was not built for, or where it cannot be loaded. */
export function loadQuiche(): QuicheAddon | undefined {
  if (process.platform !== "linux" || process.arch !== "x64") return undefined;
  // Around the `require`, and not an early return: only then the bundler leaves the file out.
  if (typeof CULVERT_QUICHE === "undefined" || CULVERT_QUICHE) {
    try {
      // A literal in `require` is what makes the bundler put the file into the binary.
      const addon: unknown = require("@infisical/quic-linux-x64/node.napi.node");
      return isAddon(addon) ? addon : undefined;
    } catch (error) {
      failure = describe(error);
      return undefined;
    }
  }
  return undefined;
}

function isAddon(value: unknown): value is QuicheAddon {
  return typeof value === "object" && value !== null && "Config" in value && "Connection" in value && "retry" in value;
}

/** What a stream call failed with. */
export type StreamFailure =
  | { readonly kind: "reset" | "stopped"; readonly code: number }
  /** The stream is not there: not yet, or not any more. */
  | { readonly kind: "gone" };

/** The addon throws errors that have nothing but a text, so this is the one place that reads it. */
export function streamFailure(thrown: unknown): StreamFailure {
  const text = thrown instanceof Error ? thrown.message : "";
  const match = /^Stream(Reset|Stopped)\((\d+)\)$/.exec(text);
  if (match === null) return { kind: "gone" };
  return { kind: match[1] === "Reset" ? "reset" : "stopped", code: Number(match[2]) };
}

/** A call of ours that the addon refused. */
export function addonError(doing: string, cause: unknown): TunnelError {
  return new TunnelError("session.protocol", `Cannot ${doing}`, { cause });
}
