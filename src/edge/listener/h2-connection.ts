import { setImmediate } from "node:timers";
import { TunnelError } from "../../core/errors.ts";
import type { Connection } from "../../net/sockets.ts";
import { REQUEST_HEAD_LIMITS } from "../../wire/h1/limits.ts";
import { H2Connection } from "../../wire/h2/connection.ts";
import { DEFAULT_FRAME_BYTES, DEFAULT_WINDOW_BYTES, H2_ERROR } from "../../wire/h2/constants.ts";
import type { H2Limits } from "../../wire/h2/limits.ts";
import type { H2Stream, H2StreamEvents } from "../../wire/h2/stream.ts";
import { renderError, statusError } from "./error-page.ts";
import { H2Answer } from "./h2-answer.ts";
import { readH2Request } from "./h2-request.ts";
import { H2VisitorStream } from "./h2-stream.ts";
import {
  H2_PING_AFTER_MS,
  H2_RESET_BURST,
  H2_RESETS_PER_SECOND,
  LINGER_MS,
  MAX_H2_STREAMS,
  RETIRED_LINGER_MS,
} from "./limits.ts";
import { reportRefusal, type VisitorDeps } from "./visitor-deps.ts";
import { hostnameOf, type VisitorRequest } from "./visitor-exchange.ts";
import type { VisitorProtocol } from "./visitor-protocol.ts";

/**
 * What a visitor may cost. Windows begin small: with all its streams stalled a connection holds no more than its budget
 * and one connection window, and a stream whose origin reads gets more.
 */
export const VISITOR_H2_LIMITS: Omit<H2Limits, "headerListBytes"> = {
  streams: MAX_H2_STREAMS,
  streamWindowBytes: DEFAULT_WINDOW_BYTES,
  maxStreamWindowBytes: 2 * 1024 * 1024,
  connectionWindowBytes: 4 * 1024 * 1024,
  heldBudgetBytes: 4 * 1024 * 1024,
  headerBlockBytes: 128 * 1024,
  frameBytes: DEFAULT_FRAME_BYTES,
  idleControlFrames: 2_000,
  connect: true,
};

/** One HTTP/2 connection of a visitor: as many requests side by side as the limit allows. */
export class H2VisitorConnection implements VisitorProtocol {
  readonly #connection: Connection;
  readonly #deps: VisitorDeps;
  readonly #h2: H2Connection;
  readonly #streams = new Set<H2VisitorStream>();
  /** `retired`: no new requests. `closing`: our direction has ended. */
  #phase: "open" | "retired" | "closing" | "gone" = "open";
  /** When an idle connection is closed, or a closing one is cut. */
  #deadlineAtMs: number;
  /** When a frame that has begun must be complete. */
  #frameDeadlineAtMs = Number.POSITIVE_INFINITY;
  #lastReceivedAtMs: number;
  #pinged = false;
  #blocked = false;
  #scheduled = false;
  #resets = 0;
  #resetsCheckedAtMs: number;

  /** Hears of the channel from its owner; does not listen to it. */
  constructor(connection: Connection, deps: VisitorDeps) {
    this.#connection = connection;
    this.#deps = deps;
    const nowMs = deps.clock.nowMs();
    this.#deadlineAtMs = nowMs + deps.limits["idle-timeout"];
    this.#lastReceivedAtMs = nowMs;
    this.#resetsCheckedAtMs = nowMs;
    this.#h2 = new H2Connection(
      "server",
      {
        onRequest: (stream, fields, endStream) => this.#onRequest(stream, fields, endStream),
        onOversizedRequest: (stream, endStream) => {
          deps.counters.malformed += 1;
          deps.counters.refused["header-size"] += 1;
          this.#refuse(stream, 431, endStream);
        },
        onGoaway: () => this.retire(),
        onPingAck: () => {},
        onReady: () => {},
        onOutput: () => this.#schedule(),
        onFatal: () => this.#onFatal(),
      },
      (bytes) => Buffer.allocUnsafeSlow(bytes),
      // As much as a head of HTTP/1.1, with what HTTP/2 counts for each field.
      { ...VISITOR_H2_LIMITS, headerListBytes: deps.limits["header-size"] + 32 * REQUEST_HEAD_LIMITS.fields },
    );
    this.#schedule();
  }

  checkDeadline(nowMs: number): void {
    const passedMs = nowMs - this.#resetsCheckedAtMs;
    this.#resetsCheckedAtMs = nowMs;
    this.#resets = Math.max(0, this.#resets - (passedMs / 1_000) * H2_RESETS_PER_SECOND);
    for (const stream of this.#streams) stream.checkDeadline(nowMs);
    if (this.#phase === "closing") {
      if (nowMs >= this.#deadlineAtMs) this.abort(new TunnelError("timeout", "The visitor did not close"));
    } else if (nowMs >= this.#frameDeadlineAtMs) {
      this.#deps.counters.timeouts += 1;
      this.#deps.counters.refused["header-timeout"] += 1;
      this.#h2.giveUp(H2_ERROR.enhanceYourCalm, "a frame was not complete in time");
    } else if (this.#streams.size > 0) this.#checkLife(nowMs);
    else if (nowMs >= this.#deadlineAtMs) {
      this.#deps.counters.timeouts += 1;
      this.#deps.counters.refused["idle-timeout"] += 1;
      this.#close(LINGER_MS);
    }
  }

  retire(): void {
    if (this.#phase !== "open") return;
    this.#phase = "retired";
    if (this.#streams.size === 0) this.#close(RETIRED_LINGER_MS);
    else this.#h2.goaway();
  }

  abort(error: TunnelError): void {
    this.#connection.channel.abort(error);
  }

  // ---- from the socket ----

  onData(chunk: Uint8Array): void {
    if (this.#phase === "closing" || this.#phase === "gone") return;
    const nowMs = this.#deps.clock.nowMs();
    this.#lastReceivedAtMs = nowMs;
    this.#pinged = false;
    this.#h2.receive(chunk);
    if (!this.#h2.midFrame) this.#frameDeadlineAtMs = Number.POSITIVE_INFINITY;
    else if (this.#frameDeadlineAtMs === Number.POSITIVE_INFINITY) {
      this.#frameDeadlineAtMs = nowMs + this.#deps.limits["header-timeout"];
    }
    this.#flush();
  }

  /** A visitor that sends nothing any more cannot even open a window: its requests are over. */
  onEnd(): void {
    this.#close(LINGER_MS);
  }

  onDrain(): void {
    this.#blocked = false;
    this.#h2.unblock();
    this.#flush();
  }

  onClose(): void {
    this.#phase = "gone";
    this.#h2.abandon();
  }

  // ---- from the codec ----

  #onRequest(stream: H2Stream, fields: string[], endStream: boolean): void {
    const head = readH2Request(fields, endStream, websocketKey);
    if (head.kind === "refused") {
      this.#deps.counters.malformed += 1;
      this.#refuse(stream, head.status, endStream);
      return;
    }
    if (!this.#deps.mayCarry(this.#connection.serverName, hostnameOf(head.request.host))) {
      this.#deps.counters.misdirected += 1;
      this.#refuse(stream, 421, endStream, head.request);
      return;
    }
    this.#deps.counters.requests += 1;
    const request = new H2VisitorStream(
      stream,
      { ...head, endStream },
      this.#connection.remoteIp,
      this.#deps,
      (gone, takenBack) => this.#onStreamGone(gone, takenBack),
    );
    this.#streams.add(request);
    request.start();
  }

  /** Answers what never became a request. */
  #refuse(stream: H2Stream, status: number, endStream: boolean, asked?: VisitorRequest): void {
    this.#countReset();
    const ray = this.#deps.nextRay();
    const error = statusError(status);
    const { headers, body } = renderError(error, [], ray, this.#deps.pages);
    stream.listen(NOBODY);
    new H2Answer(stream).whole(status, headers, body);
    if (!endStream) stream.stopPeer();
    const { remoteIp: ip } = this.#connection;
    reportRefusal(this.#deps, { ray, ip, protocol: "HTTP/2.0", status }, error.title, asked);
  }

  #onStreamGone(stream: H2VisitorStream, takenBack: boolean): void {
    this.#streams.delete(stream);
    if (this.#streams.size === 0 && this.#phase !== "closing") {
      this.#deadlineAtMs = this.#deps.clock.nowMs() + this.#deps.limits["idle-timeout"];
    }
    if (takenBack) this.#countReset();
    this.#closeIfDone();
  }

  #countReset(): void {
    this.#resets += 1;
    if (this.#resets > H2_RESET_BURST) this.#h2.giveUp(H2_ERROR.enhanceYourCalm, "too many requests came to nothing");
  }

  /** The codec has ended every stream and left a GOAWAY to send. */
  #onFatal(): void {
    if (this.#phase === "closing" || this.#phase === "gone") return;
    this.#deps.counters.malformed += 1;
    this.#end(LINGER_MS);
  }

  // ---- inside ----

  /** A visitor that went without a word would keep its requests for ever: silence is asked about, then taken for it. */
  #checkLife(nowMs: number): void {
    const silentMs = nowMs - this.#lastReceivedAtMs;
    if (silentMs >= this.#deps.limits["write-timeout"]) {
      this.#deps.counters.timeouts += 1;
      this.#deps.counters.refused["write-timeout"] += 1;
      this.abort(new TunnelError("timeout", "The visitor's connection was silent for too long"));
    } else if (silentMs >= H2_PING_AFTER_MS && !this.#pinged) {
      this.#pinged = true;
      this.#h2.ping(new Uint8Array(8));
    }
  }

  #closeIfDone(): void {
    if (this.#phase !== "retired" || this.#streams.size > 0) return;
    // Not now: this may be in the middle of what the codec does with the last stream.
    queueMicrotask(() => {
      if (this.#phase === "retired" && this.#streams.size === 0)
        this.#close(this.#deps.closing() ? LINGER_MS : this.#deps.limits["write-timeout"]);
    });
  }

  /** Says good-bye, ends whatever runs, and waits at most `withinMs` for the visitor to close. */
  #close(withinMs: number): void {
    if (this.#phase === "closing" || this.#phase === "gone") return;
    this.#h2.goaway();
    this.#end(withinMs);
    this.#h2.abandon();
  }

  #end(withinMs: number): void {
    // Full or not: nothing is left that could produce more.
    for (const segment of this.#h2.takeOutput()) this.#connection.channel.write(segment);
    this.#phase = "closing";
    this.#deadlineAtMs = this.#deps.clock.nowMs() + withinMs;
    this.#connection.channel.end();
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    // One write for all that a turn of the event loop gives.
    setImmediate(() => {
      this.#scheduled = false;
      this.#flush();
    });
  }

  #flush(): void {
    if (this.#phase === "closing" || this.#phase === "gone" || this.#blocked) return;
    const { channel } = this.#connection;
    for (;;) {
      const segments = this.#h2.takeOutput();
      if (segments.length === 0) return;
      let room = true;
      for (const segment of segments) room = channel.write(segment) && room;
      this.#h2.outputSent(room && channel.writesAtOnce === true);
      if (!room) {
        this.#blocked = true;
        this.#h2.block();
        return;
      }
      this.#h2.flushed();
    }
  }
}

/** RFC 6455 section 4.1: 16 bytes of chance. */
function websocketKey(): string {
  return Buffer.from(crypto.getRandomValues(new Uint8Array(16))).toString("base64");
}

/** What a refused request still sends is dropped. */
const NOBODY: H2StreamEvents = {
  onInformational: () => {},
  onHead: () => {},
  onData: () => {},
  onEnd: () => {},
  onDrain: () => {},
  onReset: () => {},
  onComplete: () => {},
};
