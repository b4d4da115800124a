import { TunnelError } from "../../core/errors.ts";
import type { Connection } from "../../net/sockets.ts";
import { RequestDecoder } from "../../wire/h1/decoder.ts";
import { encodeResponseHead } from "../../wire/h1/encoder.ts";
import { REQUEST_HEAD_LIMITS } from "../../wire/h1/limits.ts";
import type { Malformed } from "../../wire/h1/malformed.ts";
import type { RequestHead } from "../../wire/h1/message.ts";
import type { RawHeaders } from "../../wire/headers.ts";
import { type EdgeError, renderError, statusError } from "./error-page.ts";
import { H1Answer, h1Request } from "./h1-answer.ts";
import { HALF_CLOSED_IDLE_MS, LINGER_MS, MAX_LINGER_BYTES, RETIRED_LINGER_MS } from "./limits.ts";
import { reportRefusal, type VisitorDeps } from "./visitor-deps.ts";
import { VisitorExchange } from "./visitor-exchange.ts";
import type { VisitorProtocol } from "./visitor-protocol.ts";

type Phase = "idle" | "head" | "exchange" | "tunnel" | "linger" | "gone";

/** One HTTP/1.1 connection of a visitor: requests one after the other, then perhaps a WebSocket. */
export class VisitorConnection implements VisitorProtocol {
  readonly #connection: Connection;
  readonly #deps: VisitorDeps;
  readonly #decoder: RequestDecoder;
  #phase: Phase = "idle";
  #exchange: VisitorExchange | undefined;
  #deadlineAtMs: number;
  #lingerBytes = 0;
  #visitorEnded = false;

  constructor(connection: Connection, deps: VisitorDeps) {
    this.#connection = connection;
    this.#deps = deps;
    const headBytes = deps.limits["header-size"];
    const startLineBytes = Math.min(REQUEST_HEAD_LIMITS.startLineBytes, headBytes);
    this.#decoder = new RequestDecoder(
      {
        onHead: (head) => this.#onHead(head),
        onData: (chunk) => this.#exchange?.bodyData(chunk),
        onEnd: (trailers) => this.#onRequestEnd(trailers),
        onMalformed: (fault) => this.#onMalformed(fault),
      },
      { ...REQUEST_HEAD_LIMITS, headBytes, startLineBytes },
    );
    this.#deadlineAtMs = deps.clock.nowMs() + deps.limits["idle-timeout"];
  }

  checkDeadline(nowMs: number): void {
    if (nowMs < this.#deadlineAtMs || this.#phase === "gone") return;
    const { counters } = this.#deps;
    counters.timeouts += 1;
    if (this.#phase === "head") {
      counters.refused["header-timeout"] += 1;
      this.#refuse(statusError(408));
    } else if (this.#phase === "exchange" && this.#exchange?.answered === false && this.#exchange.waitsForBody) {
      counters.refused["body-timeout"] += 1;
      this.#exchange.fail(statusError(408));
    } else if (this.#phase === "exchange" || this.#phase === "tunnel") {
      counters.refused["write-timeout"] += 1;
      this.abort(new TunnelError("timeout", "The visitor's connection stood still for too long"));
    } else if (this.#phase === "linger") this.abort(new TunnelError("timeout", "The visitor did not close"));
    else {
      counters.refused["idle-timeout"] += 1;
      this.#close(LINGER_MS);
    }
  }

  retire(): void {
    if (this.#phase === "idle") this.#close(RETIRED_LINGER_MS);
    else if (this.#phase === "linger") this.#deadline(LINGER_MS);
  }

  abort(error: TunnelError): void {
    this.#connection.channel.abort(error);
  }

  // ---- from the socket ----

  onData(chunk: Uint8Array): void {
    if (this.#phase === "tunnel") {
      this.#exchange?.tunnelData(chunk);
      return;
    }
    if (this.#phase === "linger") {
      this.#lingerBytes += chunk.length;
      if (this.#lingerBytes > MAX_LINGER_BYTES)
        this.abort(new TunnelError("request.length", "Too much after an early answer"));
      return;
    }
    if (this.#phase === "idle") {
      this.#phase = "head";
      this.#deadline(this.#deps.limits["header-timeout"]);
    }
    this.#decoder.feed(chunk);
    // A pipelined request waits in the decoder; until its turn comes nothing more is read.
    if (this.#decoder.hasRest && this.#phase === "exchange") this.#connection.channel.pause();
  }

  onEnd(): void {
    this.#visitorEnded = true;
    if (this.#phase === "tunnel") this.#exchange?.tunnelEnd();
    else this.#nothingMore();
  }

  onDrain(): void {
    this.#exchange?.visitorDrained();
  }

  onClose(error: TunnelError | undefined): void {
    this.#phase = "gone";
    this.#decoder.stop();
    this.#exchange?.visitorGone(error);
    this.#exchange = undefined;
  }

  // ---- from the decoder ----

  #onHead(head: RequestHead): void {
    this.#phase = "exchange";
    this.#deps.counters.requests += 1;
    const { channel, remoteIp } = this.#connection;
    const answer = new H1Answer(head, channel, this.#deps.closing);
    this.#exchange = new VisitorExchange(h1Request(head), remoteIp, answer, this.#deps, {
      onTunnel: () => this.#startTunnel(),
      onFinished: (whole) => this.#finished(whole && answer.keepAlive),
      onMoved: (waiting) => this.#deadline(waiting),
    });
    this.#exchange.start();
  }

  #onRequestEnd(trailers: RawHeaders): void {
    if (this.#exchange !== undefined) this.#exchange.bodyEnd(trailers);
    // The edge answered on its own while the head was being read, and only now can the next request follow.
    else if (this.#phase === "exchange") this.#nextRequest();
  }

  #onMalformed(fault: Malformed): void {
    const { counters } = this.#deps;
    counters.malformed += 1;
    if (fault.status === 431) counters.refused["header-size"] += 1;
    if (this.#exchange !== undefined) this.#exchange.fail(statusError(fault.status));
    else this.#refuse(statusError(fault.status));
  }

  #startTunnel(): void {
    this.#phase = "tunnel";
    this.#deadlineAtMs = Number.POSITIVE_INFINITY;
    for (const chunk of this.#decoder.takeRest()) this.#exchange?.tunnelData(chunk);
    if (this.#visitorEnded) this.#exchange?.tunnelEnd();
    this.#connection.channel.resume();
  }

  /** The answer is out. `mayContinue`: the request was read to its end and the visitor wants to go on. */
  #finished(mayContinue: boolean): void {
    if (this.#phase === "gone") return;
    this.#exchange = undefined;
    if (!mayContinue) {
      // A visitor that has sent everything closes when it has read everything, however long that takes it.
      this.#close(this.#phase === "tunnel" || this.#decoder.waiting ? this.#deps.limits["write-timeout"] : LINGER_MS);
    } else if (this.#decoder.waiting) this.#nextRequest();
  }

  #nextRequest(): void {
    this.#phase = this.#decoder.hasRest ? "head" : "idle";
    this.#deadline(this.#deps.limits[this.#phase === "head" ? "header-timeout" : "idle-timeout"]);
    this.#connection.channel.resume();
    this.#decoder.next();
    if (this.#visitorEnded) this.#nothingMore();
  }

  /** The visitor ended its direction, and the decoder has all that came. */
  #nothingMore(): void {
    const within = this.#phase === "exchange";
    // A visitor may end its direction and still read the answer; one that ends within its request may not.
    this.#decoder.finish();
    if (!within) this.#close(this.#deps.limits["write-timeout"]);
    else if (this.#phase === "exchange") {
      this.#exchange?.visitorEnded();
      this.#deadline(HALF_CLOSED_IDLE_MS);
    }
  }

  /** Answers something that never became a request. */
  #refuse(error: EdgeError): void {
    const ray = this.#deps.nextRay();
    const { headers, body } = renderError(error, [], ray, this.#deps.pages);
    const bytes = encodeResponseHead(
      { status: error.status, reason: error.title, headers: [...headers, "Connection", "close"] },
      body,
    );
    if (bytes instanceof Uint8Array) this.#connection.channel.write(bytes);
    const { remoteIp: ip } = this.#connection;
    reportRefusal(this.#deps, { ray, ip, protocol: "HTTP/1.1", status: error.status }, error.title);
    this.#close(LINGER_MS);
  }

  /** Ends our direction and reads on for `withinMs`: closing over unread bytes would reset the answer away. */
  #close(withinMs: number): void {
    if (this.#phase === "gone" || this.#phase === "linger") return;
    this.#phase = "linger";
    this.#decoder.stop();
    // An edge that stops does not wait for visitors who keep their connection open after the answer.
    this.#deadline(this.#deps.closing() ? Math.min(withinMs, LINGER_MS) : withinMs);
    this.#connection.channel.end();
    this.#connection.channel.resume();
  }

  #deadline(ms: number): void {
    const leaving = this.#visitorEnded && this.#phase === "exchange";
    this.#deadlineAtMs = this.#deps.clock.nowMs() + (leaving ? Math.min(ms, HALF_CLOSED_IDLE_MS) : ms);
  }
}
