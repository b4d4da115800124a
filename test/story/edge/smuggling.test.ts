import { expect, test } from "bun:test";
import { HOST, helloOrigin, startSmallEdge } from "./small-edge.ts";

const head = `POST / HTTP/1.1\r\nHost: ${HOST}\r\n`;
/** What a smuggler wants the origin to see as a request of its own. */
const HIDDEN = `GET /hidden HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`;

test.each([
  {
    name: "Content-Length and Transfer-Encoding",
    text: `${head}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n`,
  },
  {
    name: "Transfer-Encoding and Content-Length",
    text: `${head}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n`,
  },
  { name: "two different lengths", text: `${head}Content-Length: 4\r\nContent-Length: 5\r\n\r\n` },
  { name: "two equal lengths", text: `${head}Content-Length: 4\r\nContent-Length: 4\r\n\r\n` },
  { name: "a list of lengths", text: `${head}Content-Length: 4, 4\r\n\r\n` },
  { name: "a signed length", text: `${head}Content-Length: +4\r\n\r\n` },
  { name: "a length in hex", text: `${head}Content-Length: 0x4\r\n\r\n` },
  { name: "an endless length", text: `${head}Content-Length: 99999999999999999999\r\n\r\n`, status: 413 },
  { name: "chunked twice", text: `${head}Transfer-Encoding: chunked, chunked\r\n\r\n` },
  { name: "chunked not last", text: `${head}Transfer-Encoding: chunked, gzip\r\n\r\n` },
  { name: "a coding before chunked", text: `${head}Transfer-Encoding: gzip, chunked\r\n\r\n`, status: 501 },
  { name: "a coding that looks like chunked", text: `${head}Transfer-Encoding: xchunked\r\n\r\n` },
  {
    name: "two codings in two lines",
    text: `${head}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n`,
  },
  { name: "a space before the colon", text: `${head}Transfer-Encoding : chunked\r\n\r\n` },
  { name: "a tab before the name", text: `${head}\tTransfer-Encoding: chunked\r\n\r\n` },
  { name: "a folded line", text: `${head}X-A: 1\r\n Transfer-Encoding: chunked\r\n\r\n` },
  { name: "a vertical tab in the coding", text: `${head}Transfer-Encoding: \x0bchunked\r\n\r\n` },
  { name: "a bare line feed between fields", text: `${head}X-A: 1\nTransfer-Encoding: chunked\r\n\r\n` },
  { name: "bare line feeds throughout", text: `POST / HTTP/1.1\nHost: ${HOST}\n\n` },
  { name: "a bare carriage return", text: `${head}X-A: 1\rTransfer-Encoding: chunked\r\n\r\n` },
  { name: "a zero byte", text: `${head}X-A: 1\0\r\n\r\n` },
  { name: "an underlined twin of the length", text: `${head}Content_Length\x00: 4\r\n\r\n` },
  { name: "two hosts", text: `${head}Host: other.example.com\r\n\r\n` },
  { name: "no host", text: "GET / HTTP/1.1\r\n\r\n" },
  { name: "a host with a path", text: `GET / HTTP/1.1\r\nHost: ${HOST}/x\r\n\r\n` },
  {
    name: "an absolute target of another host",
    text: `GET http://other.example.com/ HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`,
  },
  { name: "a space in the target", text: `GET /a b HTTP/1.1\r\nHost: ${HOST}\r\n\r\n` },
  { name: "chunked in HTTP/1.0", text: `POST / HTTP/1.0\r\nHost: ${HOST}\r\nTransfer-Encoding: chunked\r\n\r\n` },
  { name: "CONNECT", text: `CONNECT ${HOST}:443 HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`, status: 501 },
  { name: "a broken HTTP/2 preface", text: "PRI * HTTP/2.0\r\n\r\nSN\r\n\r\n", status: 505 },
  { name: "a TLS handshake", text: "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" },
  {
    name: "a target over its limit",
    text: `GET /${"a".repeat(20_000)} HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`,
    status: 414,
  },
  { name: "a field over its limit", text: `${head}X-A: ${"a".repeat(90_000)}\r\n\r\n`, status: 431 },
  { name: "too many fields", text: `${head}${"X-A: 1\r\n".repeat(300)}\r\n`, status: 431 },
])("$name is refused, and nothing behind it is read as a request", async ({ text, status }) => {
  const paths: string[] = [];
  await using edge = await startSmallEdge({
    serve: (stream, connection) => {
      paths.push(stream.request.path);
      helloOrigin(stream, connection);
    },
  });
  using visitor = await edge.visit();
  visitor.send(text + HIDDEN);
  const got = await visitor.untilOver();
  expect(got).toStartWith(`HTTP/1.1 ${status ?? 400} `);
  expect(got.match(/HTTP\/1\.1 /g)).toHaveLength(1);
  expect(paths).toEqual([]);
  expect(edge.listener.counters.malformed).toBe(1);
});

test.each([
  { name: "a chunk size with a sign", body: "+3\r\nabc\r\n0\r\n\r\n" },
  { name: "a chunk size with 0x", body: "0x3\r\nabc\r\n0\r\n\r\n" },
  { name: "a chunk that ends in a bare line feed", body: "3\nabc\r\n0\r\n\r\n" },
  { name: "a chunk longer than it says", body: "3\r\nabcd\r\n0\r\n\r\n" },
  { name: "a chunk size over every limit", body: "FFFFFFFFFFFFFFFFF\r\n" },
  { name: "a space behind the chunk size", body: "3 \r\nabc\r\n0\r\n\r\n" },
])("a body with $name aborts its request at the origin and ends the connection", async ({ body }) => {
  const paths: string[] = [];
  const bodies: string[] = [];
  await using edge = await startSmallEdge({
    serve: (stream) => {
      paths.push(stream.request.path);
      stream.listen({
        onData: () => {},
        onEnd: () => void bodies.push("complete"),
        onDrain: () => {},
        onClose: (error) => void bodies.push(error === undefined ? "closed" : "aborted"),
      });
    },
  });
  using visitor = await edge.visit();
  visitor.send(`${head}Transfer-Encoding: chunked\r\n\r\n${body}${HIDDEN}`);
  expect(await visitor.untilOver()).toStartWith("HTTP/1.1 400 ");
  expect(paths).toEqual(["/"]);
  expect(bodies).toEqual(["aborted"]);
});
