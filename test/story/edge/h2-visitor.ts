import http2 from "node:http2";
import { CLIENT_PREFACE, FLAG, FRAME, FRAME_HEADER_BYTES } from "../../../src/wire/h2/constants.ts";
import { encodeHpack, hpackBoundBytes } from "../../../src/wire/h2/hpack-encoder.ts";
import type { RawHeaders } from "../../../src/wire/headers.ts";
import { RawVisitor } from "./raw-visitor.ts";
import { HOST } from "./small-edge.ts";

export interface H2Answer {
  readonly status: number;
  readonly headers: http2.IncomingHttpHeaders;
  readonly informational: number[];
  readonly body: string;
  readonly trailers: http2.IncomingHttpHeaders;
}

/** A visitor that speaks HTTP/2 with prior knowledge, as a client of Node's does. */
export class H2Visitor implements AsyncDisposable {
  readonly session: http2.ClientHttp2Session;
  goaway: number | undefined;

  constructor(port: number, options: http2.ClientSessionOptions = {}) {
    this.session = http2.connect(`http://127.0.0.1:${port}`, options);
    this.session.on("error", () => {});
    this.session.on("goaway", (code: number) => {
      this.goaway = code;
    });
  }

  /** Opens a request; its host is the test's unless `headers` say otherwise. */
  open(
    headers: http2.OutgoingHttpHeaders = {},
    options: http2.ClientSessionRequestOptions = {},
  ): http2.ClientHttp2Stream {
    return this.session.request({ ":authority": HOST, ":path": "/", ...headers }, options);
  }

  ask(headers: http2.OutgoingHttpHeaders = {}, body?: string): Promise<H2Answer> {
    const stream = this.open(headers, { endStream: body === undefined });
    if (body !== undefined) stream.end(body);
    return readAnswer(stream);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise((resolve) => this.session.once("close", resolve));
    if (this.session.destroyed) return;
    this.session.destroy();
    await closed;
  }
}

/** Rejects when the stream is reset; the code is in the message. */
export function readAnswer(stream: http2.ClientHttp2Stream): Promise<H2Answer> {
  return new Promise((resolve, reject) => {
    let headers: http2.IncomingHttpHeaders & http2.IncomingHttpStatusHeader = {};
    let trailers: http2.IncomingHttpHeaders = {};
    const informational: number[] = [];
    let body = "";
    stream.on("headers", (interim: http2.IncomingHttpHeaders & http2.IncomingHttpStatusHeader) => {
      informational.push(interim[":status"] ?? 0);
    });
    stream.on("response", (head) => {
      headers = head;
    });
    stream.on("trailers", (fields) => {
      trailers = fields;
    });
    stream.on("data", (chunk: Buffer) => {
      body += chunk.toString("latin1");
    });
    stream.on("error", reject);
    stream.on("close", () => {
      if (stream.rstCode !== 0) reject(new Error(`reset with code ${stream.rstCode}`));
      else resolve({ status: headers[":status"] ?? 0, headers, informational, body, trailers });
    });
  });
}

export interface SeenFrame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payload: Buffer;
}

/** A visitor that sends frames as the test makes them. */
export class FrameVisitor implements Disposable {
  readonly raw: RawVisitor;

  private constructor(raw: RawVisitor) {
    this.raw = raw;
  }

  /** On a connection to which nothing was sent yet. */
  static over(raw: RawVisitor): FrameVisitor {
    return new FrameVisitor(raw);
  }

  /** Connects and sends the preface with empty SETTINGS. */
  static async connect(port: number): Promise<FrameVisitor> {
    const visitor = FrameVisitor.over(await RawVisitor.connect(port));
    visitor.raw.send(CLIENT_PREFACE);
    visitor.send(FRAME.settings, 0, 0);
    return visitor;
  }

  send(type: number, flags: number, streamId: number, payload: Uint8Array | readonly number[] = []): void {
    this.raw.send(frame(type, flags, streamId, payload));
  }

  /** Opens a stream with these fields. */
  request(streamId: number, fields: RawHeaders = requestFields(), endStream = true): void {
    this.raw.send(requestFrame(streamId, fields, endStream));
  }

  /** Complete frames received so far. */
  get frames(): SeenFrame[] {
    const bytes = Buffer.from(this.raw.received, "latin1");
    const frames: SeenFrame[] = [];
    for (let at = 0; at + FRAME_HEADER_BYTES <= bytes.length; ) {
      const length = bytes.readUIntBE(at, 3);
      const payload = bytes.subarray(at + FRAME_HEADER_BYTES, at + FRAME_HEADER_BYTES + length);
      if (payload.length < length) break;
      frames.push({
        type: bytes[at + 3] as number,
        flags: bytes[at + 4] as number,
        streamId: bytes.readUInt32BE(at + 5) & 0x7fff_ffff,
        payload,
      });
      at += FRAME_HEADER_BYTES + length;
    }
    return frames;
  }

  of(type: number): SeenFrame[] {
    return this.frames.filter((seen) => seen.type === type);
  }

  /** Error code of the GOAWAY that came last. */
  get goaway(): number | undefined {
    return this.of(FRAME.goaway).at(-1)?.payload.readUInt32BE(4);
  }

  [Symbol.dispose](): void {
    this.raw[Symbol.dispose]();
  }
}

export function requestFields(more: RawHeaders = [], path = "/"): RawHeaders {
  return [":method", "GET", ":scheme", "http", ":authority", HOST, ":path", path, ...more];
}

export function requestFrame(streamId: number, fields: RawHeaders, endStream: boolean): string {
  const block = new Uint8Array(hpackBoundBytes(fields));
  const length = encodeHpack(fields, block, 0);
  const flags = FLAG.endHeaders | (endStream ? FLAG.endStream : 0);
  return frame(FRAME.headers, flags, streamId, block.subarray(0, length));
}

/** One frame, a char for each byte. */
export function frame(
  type: number,
  flags: number,
  streamId: number,
  payload: Uint8Array | readonly number[] = [],
): string {
  const head = Buffer.alloc(FRAME_HEADER_BYTES);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(streamId, 5);
  return Buffer.concat([head, Buffer.from(payload)]).toString("latin1");
}
