import type { Clock } from "../../core/clock.ts";
import type { ByteChannel } from "../../net/channel.ts";
import type { Connection } from "../../net/sockets.ts";
import type { H2Role } from "../../wire/h2/connection.ts";
import type { H2Stream } from "../../wire/h2/stream.ts";
import type { CloseReason, Session } from "../port.ts";
import { Http2Link } from "./link.ts";

/** What both ends of an HTTP/2 session share: the link, the count of visitors' streams, and drain. */
export abstract class Http2Session implements Session {
  readonly protocol = "http2";
  abstract readonly control: Promise<ByteChannel>;
  readonly closed: Promise<CloseReason>;
  protected readonly link: Http2Link;
  #streams = 0;
  #draining = false;

  constructor(role: H2Role, connection: Connection, clock: Clock) {
    const closed = Promise.withResolvers<CloseReason>();
    this.closed = closed.promise;
    this.link = new Http2Link(
      role,
      connection,
      {
        onRequest: (stream, fields, endStream) => this.onRequest(stream, fields, endStream),
        onGoaway: () => this.onGoaway(),
        onDown: (reason) => closed.resolve(reason),
      },
      clock,
    );
  }

  get remoteAddress(): string {
    return this.link.remoteAddress;
  }

  get localIp(): string | undefined {
    return this.link.localIp;
  }

  get streamCount(): number {
    return this.#streams;
  }

  get lastReceivedAtMs(): number {
    return this.link.lastReceivedAtMs;
  }

  ping(): Promise<number> {
    return this.link.ping();
  }

  drain(): void {
    this.beginDrain();
  }

  close(): void {
    this.link.close({ kind: "closed", by: "us" });
  }

  /** The peer opened a stream (connector only). */
  protected abstract onRequest(stream: H2Stream, fields: string[], endStream: boolean): void;

  /** The peer takes no new streams of ours. */
  protected onGoaway(): void {
    this.beginDrain();
  }

  protected get draining(): boolean {
    return this.#draining;
  }

  protected beginDrain(): void {
    this.#draining = true;
    this.#closeWhenIdle();
  }

  protected streamOpened(): void {
    this.#streams += 1;
  }

  protected streamGone(): void {
    this.#streams -= 1;
    this.#closeWhenIdle();
  }

  #closeWhenIdle(): void {
    if (this.#draining && this.#streams === 0) this.link.close({ kind: "drained" });
  }
}
