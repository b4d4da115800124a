import type { RawHeaders } from "../headers.ts";
import { CR, LF, TOKEN } from "./bytes.ts";
import { ChunkedDecoder } from "./chunked-decoder.ts";
import {
  type HeadLimits,
  MAX_INFORMATIONAL,
  MAX_PIPELINED_BYTES,
  REQUEST_HEAD_LIMITS,
  RESPONSE_HEAD_LIMITS,
} from "./limits.ts";
import { type BlockState, LineBlock } from "./line-block.ts";
import { type MalformedReason, malformed } from "./malformed.ts";
import { type BodyEvents, type BodyFraming, NO_TRAILERS, type RequestEvents, type ResponseEvents } from "./message.ts";
import { readRequestHead } from "./request-head.ts";
import { type RequestContext, readResponseHead } from "./response-head.ts";

/** `waiting`: between messages, or before the first. `tunnel`: the rest is not HTTP. `over`: refused or stopped. */
type Phase = "waiting" | "head" | "length" | "chunked" | "until-close" | "tunnel" | "over";

/** What a head means for what follows; undefined = nothing yet, another head follows (after an interim answer). */
type AfterHead = BodyFraming | MalformedReason | undefined;

/**
 * One direction of an HTTP/1.1 connection, in whatever pieces it comes. After each message it stops and keeps what
 * was fed beyond it, so that a pipelined request waits its turn and an upgrade gets the bytes that follow.
 */
abstract class MessageDecoder {
  readonly #body: BodyEvents;
  readonly #block: LineBlock;
  readonly #chunked = new ChunkedDecoder();
  #phase: Phase;
  #left = 0;
  /** The chunk being read, how far, and those that came while it could not be read on. */
  #chunk: Uint8Array = EMPTY;
  #at = 0;
  #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  #running = false;

  constructor(body: BodyEvents, limits: HeadLimits, phase: "waiting" | "head") {
    this.#body = body;
    this.#block = new LineBlock({
      blockBytes: limits.headBytes,
      firstLineBytes: limits.startLineBytes,
      lines: limits.fields + 1,
    });
    this.#phase = phase;
  }

  /** Takes bytes of the peer and reports what they complete. They must not change afterwards. Never throws. */
  feed(chunk: Uint8Array): void {
    if (this.#phase === "over" || chunk.length === 0) return;
    if (this.#running || this.#at < this.#chunk.length) {
      this.#queuedBytes += chunk.length;
      if (this.#queuedBytes > MAX_PIPELINED_BYTES) this.#fail("pipeline-overflow");
      else this.#queue.push(chunk);
      return;
    }
    this.#chunk = chunk;
    this.#at = 0;
    this.#run();
  }

  /** The peer ended its direction: completes a body that lasts until then, refuses any other unfinished message. */
  finish(): void {
    switch (this.#phase) {
      case "until-close":
        this.#end(NO_TRAILERS);
        return;
      case "length":
      case "chunked":
        this.#fail("truncated-body");
        return;
      case "head":
        if (this.started) this.#fail("truncated-head");
        return;
      case "waiting":
      case "tunnel":
      case "over":
        return;
    }
  }

  /** True between messages: the last one ended, and the next was not asked for. */
  get waiting(): boolean {
    return this.#phase === "waiting";
  }

  /** True when part of a head was read. */
  get started(): boolean {
    return this.#phase === "head" && this.#block.partial;
  }

  /** True when bytes beyond the last message are kept. */
  get hasRest(): boolean {
    return this.#at < this.#chunk.length || this.#queue.length > 0;
  }

  /** Hands out the bytes beyond the last message, for the protocol that follows an upgrade. Reads nothing any more. */
  takeRest(): Uint8Array[] {
    const rest = this.#queue;
    if (this.#at < this.#chunk.length) rest.unshift(this.#chunk.subarray(this.#at));
    this.stop();
    return rest;
  }

  /** Reads nothing and reports nothing any more. */
  stop(): void {
    this.#phase = "over";
    this.#chunk = EMPTY;
    this.#at = 0;
    this.#queue = [];
    this.#queuedBytes = 0;
    this.#block.reset();
  }

  /** Starts on the next message, with what is kept of it. */
  protected begin(): void {
    if (this.#phase !== "waiting") return;
    this.#phase = "head";
    if (!this.#running) this.#run();
  }

  /** Why the byte at `at` cannot begin a head, if it cannot. */
  protected abstract firstByte(chunk: Uint8Array, at: number): MalformedReason | undefined;
  /** Reads a head, reports it, and says what follows. */
  protected abstract readHead(bytes: Uint8Array, start: number, end: number): AfterHead;
  /** An empty line in front of a head. */
  protected abstract emptyLine(): MalformedReason | undefined;

  #run(): void {
    this.#running = true;
    for (;;) {
      if (this.#at === this.#chunk.length) {
        const next = this.#queue.shift();
        this.#chunk = next ?? EMPTY;
        this.#at = 0;
        if (next === undefined) break;
        this.#queuedBytes -= next.length;
      }
      if (this.#phase === "head") this.#readHead();
      else if (this.#phase === "length") this.#readLength();
      else if (this.#phase === "chunked") this.#readChunked();
      else if (this.#phase === "until-close") this.#data(this.#chunk.length - this.#at);
      else break;
    }
    this.#running = false;
  }

  #readHead(): void {
    const block = this.#block;
    if (!block.partial) {
      const problem = this.firstByte(this.#chunk, this.#at);
      if (problem !== undefined) {
        this.#fail(problem);
        return;
      }
    }
    const state = block.take(this.#chunk, this.#at);
    this.#at = block.consumed;
    if (state === "need") return;
    if (state !== "complete") {
      this.#fail(this.blockFault(state));
      return;
    }
    const { bytes, start, end } = block;
    block.reset();
    const after = start === end ? this.emptyLine() : this.readHead(bytes, start, end);
    if (after === undefined || this.#phase === "over") return;
    if (typeof after === "string") this.#fail(after);
    else this.#startBody(after);
  }

  /** The refusal for a head that passed a limit. */
  protected blockFault(state: Exclude<BlockState, "need" | "complete">): MalformedReason {
    switch (state) {
      case "bare-lf":
        return "bare-lf";
      case "too-many-lines":
        return "too-many-fields";
      case "first-line-too-long":
      case "block-too-large":
        return "head-too-large";
    }
  }

  #startBody(framing: BodyFraming): void {
    switch (framing.kind) {
      case "none":
        this.#end(NO_TRAILERS);
        return;
      case "length":
        this.#left = framing.bytes;
        this.#phase = "length";
        if (framing.bytes === 0) this.#end(NO_TRAILERS);
        return;
      case "chunked":
        this.#chunked.reset();
        this.#phase = "chunked";
        return;
      case "until-close":
      case "tunnel":
        this.#phase = framing.kind;
        return;
    }
  }

  #readLength(): void {
    const count = Math.min(this.#left, this.#chunk.length - this.#at);
    this.#left -= count;
    this.#data(count);
    if (this.#left === 0 && this.#phase === "length") this.#end(NO_TRAILERS);
  }

  #readChunked(): void {
    const chunked = this.#chunked;
    this.#at = chunked.read(this.#chunk, this.#at);
    if (chunked.fault !== undefined) this.#fail(chunked.fault);
    else if (chunked.dataBytes > 0) this.#body.onData(this.#chunk.subarray(this.#at - chunked.dataBytes, this.#at));
    else if (chunked.done) this.#end(chunked.trailers);
  }

  #data(count: number): void {
    const { length } = this.#chunk;
    const whole = this.#at === 0 && count === length;
    const data = whole ? this.#chunk : this.#chunk.subarray(this.#at, this.#at + count);
    this.#at += count;
    this.#body.onData(data);
  }

  #end(trailers: RawHeaders): void {
    this.#phase = "waiting";
    this.#body.onEnd(trailers);
  }

  #fail(reason: MalformedReason): void {
    this.stop();
    this.#body.onMalformed(malformed(reason));
  }
}

/** Reads the requests of one visitor's connection. The first one is read at once, further ones after `next`. */
export class RequestDecoder extends MessageDecoder {
  readonly #events: RequestEvents;
  #emptyLineSeen = false;

  constructor(events: RequestEvents, limits: HeadLimits = REQUEST_HEAD_LIMITS) {
    super(events, limits, "head");
    this.#events = events;
  }

  /** Reads the next request. May be called from `onEnd`. */
  next(): void {
    this.#emptyLineSeen = false;
    this.begin();
  }

  /** Something that is no HTTP at all, such as a TLS handshake, is refused by its first byte. */
  protected override firstByte(chunk: Uint8Array, at: number): MalformedReason | undefined {
    const byte = chunk[at] as number;
    if (TOKEN[byte] === 1 || byte === CR) return undefined;
    return byte === LF ? "bare-lf" : "method";
  }

  /** One empty line in front of a request is forgiven (RFC 9112 section 2.2). */
  protected override emptyLine(): MalformedReason | undefined {
    if (this.#emptyLineSeen) return "start-line";
    this.#emptyLineSeen = true;
    return undefined;
  }

  protected override blockFault(state: Exclude<BlockState, "need" | "complete">): MalformedReason {
    return state === "first-line-too-long" ? "target-too-long" : super.blockFault(state);
  }

  protected override readHead(bytes: Uint8Array, start: number, end: number): AfterHead {
    const head = readRequestHead(bytes, start, end);
    if (typeof head === "string") return head;
    this.#events.onHead(head);
    return head.framing;
  }
}

/** Reads the answers of one origin connection, each after `next` has said what was asked. */
export class ResponseDecoder extends MessageDecoder {
  readonly #events: ResponseEvents;
  #request: RequestContext = { method: "", upgrade: false };
  #informational = 0;

  constructor(events: ResponseEvents, limits: HeadLimits = RESPONSE_HEAD_LIMITS) {
    super(events, limits, "waiting");
    this.#events = events;
  }

  /** Reads the answer to this request. May be called from `onEnd`. */
  next(request: RequestContext): void {
    this.#request = request;
    this.#informational = 0;
    this.begin();
  }

  protected override firstByte(chunk: Uint8Array, at: number): MalformedReason | undefined {
    return chunk[at] === 0x48 ? undefined : "start-line";
  }

  protected override emptyLine(): MalformedReason {
    return "start-line";
  }

  protected override readHead(bytes: Uint8Array, start: number, end: number): AfterHead {
    const head = readResponseHead(bytes, start, end, this.#request);
    if (typeof head === "string") return head;
    if (head.status < 200 && head.status !== 101) {
      this.#informational += 1;
      if (this.#informational > MAX_INFORMATIONAL) return "too-many-informational";
      this.#events.onInformational(head);
      return undefined;
    }
    this.#events.onHead(head);
    return head.framing;
  }
}

const EMPTY = new Uint8Array(0);
