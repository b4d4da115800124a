import type { TunnelError } from "../../core/errors.ts";
import { H2_ERROR } from "../../wire/h2/constants.ts";
import { validateResponse, validateTrailers } from "../../wire/h2/message-rules.ts";
import type { H2Stream } from "../../wire/h2/stream.ts";
import { headerValue, type RawHeaders } from "../../wire/headers.ts";
import { Memo } from "../../wire/memo.ts";
import type { AnswerHead, AnswerWriter } from "./visitor-exchange.ts";

const lowerName = new Memo((name: string) => name.toLowerCase(), { maxEntries: 1024, maxTextChars: 64 });

/** Writes one answer on a stream of HTTP/2 (RFC 9113 section 8.1). */
export class H2Answer implements AnswerWriter {
  readonly #stream: H2Stream;
  #tunnel = false;
  /** A head that may turn out to be the whole answer, and then is one frame. */
  #heldHead: RawHeaders | undefined;

  constructor(stream: H2Stream) {
    this.#stream = stream;
  }

  inform(status: number, headers: RawHeaders): void {
    const fields = answerFields(status, headers);
    // There is no switching of protocols in HTTP/2 (section 8.6).
    if (status !== 101 && validateResponse(fields)) this.#stream.sendHeaders(fields, false);
  }

  begin(head: AnswerHead): boolean {
    const fields = answerFields(head.status, head.headers);
    if (!validateResponse(fields)) return false;
    // gRPC's clients read a status in the head only from an answer that ends with it ("Trailers-Only").
    if (head.bodyless || headerValue(fields, "grpc-status") !== undefined) this.#heldHead = fields;
    else this.#stream.sendHeaders(fields, false);
    return true;
  }

  whole(status: number, headers: RawHeaders, body: Uint8Array | undefined): void {
    this.#stream.sendHeaders(answerFields(status, headers), body === undefined);
    if (body === undefined) return;
    this.#stream.write(body);
    this.#stream.end([]);
  }

  /** RFC 8441 section 5: 2xx accepts, and the fields of HTTP/1.1's own handshake do not occur. */
  switchProtocols(headers: RawHeaders): boolean {
    const fields = answerFields(200, headers).filter((_text, i, all) => all[i - (i % 2)] !== "sec-websocket-accept");
    if (!validateResponse(fields)) return false;
    this.#tunnel = true;
    this.#stream.sendHeaders(fields, false);
    return true;
  }

  write(chunk: Uint8Array): boolean {
    this.#releaseHead(false);
    return this.#stream.write(chunk);
  }

  end(trailers: RawHeaders): void {
    const fields = this.#tunnel ? [] : lowerNames(trailers);
    const sendable = fields.length > 0 && validateTrailers(fields) ? fields : [];
    if (this.#releaseHead(sendable.length === 0)) return;
    this.#stream.end(sendable);
  }

  hold(): void {
    this.#stream.pause();
  }

  release(): void {
    this.#stream.resume();
  }

  cut(_error: TunnelError): void {
    this.#stream.reset(H2_ERROR.internalError);
  }

  /** True when a head went out that ended the answer. */
  #releaseHead(end: boolean): boolean {
    const fields = this.#heldHead;
    if (fields === undefined) return false;
    this.#heldHead = undefined;
    this.#stream.sendHeaders(fields, end);
    return end;
  }
}

function answerFields(status: number, headers: RawHeaders): string[] {
  const fields = [":status", String(status)];
  for (let i = 0; i + 1 < headers.length; i += 2) {
    fields.push(lowerName.get(headers[i] as string), headers[i + 1] as string);
  }
  return fields;
}

function lowerNames(headers: RawHeaders): RawHeaders {
  return headers.map((text, i) => (i % 2 === 0 ? lowerName.get(text) : text));
}
