import { FLAG, FRAME } from "../../../src/wire/h2/constants.ts";
import type { RawHeaders } from "../../../src/wire/headers.ts";
import { HOSTNAME } from "../../support/whole-path.ts";
import { frame, requestFrame } from "./h2-visitor.ts";

/** What a visitor may send over HTTP/2 on stream 1, for a service that speaks HTTP/1.1. */
export interface H2DesyncCase {
  readonly name: string;
  readonly send: (path: string) => string;
  /** The one request that the service sees; undefined = none, and the visitor gets an error. */
  readonly arrives?: (path: string) => { readonly method: string; readonly target: string; readonly body: string };
}

type Fields = (path: string) => RawHeaders;

const pseudo = (method: string, path: string, authority: string = HOSTNAME): RawHeaders => [
  ...[":method", method, ":scheme", "http", ":authority", authority, ":path", path],
];
const data = (text: string, flags = 0): string => frame(FRAME.data, flags, 1, Buffer.from(text, "latin1"));
const trailers = (fields: RawHeaders): string => requestFrame(1, fields, true);
const smuggled = (path: string): string => `GET ${path}/hidden HTTP/1.1\r\nHost: ${HOSTNAME}\r\n\r\n`;

const head = (fields: Fields) => (path: string) => requestFrame(1, fields(path), true);
/** A POST with these fields and this body. */
const post = (more: RawHeaders, body: (path: string) => string) => (path: string) =>
  requestFrame(1, [...pseudo("POST", path), ...more], false) + data(body(path), FLAG.endStream);
const withValue = (value: string) => head((path) => [...pseudo("GET", path), "x-test", value]);
const withName = (name: string) => head((path) => [...pseudo("GET", path), name, "a"]);
const withTarget = (target: (path: string) => string) => head((path) => pseudo("GET", target(path)));
const withAuthority = (authority: string) => head((path) => pseudo("GET", path, authority));
const withMethod = (method: (path: string) => string) => head((path) => pseudo(method(path), path));
const withFields = (...more: string[]) => head((path) => [...pseudo("GET", path), ...more]);

const gets = (path: string) => ({ method: "GET", target: path, body: "" });
const posts = (body: (path: string) => string) => (path: string) => ({
  method: "POST",
  target: path,
  body: body(path),
});
const hello = (): string => "hello";

const REFUSED: readonly (readonly [string, (path: string) => string])[] = [
  ["a request in the method", withMethod((path) => `GET ${path}/hidden HTTP/1.1\r\nHost: ${HOSTNAME}\r\n\r\nGET`)],
  ["a blank in the method", withMethod((path) => `GET ${path}/hidden HTTP/1.1`)],
  ["a line feed in the method", withMethod(() => "GET\n")],
  ["a request in the path", withTarget((path) => `${path} HTTP/1.1\r\nHost: ${HOSTNAME}\r\n\r\nGET ${path}/hidden`)],
  ["a version in the path", withTarget((path) => `${path} HTTP/1.1`)],
  ["a blank in the path", withTarget((path) => `${path} x`)],
  ["a tab in the path", withTarget((path) => `${path}\tx`)],
  ["a zero byte in the path", withTarget((path) => `${path}\0`)],
  ["a carriage return in the path", withTarget((path) => `${path}\rx`)],
  ["a fragment", withTarget((path) => `${path}#x`)],
  ["a path without slash", withTarget((path) => path.slice(1))],
  ["a path in absolute form", withTarget((path) => `http://${HOSTNAME}${path}`)],
  ["an empty path", withTarget(() => "")],
  ["* for GET", withTarget(() => "*")],
  ["* for OPTIONS", head(() => pseudo("OPTIONS", "*"))],
  ["fields in the authority", withAuthority(`${HOSTNAME}\r\nTransfer-Encoding: chunked`)],
  ["a blank in the authority", withAuthority(`${HOSTNAME} x`)],
  ["a path in the authority", withAuthority(`${HOSTNAME}/x`)],
  ["user info in the authority", withAuthority(`a@${HOSTNAME}`)],
  ["a list in the authority", withAuthority(`${HOSTNAME},other.example.com`)],
  ["an empty authority", withAuthority("")],
  ["an authority and another host", withFields("host", "other.example.com")],
  ["two hosts", withFields("host", HOSTNAME, "host", HOSTNAME)],
  ["a host with a line end", withFields("host", `${HOSTNAME}\r\nX-A: b`)],
  [
    "a scheme with a line end",
    head((path) => [":method", "GET", ":scheme", "http\r\n", ...pseudo("GET", path).slice(4)]),
  ],
  [
    "a scheme that is a target",
    head((path) => [":method", "GET", ":scheme", "http://a/", ...pseudo("GET", path).slice(4)]),
  ],
  ["a pseudo-field twice", head((path) => [...pseudo("GET", path), ":path", `${path}/hidden`])],
  ["a pseudo-field behind a field", withFields("x-test", "a", ":authority", "other.example.com")],
  ["a field in a value", withValue("a\r\nTransfer-Encoding: chunked")],
  ["a request in a value", withValue(`a\r\n\r\nGET /hidden HTTP/1.1\r\nHost: ${HOSTNAME}\r\n\r\n`)],
  ["a bare line feed in a value", withValue("a\nb: c")],
  ["a bare carriage return in a value", withValue("a\rb: c")],
  ["a zero byte in a value", withValue("a\0b")],
  ["a control byte in a value", withValue("a\x01b")],
  ["DEL in a value", withValue("a\x7fb")],
  ["a blank in front of a value", withValue(" a")],
  ["a tab behind a value", withValue("a\t")],
  ["a field in a name", withName("x-test: a\r\ntransfer-encoding")],
  ["a colon in a name", withName("content-length:")],
  ["a blank in a name", withName("content-length ")],
  ["a zero byte in a name", withName("x\0test")],
  ["a capital in a name", withName("Content-length")],
  ["an empty name", withName("")],
  ["a byte over 127 in a name", withName("x\xe9")],
  ["Transfer-Encoding", post(["transfer-encoding", "chunked"], (path) => `0\r\n\r\n${smuggled(path)}`)],
  ["Transfer-Encoding with a length", post(["transfer-encoding", "chunked", "content-length", "5"], hello)],
  ["Connection", withFields("connection", "content-length")],
  ["Upgrade", withFields("upgrade", "websocket")],
  ["TE: chunked", withFields("te", "chunked")],
  ["a length below the body", post(["content-length", "0"], smuggled)],
  ["a length within the body", post(["content-length", "4"], hello)],
  ["a length above the body", post(["content-length", "6"], hello)],
  ["a length and no body", withFields("content-length", "50")],
  ["two lengths", post(["content-length", "5", "content-length", "5"], hello)],
  ["a list of lengths", post(["content-length", "5, 5"], hello)],
  ["a signed length", post(["content-length", "+5"], hello)],
  ["a length in hexadecimal", post(["content-length", "0x5"], hello)],
  ["an empty length", post(["content-length", ""], hello)],
  ["a length without end", post(["content-length", "9".repeat(30)], hello)],
  ["an expectation nobody knows", post(["expect", "200-ok"], hello)],
  ["CONNECT", head(() => [":method", "CONNECT", ":authority", `${HOSTNAME}:443`])],
  ["a protocol without CONNECT", head((path) => [":protocol", "websocket", ...pseudo("GET", path)])],
  [
    "a body that is taken back",
    (path) => requestFrame(1, pseudo("POST", path), false) + data("hello") + frame(FRAME.rstStream, 0, 1, [0, 0, 0, 8]),
  ],
  [
    "trailers with a pseudo-field",
    (path) => requestFrame(1, pseudo("POST", path), false) + data("hello") + trailers([":path", `${path}/hidden`]),
  ],
  [
    "trailers with a line end",
    (path) =>
      requestFrame(1, pseudo("POST", path), false) + data("hello") + trailers(["x-sum", `7\r\n\r\n${smuggled(path)}`]),
  ],
  [
    "trailers with Transfer-Encoding",
    (path) => requestFrame(1, pseudo("POST", path), false) + data("hello") + trailers(["transfer-encoding", "chunked"]),
  ],
];

const SERVED: readonly (readonly [string, (path: string) => string, NonNullable<H2DesyncCase["arrives"]>])[] = [
  [
    "a host instead of an authority",
    head((path) => [":method", "GET", ":scheme", "http", ":path", path, "host", HOSTNAME]),
    gets,
  ],
  ["a host that is the authority", withFields("host", HOSTNAME), gets],
  ["a name that looks like framing", withFields("transfer_encoding", "chunked", "content_length", "50"), gets],
  ["Content-Encoding: chunked", withFields("content-encoding", "chunked"), gets],
  ["TE: trailers", withFields("te", "trailers"), gets],
  ["settings of an upgrade", withFields("http2-settings", "AAMAAABk"), gets],
  ["a length of nothing", withFields("content-length", "0"), gets],
  ["an empty value", withValue(""), gets],
  ["bytes over 127 in a value", withValue("\xe9\xff"), gets],
  ["crumbs of cookies", withFields("cookie", "a=b", "cookie", "c=d"), gets],
  ["line ends in percent signs", withTarget((path) => `${path}/%0d%0a`), (path) => gets(`${path}/%0d%0a`)],
  ["a backslash", withTarget((path) => `${path}\\x`), (path) => gets(`${path}\\x`)],
  ["a body that is a request", post([], smuggled), posts(smuggled)],
  [
    "a body that ends chunks",
    post([], (path) => `0\r\n\r\n${smuggled(path)}`),
    posts((path) => `0\r\n\r\n${smuggled(path)}`),
  ],
  ["a length that is kept", post(["content-length", "5"], hello), posts(hello)],
  ["a length with leading zeros", post(["content-length", "0005"], hello), posts(hello)],
  ["a body with an expectation", post(["expect", "100-continue"], hello), posts(hello)],
  ["an empty body", post([], () => ""), posts(() => "")],
  [
    "a body in pieces with padding",
    (path) =>
      requestFrame(1, pseudo("POST", path), false) +
      data("he") +
      frame(FRAME.data, FLAG.padded | FLAG.endStream, 1, [3, ...Buffer.from("llo"), 0, 0, 0]),
    posts(hello),
  ],
  [
    "trailers with a length and a host",
    (path) =>
      requestFrame(1, pseudo("POST", path), false) +
      data("hello") +
      trailers(["content-length", "50", "host", "other.example.com", "x-sum", "7"]),
    posts(hello),
  ],
  [
    "GET with a body",
    (path) => requestFrame(1, pseudo("GET", path), false) + data("hello", FLAG.endStream),
    (path) => ({ ...gets(path), body: "hello" }),
  ],
  ["a header block in pieces of one byte", inPieces, gets],
];

/** Every byte of the block in a frame of its own. */
function inPieces(path: string): string {
  const block = [...Buffer.from(requestFrame(1, pseudo("GET", path), true), "latin1").subarray(9)];
  return block
    .map((byte, i) =>
      i === 0
        ? frame(FRAME.headers, FLAG.endStream, 1, [byte])
        : frame(FRAME.continuation, i === block.length - 1 ? FLAG.endHeaders : 0, 1, [byte]),
    )
    .join("");
}

export const H2_DESYNC_CASES: readonly H2DesyncCase[] = [
  ...REFUSED.map(([name, send]) => ({ name, send })),
  ...SERVED.map(([name, send, arrives]) => ({ name, send, arrives })),
];
