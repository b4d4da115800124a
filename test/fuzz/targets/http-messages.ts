import { RequestDecoder, ResponseDecoder } from "../../../src/wire/h1/decoder.ts";
import { encodeChunk, encodeLastChunk, encodeRequestHead, encodeResponseHead } from "../../../src/wire/h1/encoder.ts";
import type { HeadLimits } from "../../../src/wire/h1/limits.ts";
import type { BodyFraming, RequestHead, ResponseHead } from "../../../src/wire/h1/message.ts";
import type { RequestContext } from "../../../src/wire/h1/response-head.ts";
import type { RawHeaders } from "../../../src/wire/headers.ts";
import { bytesOf, chanceOf, Gathered, joined, sameInPieces } from "../bytes.ts";
import { type Chance, must, mustEqual, type Target } from "../target.ts";

/** What was read of one message. */
interface Read<Head> {
  head: Head | undefined;
  informational: ResponseHead[];
  body: Uint8Array;
  trailers: RawHeaders | undefined;
  fault: string | undefined;
}

/** The same while it is being read. */
type Reading<Head> = Omit<Read<Head>, "body"> & { readonly body: Gathered };

function finished<Head>(messages: readonly Reading<Head>[]): Read<Head>[] {
  return messages.map((message) => ({ ...message, body: message.body.bytes }));
}

/** Small enough for inputs to reach. */
const TIGHT: HeadLimits = { headBytes: 200, startLineBytes: 60, fields: 6 };
const MAX_MESSAGES = 8;

const LINE_FAULTS: ReadonlySet<string> = new Set([
  "bare-lf",
  "target-too-long",
  "head-too-large",
  "too-many-fields",
  "trailers-too-large",
]);

/** Which limit a head breaks first depends on how much of it is there. */
function faultName(reason: string): string {
  return LINE_FAULTS.has(reason) ? "a line" : reason;
}

function blank<Head>(): Reading<Head> {
  return { head: undefined, informational: [], body: new Gathered(), trailers: undefined, fault: undefined };
}

function last<T>(list: readonly T[]): T {
  const value = list.at(-1);
  if (value === undefined) throw new Error("no message yet");
  return value;
}

/** A decoder that reads on at once, and what it found. */
function requests(limits: HeadLimits | undefined): { decoder: RequestDecoder; messages: Reading<RequestHead>[] } {
  const messages = [blank<RequestHead>()];
  const decoder: RequestDecoder = new RequestDecoder(
    {
      onHead: (head) => {
        must(last(messages).head === undefined, "a message has one head");
        last(messages).head = head;
      },
      onData: (chunk) => {
        must(chunk.length > 0, "body bytes come in pieces that are not empty");
        last(messages).body.add(chunk);
      },
      onEnd: (trailers) => {
        last(messages).trailers = trailers;
        if (messages.length === MAX_MESSAGES) return;
        messages.push(blank());
        decoder.next();
      },
      onMalformed: ({ reason }) => {
        last(messages).fault = faultName(reason);
      },
    },
    limits,
  );
  return { decoder, messages };
}

function responses(context: RequestContext, limits?: HeadLimits) {
  const messages = [blank<ResponseHead>()];
  const decoder: ResponseDecoder = new ResponseDecoder(
    {
      onInformational: (head) => void last(messages).informational.push(head),
      onHead: (head) => {
        must(last(messages).head === undefined, "a message has one head");
        last(messages).head = head;
      },
      onData: (chunk) => {
        must(chunk.length > 0, "body bytes come in pieces that are not empty");
        last(messages).body.add(chunk);
      },
      onEnd: (trailers) => {
        last(messages).trailers = trailers;
        if (messages.length === MAX_MESSAGES || last(messages).head?.keepAlive === false) return;
        messages.push(blank());
        decoder.next(context);
      },
      onMalformed: ({ reason }) => {
        last(messages).fault = faultName(reason);
      },
    },
    limits,
  );
  decoder.next(context);
  return { decoder, messages };
}

/** The body as it went over the wire. */
function encodedBody(framing: BodyFraming, body: Uint8Array, trailers: RawHeaders): Uint8Array {
  if (framing.kind !== "chunked") return body;
  const end = encodeLastChunk(trailers);
  must(end instanceof Uint8Array, "trailers that were read can be sent");
  return body.length === 0 ? end : joined(encodeChunk(body), end);
}

function checkBody(framing: BodyFraming, message: Read<unknown>): void {
  const { body, trailers } = message;
  if (framing.kind === "length") {
    must(body.length <= framing.bytes, "a body is no longer than its announced length");
    must(trailers === undefined || body.length === framing.bytes, "a body ends at its announced length");
  }
  must(framing.kind !== "none" || body.length === 0, "no body where none is announced");
}

function outcomeOf(messages: readonly Read<RequestHead | ResponseHead>[]): string {
  return messages
    .map(({ head, fault, trailers, informational }) => {
      const status = head !== undefined && "status" in head ? head.status : "";
      return `${status}${head?.framing.kind ?? "-"}${informational.length}${trailers?.length ?? ""}${fault ?? ""}`;
    })
    .join(" ");
}

const FIELDS = [
  "Host: a.example",
  "Host: a.example:8080",
  "Content-Length: 5",
  "Content-Length: 0",
  "content-length: 5, 5",
  "Transfer-Encoding: chunked",
  "Transfer-Encoding: gzip, chunked",
  "Transfer-Encoding: identity",
  "Connection: close",
  "Connection: keep-alive, Upgrade",
  "Upgrade: websocket",
  "Expect: 100-continue",
  "TE: trailers",
  "Trailer: X-Sum",
  "X: y",
  "X:\ty \t",
  " folded",
  "X : y",
  "Keep-Alive: timeout=5",
];
const BODIES = [
  "hello",
  "5\r\nhello\r\n0\r\n\r\n",
  "5;a=b\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
  "0\r\n\r\n",
  "fffffffff\r\n",
  "",
];
const WORDS = [
  ...FIELDS.map((field) => `${field}\r\n`),
  ...BODIES,
  "\r\n",
  "\r\n\r\n",
  "\n",
  "\r",
  ":",
  " ",
  "\t",
  ";",
];

function head(startLine: string, chance: Chance): string {
  return [startLine, ...chance.some(5, () => chance.pick(FIELDS)), "", ""].join(chance.once(20) ? "\n" : "\r\n");
}

export const h1Requests: Target = {
  name: "h1-requests",
  words: [...WORDS, "GET", "POST", "OPTIONS", "CONNECT", "PRI * HTTP/2.0", "HTTP/1.0", "HTTP/1.1", "http://a.example/"],
  seeds: () =>
    [
      "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
      "POST /a?b=c HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nHost: a\r\n\r\n",
      "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nA: b\r\n\r\n",
      "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
      "GET http://a/b HTTP/1.1\r\nHost: a\r\n\r\n",
      "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n\r\nGET / HTTP/1.0\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nExpect: 100-continue\r\n\r\n",
    ].map(bytesOf),
  generate: (chance) => {
    const one = (): string => {
      const method = chance.pick(["GET", "POST", "HEAD", "OPTIONS", "get", "CONNECT"]);
      const target = chance.pick(["/", "/a%2e/..;/b?c", "*", "http://a.example/x", "//", "/\x80", "https://a.example"]);
      const version = chance.pick(["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0"]);
      return head(`${method} ${target} ${version}`, chance) + chance.pick(BODIES);
    };
    return bytesOf(one() + (chance.once(2) ? one() : ""));
  },
  open() {
    const { decoder } = { decoder: quietRequests() };
    return (chunk) => decoder.feed(chunk);
  },
  run(input) {
    const limits = chanceOf(input).once(3) ? TIGHT : undefined;
    const found = sameInPieces(input, (chunks) => {
      const { decoder, messages } = requests(limits);
      for (const chunk of chunks) decoder.feed(chunk);
      decoder.finish();
      return finished(messages);
    });
    for (const message of found) {
      if (message.head === undefined) continue;
      checkBody(message.head.framing, message);
      if (message.trailers === undefined) continue;
      const { method, rawTarget, headers, minorVersion } = message.head;
      const again = encodeRequestHead({ method, target: rawTarget, headers });
      must(again instanceof Uint8Array, "a request that was read can be sent");
      if (minorVersion === 0) continue;
      const whole = joined(again, encodedBody(message.head.framing, message.body, message.trailers));
      const { decoder, messages } = requests(undefined);
      decoder.feed(whole);
      mustEqual(finished(messages)[0], message, "a request that is sent as it was read is read the same");
      must(messages.length === 2 && messages[1]?.head === undefined, "it is read as one request");
    }
    return outcomeOf(found);
  },
};

/** A decoder that keeps nothing of what it reads. */
function quietRequests(): RequestDecoder {
  const decoder: RequestDecoder = new RequestDecoder({
    onHead: () => {},
    onData: () => {},
    onEnd: () => decoder.next(),
    onMalformed: () => {},
  });
  return decoder;
}

const CONTEXTS: readonly RequestContext[] = [
  { method: "GET", upgrade: false },
  { method: "GET", upgrade: true },
  { method: "HEAD", upgrade: false },
];

export const RESPONSE_SEEDS: readonly string[] = [
  "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
  "HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n",
  "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
  "HTTP/1.0 200 OK\r\n\r\nuntil the end",
  "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x01a",
  "HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\nHTTP/1.1 404 \r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
  "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nKeep-Alive: timeout=5\r\nContent-Length: 0\r\n\r\n",
];

export const RESPONSE_WORDS = [...WORDS, ...RESPONSE_SEEDS, "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 ", "HTTP/1.0 "];

export function generateResponse(chance: Chance): Uint8Array {
  const one = (): string => {
    const status = chance.pick([
      "200 OK",
      "200",
      "204 ",
      "304 X",
      "100 Continue",
      "101 Switching",
      "999 ?",
      "199 a\xff",
    ]);
    return head(`${chance.pick(["HTTP/1.1", "HTTP/1.1", "HTTP/1.0"])} ${status}`, chance) + chance.pick(BODIES);
  };
  return bytesOf(chance.some(4, one).join(""));
}

export const h1Responses: Target = {
  name: "h1-responses",
  words: RESPONSE_WORDS,
  seeds: () => RESPONSE_SEEDS.map(bytesOf),
  generate: generateResponse,
  open() {
    // Nobody asks for a second answer: what comes behind the first waits, within a limit.
    const decoder = new ResponseDecoder({
      onInformational: () => {},
      onHead: () => {},
      onData: () => {},
      onEnd: () => {},
      onMalformed: () => {},
    });
    decoder.next({ method: "GET", upgrade: false });
    return (chunk) => decoder.feed(chunk);
  },
  run(input) {
    const chance = chanceOf(input);
    const limits = chance.once(3) ? TIGHT : undefined;
    const context = chance.pick(CONTEXTS);
    const found = sameInPieces(input, (chunks) => {
      const { decoder, messages } = responses(context, limits);
      for (const chunk of chunks) decoder.feed(chunk);
      const rest = last(messages).head?.framing.kind === "tunnel" ? joined(...decoder.takeRest()) : undefined;
      decoder.finish();
      return { messages: finished(messages), rest };
    });
    for (const message of found.messages) {
      if (message.head === undefined) continue;
      checkBody(message.head.framing, message);
      const { status, reason, headers, minorVersion, framing } = message.head;
      const again = encodeResponseHead({ status, reason, headers });
      must(again instanceof Uint8Array, "an answer that was read can be sent");
      if (message.trailers === undefined || minorVersion === 0) continue;
      const { decoder, messages } = responses(context);
      decoder.feed(joined(again, encodedBody(framing, message.body, message.trailers)));
      decoder.finish();
      mustEqual(
        finished(messages)[0],
        { ...message, informational: [] },
        "an answer that is sent as it was read is read the same",
      );
    }
    return outcomeOf(found.messages);
  },
};
