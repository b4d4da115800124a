import { expect, test } from "bun:test";
import fc from "fast-check";
import { RequestDecoder } from "../../../../src/wire/h1/decoder.ts";
import {
  encodeChunk,
  encodeLastChunk,
  encodeRequestHead,
  encodeResponseHead,
} from "../../../../src/wire/h1/encoder.ts";
import { bytesOf, pieces, recordRequest, recordResponse, textOf } from "./recorder.ts";

const byteString = (allowed: (byte: number) => boolean, maxLength: number, minLength = 0) => {
  const chars = Array.from({ length: 256 }, (_, byte) => byte)
    .filter(allowed)
    .map((byte) => String.fromCharCode(byte));
  return fc.string({ unit: fc.constantFrom(...chars), minLength, maxLength });
};

const token = byteString((byte) => /[!#$%&'*+\-.^_`|~0-9A-Za-z]/.test(String.fromCharCode(byte)), 12, 1);
const value = byteString((byte) => byte === 9 || (byte >= 0x20 && byte !== 0x7f), 30).map((text) =>
  text.replace(/^[ \t]+|[ \t]+$/g, ""),
);
const target = byteString((byte) => byte > 0x20 && byte !== 0x7f && byte !== 0x23, 30).map((rest) => `/${rest}`);
const SPECIAL = new Set(["host", "content-length", "transfer-encoding", "expect", "connection"]);
const field = fc.tuple(
  token.filter((name) => !SPECIAL.has(name.toLowerCase())),
  value,
);
const fields = fc.array(field, { maxLength: 8 }).map((pairs) => pairs.flat());
const trailers = fc
  .array(
    fc.tuple(
      token.map((name) => `x-${name}`),
      value,
    ),
    { maxLength: 3 },
  )
  .map((pairs) => pairs.flat().map((text) => (text.startsWith("x-forwarded") ? "x-other" : text)));
const cuts = fc.array(fc.nat(2000), { maxLength: 12 });

const body = fc.oneof(
  fc.record({ kind: fc.constant("none" as const) }),
  fc.record({ kind: fc.constant("length" as const), data: fc.uint8Array({ maxLength: 300 }) }),
  fc.record({
    kind: fc.constant("chunked" as const),
    chunks: fc.array(fc.uint8Array({ minLength: 1, maxLength: 100 }), { maxLength: 5 }),
    trailers,
  }),
);
type Body = typeof body extends fc.Arbitrary<infer T> ? T : never;

function framingFields(content: Body): string[] {
  if (content.kind === "length") return ["Content-Length", String(content.data.length)];
  return content.kind === "chunked" ? ["Transfer-Encoding", "chunked"] : [];
}

function bodyText(content: Body): string {
  if (content.kind === "none") return "";
  return content.kind === "length" ? textOf(content.data) : content.chunks.map(textOf).join("");
}

function encodeBody(content: Body): string {
  if (content.kind === "none") return "";
  if (content.kind === "length") return textOf(content.data);
  return (
    content.chunks.map((chunk) => textOf(encodeChunk(chunk))).join("") + encoded(encodeLastChunk(content.trailers))
  );
}

function encoded(result: Uint8Array | object): string {
  if (!(result instanceof Uint8Array)) throw new Error("not encodable");
  return textOf(result);
}

test("what the request encoder writes, the decoder reads, however it is cut", () => {
  fc.assert(
    fc.property(token, target, fields, body, cuts, fc.nat(), (method, path, extra, content, at, prefix) => {
      fc.pre(method !== "CONNECT");
      const headers = ["Host", "a.example", ...extra, ...framingFields(content)];
      const raw = encoded(encodeRequestHead({ method, target: path, headers })) + encodeBody(content);
      const recorded = recordRequest(pieces(raw, at));
      expect(recorded.fault).toBeUndefined();
      expect(recorded.head).toMatchObject({ method, target: path, headers });
      expect(recorded.body).toBe(bodyText(content));
      expect(recorded.trailers).toEqual(content.kind === "chunked" ? content.trailers : []);

      const cut = recordRequest(pieces(raw.slice(0, prefix % raw.length), at));
      expect([cut.ended, cut.fault]).toEqual([false, undefined]);
    }),
  );
});

test("what the response encoder writes, the decoder reads, however it is cut", () => {
  fc.assert(
    fc.property(fc.integer({ min: 200, max: 999 }), value, fields, body, cuts, (status, reason, extra, content, at) => {
      fc.pre(status !== 204 && status !== 304 && content.kind !== "none");
      const headers = [...extra, ...framingFields(content)];
      const raw = encoded(encodeResponseHead({ status, reason, headers })) + encodeBody(content);
      const recorded = recordResponse(pieces(raw, at));
      expect(recorded.fault).toBeUndefined();
      expect(recorded.head).toMatchObject({ status, reason, headers });
      expect([recorded.body, recorded.ended]).toEqual([bodyText(content), true]);
    }),
  );
});

test("whatever the encoder accepts is one message and no more", () => {
  const wild = fc.string({ unit: fc.constantFrom("\r", "\n", "\0", " ", ":", "a", "\u010a", "\u010d"), maxLength: 6 });
  fc.assert(
    fc.property(wild, wild, wild, wild, (method, path, name, text) => {
      const bytes = encodeRequestHead({ method, target: `/${path}`, headers: ["Host", "a", name, text] });
      if (!(bytes instanceof Uint8Array)) return;
      expect(textOf(bytes).match(/\r\n/g)).toHaveLength(4);
      expect(recordRequest([bytes])).toMatchObject({ ended: true, fault: undefined });
    }),
    { numRuns: 500 },
  );
});

test("random and mutated bytes never throw, and are cut-independent", () => {
  const seeds = [
    "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.1\r\n",
    "HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nabcd",
  ];
  const mutated = fc
    .tuple(fc.constantFrom(...seeds), fc.array(fc.tuple(fc.nat(200), fc.nat(255)), { maxLength: 4 }))
    .map(([seed, changes]) => {
      const bytes = bytesOf(seed);
      for (const [at, byte] of changes) bytes[at % bytes.length] = byte;
      return textOf(bytes);
    });
  const noise = fc.uint8Array({ maxLength: 200 }).map(textOf);
  fc.assert(
    fc.property(fc.oneof(mutated, noise), cuts, fc.boolean(), (raw, at, close) => {
      expect(recordRequest(pieces(raw, at), { close })).toEqual(recordRequest(pieces(raw, []), { close }));
      expect(recordResponse(pieces(raw, at), { close })).toEqual(recordResponse(pieces(raw, []), { close }));
    }),
    { numRuns: 1500 },
  );
});

test("no bytes are ever lost or invented by a decoder that goes on from message to message", () => {
  fc.assert(
    fc.property(fc.array(body, { minLength: 1, maxLength: 6 }), cuts, (bodies, at) => {
      const seen: string[] = [];
      let data = "";
      const onEnd = (): void => {
        seen.push(data);
        data = "";
      };
      const requests: RequestDecoder = new RequestDecoder({
        onHead: () => {},
        onData: (chunk) => {
          data += textOf(chunk);
        },
        onEnd: () => {
          onEnd();
          requests.next();
        },
        onMalformed: (fault) => seen.push(fault.reason),
      });
      const raw = bodies.map(
        (content) =>
          encoded(
            encodeRequestHead({ method: "PUT", target: "/", headers: ["Host", "a", ...framingFields(content)] }),
          ) + encodeBody(content),
      );
      for (const chunk of pieces(raw.join(""), at)) requests.feed(chunk);
      expect(seen).toEqual(bodies.map(bodyText));
      expect(requests.hasRest).toBe(false);
    }),
  );
});
