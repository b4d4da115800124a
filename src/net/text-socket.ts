import { getRandomValues } from "node:crypto";
import { type CancelTimer, type Clock, systemClock } from "../core/clock.ts";
import { TunnelError } from "../core/errors.ts";
import { CLOSE, MASK_BYTES, OPCODE, type Opcode } from "../wire/websocket/frame.ts";
import { type WebSocketHandler, WebSocketReader } from "../wire/websocket/reader.ts";
import { encodeClose, encodeFrame } from "../wire/websocket/writer.ts";
import type { ByteChannel } from "./channel.ts";

/** How long the peer may take to close its connection once there is nothing more to say, in ms. */
const LINGER_MS = 5_000;
/** Close code for a message that is too long (RFC 6455 section 7.4.1). */
const TOO_LARGE = 1009;

export interface TextSocketOptions {
  /** The client masks. */
  readonly role: "server" | "client";
  /** Bytes one message of the peer may have; a longer one ends the connection. */
  readonly maxMessageBytes: number;
  /** Time between our own pings in ms. @default 0, none */
  readonly pingEveryMs?: number;
  /** How long the peer may say nothing at all, not even answer pings, in ms. @default for ever */
  readonly silenceMs?: number;
  /** @default the system's clock */
  readonly clock?: Clock;
}

/** What the owner is told. Handlers must not throw. */
export interface TextSocketEvents {
  /** A text message; `undefined` stands for one that is not text. */
  onMessage(text: string | undefined): void;
  /** There is room again after `send` returned false. */
  onDrain(): void;
  /** Last event: nothing more is read. `code` 1006 = it ended without a close frame. */
  onClose(code: number, reason: string): void;
}

/** Text messages over a WebSocket, after its handshake (RFC 6455). `carrier` belongs to it from here on. */
export class TextSocket {
  readonly #carrier: ByteChannel;
  readonly #events: TextSocketEvents;
  readonly #options: TextSocketOptions;
  readonly #clock: Clock;
  readonly #reader: WebSocketReader;
  #parts: Uint8Array[] = [];
  #bytes = 0;
  #full = false;
  #closed = false;
  #told = false;
  #heardAtMs: number;
  #cancelPing: CancelTimer = () => {};
  #cancelLinger: CancelTimer = () => {};

  constructor(carrier: ByteChannel, events: TextSocketEvents, options: TextSocketOptions) {
    this.#carrier = carrier;
    this.#events = events;
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#heardAtMs = this.#clock.nowMs();
    this.#reader = new WebSocketReader({ masked: options.role === "server" });
    carrier.listen({
      onData: (chunk) => {
        this.#heardAtMs = this.#clock.nowMs();
        this.#reader.receive(chunk, this.#frames);
      },
      onEnd: () => this.#lost(),
      onDrain: () => {
        this.#full = false;
        if (!this.#closed) this.#events.onDrain();
      },
      onClose: () => {
        this.#cancelLinger();
        this.#lost();
      },
    });
    this.#armPing();
  }

  /** False = hold back until `onDrain`; the message is taken all the same. */
  send(text: string): boolean {
    if (this.#closed) return true;
    return this.#write(OPCODE.text, new TextEncoder().encode(text));
  }

  /** Says goodbye. `onClose` follows with this code. */
  close(code: number = CLOSE.normal, reason = ""): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#carrier.write(encodeClose(code, reason, this.#mask()));
    this.#carrier.end();
    this.#linger();
    queueMicrotask(() => this.#tell(code, reason));
  }

  readonly #frames: WebSocketHandler = {
    onData: (bytes, text) => {
      this.#bytes += bytes.length;
      if (this.#bytes > this.#options.maxMessageBytes) this.close(TOO_LARGE, "message is too long");
      else if (text) this.#parts.push(bytes);
    },
    onMessageEnd: (text) => {
      const parts = this.#parts;
      this.#parts = [];
      this.#bytes = 0;
      if (this.#closed) return;
      if (!text) this.#events.onMessage(undefined);
      else this.#message(Buffer.concat(parts));
    },
    onPing: (payload) => {
      // A peer that does not read gets no answers: they would be a queue.
      if (!this.#closed && !this.#full) this.#write(OPCODE.pong, payload);
    },
    onPong: () => {},
    onClose: (code, reason) => {
      if (!this.#closed) {
        this.#closed = true;
        this.#carrier.write(encodeClose(code, "", this.#mask()));
        this.#carrier.end();
        this.#linger();
      }
      this.#tell(code, reason);
    },
    onMalformed: (reason, code) => this.close(code, reason),
  };

  #message(bytes: Uint8Array): void {
    let text: string;
    try {
      text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    } catch {
      this.close(CLOSE.invalidPayload, "not UTF-8");
      return;
    }
    this.#events.onMessage(text);
  }

  #write(opcode: Opcode, payload: Uint8Array): boolean {
    if (!this.#carrier.write(encodeFrame(opcode, payload, { mask: this.#mask() }))) this.#full = true;
    return !this.#full;
  }

  #mask(): Uint8Array | undefined {
    return this.#options.role === "client" ? getRandomValues(new Uint8Array(MASK_BYTES)) : undefined;
  }

  #armPing(): void {
    const { pingEveryMs = 0, silenceMs = Number.POSITIVE_INFINITY } = this.#options;
    if (pingEveryMs === 0) return;
    const ping = (): void => {
      if (this.#closed) return;
      if (this.#clock.nowMs() - this.#heardAtMs > silenceMs) {
        this.#carrier.abort(new TunnelError("timeout", "The WebSocket peer is silent"));
        this.#lost();
        return;
      }
      if (!this.#full) this.#write(OPCODE.ping, new Uint8Array(0));
      this.#cancelPing = this.#clock.after(pingEveryMs, ping, { background: true });
    };
    this.#cancelPing = this.#clock.after(pingEveryMs, ping, { background: true });
  }

  #linger(): void {
    this.#cancelLinger = this.#clock.after(
      LINGER_MS,
      () => this.#carrier.abort(new TunnelError("timeout", "The WebSocket peer did not close its connection")),
      { background: true },
    );
  }

  /** The carrier is over. */
  #lost(): void {
    if (!this.#closed) this.#carrier.end();
    this.#closed = true;
    this.#tell(1006, "");
  }

  #tell(code: number, reason: string): void {
    if (this.#told) return;
    this.#told = true;
    this.#cancelPing();
    this.#events.onClose(code, reason);
  }
}
