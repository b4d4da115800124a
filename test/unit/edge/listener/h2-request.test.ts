import { expect, test } from "bun:test";
import fc from "fast-check";
import { readH2Request } from "../../../../src/edge/listener/h2-request.ts";

const read = (fields: readonly string[], endStream = true) => readH2Request(fields, endStream, () => "key");
const head = (...more: string[]): string[] => [
  ...[":method", "GET", ":scheme", "http", ":authority", "a.example:8080", ":path", "/x?y"],
  ...more,
];

test("a request is what HTTP/1.1 would have made of it", () => {
  expect(read(head("x-api-key", "1", "te", "trailers", "content-length", "0"))).toEqual({
    kind: "request",
    contentLength: 0,
    request: {
      kind: "http",
      method: "GET",
      target: "/x?y",
      host: "a.example:8080",
      headers: ["X-Api-Key", "1", "Te", "trailers", "Content-Length", "0"],
      hasBody: false,
      patientBody: false,
      protocol: "HTTP/2.0",
      expectContinue: false,
    },
  });
});

test("crumbs of Cookie become one field where the first one stood", () => {
  const read1 = read(head("a", "1", "cookie", "x=1", "b", "2", "cookie", "y=2", "cookie", "z=3"));
  expect(read1.kind === "request" && read1.request.headers).toEqual(["A", "1", "Cookie", "x=1; y=2; z=3", "B", "2"]);
});

test("Host stands in for :authority, and does not come twice", () => {
  const fields = [":method", "OPTIONS", ":scheme", "http", ":path", "*", "host", "a.example"];
  const got = read(fields);
  expect(got).toMatchObject({ kind: "request", request: { host: "a.example", target: "*", headers: [] } });
  expect(read([...fields, "host", "a.example"])).toEqual({ kind: "refused", status: 400 });
  expect(read(head("host", "A.Example:8080"))).toMatchObject({ request: { host: "a.example:8080" } });
});

test("a handshake is a GET with a key, and has no body", () => {
  const fields = [...head().slice(2), ":method", "CONNECT", ":protocol", "websocket"];
  expect(read(fields, false)).toMatchObject({
    request: { kind: "websocket", method: "GET", hasBody: false, headers: ["Sec-WebSocket-Key", "key"] },
  });
  expect(read(fields, true)).toEqual({ kind: "refused", status: 400 });
  expect(read([...fields, "content-length", "1"], false)).toEqual({ kind: "refused", status: 400 });
});

test("calls may be silent, other bodies for a while", () => {
  expect(read(head("content-type", "application/grpc+proto"), false)).toMatchObject({
    request: { patientBody: true },
  });
  expect(read(head("content-type", "text/plain"), false)).toMatchObject({ request: { patientBody: false } });
});

test("whatever passes can be written as HTTP/1.1 without meaning something else", () => {
  const text = fc.string({ unit: fc.integer({ min: 0, max: 255 }).map((code) => String.fromCharCode(code)) });
  fc.assert(
    fc.property(text, text, text, text, (method, path, authority, value) => {
      const got = read([":method", method, ":scheme", "http", ":authority", authority, ":path", path, "x", value]);
      if (got.kind === "refused") return;
      const { request } = got;
      expect(request.method).toMatch(/^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/);
      expect(request.target).toMatch(/^(?:\/[^\0- #\x7f]*|\*)$/);
      expect(request.host).toMatch(/^[-._0-9A-Za-z[\]:]+$/);
      expect(request.headers.join("")).toMatch(/^[^\0-\x08\x0a-\x1f\x7f]*$/);
    }),
  );
});
