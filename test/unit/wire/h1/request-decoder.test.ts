import { describe, expect, test } from "bun:test";
import { RequestDecoder } from "../../../../src/wire/h1/decoder.ts";
import { MAX_PIPELINED_BYTES, REQUEST_HEAD_LIMITS } from "../../../../src/wire/h1/limits.ts";
import type { MalformedReason } from "../../../../src/wire/h1/malformed.ts";
import type { RequestHead } from "../../../../src/wire/h1/message.ts";
import { bytesOf, pieces, recordRequest, textOf, waysToCut } from "./recorder.ts";

const HOST = "Host: a.example\r\n";
const CHUNKED = `POST / HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n`;

const get = (fields: string): string => `GET / HTTP/1.1\r\n${HOST}${fields}\r\n`;
const post = (fields: string, body = ""): string => `POST / HTTP/1.1\r\n${HOST}${fields}\r\n${body}`;
const hosted = (host: string): string => `GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`;

const REFUSED: readonly { name: string; raw: string; reason: MalformedReason; status: number }[] = [
  // Framing two readers could disagree on.
  {
    name: "Content-Length and Transfer-Encoding",
    raw: post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
    reason: "length-and-encoding",
    status: 400,
  },
  {
    name: "Transfer-Encoding and Content-Length",
    raw: post("Transfer-Encoding: chunked\r\ncontent-length: 4\r\n"),
    reason: "length-and-encoding",
    status: 400,
  },
  {
    name: "two equal Content-Lengths",
    raw: post("Content-Length: 3\r\nContent-Length: 3\r\n", "abc"),
    reason: "content-length-repeated",
    status: 400,
  },
  {
    name: "two different Content-Lengths",
    raw: post("Content-Length: 3\r\nCONTENT-LENGTH: 4\r\n", "abcd"),
    reason: "content-length-repeated",
    status: 400,
  },
  ...["3, 3", "+3", "-1", "0x3", "3 4", "3;", "1e2", "1_0", "", "٣", "3.0"].map((value) => ({
    name: `Content-Length ${JSON.stringify(value)}`,
    raw: post(`Content-Length: ${value}\r\n`, "abc"),
    reason: "content-length-invalid" as const,
    status: 400,
  })),
  {
    name: "Content-Length of 16 digits",
    raw: post("Content-Length: 9999999999999999\r\n"),
    reason: "content-length-too-large",
    status: 413,
  },
  {
    name: "Transfer-Encoding twice",
    raw: post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
    reason: "transfer-encoding-repeated",
    status: 400,
  },
  {
    name: "Transfer-Encoding chunked, then another line",
    raw: post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
    reason: "transfer-encoding-repeated",
    status: 400,
  },
  ...["chunked, chunked", "chunked, gzip", "identity", "xchunked", "chunked;q=1", "", "chunke", '"chunked"'].map(
    (value) => ({
      name: `Transfer-Encoding ${JSON.stringify(value)}`,
      raw: post(`Transfer-Encoding: ${value}\r\n`),
      reason: "transfer-encoding-invalid" as const,
      status: 400,
    }),
  ),
  {
    name: "Transfer-Encoding gzip, chunked",
    raw: post("Transfer-Encoding: gzip, chunked\r\n"),
    reason: "transfer-encoding-unsupported",
    status: 501,
  },
  {
    name: "Transfer-Encoding with vertical tab",
    raw: post("Transfer-Encoding: \x0bchunked\r\n"),
    reason: "field-value",
    status: 400,
  },
  {
    name: "Transfer-Encoding in HTTP/1.0",
    raw: `POST / HTTP/1.0\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    reason: "transfer-encoding-in-1.0",
    status: 400,
  },
  // Lines.
  { name: "bare LF throughout", raw: "GET / HTTP/1.1\nHost: a\n\n", reason: "bare-lf", status: 400 },
  { name: "bare LF after one field", raw: get("X-A: b\nX-B: c\r\n"), reason: "bare-lf", status: 400 },
  { name: "bare LF as the empty line", raw: `GET / HTTP/1.1\r\n${HOST}\n`, reason: "bare-lf", status: 400 },
  { name: "LF in front", raw: `\nGET / HTTP/1.1\r\n${HOST}\r\n`, reason: "bare-lf", status: 400 },
  { name: "bare CR in a value", raw: get("X-A: b\rX-B: c\r\n"), reason: "bare-cr", status: 400 },
  { name: "CR CR LF", raw: get("X-A: b\r\r\n"), reason: "bare-cr", status: 400 },
  { name: "bare CR in the request line", raw: `GET / HTTP/1.1\rX\r\n${HOST}\r\n`, reason: "bare-cr", status: 400 },
  { name: "folded with a space", raw: get("X-A: b\r\n c\r\n"), reason: "obs-fold", status: 400 },
  { name: "folded with a tab", raw: get("X-A: b\r\n\tc\r\n"), reason: "obs-fold", status: 400 },
  { name: "space in front of the first field", raw: `GET / HTTP/1.1\r\n ${HOST}\r\n`, reason: "obs-fold", status: 400 },
  // Fields.
  { name: "space before the colon", raw: get("X-A : b\r\n"), reason: "field-name", status: 400 },
  { name: "tab before the colon", raw: post("Content-Length\t: 3\r\n"), reason: "field-name", status: 400 },
  { name: "empty name", raw: get(": b\r\n"), reason: "field-name", status: 400 },
  { name: "no colon", raw: get("X-A\r\n"), reason: "field-name", status: 400 },
  { name: "name with a byte above 0x7f", raw: get("X-\xe4: b\r\n"), reason: "field-name", status: 400 },
  { name: "name with NUL", raw: get("X-\0: b\r\n"), reason: "field-name", status: 400 },
  { name: "name with a quote", raw: get('"x": b\r\n'), reason: "field-name", status: 400 },
  ...["\0", "\x01", "\x08", "\x0b", "\x0c", "\x1b", "\x7f"].map((char) => ({
    name: `value with ${JSON.stringify(char)}`,
    raw: get(`X-A: b${char}c\r\n`),
    reason: "field-value" as const,
    status: 400,
  })),
  // Host.
  { name: "no Host", raw: "GET / HTTP/1.1\r\n\r\n", reason: "host-missing", status: 400 },
  { name: "two Hosts", raw: get("Host: b.example\r\n"), reason: "host-repeated", status: 400 },
  { name: "two equal Hosts", raw: get("HOST: a.example\r\n"), reason: "host-repeated", status: 400 },
  ...[
    "",
    "a b",
    "a,b",
    "a/b",
    "u@a",
    "a?b",
    "a#b",
    "a%2eb",
    "a\\b",
    "a:",
    ":80",
    "a:80:80",
    "a:x",
    "a:-1",
    "a:65536",
    "a:000080",
    "[::1",
    "[]",
    "[::1]x",
    "[::1%25lo]",
    "::1",
    "\xe4.example",
    "x".repeat(256),
  ].map((host) => ({
    name: `Host ${JSON.stringify(host.slice(0, 20))}`,
    raw: hosted(host),
    reason: "host-invalid" as const,
    status: 400,
  })),
  { name: "invalid Host in HTTP/1.0", raw: "GET / HTTP/1.0\r\nHost: a b\r\n\r\n", reason: "host-invalid", status: 400 },
  // Request line.
  { name: "empty method", raw: ` / HTTP/1.1\r\n${HOST}\r\n`, reason: "method", status: 400 },
  { name: "method with a bracket", raw: `GE(T / HTTP/1.1\r\n${HOST}\r\n`, reason: "method", status: 400 },
  { name: "tab behind the method", raw: `GET\t/ HTTP/1.1\r\n${HOST}\r\n`, reason: "method", status: 400 },
  { name: "two spaces behind the method", raw: `GET  / HTTP/1.1\r\n${HOST}\r\n`, reason: "target", status: 400 },
  { name: "two spaces behind the target", raw: `GET /  HTTP/1.1\r\n${HOST}\r\n`, reason: "start-line", status: 400 },
  { name: "space in the target", raw: `GET /a b HTTP/1.1\r\n${HOST}\r\n`, reason: "start-line", status: 400 },
  { name: "NUL in the target", raw: `GET /\0 HTTP/1.1\r\n${HOST}\r\n`, reason: "target", status: 400 },
  { name: "fragment in the target", raw: `GET /#a HTTP/1.1\r\n${HOST}\r\n`, reason: "target", status: 400 },
  { name: "relative target", raw: `GET a/b HTTP/1.1\r\n${HOST}\r\n`, reason: "target", status: 400 },
  { name: "authority form", raw: `GET a.example:80 HTTP/1.1\r\n${HOST}\r\n`, reason: "target", status: 400 },
  { name: "asterisk for GET", raw: `GET * HTTP/1.1\r\n${HOST}\r\n`, reason: "target", status: 400 },
  { name: "another scheme", raw: `GET ftp://a.example/ HTTP/1.1\r\n${HOST}\r\n`, reason: "target", status: 400 },
  {
    name: "absolute form for another host",
    raw: `GET http://evil/ HTTP/1.1\r\n${HOST}\r\n`,
    reason: "host-mismatch",
    status: 400,
  },
  {
    name: "absolute form with user",
    raw: `GET http://u@a.example/ HTTP/1.1\r\n${HOST}\r\n`,
    reason: "host-mismatch",
    status: 400,
  },
  {
    name: "absolute form with another port",
    raw: `GET http://a.example:81/ HTTP/1.1\r\n${HOST}\r\n`,
    reason: "host-mismatch",
    status: 400,
  },
  {
    name: "absolute form without Host",
    raw: "GET http://a.example/ HTTP/1.0\r\n\r\n",
    reason: "host-mismatch",
    status: 400,
  },
  {
    name: "CONNECT",
    raw: `CONNECT a.example:443 HTTP/1.1\r\n${HOST}\r\n`,
    reason: "method-unsupported",
    status: 501,
  },
  { name: "HTTP/0.9", raw: "GET /\r\n\r\n", reason: "start-line", status: 400 },
  { name: "method alone", raw: "GET\r\n\r\n", reason: "start-line", status: 400 },
  { name: "HTTP/2.0", raw: `GET / HTTP/2.0\r\n${HOST}\r\n`, reason: "version", status: 505 },
  { name: "HTTP/1.2", raw: `GET / HTTP/1.2\r\n${HOST}\r\n`, reason: "version", status: 505 },
  { name: "HTTP/0.9 by name", raw: `GET / HTTP/0.9\r\n${HOST}\r\n`, reason: "version", status: 505 },
  { name: "HTTP/2 preface", raw: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", reason: "http2-preface", status: 505 },
  { name: "lower-case protocol", raw: `GET / http/1.1\r\n${HOST}\r\n`, reason: "start-line", status: 400 },
  { name: "HTTP/1.10", raw: `GET / HTTP/1.10\r\n${HOST}\r\n`, reason: "start-line", status: 400 },
  { name: "space behind the version", raw: `GET / HTTP/1.1 \r\n${HOST}\r\n`, reason: "start-line", status: 400 },
  { name: "two empty lines in front", raw: `\r\n\r\n${get("")}`, reason: "start-line", status: 400 },
  { name: "a TLS handshake", raw: "\x16\x03\x01\x02\0", reason: "method", status: 400 },
  { name: "unknown expectation", raw: post("Expect: foo\r\n"), reason: "expectation", status: 417 },
  // Chunked bodies.
  ...[
    "zz\r\n",
    "0x3\r\nabc\r\n",
    "-1\r\n",
    "+3\r\n",
    " 3\r\n",
    "3 \r\nabc\r\n",
    "\r\n",
    ";a\r\n",
    "3\tx\r\n",
    "3_0\r\n",
  ].map((body) => ({
    name: `chunk size ${JSON.stringify(body)}`,
    raw: CHUNKED + body,
    reason: "chunk-size" as const,
    status: 400,
  })),
  { name: "chunk size above 2^53", raw: `${CHUNKED}20000000000000\r\n`, reason: "chunk-size", status: 400 },
  { name: "chunk size of 17 digits", raw: `${CHUNKED}00000000000000001\r\n`, reason: "chunk-size", status: 400 },
  { name: "chunk size, bare LF", raw: `${CHUNKED}3\nabc\r\n0\r\n\r\n`, reason: "chunk-size", status: 400 },
  { name: "chunk size, CR X", raw: `${CHUNKED}3\rXabc\r\n`, reason: "bare-cr", status: 400 },
  { name: "extension with bare LF", raw: `${CHUNKED}3;a\nb\r\nabc\r\n`, reason: "chunk-extension", status: 400 },
  { name: "extension with bare CR", raw: `${CHUNKED}3;a\rb\r\nabc\r\n`, reason: "bare-cr", status: 400 },
  { name: "extension with NUL", raw: `${CHUNKED}3;\0\r\nabc\r\n`, reason: "chunk-extension", status: 400 },
  { name: "chunk too long", raw: `${CHUNKED}3\r\nabcX0\r\n\r\n`, reason: "chunk-end", status: 400 },
  { name: "chunk end with bare LF", raw: `${CHUNKED}3\r\nabc\n0\r\n\r\n`, reason: "chunk-end", status: 400 },
  { name: "chunk end CR X", raw: `${CHUNKED}3\r\nabc\rX`, reason: "chunk-end", status: 400 },
  { name: "trailer with bare LF", raw: `${CHUNKED}0\r\nX: 1\n\r\n`, reason: "bare-lf", status: 400 },
  { name: "trailer end with bare LF", raw: `${CHUNKED}0\r\n\n`, reason: "bare-lf", status: 400 },
  { name: "folded trailer", raw: `${CHUNKED}0\r\nX: 1\r\n 2\r\n\r\n`, reason: "obs-fold", status: 400 },
  { name: "trailer without name", raw: `${CHUNKED}0\r\n: 1\r\n\r\n`, reason: "field-name", status: 400 },
];

describe("RequestDecoder refuses", () => {
  test.each(REFUSED)("$name", ({ raw, reason, status }) => {
    for (const chunks of waysToCut(raw)) {
      const { fault, ended } = recordRequest(chunks);
      expect(fault).toEqual({ kind: "malformed", reason, status });
      expect(ended).toBe(false);
    }
  });

  test.each([
    { name: "in the request line", raw: "GET / HT", reason: "truncated-head" },
    { name: "in the fields", raw: `GET / HTTP/1.1\r\n${HOST}`, reason: "truncated-head" },
    { name: "in a body of known length", raw: post("Content-Length: 4\r\n", "abc"), reason: "truncated-body" },
    { name: "before a body of known length", raw: post("Content-Length: 4\r\n"), reason: "truncated-body" },
    { name: "in a chunk", raw: `${CHUNKED}3\r\nab`, reason: "truncated-body" },
    { name: "before the last chunk", raw: `${CHUNKED}3\r\nabc\r\n`, reason: "truncated-body" },
    { name: "before the end of the trailers", raw: `${CHUNKED}0\r\n`, reason: "truncated-body" },
  ])("a message cut $name", ({ raw, reason }) => {
    for (const chunks of waysToCut(raw)) {
      const { fault, ended } = recordRequest(chunks, { close: true });
      expect(fault?.reason as string).toBe(reason);
      expect(ended).toBe(false);
    }
  });
});

const ACCEPTED: readonly {
  name: string;
  raw: string;
  head: Partial<RequestHead>;
  body?: string;
  trailers?: string[];
}[] = [
  {
    name: "a plain GET",
    raw: get("X-oDD: 1\r\nx-odd:2\r\nX-Empty:\r\nX-Space: \t a \t b \t\r\n"),
    head: {
      method: "GET",
      target: "/",
      rawTarget: "/",
      minorVersion: 1,
      host: "a.example",
      framing: { kind: "none" },
      keepAlive: true,
      upgrade: undefined,
      expectContinue: false,
      headers: ["Host", "a.example", "X-oDD", "1", "x-odd", "2", "X-Empty", "", "X-Space", "a \t b"],
    },
  },
  {
    name: "bytes above 0x7f in a value",
    raw: get("X: \x80\x9f\xff\r\n"),
    head: { headers: ["Host", "a.example", "X", "\x80\x9f\xff"] },
  },
  {
    name: "a raw target",
    raw: `GET /a//b/../%2F?q="|{}^\\\xe4 HTTP/1.1\r\n${HOST}\r\n`,
    head: { target: '/a//b/../%2F?q="|{}^\\\xe4' },
  },
  { name: "an odd method", raw: `FOO-bar / HTTP/1.1\r\n${HOST}\r\n`, head: { method: "FOO-bar" } },
  { name: "an empty line in front", raw: `\r\n${get("")}`, head: { method: "GET" } },
  { name: "OPTIONS *", raw: `OPTIONS * HTTP/1.1\r\n${HOST}\r\n`, head: { target: "*" } },
  {
    name: "absolute form",
    raw: `GET HTTP://A.example/x?y HTTP/1.1\r\n${HOST}\r\n`,
    head: { target: "/x?y", rawTarget: "HTTP://A.example/x?y" },
  },
  { name: "absolute form without path", raw: `GET https://a.example HTTP/1.1\r\n${HOST}\r\n`, head: { target: "/" } },
  { name: "absolute form, query only", raw: `GET http://a.example?x HTTP/1.1\r\n${HOST}\r\n`, head: { target: "/?x" } },
  {
    name: "absolute form of OPTIONS *",
    raw: `OPTIONS http://a.example HTTP/1.1\r\n${HOST}\r\n`,
    head: { target: "*" },
  },
  { name: "Host with port", raw: hosted("a_b.example:65535"), head: { host: "a_b.example:65535" } },
  { name: "Host IPv6 with port", raw: hosted("[::ffff:1.2.3.4]:80"), head: { host: "[::ffff:1.2.3.4]:80" } },
  { name: "close", raw: get("Connection: foo, Close\r\n"), head: { keepAlive: false } },
  {
    name: "close beside keep-alive",
    raw: get("Connection: keep-alive\r\nConnection: close\r\n"),
    head: { keepAlive: false },
  },
  { name: "HTTP/1.0", raw: "GET / HTTP/1.0\r\n\r\n", head: { minorVersion: 0, keepAlive: false, host: undefined } },
  { name: "HTTP/1.0 keep-alive", raw: "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", head: { keepAlive: true } },
  {
    name: "an upgrade",
    raw: get("Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"),
    head: { upgrade: "websocket", framing: { kind: "none" } },
  },
  { name: "Upgrade that Connection does not list", raw: get("Upgrade: websocket\r\n"), head: { upgrade: undefined } },
  {
    name: "an upgrade in HTTP/1.0",
    raw: "GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    head: { upgrade: undefined },
  },
  { name: "a length of 0", raw: post("Content-Length: 0\r\n"), head: { framing: { kind: "length", bytes: 0 } } },
  {
    name: "a body of known length",
    raw: post("content-LENGTH:  0005 \r\n", "he\r\nl"),
    head: { framing: { kind: "length", bytes: 5 } },
    body: "he\r\nl",
  },
  {
    name: "GET with a body",
    raw: `GET / HTTP/1.1\r\n${HOST}Content-Length: 3\r\n\r\nabc`,
    head: { method: "GET" },
    body: "abc",
  },
  {
    name: "a chunked body",
    raw: `POST / HTTP/1.1\r\n${HOST}transfer-encoding: Chunked\r\n\r\n3\r\nabc\r\n0A;x=1;y="z"\r\n0123456789\r\n000\r\n\r\n`,
    head: { framing: { kind: "chunked" } },
    body: "abc0123456789",
  },
  { name: "an empty chunked body", raw: `${CHUNKED}0\r\n\r\n`, head: {}, body: "" },
  {
    name: "trailers, dangerous ones dropped",
    raw: `${CHUNKED}1\r\na\r\n0\r\nGrpc-Status: 0\r\nHost: evil\r\nTransfer-Encoding: chunked\r\nCf-Connecting-Ip: 1\r\nX-Forwarded-For: 1\r\nSet-Cookie: a\r\nx-t:\r\n\r\n`,
    head: {},
    body: "a",
    trailers: ["Grpc-Status", "0", "x-t", ""],
  },
  {
    name: "100-continue",
    raw: post("Expect: 100-Continue\r\nContent-Length: 1\r\n", "a"),
    head: { expectContinue: true },
    body: "a",
  },
  { name: "100-continue without a body", raw: get("Expect: 100-continue\r\n"), head: { expectContinue: false } },
  {
    name: "100-continue in HTTP/1.0",
    raw: "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na",
    head: { expectContinue: false },
    body: "a",
  },
];

describe("RequestDecoder reads", () => {
  test.each(ACCEPTED)("$name", ({ raw, head, body = "", trailers = [] }) => {
    for (const chunks of waysToCut(raw)) {
      const recorded = recordRequest(chunks);
      expect(recorded.fault).toBeUndefined();
      expect(recorded.head).toMatchObject(head);
      expect(recorded).toMatchObject({ body, trailers, ended: true });
    }
    for (let cut = 1; cut < raw.length; cut += 1) {
      const { ended, fault } = recordRequest(pieces(raw.slice(0, cut), []));
      expect({ ended, fault }).toEqual({ ended: false, fault: undefined });
    }
  });

  test("body bytes without copying them", () => {
    const chunk = bytesOf(post("Content-Length: 3\r\n", "abc"));
    const seen: Uint8Array[] = [];
    const decoder = new RequestDecoder({
      onHead: () => {},
      onData: (data) => seen.push(data),
      onEnd: () => {},
      onMalformed: () => {},
    });
    decoder.feed(chunk);
    expect(seen).toHaveLength(1);
    expect(seen[0]?.buffer).toBe(chunk.buffer);
  });
});

interface Steps {
  decoder: RequestDecoder;
  seen: string[];
}

function stepwise(onEnd: (decoder: RequestDecoder) => void = () => {}): Steps {
  const seen: string[] = [];
  const decoder: RequestDecoder = new RequestDecoder({
    onHead: (head) => seen.push(`${head.method} ${head.target}`),
    onData: (chunk) => seen.push(textOf(chunk)),
    onEnd: () => {
      seen.push("end");
      onEnd(decoder);
    },
    onMalformed: (fault) => seen.push(fault.reason),
  });
  return { decoder, seen };
}

describe("RequestDecoder between messages", () => {
  const two = `${post("Content-Length: 2\r\n", "ab")}GET /second HTTP/1.1\r\n${HOST}\r\n`;

  test("stops after each pipelined request until next", () => {
    for (const chunks of waysToCut(two)) {
      const { decoder, seen } = stepwise();
      for (const chunk of chunks) decoder.feed(chunk);
      expect(seen.join("").replace("end", "|")).toBe("POST /ab|");
      expect(decoder.waiting).toBe(true);
      expect(decoder.hasRest).toBe(true);
      decoder.next();
      expect(seen.slice(-2)).toEqual(["GET /second", "end"]);
      expect(decoder.hasRest).toBe(false);
    }
  });

  test("next inside onEnd goes on at once", () => {
    const { decoder, seen } = stepwise((self) => self.next());
    decoder.feed(bytesOf(two + two));
    expect(seen.filter((event) => event === "end")).toHaveLength(4);
  });

  test("a deep pipeline does not deepen the stack", () => {
    const { decoder, seen } = stepwise((self) => self.next());
    decoder.feed(bytesOf(get("").repeat(20_000)));
    expect(seen).toHaveLength(40_000);
  });

  test("bytes fed while it waits are bounded", () => {
    const { decoder, seen } = stepwise();
    decoder.feed(bytesOf(`${get("")}x`));
    const chunk = new Uint8Array(64 * 1024).fill(0x78);
    for (let fed = 0; fed < MAX_PIPELINED_BYTES; fed += chunk.length) decoder.feed(chunk);
    expect(seen).toEqual(["GET /", "end"]);
    decoder.feed(chunk);
    expect(seen.at(-1)).toBe("pipeline-overflow");
  });

  test("a malformed second request does not touch the first", () => {
    const { decoder, seen } = stepwise((self) => self.next());
    decoder.feed(bytesOf(`${get("")}GET / HTTP/1.1\r\n\r\n`));
    expect(seen).toEqual(["GET /", "end", "host-missing"]);
    decoder.feed(bytesOf(get("")));
    expect(seen).toHaveLength(3);
  });

  test("hands out the bytes behind an upgrade, whole or in pieces", () => {
    const upgrade = get("Connection: upgrade\r\nUpgrade: raw\r\n");
    for (const chunks of waysToCut(`${upgrade}PING\r\n\r\n`)) {
      const { decoder, seen } = stepwise();
      for (const chunk of chunks) decoder.feed(chunk);
      expect(decoder.takeRest().map(textOf).join("")).toBe("PING\r\n\r\n");
      decoder.feed(bytesOf("ignored"));
      expect(seen).toEqual(["GET /", "end"]);
    }
  });

  test("takeRest inside onHead", () => {
    let rest = "";
    const decoder: RequestDecoder = new RequestDecoder({
      onHead: () => {
        rest = decoder.takeRest().map(textOf).join("");
      },
      onData: () => expect.unreachable(),
      onEnd: () => expect.unreachable(),
      onMalformed: () => expect.unreachable(),
    });
    decoder.feed(bytesOf(post("Content-Length: 3\r\n", "abc")));
    expect(rest).toBe("abc");
  });

  test("stop inside onData ends all reports", () => {
    const decoder: RequestDecoder = new RequestDecoder({
      onHead: () => {},
      onData: () => decoder.stop(),
      onEnd: () => expect.unreachable(),
      onMalformed: () => expect.unreachable(),
    });
    decoder.feed(bytesOf(post("Content-Length: 3\r\n", "abc")));
    decoder.feed(bytesOf("\0"));
    decoder.finish();
  });

  test("the peer's end between messages is no fault", () => {
    const { decoder, seen } = stepwise((self) => self.next());
    decoder.finish();
    decoder.feed(bytesOf(get("")));
    decoder.finish();
    expect(seen).toEqual(["GET /", "end"]);
  });
});

describe("RequestDecoder limits", () => {
  const { headBytes, startLineBytes, fields } = REQUEST_HEAD_LIMITS;
  const overhead = `GET / HTTP/1.1\r\n${HOST}X: \r\n`.length;

  test.each([
    { name: "64 KiB of one field", raw: get(`X: ${"a".repeat(64 * 1024)}\r\n`), reason: undefined },
    { name: "the longest head", raw: get(`X: ${"a".repeat(headBytes - overhead)}\r\n`), reason: undefined },
    { name: "one byte more", raw: get(`X: ${"a".repeat(headBytes - overhead + 1)}\r\n`), reason: "head-too-large" },
    { name: "a field that never ends", raw: `GET / HTTP/1.1\r\nX: ${"a".repeat(headBytes)}`, reason: "head-too-large" },
    { name: "the most fields", raw: get("A: b\r\n".repeat(fields - 1)), reason: undefined },
    { name: "one field more", raw: get("A: b\r\n".repeat(fields)), reason: "too-many-fields" },
    {
      name: "the longest target",
      raw: `GET /${"a".repeat(startLineBytes - 14)} HTTP/1.1\r\n${HOST}\r\n`,
      reason: undefined,
    },
    {
      name: "a longer target",
      raw: `GET /${"a".repeat(startLineBytes - 13)} HTTP/1.1\r\n${HOST}\r\n`,
      reason: "target-too-long",
    },
    { name: "a target that never ends", raw: `GET /${"a".repeat(startLineBytes)}`, reason: "target-too-long" },
    {
      name: "chunk extensions of 1 KiB",
      raw: `${CHUNKED}1;${"a".repeat(1023)}\r\na\r\n0\r\n\r\n`,
      reason: undefined,
    },
    {
      name: "a longer chunk extension",
      raw: `${CHUNKED}1;${"a".repeat(1025)}\r\na\r\n0\r\n\r\n`,
      reason: "chunk-extension-too-large",
    },
    {
      name: "many chunk extensions",
      raw: `${CHUNKED}${`1;${"a".repeat(1000)}\r\na\r\n`.repeat(20)}0\r\n\r\n`,
      reason: "chunk-extension-too-large",
    },
    {
      name: "trailers of 17 KiB",
      raw: `${CHUNKED}0\r\nX: ${"a".repeat(17 * 1024)}\r\n\r\n`,
      reason: "trailers-too-large",
    },
    { name: "101 trailers", raw: `${CHUNKED}0\r\n${"X: a\r\n".repeat(101)}\r\n`, reason: "trailers-too-large" },
  ])("$name: $reason", ({ raw, reason }) => {
    for (const chunks of [pieces(raw, []), pieces(raw, [...raw].keys().toArray()), pieces(raw, [10, 700, 5000])]) {
      const { fault, ended } = recordRequest(chunks);
      expect(fault?.reason).toBe(reason as MalformedReason | undefined);
      expect(ended).toBe(reason === undefined);
    }
  });

  test("a body behind a head in pieces is not gathered with it", () => {
    const limits = { headBytes: 100, startLineBytes: 50, fields: 5 };
    const raw = post("Content-Length: 5000\r\n", "x".repeat(5000));
    for (let cut = 1; cut < 70; cut += 1) {
      const { fault, body } = recordRequest(pieces(raw, [cut]), { limits });
      expect({ fault, length: body.length }).toEqual({ fault: undefined, length: 5000 });
    }
  });
});
