import { RequestDecoder, ResponseDecoder } from "../../../../src/wire/h1/decoder.ts";
import type { HeadLimits } from "../../../../src/wire/h1/limits.ts";
import type { Malformed } from "../../../../src/wire/h1/malformed.ts";
import type { RequestHead, ResponseHead } from "../../../../src/wire/h1/message.ts";
import type { RequestContext } from "../../../../src/wire/h1/response-head.ts";
import type { RawHeaders } from "../../../../src/wire/headers.ts";
import { decodeLatin1, writeLatin1 } from "../../../../src/wire/latin1.ts";

/** What a decoder reported about one message. */
export interface Recorded<Head> {
  head: Head | undefined;
  informational: ResponseHead[];
  body: string;
  trailers: RawHeaders | undefined;
  ended: boolean;
  fault: Malformed | undefined;
}

export function bytesOf(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length);
  writeLatin1(text, bytes, 0);
  return bytes;
}

export function textOf(bytes: Uint8Array): string {
  return decodeLatin1(bytes, 0, bytes.length);
}

/** `text` in pieces that end at `cuts`. */
export function pieces(text: string, cuts: readonly number[]): Uint8Array[] {
  const sorted = [...new Set(cuts)].filter((cut) => cut > 0 && cut < text.length).sort((a, b) => a - b);
  return [0, ...sorted].map((from, i) => bytesOf(text.slice(from, sorted[i])));
}

/** Ways to cut `text`: whole, one byte at a time, and, when it is short, in two at every position. */
export function waysToCut(text: string): Uint8Array[][] {
  const ways = [pieces(text, []), pieces(text, [...text].keys().toArray())];
  if (text.length <= 400) for (let cut = 1; cut < text.length; cut += 1) ways.push(pieces(text, [cut]));
  return ways;
}

function blank<Head>(): Recorded<Head> {
  return { head: undefined, informational: [], body: "", trailers: undefined, ended: false, fault: undefined };
}

export function recordRequest(
  chunks: readonly Uint8Array[],
  options: { limits?: HeadLimits; close?: boolean } = {},
): Recorded<RequestHead> {
  const recorded = blank<RequestHead>();
  const decoder = new RequestDecoder(
    {
      onHead: (head) => {
        recorded.head = head;
      },
      onData: (chunk) => {
        recorded.body += textOf(chunk);
      },
      onEnd: (trailers) => {
        recorded.trailers = trailers;
        recorded.ended = true;
      },
      onMalformed: (fault) => {
        recorded.fault = fault;
      },
    },
    options.limits,
  );
  for (const chunk of chunks) decoder.feed(chunk);
  if (options.close === true) decoder.finish();
  return recorded;
}

export const GET: RequestContext = { method: "GET", upgrade: false };

export function recordResponse(
  chunks: readonly Uint8Array[],
  options: { request?: RequestContext; close?: boolean; limits?: HeadLimits } = {},
): Recorded<ResponseHead> {
  const recorded = blank<ResponseHead>();
  const decoder = new ResponseDecoder(
    {
      onInformational: (head) => recorded.informational.push(head),
      onHead: (head) => {
        recorded.head = head;
      },
      onData: (chunk) => {
        recorded.body += textOf(chunk);
      },
      onEnd: (trailers) => {
        recorded.trailers = trailers;
        recorded.ended = true;
      },
      onMalformed: (fault) => {
        recorded.fault = fault;
      },
    },
    options.limits,
  );
  decoder.next(options.request ?? GET);
  for (const chunk of chunks) decoder.feed(chunk);
  if (options.close === true) decoder.finish();
  return recorded;
}
