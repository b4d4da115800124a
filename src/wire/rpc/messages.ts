// Messages of the two-party RPC protocol, as far as the tunnel uses them (protocol: section 3.5; rpc.capnp).

import { MessageBuilder, type StructBuilder } from "../capnp/builder.ts";
import type { StructCodec } from "../capnp/struct-codec.ts";
import type { Method } from "../schema/shared.ts";

export const MESSAGE = {
  unimplemented: 0,
  abort: 1,
  call: 2,
  return: 3,
  finish: 4,
  release: 6,
  bootstrap: 8,
} as const;

export const RETURN = { results: 0, exception: 1, canceled: 2 } as const;
export const TARGET = { importedCap: 0, promisedAnswer: 1 } as const;
export const CAP = { senderHosted: 1, senderPromise: 2 } as const;
/** `Call.sendResultsTo`: the only kind of call that is not a tail call. */
export const RESULTS_TO_CALLER = 0;
/** `PromisedAnswer.Op` that changes nothing. */
export const OP_NOOP = 0;

/** Bit of `Return.releaseParamCaps` and `Finish.releaseResultCaps`; both default to true. */
export const RELEASE_CAPS_BIT = 32;

/** In the order of their numbers on the wire. */
export const EXCEPTION_TYPES = ["failed", "overloaded", "disconnected", "unimplemented"] as const;
export type ExceptionType = (typeof EXCEPTION_TYPES)[number];

export type CallTarget =
  | { readonly kind: "promisedAnswer"; readonly questionId: number }
  | { readonly kind: "importedCap"; readonly id: number };

const PAYLOAD_POINTERS = 2;
const OP_SHAPE = { dataWords: 1, pointerWords: 0 } as const;
const CAP_DESCRIPTOR_SHAPE = { dataWords: 1, pointerWords: 1 } as const;

export function encodeBootstrap(questionId: number): Uint8Array {
  const { message, root } = begin(MESSAGE.bootstrap);
  root.struct(0, 1, 1).setU32(0, questionId);
  return message.finish();
}

export function encodeCall<P, R>(questionId: number, target: CallTarget, method: Method<P, R>, params: P): Uint8Array {
  const { message, root } = begin(MESSAGE.call);
  const call = root.struct(0, 3, 3);
  call.setU32(0, questionId);
  call.setU16(4, method.methodId);
  call.setU16(6, RESULTS_TO_CALLER);
  call.setU64(8, method.interfaceId);
  writeTarget(call.struct(0, 1, 1), target);
  writePayload(call, 1, method.params, params);
  return message.finish();
}

export function encodeReturnResults<R>(
  answerId: number,
  releaseParamCaps: boolean,
  codec: StructCodec<R>,
  results: R,
): Uint8Array {
  const { message, body } = beginReturn(answerId, releaseParamCaps, RETURN.results);
  writePayload(body, 0, codec, results);
  return message.finish();
}

/** The answer to a bootstrap: a capability that we host. */
export function encodeReturnCapability(answerId: number, exportId: number): Uint8Array {
  const { message, body } = beginReturn(answerId, false, RETURN.results);
  const payload = body.struct(0, 0, PAYLOAD_POINTERS);
  payload.setCapability(0, 0);
  payload.setStructList(1, CAP_DESCRIPTOR_SHAPE, 1, (descriptor) => {
    descriptor.setU16(0, CAP.senderHosted);
    descriptor.setU32(4, exportId);
  });
  return message.finish();
}

export function encodeReturnException(
  answerId: number,
  releaseParamCaps: boolean,
  type: ExceptionType,
  reason: string,
): Uint8Array {
  const { message, body } = beginReturn(answerId, releaseParamCaps, RETURN.exception);
  writeException(body.struct(0, 1, 1), type, reason);
  return message.finish();
}

export function encodeReturnCanceled(answerId: number, releaseParamCaps: boolean): Uint8Array {
  return beginReturn(answerId, releaseParamCaps, RETURN.canceled).message.finish();
}

export function encodeFinish(questionId: number, releaseResultCaps: boolean): Uint8Array {
  const { message, root } = begin(MESSAGE.finish);
  const finish = root.struct(0, 1, 0);
  finish.setU32(0, questionId);
  finish.setBool(RELEASE_CAPS_BIT, releaseResultCaps, true);
  return message.finish();
}

export function encodeRelease(id: number, referenceCount: number): Uint8Array {
  const { message, root } = begin(MESSAGE.release);
  const release = root.struct(0, 1, 0);
  release.setU32(0, id);
  release.setU32(4, referenceCount);
  return message.finish();
}

export function encodeAbort(type: ExceptionType, reason: string): Uint8Array {
  const { message, root } = begin(MESSAGE.abort);
  writeException(root.struct(0, 1, 1), type, reason);
  return message.finish();
}

/**
 * Says that a message was not understood. The echo holds its kind and the first word of its body, where every kind
 * keeps its id; a full copy would let a peer choose how much we write.
 */
export function encodeUnimplemented(kind: number, firstBodyWord: bigint): Uint8Array {
  const { message, root } = begin(MESSAGE.unimplemented);
  const echo = root.struct(0, 1, 1);
  echo.setU16(0, kind);
  echo.struct(0, 1, 0).setU64(0, firstBodyWord);
  return message.finish();
}

function begin(kind: number): { message: MessageBuilder; root: StructBuilder } {
  const message = new MessageBuilder();
  const root = message.root(1, 1);
  root.setU16(0, kind);
  return { message, root };
}

function beginReturn(
  answerId: number,
  releaseParamCaps: boolean,
  which: number,
): { message: MessageBuilder; body: StructBuilder } {
  const { message, root } = begin(MESSAGE.return);
  const body = root.struct(0, 2, 1);
  body.setU32(0, answerId);
  body.setBool(RELEASE_CAPS_BIT, releaseParamCaps, true);
  body.setU16(6, which);
  return { message, body };
}

function writeTarget(target: StructBuilder, to: CallTarget): void {
  if (to.kind === "importedCap") {
    target.setU16(4, TARGET.importedCap);
    target.setU32(0, to.id);
    return;
  }
  target.setU16(4, TARGET.promisedAnswer);
  const promised = target.struct(0, 1, 1);
  promised.setU32(0, to.questionId);
  promised.setStructList(0, OP_SHAPE, 0, () => {});
}

/** Go writes an empty capability table where there is none to write, so we do too. */
function writePayload<T>(parent: StructBuilder, index: number, codec: StructCodec<T>, value: T): void {
  const payload = parent.struct(index, 0, PAYLOAD_POINTERS);
  codec.write(payload.struct(0, codec.dataWords, codec.pointerWords), value);
  payload.setStructList(1, CAP_DESCRIPTOR_SHAPE, 0, () => {});
}

function writeException(exception: StructBuilder, type: ExceptionType, reason: string): void {
  exception.setText(0, reason);
  exception.setU16(4, EXCEPTION_TYPES.indexOf(type));
}
