import { TunnelError } from "../../core/errors.ts";
import type { ByteChannel, ChannelEvents } from "../../net/channel.ts";
import { ResponseDecoder } from "../../wire/h1/decoder.ts";
import type { Malformed } from "../../wire/h1/malformed.ts";
import type { ResponseHead } from "../../wire/h1/message.ts";
import type { RequestContext } from "../../wire/h1/response-head.ts";
import { headerValue, type RawHeaders } from "../../wire/headers.ts";
import { UpgradedChannel } from "./upgraded-channel.ts";

/** Small writes of one turn of the loop leave together as long as they fit, in bytes; sockets have no gathering write. */
export const JOINED_WRITE_BYTES = 16 * 1024;

/** Taken off the idle time an origin announces (`Keep-Alive: timeout=N`), so that we let go first, in ms. */
const KEEP_ALIVE_MARGIN_MS = 1000;

/** The request that a connection carries. Exactly one of `onUpgrade`, `onEnd`, `onFailure` is the last call. */
export interface ConnectionUser {
  onInformational(head: ResponseHead): void;
  onHead(head: ResponseHead): void;
  onUpgrade(head: ResponseHead, channel: ByteChannel): void;
  onData(chunk: Uint8Array): void;
  onEnd(trailers: RawHeaders): void;
  onDrain(): void;
  /** `unanswered`: the connection ended before the first byte of an answer, so another one may be tried. */
  onFailure(error: TunnelError, unanswered: boolean): void;
}

/** Who keeps connections between requests. */
export interface ConnectionOwner {
  /** May carry another request; `hintMs` = how long the origin says it keeps it, if it does. */
  onIdle(connection: OriginConnection, hintMs: number | undefined): void;
  /** We ended our side; the origin still has to. */
  onClosing(connection: OriginConnection): void;
  /** Of no more use. May come more than once. */
  onGone(connection: OriginConnection): void;
  /** Belongs to another protocol now; `onGone` follows when that has ended. */
  onUpgraded(connection: OriginConnection): void;
}

type State = "idle" | "busy" | "closing" | "gone";

/**
 * One HTTP/1.1 connection to an origin, one request at a time. It is kept for another request only when both messages
 * ended exactly where they should and the origin agrees; any byte that nobody asked for ends it.
 */
export class OriginConnection implements ChannelEvents {
  readonly #channel: ByteChannel;
  readonly #owner: ConnectionOwner;
  readonly #decoder: ResponseDecoder;
  #state: State = "idle";
  #user: ConnectionUser | undefined;
  /** Requests carried before the current one. */
  #served = 0;
  #answered = false;
  #requestSent = false;
  #keepAlive = false;
  #hintMs: number | undefined;
  #peerEnded = false;
  #pending: Uint8Array[] = [];
  #pendingBytes = 0;
  #flushScheduled = false;
  #blocked = false;

  constructor(channel: ByteChannel, owner: ConnectionOwner) {
    this.#channel = channel;
    this.#owner = owner;
    this.#decoder = new ResponseDecoder({
      onInformational: (head) => this.#user?.onInformational(head),
      onHead: (head) => this.#onHead(head),
      onData: (chunk) => this.#user?.onData(chunk),
      onEnd: (trailers) => this.#onAnswerEnd(trailers),
      onMalformed: (fault) => this.#onMalformed(fault),
    });
    channel.listen(this);
  }

  /** True when it carried a request before: then the origin may be about to close it, and rightly. */
  get reused(): boolean {
    return this.#served > 0;
  }

  /** False = hold back until `onDrain`. */
  get room(): boolean {
    return !this.#blocked;
  }

  /** True when it may be given a request. */
  get idle(): boolean {
    return this.#state === "idle";
  }

  /** Gives an idle connection its next request. */
  begin(user: ConnectionUser, request: RequestContext): void {
    this.#state = "busy";
    this.#user = user;
    this.#answered = false;
    this.#requestSent = false;
    this.#hintMs = undefined;
    this.#decoder.next(request);
  }

  /** Sends bytes of the request; false = hold back until `onDrain`. They leave at the end of this turn at the latest. */
  send(bytes: Uint8Array): boolean {
    if (this.#pendingBytes + bytes.length > JOINED_WRITE_BYTES) {
      this.#flush();
      this.#write(bytes);
    } else {
      this.#pending.push(bytes);
      this.#pendingBytes += bytes.length;
      if (!this.#flushScheduled) {
        this.#flushScheduled = true;
        queueMicrotask(() => {
          this.#flushScheduled = false;
          this.#flush();
        });
      }
    }
    return !this.#blocked;
  }

  /** All of the request was given to `send`, and nothing follows it: it leaves now. */
  finishRequest(): void {
    this.#requestSent = true;
    this.#flush();
  }

  pause(): void {
    this.#channel.pause();
  }

  resume(): void {
    this.#channel.resume();
  }

  /** Lets go of an idle connection: ends our side and waits for the origin's. */
  close(): void {
    this.#user = undefined;
    this.#decoder.stop();
    if (this.#state === "gone") return;
    this.#state = "closing";
    this.#channel.resume();
    this.#channel.end();
    this.#owner.onClosing(this);
  }

  /** Ends it now, whatever is under way; the user hears nothing. */
  abort(error: TunnelError): void {
    this.#user = undefined;
    if (this.#state === "gone") return;
    this.#leave();
    this.#channel.abort(error);
  }

  onData(chunk: Uint8Array): void {
    if (this.#state === "busy") {
      this.#answered = true;
      this.#decoder.feed(chunk);
    } else if (this.#state !== "gone") {
      this.abort(new TunnelError("origin.malformed", "Origin sent bytes that belong to no request"));
    }
  }

  onEnd(): void {
    this.#peerEnded = true;
    if (this.#state === "idle") this.close();
    if (this.#state !== "busy") return;
    this.#decoder.finish();
    if (this.#user !== undefined) {
      this.#fail(new TunnelError("origin.reset", "Origin closed the connection without an answer"));
    }
  }

  onDrain(): void {
    this.#blocked = false;
    this.#user?.onDrain();
  }

  onClose(error: TunnelError | undefined): void {
    this.#fail(
      new TunnelError("origin.reset", "Origin closed the connection before its answer was complete", { cause: error }),
    );
  }

  #onHead(head: ResponseHead): void {
    if (head.framing.kind === "tunnel") {
      const user = this.#user;
      this.#flush();
      const rest = this.#decoder.takeRest();
      this.#user = undefined;
      this.#discard();
      this.#owner.onUpgraded(this);
      const channel = new UpgradedChannel(this.#channel, rest, () => this.#owner.onGone(this));
      user?.onUpgrade(head, channel);
      return;
    }
    this.#keepAlive = head.keepAlive;
    if (head.keepAlive) this.#hintMs = keepAliveHint(head.headers);
    this.#user?.onHead(head);
  }

  #onAnswerEnd(trailers: RawHeaders): void {
    const user = this.#user;
    this.#user = undefined;
    // An origin that answered and did not take the whole request may still be waiting for the rest of it.
    if (!this.#requestSent || this.#blocked || this.#decoder.hasRest) {
      this.abort(new TunnelError("origin.malformed", "Origin's answer and the request did not end together"));
    } else if (!this.#keepAlive || this.#peerEnded) {
      this.close();
    } else {
      this.#state = "idle";
      this.#served += 1;
      this.#channel.resume();
      this.#owner.onIdle(this, this.#hintMs);
    }
    user?.onEnd(trailers);
  }

  #onMalformed(fault: Malformed): void {
    this.#fail(
      fault.reason === "truncated-head" || fault.reason === "truncated-body"
        ? new TunnelError("origin.truncated", "Origin closed the connection in the middle of its answer")
        : new TunnelError("origin.malformed", `Origin sent a malformed answer (${fault.reason})`),
    );
  }

  /** Ends the connection. The user is told last and by us: aborting the channel may report a close of its own. */
  #fail(error: TunnelError): void {
    const user = this.#user;
    this.abort(error);
    user?.onFailure(error, !this.#answered);
  }

  #leave(): void {
    this.#discard();
    this.#owner.onGone(this);
  }

  #discard(): void {
    this.#decoder.stop();
    this.#state = "gone";
    this.#pending = [];
    this.#pendingBytes = 0;
  }

  #flush(): void {
    const pending = this.#pending;
    if (pending.length === 0) return;
    const total = this.#pendingBytes;
    this.#pending = [];
    this.#pendingBytes = 0;
    this.#write(pending.length === 1 ? (pending[0] as Uint8Array) : join(pending, total));
  }

  #write(bytes: Uint8Array): void {
    if (!this.#channel.write(bytes)) this.#blocked = true;
  }
}

function join(parts: readonly Uint8Array[], totalBytes: number): Uint8Array {
  const joined = new Uint8Array(totalBytes);
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

/** Idle time the origin announces, less a margin, in ms; undefined = none. */
function keepAliveHint(headers: RawHeaders): number | undefined {
  const value = headerValue(headers, "keep-alive");
  const seconds = value === undefined ? null : /(?:^|[,;\s])timeout=([0-9]{1,6})(?:$|[,;\s])/i.exec(value);
  return seconds === null ? undefined : Number(seconds[1]) * 1000 - KEEP_ALIVE_MARGIN_MS;
}
