// The server half of an RPC connection: answers we owe, and the one capability we export.

import type { StructReader } from "../capnp/message.ts";
import {
  type ExceptionType,
  encodeReturnCanceled,
  encodeReturnCapability,
  encodeReturnException,
  encodeReturnResults,
  OP_NOOP,
  RELEASE_CAPS_BIT,
  RESULTS_TO_CALLER,
  TARGET,
} from "./messages.ts";
import type { AnswerSlot, MethodHandler } from "./method-handler.ts";

/** Export id of the bootstrap capability, the only one we ever export. */
const BOOTSTRAP_EXPORT = 0;

/** One entry lives from the question until its Finish. */
type Answer =
  | { kind: "running"; releaseParamCaps: boolean; onCancel: (() => void) | undefined }
  | { kind: "returned" }
  | { kind: "capability" };

/** Why the connection has to end; undefined = go on. */
type Violation = string | undefined;

export class Answers {
  readonly #methods: readonly MethodHandler[];
  readonly #limit: number;
  readonly #send: (message: Uint8Array) => void;
  readonly #answers = new Map<number, Answer>();
  #bootstrapRefs = 0;

  constructor(options: { methods: readonly MethodHandler[]; limit: number; send: (message: Uint8Array) => void }) {
    this.#methods = options.methods;
    this.#limit = options.limit;
    this.#send = options.send;
  }

  onBootstrap(bootstrap: StructReader): Violation {
    const id = bootstrap.u32(0);
    if (this.#answers.has(id)) return "question id in use";
    if (this.#refusedAsTooMany(id, false)) return undefined;
    if (this.#methods.length === 0) {
      this.#answers.set(id, { kind: "returned" });
      this.#send(encodeReturnException(id, false, "failed", "no bootstrap interface"));
      return undefined;
    }
    this.#answers.set(id, { kind: "capability" });
    this.#bootstrapRefs += 1;
    this.#send(encodeReturnCapability(id, BOOTSTRAP_EXPORT));
    return undefined;
  }

  onCall(call: StructReader): Violation {
    const id = call.u32(0);
    if (this.#answers.has(id)) return "question id in use";
    const payload = call.struct(1);
    const releaseParamCaps = hasCapabilities(payload);
    if (this.#refusedAsTooMany(id, releaseParamCaps)) return undefined;

    const answer: Answer = { kind: "running", releaseParamCaps, onCancel: undefined };
    this.#answers.set(id, answer);
    const slot = this.#slot(id, answer);
    if (call.u16(6) !== RESULTS_TO_CALLER) {
      slot.exception("unimplemented", "results can only go to the caller");
      return undefined;
    }
    if (!this.#isBootstrap(call.struct(0))) {
      slot.exception("failed", "call target is not a capability");
      return undefined;
    }
    const interfaceId = call.u64(8);
    const methodId = call.u16(4);
    const handler = this.#methods.find((m) => m.interfaceId === interfaceId && m.methodId === methodId);
    if (handler === undefined) slot.exception("unimplemented", "method not implemented");
    else handler.start(payload.struct(0), slot);
    return undefined;
  }

  onFinish(finish: StructReader): void {
    const id = finish.u32(0);
    const answer = this.#answers.get(id);
    // Calls over the limit are answered but not kept, so their Finish finds nothing.
    if (answer === undefined) return;
    this.#answers.delete(id);
    if (answer.kind === "capability" && finish.bool(RELEASE_CAPS_BIT, true)) this.#bootstrapRefs -= 1;
    if (answer.kind === "running") {
      // The caller may use the id again only after a Return, wanted or not.
      this.#send(encodeReturnCanceled(id, answer.releaseParamCaps));
      answer.onCancel?.();
    }
  }

  onRelease(release: StructReader): Violation {
    const count = release.u32(4);
    if (release.u32(0) !== BOOTSTRAP_EXPORT || count > this.#bootstrapRefs) return "release of a reference not held";
    this.#bootstrapRefs -= count;
    return undefined;
  }

  /** Tells running handlers that nobody waits any more. */
  close(): void {
    const answers = [...this.#answers.values()];
    this.#answers.clear();
    for (const answer of answers) if (answer.kind === "running") answer.onCancel?.();
  }

  /** Many unfinished questions are a peer that does not finish them; it is told so, and nothing is kept for it. */
  #refusedAsTooMany(id: number, releaseParamCaps: boolean): boolean {
    if (this.#answers.size < this.#limit) return false;
    this.#send(encodeReturnException(id, releaseParamCaps, "overloaded", "too many unfinished questions"));
    return true;
  }

  #isBootstrap(target: StructReader): boolean {
    const which = target.u16(4);
    if (which === TARGET.importedCap) return target.u32(0) === BOOTSTRAP_EXPORT && this.#bootstrapRefs > 0;
    if (which !== TARGET.promisedAnswer) return false;
    const promised = target.struct(0);
    let unchanged = true;
    promised.forEachStruct(0, (op) => {
      if (op.u16(0) !== OP_NOOP) unchanged = false;
    });
    return unchanged && this.#answers.get(promised.u32(0))?.kind === "capability";
  }

  #slot(id: number, answer: Answer & { kind: "running" }): AnswerSlot {
    const finishWith = (encode: () => Uint8Array): void => {
      // Identity, not id: the caller may have finished this question and asked another under the same id.
      if (this.#answers.get(id) !== answer) return;
      this.#answers.set(id, { kind: "returned" });
      this.#send(encode());
    };
    return {
      results: (codec, value) => finishWith(() => encodeReturnResults(id, answer.releaseParamCaps, codec, value)),
      exception: (type: ExceptionType, reason) =>
        finishWith(() => encodeReturnException(id, answer.releaseParamCaps, type, reason)),
      onCancel: (listener) => {
        answer.onCancel = listener;
      },
    };
  }
}

/** True when a payload hands over capabilities, which nothing here can use. */
export function hasCapabilities(payload: StructReader): boolean {
  let found = false;
  payload.forEachStruct(1, () => {
    found = true;
  });
  return found;
}
