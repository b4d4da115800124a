import { describe, expect, test } from "bun:test";
import { ResponseDecoder } from "../../../../src/wire/h1/decoder.ts";
import { MAX_INFORMATIONAL, RESPONSE_HEAD_LIMITS } from "../../../../src/wire/h1/limits.ts";
import type { MalformedReason } from "../../../../src/wire/h1/malformed.ts";
import type { ResponseHead } from "../../../../src/wire/h1/message.ts";
import type { RequestContext } from "../../../../src/wire/h1/response-head.ts";
import { bytesOf, GET, pieces, recordResponse, textOf, waysToCut } from "./recorder.ts";

const HEAD: RequestContext = { method: "HEAD", upgrade: false };
const UPGRADE: RequestContext = { method: "GET", upgrade: true };

const ok = (fields: string, body = ""): string => `HTTP/1.1 200 OK\r\n${fields}\r\n${body}`;

const REFUSED: readonly { name: string; raw: string; reason: MalformedReason; request?: RequestContext }[] = [
  { name: "no HTTP at all", raw: "SSH-2.0-OpenSSH_9.6\r\n", reason: "start-line" },
  { name: "an empty line in front", raw: `\r\n${ok("")}`, reason: "start-line" },
  { name: "ICY", raw: "ICY 200 OK\r\n\r\n", reason: "start-line" },
  { name: "lower-case protocol", raw: "http/1.1 200 OK\r\n\r\n", reason: "start-line" },
  { name: "HTTP/2.0", raw: "HTTP/2.0 200 OK\r\n\r\n", reason: "version" },
  { name: "HTTP/1.10", raw: "HTTP/1.10 200 OK\r\n\r\n", reason: "start-line" },
  { name: "no status", raw: "HTTP/1.1\r\n\r\n", reason: "start-line" },
  { name: "status of two digits", raw: "HTTP/1.1 20 OK\r\n\r\n", reason: "start-line" },
  { name: "status of four digits", raw: "HTTP/1.1 2000 OK\r\n\r\n", reason: "start-line" },
  { name: "status 099", raw: "HTTP/1.1 099 OK\r\n\r\n", reason: "start-line" },
  { name: "status +20", raw: "HTTP/1.1 +20 OK\r\n\r\n", reason: "start-line" },
  { name: "two spaces before the status", raw: "HTTP/1.1  200 OK\r\n\r\n", reason: "start-line" },
  { name: "tab before the status", raw: "HTTP/1.1\t200 OK\r\n\r\n", reason: "start-line" },
  { name: "NUL in the reason", raw: "HTTP/1.1 200 O\0K\r\n\r\n", reason: "start-line" },
  { name: "CR in the reason", raw: "HTTP/1.1 200 O\rK\r\n\r\n", reason: "bare-cr" },
  { name: "bare LF", raw: "HTTP/1.1 200 OK\nContent-Length: 0\n\n", reason: "bare-lf" },
  { name: "folded field", raw: ok("X: a\r\n b\r\n"), reason: "obs-fold" },
  { name: "space before the colon", raw: ok("Content-Length : 3\r\n", "abc"), reason: "field-name" },
  { name: "NUL in a value", raw: ok("X: a\0\r\n"), reason: "field-value" },
  { name: "bare CR in a value", raw: ok("X: a\rSet-Cookie: b\r\n"), reason: "bare-cr" },
  {
    name: "two equal Content-Lengths",
    raw: ok("Content-Length: 3\r\nContent-Length: 3\r\n", "abc"),
    reason: "content-length-repeated",
  },
  { name: "Content-Length 3, 3", raw: ok("Content-Length: 3, 3\r\n", "abc"), reason: "content-length-invalid" },
  { name: "Content-Length +3", raw: ok("Content-Length: +3\r\n", "abc"), reason: "content-length-invalid" },
  {
    name: "Content-Length and Transfer-Encoding",
    raw: ok("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", "0\r\n\r\n"),
    reason: "length-and-encoding",
  },
  {
    name: "both, in the answer to HEAD",
    raw: ok("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"),
    reason: "length-and-encoding",
    request: HEAD,
  },
  { name: "gzip, chunked", raw: ok("Transfer-Encoding: gzip, chunked\r\n"), reason: "transfer-encoding-unsupported" },
  { name: "identity", raw: ok("Transfer-Encoding: identity\r\n"), reason: "transfer-encoding-invalid" },
  {
    name: "chunked twice",
    raw: ok("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
    reason: "transfer-encoding-repeated",
  },
  {
    name: "chunked in HTTP/1.0",
    raw: "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    reason: "transfer-encoding-in-1.0",
  },
  {
    name: "103 with a length",
    raw: "HTTP/1.1 103 Early Hints\r\nContent-Length: 3\r\n\r\nabc",
    reason: "informational-body",
  },
  {
    name: "100 with chunked",
    raw: "HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\n",
    reason: "informational-body",
  },
  {
    name: "101 nobody asked for",
    raw: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    reason: "unexpected-upgrade",
  },
  {
    name: "101 with a length",
    raw: "HTTP/1.1 101 Switching Protocols\r\nContent-Length: 3\r\n\r\n",
    reason: "informational-body",
    request: UPGRADE,
  },
  {
    name: "too many interim answers",
    raw: "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(MAX_INFORMATIONAL + 1),
    reason: "too-many-informational",
  },
  { name: "chunk size", raw: ok("Transfer-Encoding: chunked\r\n", "3 \r\nabc\r\n"), reason: "chunk-size" },
  { name: "chunk end", raw: ok("Transfer-Encoding: chunked\r\n", "3\r\nabcd"), reason: "chunk-end" },
];

describe("ResponseDecoder refuses", () => {
  test.each(REFUSED)("$name", ({ raw, reason, request = GET }) => {
    for (const chunks of waysToCut(raw)) {
      const { fault, ended } = recordResponse(chunks, { request });
      expect(fault?.reason).toBe(reason);
      expect(ended).toBe(false);
    }
  });

  test.each([
    { name: "in the head", raw: "HTTP/1.1 200 OK\r\nContent", reason: "truncated-head" },
    { name: "in a body of known length", raw: ok("Content-Length: 4\r\n", "abc"), reason: "truncated-body" },
    {
      name: "before the last chunk",
      raw: ok("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n"),
      reason: "truncated-body",
    },
    {
      name: "before the trailers' end",
      raw: ok("Transfer-Encoding: chunked\r\n", "0\r\nX: a\r\n"),
      reason: "truncated-body",
    },
  ])("a message cut $name", ({ raw, reason }) => {
    for (const chunks of waysToCut(raw)) {
      const { fault, ended } = recordResponse(chunks, { close: true });
      expect(fault?.reason as string).toBe(reason);
      expect(ended).toBe(false);
    }
  });

  test("an endless head", () => {
    const raw = `HTTP/1.1 200 OK\r\nX: ${"a".repeat(RESPONSE_HEAD_LIMITS.headBytes)}`;
    expect(recordResponse(pieces(raw, [1000, 100_000])).fault?.reason).toBe("head-too-large");
  });
});

interface Accepted {
  readonly name: string;
  readonly raw: string;
  readonly head: Partial<ResponseHead>;
  readonly request?: RequestContext;
  readonly body?: string;
  readonly trailers?: string[];
  readonly untilClose?: boolean;
}

const ACCEPTED: readonly Accepted[] = [
  {
    name: "a body of known length",
    raw: ok("Content-Length: 5\r\nSet-Cookie: a\r\nset-cookie: b\r\n", "hello"),
    head: {
      status: 200,
      reason: "OK",
      minorVersion: 1,
      framing: { kind: "length", bytes: 5 },
      keepAlive: true,
      headers: ["Content-Length", "5", "Set-Cookie", "a", "set-cookie", "b"],
    },
    body: "hello",
  },
  { name: "no reason", raw: "HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n", head: { status: 404, reason: "" } },
  { name: "an empty reason", raw: "HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n", head: { status: 404, reason: "" } },
  {
    name: "a reason with spaces and bytes above 0x7f",
    raw: "HTTP/1.1 999 N\xf6 way \r\nContent-Length: 0\r\n\r\n",
    head: { status: 999, reason: "N\xf6 way " },
  },
  {
    name: "chunked with trailers",
    raw: ok("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\nGrpc-Status: 0\r\nContent-Length: 9\r\n\r\n"),
    head: { framing: { kind: "chunked" }, keepAlive: true },
    body: "hello",
    trailers: ["Grpc-Status", "0"],
  },
  {
    name: "until close",
    raw: ok("X: a\r\n", "all of it"),
    head: { framing: { kind: "until-close" }, keepAlive: false },
    body: "all of it",
    untilClose: true,
  },
  {
    name: "until close, empty",
    raw: ok(""),
    head: { framing: { kind: "until-close" } },
    untilClose: true,
  },
  {
    name: "HTTP/1.0 until close",
    raw: "HTTP/1.0 200 OK\r\n\r\nx",
    head: { minorVersion: 0, keepAlive: false },
    body: "x",
    untilClose: true,
  },
  {
    name: "HTTP/1.0 with length",
    raw: "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
    head: { keepAlive: false },
    body: "x",
  },
  {
    name: "HTTP/1.0 keep-alive",
    raw: "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx",
    head: { keepAlive: true },
    body: "x",
  },
  { name: "close", raw: ok("Connection: close\r\nContent-Length: 0\r\n"), head: { keepAlive: false } },
  {
    name: "HEAD with a length",
    raw: ok("Content-Length: 99\r\n"),
    head: { framing: { kind: "none" }, keepAlive: true },
    request: HEAD,
  },
  {
    name: "HEAD with chunked",
    raw: ok("Transfer-Encoding: chunked\r\n"),
    head: { framing: { kind: "none" }, keepAlive: true },
    request: HEAD,
  },
  { name: "HEAD without framing", raw: ok(""), head: { framing: { kind: "none" }, keepAlive: true }, request: HEAD },
  {
    name: "204",
    raw: "HTTP/1.1 204 No Content\r\n\r\n",
    head: { framing: { kind: "none" }, keepAlive: true },
  },
  {
    name: "204 that announces a body",
    raw: "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
    head: { framing: { kind: "none" }, keepAlive: false },
  },
  {
    name: "304 with a length",
    raw: "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    head: { framing: { kind: "none" }, keepAlive: true },
  },
];

describe("ResponseDecoder reads", () => {
  test.each(ACCEPTED)("$name", ({ raw, head, request = GET, body = "", trailers = [], untilClose = false }) => {
    for (const chunks of waysToCut(raw)) {
      const recorded = recordResponse(chunks, { request, close: untilClose });
      expect(recorded.fault).toBeUndefined();
      expect(recorded.head).toMatchObject(head);
      expect(recorded).toMatchObject({ body, trailers, ended: true });
      if (untilClose) expect(recordResponse(chunks, { request }).ended).toBe(false);
    }
    for (let cut = 1; cut < raw.length; cut += 1) {
      expect(recordResponse(pieces(raw.slice(0, cut), []), { request }).ended).toBe(false);
    }
  });

  test("interim answers, then the final one", () => {
    const raw = `HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n${ok("Content-Length: 2\r\n", "ok")}`;
    for (const chunks of waysToCut(raw)) {
      const { informational, head, body, ended } = recordResponse(chunks);
      expect(informational.map(({ status, headers }) => [status, ...headers])).toEqual([
        [100, "Content-Length", "0"],
        [103, "Link", "a"],
      ]);
      expect({ status: head?.status, body, ended }).toEqual({ status: 200, body: "ok", ended: true });
    }
  });

  test.each([
    {
      name: "101",
      raw: "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\n",
      request: UPGRADE,
      upgrade: "raw",
    },
    { name: "2xx to CONNECT", raw: ok("Content-Length: 3\r\n"), request: { method: "CONNECT", upgrade: false } },
  ])("$name: the rest is handed out raw", ({ raw, request, upgrade }) => {
    for (const chunks of waysToCut(`${raw}HTTP/1.1 \0\n`)) {
      const seen: string[] = [];
      let head: ResponseHead | undefined;
      const decoder = new ResponseDecoder({
        onInformational: () => seen.push("informational"),
        onHead: (received) => {
          head = received;
        },
        onData: () => seen.push("data"),
        onEnd: () => seen.push("end"),
        onMalformed: () => seen.push("malformed"),
      });
      decoder.next(request);
      for (const chunk of chunks) decoder.feed(chunk);
      expect(head).toMatchObject({ framing: { kind: "tunnel" }, keepAlive: false });
      expect(head?.upgrade).toBe(upgrade);
      expect(decoder.takeRest().map(textOf).join("")).toBe("HTTP/1.1 \0\n");
      expect(seen).toEqual([]);
    }
  });

  test("an answer that nobody asked for is kept, not reported", () => {
    const decoder = new ResponseDecoder({
      onInformational: () => expect.unreachable(),
      onHead: () => expect.unreachable(),
      onData: () => expect.unreachable(),
      onEnd: () => expect.unreachable(),
      onMalformed: () => expect.unreachable(),
    });
    decoder.feed(bytesOf(ok("Content-Length: 0\r\n")));
    expect(decoder.hasRest).toBe(true);
  });
});
