import { connect, type Socket } from "node:net";

/** A peer that sends more than this before anybody reads is paused. */
const HIGH_WATER_BYTES = 1024 * 1024;
const EMPTY = Buffer.alloc(0);

/**
 * One TCP connection read on demand: bytes that nobody asked for yet hold the peer back. `end` tells a clean FIN from a
 * reset, which is what many tests are about.
 */
export class LabSocket implements AsyncDisposable {
  readonly socket: Socket;
  /** How the peer finished; undefined while it may still send. */
  end: "fin" | "reset" | undefined;
  #chunks: Buffer[] = [];
  #queuedBytes = 0;
  #wake: (() => void) | undefined;
  readonly closed: Promise<void>;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.setNoDelay(true);
    socket.on("data", (chunk: Buffer) => {
      this.#chunks.push(chunk);
      this.#queuedBytes += chunk.length;
      if (this.#queuedBytes >= HIGH_WATER_BYTES) socket.pause();
      this.#wake?.();
    });
    socket.on("end", () => this.#finish("fin"));
    socket.on("error", () => this.#finish("reset"));
    this.closed = new Promise((resolve) => {
      socket.on("close", () => {
        this.#finish("reset");
        resolve();
      });
    });
  }

  #finish(end: "fin" | "reset"): void {
    this.end ??= end;
    this.#wake?.();
  }

  /** The next bytes, at most `maxBytes`; undefined after the last. */
  async readSome(maxBytes = Number.POSITIVE_INFINITY): Promise<Buffer | undefined> {
    while (this.#chunks.length === 0) {
      if (this.end !== undefined) return undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const chunk = this.#chunks[0] ?? EMPTY;
    const taken = chunk.length <= maxBytes ? chunk : chunk.subarray(0, maxBytes);
    if (taken.length === chunk.length) this.#chunks.shift();
    else this.#chunks[0] = chunk.subarray(taken.length);
    this.#queuedBytes -= taken.length;
    if (this.#queuedBytes < HIGH_WATER_BYTES && this.socket.isPaused()) this.socket.resume();
    return taken;
  }

  /** Everything up to and with `mark`, as Latin-1; undefined when the peer finishes before it. */
  async readThrough(mark: string): Promise<string | undefined> {
    let text = "";
    for (;;) {
      const chunk = await this.readSome();
      if (chunk === undefined) {
        if (text !== "") this.unread(Buffer.from(text, "latin1"));
        return undefined;
      }
      const before = text.length;
      text += chunk.toString("latin1");
      const at = text.indexOf(mark, Math.max(0, before - mark.length));
      if (at < 0) continue;
      const end = at + mark.length;
      if (end < text.length) this.unread(chunk.subarray(end - before));
      return text.slice(0, end);
    }
  }

  async readExactly(length: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    for (let left = length; left > 0; ) {
      const chunk = await this.readSome(left);
      if (chunk === undefined) throw new Error(`The peer ended (${this.end}) with ${left} of ${length} bytes missing`);
      parts.push(chunk);
      left -= chunk.length;
    }
    return parts.length === 1 ? (parts[0] ?? EMPTY) : Buffer.concat(parts);
  }

  /** What comes until the peer finishes. */
  async readToEnd(): Promise<Buffer> {
    const parts: Buffer[] = [];
    for (;;) {
      const chunk = await this.readSome();
      if (chunk === undefined) return Buffer.concat(parts);
      parts.push(chunk);
    }
  }

  unread(bytes: Buffer): void {
    this.#chunks.unshift(bytes);
    this.#queuedBytes += bytes.length;
  }

  /** Resolves when more may be written; a peer that is gone makes it false instead of throwing. */
  async write(bytes: Uint8Array | string): Promise<boolean> {
    if (this.socket.destroyed || !this.socket.writable) return false;
    const flushed = typeof bytes === "string" ? this.socket.write(bytes, "latin1") : this.socket.write(bytes);
    if (flushed) return true;
    return await new Promise<boolean>((resolve) => {
      const settle = (open: boolean) => () => {
        this.socket.off("drain", drained);
        this.socket.off("close", closed);
        resolve(open);
      };
      const drained = settle(true);
      const closed = settle(false);
      this.socket.on("drain", drained);
      this.socket.on("close", closed);
    });
  }

  /** Ends with RST instead of FIN. */
  reset(): void {
    this.socket.resetAndDestroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.socket.destroy();
    await this.closed;
  }
}

/** A visitor on which nothing moves for so long is cut, so that a test fails by itself instead of by the runner. */
const IDLE_MS = 10_000;

export async function dialLab(port: number): Promise<LabSocket> {
  const socket = connect({ host: "127.0.0.1", port, allowHalfOpen: true });
  socket.setTimeout(IDLE_MS, () => socket.destroy());
  const lab = new LabSocket(socket);
  await new Promise<void>((resolve, reject) => {
    socket.once("connect", resolve);
    socket.once("error", reject);
  });
  return lab;
}
