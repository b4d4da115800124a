import type { CancelTimer, Clock } from "../core/clock.ts";
import { TunnelError } from "../core/errors.ts";
import type { ByteChannel } from "../net/channel.ts";
import { openRpc } from "../transport/rpc-channel.ts";
import type { RpcCloseReason, RpcConnection } from "../wire/rpc/connection.ts";
import { handleMethod, type MethodHandler, type Responder } from "../wire/rpc/method-handler.ts";
import {
  type ConnectionResponse,
  type RegisterConnectionParams,
  registerConnection,
  unregisterConnection,
  updateLocalConfiguration,
} from "../wire/schema/registration-server.ts";
import { type Refusal, writeRefusal } from "./refusal.ts";
import type { Registered } from "./registration-client.ts";

/** Time a connection has to register after its control stream opened. */
export const REGISTRATION_DEADLINE_MS = 10_000;

/** Time a refused connector has to read its refusal and leave before its connection is cut. */
export const REFUSAL_LINGER_MS = 2_000;

/**
 * The edge's side of the calls. The signal aborts when the connector gave up or the control stream ended. A handler
 * that rejects is answered with a failure that says nothing of why; a failed registration may be tried again.
 */
export interface RegistrationHandlers {
  /** Called at most once. */
  register(params: RegisterConnectionParams, options: { signal: AbortSignal }): Promise<Registered | Refusal>;
  /** Only after a successful registration. From here on no new requests may be sent. */
  unregister(options: { signal: AbortSignal }): Promise<void>;
  /** Only after a successful registration; JSON (protocol: section 6). */
  updateLocalConfiguration(config: Uint8Array, options: { signal: AbortSignal }): Promise<void>;
}

/** Why the control stream is over. In every case the owner now closes the session. */
export type RegistrationEnd =
  /** The connector has its refusal. It waits for the edge to close (protocol: section 2.3). */
  | { readonly kind: "refused" }
  /** No registration within the deadline. */
  | { readonly kind: "silent" }
  | { readonly kind: "closed"; readonly reason: RpcCloseReason };

const INTERNAL_FAILURE: Refusal = {
  kind: "refused",
  code: "other",
  cause: "registration failed",
  retryAfterMs: 0,
  shouldRetry: true,
};

type State = "waiting" | "registering" | "registered" | "refused";

/** The edge's end of a control stream (protocol: section 3). */
export class RegistrationServer {
  /** Resolves once; never rejects. */
  readonly ended: Promise<RegistrationEnd>;
  readonly #clock: Clock;
  readonly #handlers: RegistrationHandlers;
  readonly #rpc: RpcConnection;
  readonly #end: (end: RegistrationEnd) => void;
  #state: State = "waiting";
  #cancelTimer: CancelTimer;

  /** @param deps.deadlineMs default: {@link REGISTRATION_DEADLINE_MS} */
  constructor(channel: ByteChannel, handlers: RegistrationHandlers, deps: { clock: Clock; deadlineMs?: number }) {
    const ended = Promise.withResolvers<RegistrationEnd>();
    this.ended = ended.promise;
    this.#end = ended.resolve;
    this.#clock = deps.clock;
    this.#handlers = handlers;
    this.#rpc = openRpc(channel, {
      methods: this.#methods(),
      onClosed: (reason) => {
        this.#cancelTimer();
        this.#end(this.#state === "refused" ? { kind: "refused" } : { kind: "closed", reason });
      },
    });
    this.#cancelTimer = deps.clock.after(deps.deadlineMs ?? REGISTRATION_DEADLINE_MS, () => {
      this.#end({ kind: "silent" });
      this.#rpc.close();
    });
  }

  /** Ends the control stream; a connector takes that as the end of its connection. */
  close(): void {
    this.#rpc.close();
  }

  #methods(): readonly MethodHandler[] {
    return [
      handleMethod(registerConnection, (params, respond) => this.#register(params, respond)),
      handleMethod(unregisterConnection, (_, respond) =>
        this.#whenRegistered(respond, (signal) => this.#handlers.unregister({ signal })),
      ),
      handleMethod(updateLocalConfiguration, (config, respond) =>
        this.#whenRegistered(respond, (signal) => this.#handlers.updateLocalConfiguration(config, { signal })),
      ),
    ];
  }

  #register(params: RegisterConnectionParams, respond: Responder<ConnectionResponse>): void {
    if (this.#state !== "waiting") {
      respond.exception("failed", "already registered");
      return;
    }
    this.#state = "registering";
    this.#handlers.register(params, { signal: cancelSignal(respond) }).then(
      (answer) => {
        if (answer.kind === "registered") {
          this.#state = "registered";
          this.#cancelTimer();
          const { connectionId, location, remotelyManaged } = answer;
          respond.results({ kind: "details", connectionId, location, remotelyManaged });
        } else {
          respond.results(writeRefusal(answer));
          this.#refused();
        }
      },
      () => {
        // Not an exception: cloudflared takes that as final and exits.
        respond.results(writeRefusal(INTERNAL_FAILURE));
        this.#refused();
      },
    );
  }

  /** The connector now ends the RPC itself; one that does not is not waited for. */
  #refused(): void {
    this.#state = "refused";
    this.#cancelTimer();
    if (this.#rpc.closed !== undefined) return;
    this.#cancelTimer = this.#clock.after(REFUSAL_LINGER_MS, () => this.#rpc.close());
  }

  #whenRegistered(respond: Responder<void>, run: (signal: AbortSignal) => Promise<void>): void {
    if (this.#state !== "registered") {
      respond.exception("failed", "not registered");
      return;
    }
    run(cancelSignal(respond)).then(
      () => respond.results(),
      () => respond.exception("failed", "call failed"),
    );
  }
}

function cancelSignal(respond: Responder<never>): AbortSignal {
  const controller = new AbortController();
  respond.onCancel(() => controller.abort(new TunnelError("aborted", "Connector does not wait any more")));
  return controller.signal;
}
