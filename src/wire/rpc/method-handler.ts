import { decodeTotally } from "../capnp/decoded.ts";
import type { StructReader } from "../capnp/message.ts";
import type { StructCodec } from "../capnp/struct-codec.ts";
import type { Method } from "../schema/shared.ts";
import type { ExceptionType } from "./messages.ts";

/**
 * Answers one call, now or later. The first answer counts; after that, and after the caller gave up or the connection
 * closed, calls of it do nothing.
 */
export interface Responder<R> {
  results(value: R): void;
  exception(type: ExceptionType, reason: string): void;
  /** Sets who is told, once, that the answer is not wanted any more. */
  onCancel(listener: () => void): void;
}

/** A responder that does not know the type of its results yet; the connection makes it. */
export interface AnswerSlot {
  results<R>(codec: StructCodec<R>, value: R): void;
  exception(type: ExceptionType, reason: string): void;
  onCancel(listener: () => void): void;
}

/** One line of a dispatch table; made by {@link handleMethod}. */
export interface MethodHandler {
  readonly interfaceId: bigint;
  readonly methodId: number;
  start(params: StructReader, slot: AnswerSlot): void;
}

/** Serves a method. `run` must not throw; params that cannot be read are answered with an exception before it. */
export function handleMethod<P, R>(
  method: Method<P, R>,
  run: (params: P, respond: Responder<R>) => void,
): MethodHandler {
  return {
    interfaceId: method.interfaceId,
    methodId: method.methodId,
    start(view, slot) {
      const params = decodeTotally(() => method.params.read(view));
      if (params.kind === "malformed") {
        slot.exception("failed", `${method.name}: ${params.reason}`);
        return;
      }
      run(params.value, {
        results: (value) => slot.results(method.results, value),
        exception: (type, reason) => slot.exception(type, reason),
        onCancel: (listener) => slot.onCancel(listener),
      });
    },
  };
}
