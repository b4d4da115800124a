// The client half of an RPC connection: questions we asked, and the capabilities we hold.

import { decodeTotally } from "../capnp/decoded.ts";
import type { StructReader } from "../capnp/message.ts";
import type { Method } from "../schema/shared.ts";
import { hasCapabilities } from "./answers.ts";
import {
  CAP,
  type CallTarget,
  EXCEPTION_TYPES,
  type ExceptionType,
  encodeBootstrap,
  encodeCall,
  encodeFinish,
  encodeRelease,
  RETURN,
} from "./messages.ts";

/** Chars kept of a reason that a peer gives. */
const MAX_REASON_CHARS = 1024;

export type RpcException = { readonly kind: "exception"; readonly type: ExceptionType; readonly reason: string };

/** How a call ended. */
export type Outcome<R> =
  | { readonly kind: "results"; readonly value: R }
  | RpcException
  /** The peer answered with results that cannot be read. */
  | { readonly kind: "malformed"; readonly reason: string }
  /** The connection ended first; whether the call took effect is unknown. */
  | { readonly kind: "lost" };

type CapabilityState = CallTarget | RpcException | { readonly kind: "lost" };

/** What calls go to. It can be called at once; until the peer has answered, calls name the promised answer. */
export class RemoteCapability {
  state: CapabilityState;

  constructor(questionId: number) {
    this.state = { kind: "promisedAnswer", questionId };
  }
}

/** A call on its way. */
export interface PendingCall {
  /** Gives the call up: its outcome is never delivered, and the peer is told. */
  cancel(): void;
}

type Results = {
  readonly kind: "results";
  readonly payload: StructReader;
  /** True when the payload hands over capabilities. */
  readonly handsOver: boolean;
};

interface Question {
  /**
   * Takes the results; must not throw on them. `finish` goes out before anybody is told, who may go on with the next
   * call at once.
   */
  onResults(results: Results, finish: (releaseResultCaps: boolean) => void): void;
  onFailure(failure: RpcException | { readonly kind: "lost" }): void;
  canceled: boolean;
}

const NOTHING_PENDING: PendingCall = { cancel: () => {} };

export class Questions {
  readonly #limit: number;
  readonly #send: (message: Uint8Array) => void;
  readonly #questions = new Map<number, Question>();
  /** Ids free again; the one freed last is used first, as the Go library does. */
  readonly #freeIds: number[] = [];
  #nextId = 0;
  /** References held for each import. */
  readonly #imports = new Map<number, number>();

  constructor(options: { limit: number; send: (message: Uint8Array) => void }) {
    this.#limit = options.limit;
    this.#send = options.send;
  }

  bootstrap(): RemoteCapability {
    const id = this.#takeId();
    const capability = new RemoteCapability(id);
    this.#questions.set(id, {
      canceled: false,
      onResults: ({ payload }, finish) => {
        const imported = this.#import(payload);
        capability.state =
          imported === undefined
            ? { kind: "exception", type: "failed", reason: "bootstrap without a capability" }
            : { kind: "importedCap", id: imported };
        finish(imported === undefined);
      },
      onFailure: (failure) => {
        capability.state = failure;
      },
    });
    this.#send(encodeBootstrap(id));
    return capability;
  }

  call<P, R>(
    capability: RemoteCapability,
    method: Method<P, R>,
    params: P,
    onOutcome: (outcome: Outcome<R>) => void,
  ): PendingCall {
    const target = capability.state;
    if (target.kind === "exception" || target.kind === "lost") {
      onOutcome(target);
      return NOTHING_PENDING;
    }
    if (this.#questions.size >= this.#limit) {
      onOutcome({ kind: "exception", type: "overloaded", reason: "too many calls under way" });
      return NOTHING_PENDING;
    }
    const id = this.#takeId();
    const question: Question = {
      canceled: false,
      onResults({ payload, handsOver }, finish) {
        const results = decodeTotally(() => method.results.read(payload.struct(0)));
        finish(handsOver);
        onOutcome(results.kind === "value" ? { kind: "results", value: results.value } : results);
      },
      onFailure: onOutcome,
    };
    this.#questions.set(id, question);
    this.#send(encodeCall(id, target, method, params));
    return {
      cancel: () => {
        if (question.canceled || this.#questions.get(id) !== question) return;
        // The id stays taken until the peer returns: it may have answered already.
        question.canceled = true;
        this.#send(encodeFinish(id, true));
      },
    };
  }

  onReturn(ret: StructReader): void {
    const id = ret.u32(0);
    // Read before the question is taken: if this throws, the question is still there to be ended.
    const answer = readReturn(ret);
    const question = this.#takeQuestion(id);
    if (question === undefined || question.canceled) return;
    if (answer.kind === "results") {
      question.onResults(answer, (release) => this.#send(encodeFinish(id, release)));
      return;
    }
    this.#send(encodeFinish(id, true));
    question.onFailure(answer);
  }

  /** The peer did not understand a message of ours. */
  onUnimplemented(questionId: number): void {
    const question = this.#takeQuestion(questionId);
    if (question === undefined || question.canceled) return;
    question.onFailure({ kind: "exception", type: "unimplemented", reason: "not understood by the peer" });
  }

  /** Gives back every reference; part of an orderly end. */
  releaseImports(): void {
    for (const [id, references] of this.#imports) this.#send(encodeRelease(id, references));
    this.#imports.clear();
  }

  /** Ends all questions. */
  close(): void {
    const questions = [...this.#questions.values()];
    this.#questions.clear();
    for (const question of questions) if (!question.canceled) question.onFailure({ kind: "lost" });
  }

  #takeId(): number {
    const free = this.#freeIds.pop();
    if (free !== undefined) return free;
    this.#nextId += 1;
    return this.#nextId - 1;
  }

  /** Removes a question; its id is free at once, since its Finish leaves before any other message. */
  #takeQuestion(id: number): Question | undefined {
    const question = this.#questions.get(id);
    if (question === undefined) return undefined;
    this.#questions.delete(id);
    this.#freeIds.push(id);
    return question;
  }

  /** Counts the reference that a bootstrap hands over; undefined when it hands over nothing of use. */
  #import(payload: StructReader): number | undefined {
    const read = decodeTotally(() => readHostedCapability(payload));
    const id = read.kind === "value" ? read.value : undefined;
    if (id !== undefined) this.#imports.set(id, (this.#imports.get(id) ?? 0) + 1);
    return id;
  }
}

function readReturn(ret: StructReader): Results | RpcException {
  switch (ret.u16(6)) {
    case RETURN.results: {
      const payload = ret.struct(0);
      return { kind: "results", payload, handsOver: hasCapabilities(payload) };
    }
    case RETURN.exception:
      return readException(ret.struct(0));
    default:
      return { kind: "exception", type: "failed", reason: "returned without results" };
  }
}

/** The export id behind a payload that is one capability hosted by its sender. */
function readHostedCapability(payload: StructReader): number | undefined {
  const wanted = payload.capability(0);
  let index = 0;
  let hosted: number | undefined;
  payload.forEachStruct(1, (descriptor) => {
    const which = descriptor.u16(0);
    if (index === wanted && (which === CAP.senderHosted || which === CAP.senderPromise)) hosted = descriptor.u32(4);
    index += 1;
  });
  return hosted;
}

/** An unknown type counts as `failed`, as newer peers expect. */
export function readException(view: StructReader): RpcException {
  return {
    kind: "exception",
    type: EXCEPTION_TYPES[view.u16(4)] ?? "failed",
    reason: view.text(0).slice(0, MAX_REASON_CHARS),
  };
}
