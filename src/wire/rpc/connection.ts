// Two-party Cap'n Proto RPC as a state machine without IO (protocol: section 3; rpc.capnp).

import { decodeTotally } from "../capnp/decoded.ts";
import { FrameDecoder } from "../capnp/frame-decoder.ts";
import type { Message } from "../capnp/message.ts";
import type { Method } from "../schema/shared.ts";
import { Answers } from "./answers.ts";
import { type ExceptionType, encodeAbort, encodeUnimplemented, MESSAGE } from "./messages.ts";
import type { MethodHandler } from "./method-handler.ts";
import { type Outcome, type PendingCall, Questions, type RemoteCapability, readException } from "./questions.ts";

/** Bytes one RPC message may have; the largest real one carries a configuration. */
export const DEFAULT_MAX_RPC_MESSAGE_BYTES = 1024 * 1024;

/** Questions that may be unfinished, in each direction. */
export const DEFAULT_MAX_QUESTIONS = 64;

/** What Go's library says when it closes a connection in order. */
const SHUTDOWN_REASON = "rpc: shutdown";

export type RpcCloseReason =
  /** We closed it. */
  | { readonly kind: "shutdown" }
  /** The peer closed it. Go's library does so with "rpc: shutdown" at every orderly end. */
  | { readonly kind: "aborted"; readonly type: ExceptionType; readonly reason: string }
  /** The peer broke the protocol; it has been told. */
  | { readonly kind: "violation"; readonly reason: string }
  /** The bytes ended without a word. */
  | { readonly kind: "lost" };

export interface RpcConnectionOptions {
  /** Takes outgoing messages, each whole, in order. Called from within every method of the connection. */
  readonly send: (message: Uint8Array) => void;
  /** Told once when the connection is over; nothing is sent or delivered afterwards. */
  readonly onClosed: (reason: RpcCloseReason) => void;
  /** What our bootstrap capability can do. Default: nothing; a bootstrap is answered with an exception. */
  readonly methods?: readonly MethodHandler[];
  /** @default DEFAULT_MAX_RPC_MESSAGE_BYTES */
  readonly maxMessageBytes?: number;
  /** @default DEFAULT_MAX_QUESTIONS */
  readonly maxQuestions?: number;
}

/**
 * One RPC connection, client and server at once. Feed it what the peer sent with `receive`; everything else happens
 * in callbacks from there. Replies are made as questions come, so the owner must stop feeding while the peer does not
 * read.
 */
export class RpcConnection {
  readonly #decoder: FrameDecoder;
  readonly #questions: Questions;
  readonly #answers: Answers;
  readonly #options: RpcConnectionOptions;
  #closed: RpcCloseReason | undefined;

  constructor(options: RpcConnectionOptions) {
    this.#options = options;
    const limit = options.maxQuestions ?? DEFAULT_MAX_QUESTIONS;
    const send = (message: Uint8Array): void => {
      if (this.#closed === undefined) options.send(message);
    };
    this.#decoder = new FrameDecoder({ maxMessageBytes: options.maxMessageBytes ?? DEFAULT_MAX_RPC_MESSAGE_BYTES });
    this.#questions = new Questions({ limit, send });
    this.#answers = new Answers({ methods: options.methods ?? [], limit, send });
  }

  /** Why the connection is over; undefined while it is not. */
  get closed(): RpcCloseReason | undefined {
    return this.#closed;
  }

  /** Takes bytes of the peer, cut anywhere. Never throws on them. Once it is over they are dropped. */
  receive(bytes: Uint8Array): void {
    if (this.#closed !== undefined) return;
    this.#decoder.push(bytes);
    while (this.#closed === undefined) {
      const framed = this.#decoder.next();
      if (framed.kind === "need") return;
      const message = framed;
      const handled = message.kind === "value" ? decodeTotally(() => this.#handle(message.value)) : message;
      const violation = handled.kind === "value" ? handled.value : handled.reason;
      if (violation !== undefined) this.#violate(violation);
    }
  }

  /** Asks for the peer's bootstrap capability; calls on it may follow at once. */
  bootstrap(): RemoteCapability {
    return this.#questions.bootstrap();
  }

  /**
   * Calls a method. `onOutcome` runs once, from a later `receive`, `close` or `lose`; from within this call when it
   * cannot be sent (too many calls, a broken capability, a closed connection); never after `cancel`.
   */
  call<P, R>(
    capability: RemoteCapability,
    method: Method<P, R>,
    params: P,
    onOutcome: (outcome: Outcome<R>) => void,
  ): PendingCall {
    if (this.#closed !== undefined) {
      onOutcome({ kind: "lost" });
      return { cancel: () => {} };
    }
    return this.#questions.call(capability, method, params, onOutcome);
  }

  /** Ends the connection in order: gives back what we hold and says so. The byte stream may end after it. */
  close(): void {
    if (this.#closed !== undefined) return;
    this.#questions.releaseImports();
    this.#options.send(encodeAbort("failed", SHUTDOWN_REASON));
    this.#end({ kind: "shutdown" });
  }

  /** The byte stream is over. */
  lose(): void {
    if (this.#closed === undefined) this.#end({ kind: "lost" });
  }

  /** Returns what the peer did wrong, if anything. May throw DecodeError. */
  #handle(message: Message): string | undefined {
    const root = message.root();
    const kind = root.u16(0);
    const body = root.struct(0);
    switch (kind) {
      case MESSAGE.call:
        return this.#answers.onCall(body);
      case MESSAGE.return:
        this.#questions.onReturn(body);
        return undefined;
      case MESSAGE.finish:
        this.#answers.onFinish(body);
        return undefined;
      case MESSAGE.release:
        return this.#answers.onRelease(body);
      case MESSAGE.bootstrap:
        return this.#answers.onBootstrap(body);
      case MESSAGE.abort: {
        const { type, reason } = readException(body);
        this.#end({ kind: "aborted", type, reason });
        return undefined;
      }
      case MESSAGE.unimplemented: {
        const ours = body.u16(0);
        if (ours === MESSAGE.call || ours === MESSAGE.bootstrap) this.#questions.onUnimplemented(body.struct(0).u32(0));
        return undefined;
      }
      default:
        this.#options.send(encodeUnimplemented(kind, body.u64(0)));
        return undefined;
    }
  }

  #violate(reason: string): void {
    if (this.#closed !== undefined) return;
    this.#options.send(encodeAbort("failed", reason));
    this.#end({ kind: "violation", reason });
  }

  #end(reason: RpcCloseReason): void {
    this.#closed = reason;
    this.#questions.close();
    this.#answers.close();
    this.#options.onClosed(reason);
  }
}
