import type { Clock } from "../core/clock.ts";
import { TunnelError } from "../core/errors.ts";
import type { ConnectionId, ConnectorId, TunnelId } from "../core/ids.ts";
import type { ByteChannel } from "../net/channel.ts";
import { openRpc } from "../transport/rpc-channel.ts";
import { ipToBytes } from "../wire/ip-bytes.ts";
import type { RpcCloseReason, RpcConnection } from "../wire/rpc/connection.ts";
import type { Outcome, RemoteCapability } from "../wire/rpc/questions.ts";
import {
  type ConnectionResponse,
  type RegisterConnectionParams,
  registerConnection,
  unregisterConnection,
  updateLocalConfiguration,
} from "../wire/schema/registration-server.ts";
import type { Method } from "../wire/schema/shared.ts";
import { type Refusal, readRefusal } from "./refusal.ts";

/** Time an edge has for one answer, as cloudflared's `--rpc-timeout`. */
export const RPC_TIMEOUT_MS = 5_000;

/** One byte holds it on the wire. */
const MAX_PREVIOUS_ATTEMPTS = 255;

/** What a connector says about itself and one of its connections. */
export type RegistrationRequest = {
  readonly accountTag: string;
  readonly tunnelSecret: Uint8Array;
  readonly tunnelId: TunnelId;
  /** Slot of the connection, 0 to 255. */
  readonly connIndex: number;
  readonly connectorId: ConnectorId;
  readonly features: readonly string[];
  readonly version: string;
  /** `GOOS_GOARCH`, such as `linux_amd64`. */
  readonly arch: string;
  /** Our end of the connection; undefined when it is not known. */
  readonly localIp: string | undefined;
  /** Failures since the last success. */
  readonly numPreviousAttempts: number;
};

export type Registered = {
  readonly kind: "registered";
  readonly connectionId: ConnectionId;
  /** Place of the edge, such as `lis01`. */
  readonly location: string;
  /** True when the edge will push the configuration. */
  readonly remotelyManaged: boolean;
};

export type CallOptions = {
  readonly signal: AbortSignal;
  /** @default RPC_TIMEOUT_MS */
  readonly timeoutMs?: number;
};

/**
 * The connector's end of a control stream (protocol: section 3). Calls reject with a TunnelError: `timeout`, `aborted`
 * (or the signal's own TunnelError), `channel.lost`, `edge.refused` (an RPC exception), `stream.protocol`.
 */
export class RegistrationClient {
  /** Resolves when the stream's RPC is over, from either side; never rejects. */
  readonly closed: Promise<RpcCloseReason>;
  readonly #clock: Clock;
  readonly #rpc: RpcConnection;
  readonly #edge: RemoteCapability;

  constructor(channel: ByteChannel, deps: { clock: Clock }) {
    const closed = Promise.withResolvers<RpcCloseReason>();
    this.closed = closed.promise;
    this.#clock = deps.clock;
    this.#rpc = openRpc(channel, { onClosed: closed.resolve });
    this.#edge = this.#rpc.bootstrap();
  }

  /** Registers the connection. A refusal is a value, and closes the RPC. */
  async register(request: RegistrationRequest, options: CallOptions): Promise<Registered | Refusal> {
    const outcome = await this.#call(registerConnection, registerParams(request), options);
    const answer = registrationAnswer(outcome);
    if (answer.kind === "refused") this.close();
    return answer;
  }

  /** Tells the edge to send no new requests on this connection. */
  async unregister(options: CallOptions): Promise<void> {
    succeeded(unregisterConnection.name, await this.#call(unregisterConnection, undefined, options));
  }

  /** Shows the edge the configuration of a locally managed tunnel; `json` as in protocol: section 6. */
  async updateLocalConfiguration(json: string, options: CallOptions): Promise<void> {
    const config = new TextEncoder().encode(json);
    succeeded(updateLocalConfiguration.name, await this.#call(updateLocalConfiguration, config, options));
  }

  /** Ends the RPC in order. Open calls reject with `channel.lost`. */
  close(): void {
    this.#rpc.close();
  }

  #call<P, R>(method: Method<P, R>, params: P, options: CallOptions): Promise<Outcome<R>> {
    const { signal } = options;
    const timeoutMs = options.timeoutMs ?? RPC_TIMEOUT_MS;
    if (signal.aborted) return Promise.reject(abortError(signal, method.name));
    return new Promise((resolve, reject) => {
      const settle = (): void => {
        cancelTimer();
        signal.removeEventListener("abort", onAbort);
      };
      const giveUp = (error: TunnelError): void => {
        settle();
        call.cancel();
        reject(error);
      };
      const onAbort = (): void => giveUp(abortError(signal, method.name));
      const cancelTimer = this.#clock.after(timeoutMs, () =>
        giveUp(new TunnelError("timeout", `Edge did not answer ${method.name} in ${timeoutMs} ms`, { retry: "same" })),
      );
      signal.addEventListener("abort", onAbort, { once: true });
      const call = this.#rpc.call(this.#edge, method, params, (outcome) => {
        settle();
        resolve(outcome);
      });
    });
  }
}

function registerParams(request: RegistrationRequest): RegisterConnectionParams {
  return {
    auth: { accountTag: request.accountTag, tunnelSecret: request.tunnelSecret },
    tunnelId: request.tunnelId,
    connIndex: request.connIndex,
    options: {
      client: {
        clientId: request.connectorId,
        features: request.features,
        version: request.version,
        arch: request.arch,
      },
      originLocalIp: ipToBytes(request.localIp ?? ""),
      replaceExisting: false,
      compressionQuality: 0,
      numPreviousAttempts: Math.min(request.numPreviousAttempts, MAX_PREVIOUS_ATTEMPTS),
    },
  };
}

function registrationAnswer(outcome: Outcome<ConnectionResponse>): Registered | Refusal {
  // cloudflared takes an exception as a refusal for good; one for lack of room is not that.
  if (outcome.kind === "exception") return readRefusal(outcome.reason, 0n, outcome.type === "overloaded");
  const response = succeeded(registerConnection.name, outcome);
  if (response.kind === "error") return readRefusal(response.cause, response.retryAfterNs, response.shouldRetry);
  const { connectionId, location, remotelyManaged } = response;
  return { kind: "registered", connectionId, location, remotelyManaged };
}

function succeeded<R>(name: string, outcome: Outcome<R>): R {
  switch (outcome.kind) {
    case "results":
      return outcome.value;
    case "exception":
      throw new TunnelError("edge.refused", `Edge refused ${name}: ${outcome.reason}`);
    case "malformed":
      throw new TunnelError("stream.protocol", `Edge answered ${name} with nonsense: ${outcome.reason}`);
    case "lost":
      throw new TunnelError("channel.lost", `Control stream ended during ${name}`, { retry: "same" });
  }
}

function abortError(signal: AbortSignal, name: string): TunnelError {
  const reason: unknown = signal.reason;
  return reason instanceof TunnelError ? reason : new TunnelError("aborted", `Gave up ${name}`, { cause: reason });
}
