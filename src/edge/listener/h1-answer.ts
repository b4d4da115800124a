import type { TunnelError } from "../../core/errors.ts";
import { type ByteChannel, NO_TRAILERS } from "../../net/channel.ts";
import { encodeChunk, encodeLastChunk, encodeResponseHead } from "../../wire/h1/encoder.ts";
import type { RequestHead } from "../../wire/h1/message.ts";
import type { RawHeaders } from "../../wire/headers.ts";
import type { AnswerHead, AnswerWriter, VisitorRequest } from "./visitor-exchange.ts";

/** How the end of the body is told to the visitor. */
type AnswerFraming = "none" | "length" | "chunked" | "until-close";

/** Writes one answer in HTTP/1.1 (RFC 9112). */
export class H1Answer implements AnswerWriter {
  readonly #head: RequestHead;
  readonly #channel: ByteChannel;
  readonly #closing: () => boolean;
  #framing: AnswerFraming = "none";
  #tunnel = false;

  /** `head`: of the request. `closing`: no further request is taken. */
  constructor(head: RequestHead, channel: ByteChannel, closing: () => boolean) {
    this.#head = head;
    this.#channel = channel;
    this.#closing = closing;
  }

  /** True while another request may follow this one. */
  get keepAlive(): boolean {
    return this.#head.keepAlive && this.#framing !== "until-close" && !this.#closing();
  }

  inform(status: number, headers: RawHeaders): void {
    if (this.#head.minorVersion === 0) return;
    const reason = status === 100 ? "Continue" : "";
    const bytes = encodeResponseHead({ status, reason, headers });
    if (bytes instanceof Uint8Array) this.#channel.write(bytes);
  }

  begin(head: AnswerHead): boolean {
    this.#framing = head.bodyless
      ? "none"
      : head.hasLength
        ? "length"
        : this.#head.minorVersion === 1
          ? "chunked"
          : "until-close";
    const headers = [...head.headers];
    if (this.#framing === "chunked") headers.push("Transfer-Encoding", "chunked");
    headers.push("Connection", this.keepAlive ? "keep-alive" : "close");
    const sent = this.#sendHead(head.status, headers);
    if (!sent) this.#framing = "none";
    return sent;
  }

  whole(status: number, headers: RawHeaders, body: Uint8Array | undefined, requestEnded: boolean): void {
    const connection = this.keepAlive && requestEnded ? "keep-alive" : "close";
    this.#sendHead(status, [...headers, "Connection", connection], body);
  }

  switchProtocols(headers: RawHeaders, protocol: string): boolean {
    this.#tunnel = this.#sendHead(101, [...headers, "Upgrade", protocol, "Connection", "Upgrade"]);
    return this.#tunnel;
  }

  write(chunk: Uint8Array): boolean {
    return this.#channel.write(this.#framing === "chunked" ? encodeChunk(chunk) : chunk);
  }

  end(trailers: RawHeaders): void {
    if (this.#tunnel) this.#channel.end();
    else if (this.#framing === "chunked") {
      const last = encodeLastChunk(trailers);
      this.#channel.write(last instanceof Uint8Array ? last : (encodeLastChunk(NO_TRAILERS) as Uint8Array));
    }
  }

  hold(): void {
    this.#channel.pause();
  }

  release(): void {
    this.#channel.resume();
  }

  cut(error: TunnelError): void {
    this.#channel.abort(error);
  }

  #sendHead(status: number, headers: RawHeaders, body?: Uint8Array): boolean {
    const bytes = encodeResponseHead({ status, reason: REASONS[status] ?? "", headers }, body);
    if (!(bytes instanceof Uint8Array)) return false;
    this.#channel.write(bytes);
    return true;
  }
}

/** Only a GET without body that names `websocket` alone is a handshake; other upgrades are not offered to origins. */
export function h1Request(head: RequestHead): VisitorRequest {
  const hasBody = head.framing.kind !== "none";
  const handshake = head.upgrade?.toLowerCase() === "websocket" && head.method === "GET" && !hasBody;
  return {
    kind: handshake ? "websocket" : "http",
    method: head.method,
    target: head.target,
    host: head.host ?? "",
    headers: head.headers,
    hasBody,
    patientBody: false,
    protocol: head.minorVersion === 0 ? "HTTP/1.0" : "HTTP/1.1",
    expectContinue: head.expectContinue,
  };
}

const REASONS: Readonly<Record<number, string>> = {
  101: "Switching Protocols",
  200: "OK",
  201: "Created",
  204: "No Content",
  206: "Partial Content",
  301: "Moved Permanently",
  302: "Found",
  304: "Not Modified",
  308: "Permanent Redirect",
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  408: "Request Timeout",
  413: "Content Too Large",
  414: "URI Too Long",
  417: "Expectation Failed",
  421: "Misdirected Request",
  429: "Too Many Requests",
  431: "Request Header Fields Too Large",
  500: "Internal Server Error",
  501: "Not Implemented",
  502: "Bad Gateway",
  503: "Service Unavailable",
  508: "Loop Detected",
  530: "Tunnel Error",
};
