import { HOSTNAME } from "../../support/whole-path.ts";

/** One thing that a visitor may send over HTTP/1.1, and all that may come of it. */
export interface DesyncCase {
  readonly group: string;
  readonly name: string;
  /** The bytes, a char for each. `path` is the case's own. {@link followed} goes behind them. */
  readonly send: (path: string) => string;
  /**
   * Statuses of the answers, in order. 200 is the service's, for one request; any other is the edge's own, and the
   * service saw no whole request for it. Behind the last answer the edge closes.
   */
  readonly answers: readonly number[];
  /** The edge waits for more instead of closing; it does when the visitor ends. @default false */
  readonly waits?: boolean;
}

const HOST = `Host: ${HOSTNAME}\r\n`;

/** The request that stands behind each case: served where the case leaves no doubt about where it begins. */
export function followed(path: string): string {
  return `GET ${path}/next HTTP/1.1\r\n${HOST}Connection: close\r\n\r\n`;
}

const BOTH = [200, 200];
const hidden = (path: string): string => `GET ${path}/hidden HTTP/1.1\r\n${HOST}\r\n`;

type Row = readonly [name: string, text: string | ((path: string) => string), ...answers: number[]];

/** `wrap` makes the bytes of a row's text; a row without answers has those of `otherwise`. */
function group(
  name: string,
  otherwise: readonly number[],
  wrap: (text: string, path: string) => string,
  rows: readonly Row[],
): DesyncCase[] {
  return rows.map(([what, text, ...answers]) => ({
    group: name,
    name: what,
    send: (path) => wrap(typeof text === "string" ? text : text(path), path),
    answers: answers.length > 0 ? answers : otherwise,
  }));
}

/** A POST with these field lines and a body of `hello`. */
const withFields = (lines: string, path: string): string => `POST ${path} HTTP/1.1\r\n${HOST}${lines}\r\n\r\nhello`;
const withChunks = (lines: string, path: string): string =>
  `POST ${path} HTTP/1.1\r\n${HOST}${lines}\r\n\r\n5\r\nhello\r\n0\r\n\r\n`;
/** A chunked POST with these bytes as its body. */
const chunked = (body: string, path: string): string =>
  `POST ${path} HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n${body}`;
const get = (lines: string, path: string): string => `GET ${path} HTTP/1.1\r\n${HOST}${lines}\r\n`;
/** A request line in place of the usual one. */
const asLine = (line: string): string => `${line}\r\n${HOST}\r\n`;
const whole = (text: string): string => text;

const LENGTHS = group("Content-Length alone", [400], withFields, [
  ["two that differ", "Content-Length: 5\r\nContent-Length: 6"],
  ["two that agree", "Content-Length: 5\r\nContent-Length: 5"],
  ["two in different case", "Content-Length: 5\r\ncontent-length: 0"],
  ["a list", "Content-Length: 5, 5"],
  ["a list without blanks", "Content-Length: 5,0"],
  ["plus", "Content-Length: +5"],
  ["minus", "Content-Length: -5"],
  ["hexadecimal", "Content-Length: 0x5"],
  ["two numbers", "Content-Length: 5 5"],
  ["a fraction", "Content-Length: 5.0"],
  ["an exponent", "Content-Length: 5e0"],
  ["an underscore", "Content-Length: 0_5"],
  ["quoted", 'Content-Length: "5"'],
  ["a parameter", "Content-Length: 5;a=b"],
  ["empty", "Content-Length:"],
  ["a zero byte behind", "Content-Length: 5\0"],
  ["a vertical tab behind", "Content-Length: 5\x0b"],
  ["a no-break space behind", "Content-Length: 5\xa0"],
  ["more digits than any number", `Content-Length: ${"9".repeat(30)}`, 413],
  ["a blank before the colon", "Content-Length : 5"],
  ["a tab before the colon", "Content-Length\t: 5"],
  ["folded", "Content-Length:\r\n 5"],
  ["a fold behind the number", "Content-Length: 5\r\n 0"],
  ["on a folded line", "X-A: b\r\n Content-Length: 5"],
  ["behind a bare line feed", "X-A: b\nContent-Length: 5"],
  ["behind a bare carriage return", "X-A: b\rContent-Length: 5"],
  ["blanks around the number", "Content-Length: \t 5 \t", ...BOTH],
  ["leading zeros", "Content-Length: 0005", ...BOTH],
  ["as it should be", "content-LENGTH:5", ...BOTH],
]);

const LENGTH_AND_CODING = group("Content-Length and Transfer-Encoding", [400], withChunks, [
  ["length first", "Content-Length: 4\r\nTransfer-Encoding: chunked"],
  ["coding first", "Transfer-Encoding: chunked\r\nContent-Length: 4"],
  ["a length of nothing", "Content-Length: 0\r\nTransfer-Encoding: chunked"],
  ["a length that would fit", "Content-Length: 15\r\nTransfer-Encoding: chunked"],
  ["a broken length", "Content-Length: x\r\nTransfer-Encoding: chunked"],
  ["a broken coding", "Content-Length: 15\r\nTransfer-Encoding: xchunked"],
  ["identity", "Content-Length: 15\r\nTransfer-Encoding: identity"],
  ["lower case", "content-length: 15\r\ntransfer-encoding: chunked"],
  ["a third in between", "Content-Length: 15\r\nX-A: b\r\nTransfer-Encoding: chunked"],
]);

const CODINGS = group("Transfer-Encoding in disguise", [400], withChunks, [
  ["a letter in front", "Transfer-Encoding: xchunked"],
  ["a letter missing", "Transfer-Encoding: chunke"],
  ["identity", "Transfer-Encoding: identity"],
  ["empty", "Transfer-Encoding:"],
  ["twice in one line", "Transfer-Encoding: chunked, chunked"],
  ["twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"],
  ["then identity", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"],
  ["after identity", "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked"],
  ["then something nobody knows", "Transfer-Encoding: chunked\r\nTransfer-Encoding: cow"],
  ["chunked not last", "Transfer-Encoding: chunked, identity"],
  ["after another coding", "Transfer-Encoding: gzip, chunked", 501],
  ["a comma in front", "Transfer-Encoding: , chunked", 501],
  ["a comma behind", "Transfer-Encoding: chunked,"],
  ["a parameter", "Transfer-Encoding: chunked;q=1"],
  ["quoted", 'Transfer-Encoding: "chunked"'],
  ["a vertical tab", "Transfer-Encoding: \x0bchunked"],
  ["a form feed", "Transfer-Encoding: chunked\x0c"],
  ["a zero byte", "Transfer-Encoding: chunked\0"],
  ["a no-break space", "Transfer-Encoding: \xa0chunked", 501],
  ["a next-line byte", "Transfer-Encoding: \x85chunked"],
  ["a blank before the colon", "Transfer-Encoding : chunked"],
  ["a blank in the name", "Transfer Encoding: chunked"],
  ["a zero byte in the name", "Transfer\0-Encoding: chunked"],
  ["a vertical tab behind the name", "Transfer-Encoding\x0b: chunked"],
  ["a soft hyphen in the name", "Transfer-\xadEncoding: chunked"],
  ["a byte over 127 in front", "\xffTransfer-Encoding: chunked"],
  ["a colon in front", ":Transfer-Encoding: chunked"],
  ["equals for a colon", "Transfer-Encoding=chunked"],
  ["a blank in front", " Transfer-Encoding: chunked"],
  ["a tab in front, behind a field", "X-A: b\r\n\tTransfer-Encoding: chunked"],
  ["folded", "Transfer-Encoding:\r\n chunked"],
  ["a line end before the colon", "Transfer-Encoding\r\n: chunked"],
  ["behind a bare line feed", "X-A: b\nTransfer-Encoding: chunked"],
  ["behind a bare carriage return", "X-A: b\rTransfer-Encoding: chunked"],
  ["ended by a bare line feed", "Transfer-Encoding: chunked\nX-A: b"],
  ["a tab for a blank", "Transfer-Encoding:\tchunked", ...BOTH],
  ["blanks around", "Transfer-Encoding:   chunked  ", ...BOTH],
  ["capitals", "TRANSFER-ENCODING: CHUNKED", ...BOTH],
]);

/** Fields that only look like framing: there is no body. */
const NO_FRAMING = group("what is no framing", BOTH, get, [
  ["an underscore for the length's hyphen", "Content_Length: 50\r\n"],
  ["an underscore for the coding's hyphen", "Transfer_Encoding: chunked\r\n"],
  ["TE", "TE: chunked\r\n"],
  ["Content-Encoding", "Content-Encoding: chunked\r\n"],
  ["a length in another field's value", "X-A: Content-Length: 50\r\n"],
  ["X-Content-Length", "X-Content-Length: 50\r\n"],
  ["a length of nothing", "Content-Length: 0\r\n"],
]);

const CHUNKS = group("chunks", [400], chunked, [
  ["a size with 0x", "0x5\r\nhello\r\n0\r\n\r\n"],
  ["a size with plus", "+5\r\nhello\r\n0\r\n\r\n"],
  ["a size with minus", "-5\r\nhello\r\n0\r\n\r\n"],
  ["a blank before the size", " 5\r\nhello\r\n0\r\n\r\n"],
  ["a blank behind the size", "5 \r\nhello\r\n0\r\n\r\n"],
  ["a tab behind the size", "5\t\r\nhello\r\n0\r\n\r\n"],
  ["a blank before an extension", "5 ;a=b\r\nhello\r\n0\r\n\r\n"],
  ["no size", "\r\nhello\r\n0\r\n\r\n"],
  ["an extension alone", ";a=b\r\nhello\r\n0\r\n\r\n"],
  ["a letter beyond f", "5g\r\nhello\r\n0\r\n\r\n"],
  ["an underscore", "0_5\r\nhello\r\n0\r\n\r\n"],
  ["a comma", "5,5\r\nhello\r\n0\r\n\r\n"],
  ["a zero byte", "5\0\r\nhello\r\n0\r\n\r\n"],
  ["17 digits", `${"0".repeat(16)}5\r\nhello\r\n0\r\n\r\n`],
  ["a size over 64 bits", "10000000000000005\r\nhello\r\n0\r\n\r\n"],
  ["a size of 64 bits", "FFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n"],
  ["a size of 63 bits", "7FFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n"],
  ["a size that ends in a bare line feed", "5\nhello\r\n0\r\n\r\n"],
  ["a size that ends in a bare carriage return", "5\rhello\r\n0\r\n\r\n"],
  ["a size that ends in two carriage returns", "5\r\r\nhello\r\n0\r\n\r\n"],
  ["a line feed in an extension", (path) => `5;a\nhello\r\n0\r\n\r\n${hidden(path)}`],
  ["a carriage return in an extension", "5;a\rb\r\nhello\r\n0\r\n\r\n"],
  ["a zero byte in an extension", "5;a\0\r\nhello\r\n0\r\n\r\n"],
  ["an extension without end", `5;${"a".repeat(2_000)}\r\nhello\r\n0\r\n\r\n`, 413],
  ["more bytes than the size", "5\r\nhello!\r\n0\r\n\r\n"],
  ["fewer bytes than the size", "6\r\nhello\r\n0\r\n\r\n"],
  ["no line end behind a chunk", "5\r\nhello0\r\n\r\n"],
  ["a bare line feed behind a chunk", "5\r\nhello\n0\r\n\r\n"],
  ["a bare carriage return behind a chunk", "5\r\nhello\r0\r\n\r\n"],
  ["a last chunk that ends in a bare line feed", "5\r\nhello\r\n0\n\r\n"],
  ["a body that ends in a bare line feed", "5\r\nhello\r\n0\r\n\n"],
  ["an extension", "5;a=b\r\nhello\r\n0\r\n\r\n", ...BOTH],
  ["an extension in quotes that never end", '5;a="\r\nhello\r\n0;b="c\r\n\r\n', ...BOTH],
  ["an extension with a request in it", (path) => `5;${hidden(path).split("\r\n")[0]}\r\nhello\r\n0\r\n\r\n`, ...BOTH],
  ["a chunk with a request in it", (path) => oneChunk(hidden(path)), ...BOTH],
  ["leading zeros", "0000000000000005\r\nhello\r\n0000\r\n\r\n", ...BOTH],
  ["hexadecimal in both cases", "aA\r\n".concat("x".repeat(0xaa), "\r\n0\r\n\r\n"), ...BOTH],
  ["many chunks", `${"1\r\na\r\n".repeat(300)}0\r\n\r\n`, ...BOTH],
]);

function oneChunk(text: string): string {
  return `${text.length.toString(16)}\r\n${text}\r\n0\r\n\r\n`;
}

const TRAILERS = group("trailers", [400], (lines, path) => chunked(`5\r\nhello\r\n0\r\n${lines}\r\n\r\n`, path), [
  ["a length", "Content-Length: 50", ...BOTH],
  ["a coding", "Transfer-Encoding: chunked", ...BOTH],
  ["a host", "Host: other.example.com", ...BOTH],
  ["who the visitor is", "X-Forwarded-For: 192.0.2.7\r\nCf-Connecting-Ip: 192.0.2.7", ...BOTH],
  ["a plain one", "X-Sum: 7", ...BOTH],
  ["two lengths", "Content-Length: 5\r\nContent-Length: 5"],
  ["both kinds of framing", "Content-Length: 5\r\nTransfer-Encoding: chunked"],
  ["folded", "X-Sum: 7\r\n 8"],
  ["a blank before the colon", "X-Sum : 7"],
  ["no colon", "X-Sum"],
  ["a zero byte", "X-Sum: \0"],
  ["a bare line feed", "X-Sum: 7\nX-More: 8"],
  ["a bare carriage return", "X-Sum: 7\rX-More: 8"],
  ["a request line", (path) => hidden(path).split("\r\n")[0] ?? ""],
]);

const FIELDS = group("field lines", [400], get, [
  ["a zero byte in a name", "X\0A: b\r\n"],
  ["a zero byte in a value", "X-A: b\0c\r\n"],
  ["a control byte in a value", "X-A: b\x01c\r\n"],
  ["DEL in a value", "X-A: b\x7fc\r\n"],
  ["an empty name", ": b\r\n"],
  ["no colon", "X-A\r\n"],
  ["brackets in a name", "X[A]: b\r\n"],
  ["a byte over 127 in a name", "X\xe9: b\r\n"],
  ["a folded value", "X-A: b\r\n c\r\n"],
  ["a fold of blanks alone", "X-A: b\r\n \r\n"],
  ["line feed, then carriage return", "X-A: b\n\rX-B: c\r\n"],
  ["two carriage returns", "X-A: b\r\r\n"],
  ["a head that ends in bare line feeds", "X-A: b\n\n"],
  ["an empty value", "X-A:\r\n", ...BOTH],
  ["a tab in a value", "X-A: b\tc\r\n", ...BOTH],
  ["bytes over 127 in a value", "X-A: \xe9\xff\r\n", ...BOTH],
  ["200 of them and more", "X-A: b\r\n".repeat(300), 431],
  ["a name that is said to belong to the connection", "Connection: host, x-a\r\nX-A: b\r\n", ...BOTH],
]);

const LINES = group("request lines", [400], whole, [
  ["a blank in front", (path) => asLine(` GET ${path} HTTP/1.1`)],
  ["two blanks", (path) => asLine(`GET  ${path} HTTP/1.1`)],
  ["tabs for blanks", (path) => asLine(`GET\t${path}\tHTTP/1.1`)],
  ["a blank behind", (path) => asLine(`GET ${path} HTTP/1.1 `)],
  ["a blank in the target", (path) => asLine(`GET ${path} x HTTP/1.1`)],
  ["a zero byte in the target", (path) => asLine(`GET ${path}\0 HTTP/1.1`)],
  ["a zero byte in the method", (path) => asLine(`G\0T ${path} HTTP/1.1`)],
  ["a method that is no token", (path) => asLine(`GE(T ${path} HTTP/1.1`)],
  ["a fragment", (path) => asLine(`GET ${path}#x HTTP/1.1`)],
  ["two carriage returns", (path) => asLine(`GET ${path} HTTP/1.1\r`)],
  ["a bare line feed", (path) => `GET ${path} HTTP/1.1\n${HOST}\r\n`],
  ["bare line feeds throughout", (path) => `GET ${path} HTTP/1.1\nHost: ${HOSTNAME}\n\n`],
  ["two empty lines in front", (path) => `\r\n\r\n${get("", path)}`],
  ["a line feed in front", (path) => `\n${get("", path)}`],
  ["a carriage return in front", (path) => `\r${get("", path)}`],
  ["an empty line in front", (path) => `\r\n${get("", path)}`, ...BOTH],
  ["a method nobody knows", (path) => asLine(`PURGE-ALL ${path} HTTP/1.1`), ...BOTH],
  ["bytes over 127 in the target", (path) => asLine(`GET ${path}/\xc3\xa9 HTTP/1.1`), ...BOTH],
  ["line ends in percent signs", (path) => asLine(`GET ${path}/%0d%0a%00 HTTP/1.1`), ...BOTH],
  ["a target over its limit", (path) => asLine(`GET ${path}/${"a".repeat(20_000)} HTTP/1.1`), 414],
]);

const VERSIONS = group("versions", [400], whole, [
  ["0.9", (path) => `GET ${path}\r\n`],
  ["0.9 with fields", (path) => asLine(`GET ${path}`)],
  ["0.9 by name", (path) => asLine(`GET ${path} HTTP/0.9`), 505],
  ["1.2", (path) => asLine(`GET ${path} HTTP/1.2`), 505],
  ["2.0", (path) => asLine(`GET ${path} HTTP/2.0`), 505],
  ["1.10", (path) => asLine(`GET ${path} HTTP/1.10`)],
  ["01.1", (path) => asLine(`GET ${path} HTTP/01.1`)],
  ["1,1", (path) => asLine(`GET ${path} HTTP/1,1`)],
  ["lower case", (path) => asLine(`GET ${path} http/1.1`)],
  ["a letter behind", (path) => asLine(`GET ${path} HTTP/1.1x`)],
  ["a blank within", (path) => asLine(`GET ${path} HTTP/ 1.1`)],
  ["1.0", (path) => asLine(`GET ${path} HTTP/1.0`), 200],
  ["1.0 that stays", (path) => `GET ${path} HTTP/1.0\r\n${HOST}Connection: keep-alive\r\n\r\n`, ...BOTH],
  ["1.0 with a length", (path) => `POST ${path} HTTP/1.0\r\n${HOST}Content-Length: 5\r\n\r\nhello`, 200],
  ["1.0 with chunks", (path) => chunked("5\r\nhello\r\n0\r\n\r\n", path).replace("/1.1", "/1.0")],
  ["1.0 without a host", (path) => `GET ${path} HTTP/1.0\r\n\r\n`, 404],
]);

const HOSTS = group("hosts and targets", [400], whole, [
  ["none", (path) => `GET ${path} HTTP/1.1\r\n\r\n`],
  ["empty", (path) => `GET ${path} HTTP/1.1\r\nHost:\r\n\r\n`],
  ["twice the same", (path) => get(HOST, path)],
  ["twice, another", (path) => get("Host: other.example.com\r\n", path)],
  ["twice, in other case", (path) => get("hOST: other.example.com\r\n", path)],
  ["a blank before the colon", (path) => `GET ${path} HTTP/1.1\r\nHost : ${HOSTNAME}\r\n\r\n`],
  ["folded", (path) => `GET ${path} HTTP/1.1\r\nHost:\r\n ${HOSTNAME}\r\n\r\n`],
  ["a list", (path) => `GET ${path} HTTP/1.1\r\nHost: ${HOSTNAME}, other\r\n\r\n`],
  ["a path", (path) => `GET ${path} HTTP/1.1\r\nHost: ${HOSTNAME}/x\r\n\r\n`],
  ["user info", (path) => `GET ${path} HTTP/1.1\r\nHost: a@${HOSTNAME}\r\n\r\n`],
  ["percent signs", (path) => `GET ${path} HTTP/1.1\r\nHost: ${HOSTNAME}%2e\r\n\r\n`],
  ["a port beyond all", (path) => `GET ${path} HTTP/1.1\r\nHost: ${HOSTNAME}:99999\r\n\r\n`],
  ["an empty port", (path) => `GET ${path} HTTP/1.1\r\nHost: ${HOSTNAME}:\r\n\r\n`],
  ["a port", (path) => `GET ${path} HTTP/1.1\r\nHost: ${HOSTNAME}:8080\r\n\r\n`, ...BOTH],
  ["capitals", (path) => `GET ${path} HTTP/1.1\r\nHost: ${HOSTNAME.toUpperCase()}\r\n\r\n`, ...BOTH],
  ["one that is not served here", (path) => `GET ${path} HTTP/1.1\r\nHost: other.example.com\r\n\r\n`, 404, 200],
  ["absolute form", (path) => asLine(`GET http://${HOSTNAME}${path} HTTP/1.1`), ...BOTH],
  ["absolute form with a query alone", () => asLine(`GET http://${HOSTNAME}?x=/y HTTP/1.1`), ...BOTH],
  ["absolute form of another host", (path) => asLine(`GET http://other.example.com${path} HTTP/1.1`)],
  ["absolute form with another port", (path) => asLine(`GET http://${HOSTNAME}:81${path} HTTP/1.1`)],
  ["absolute form with user info", (path) => asLine(`GET http://a@${HOSTNAME}${path} HTTP/1.1`)],
  ["absolute form without Host", (path) => `GET http://${HOSTNAME}${path} HTTP/1.1\r\n\r\n`],
  ["absolute form without an authority", (path) => asLine(`GET http://${path} HTTP/1.1`)],
  ["absolute form of another scheme", (path) => asLine(`GET ftp://${HOSTNAME}${path} HTTP/1.1`)],
  ["authority form", () => asLine(`GET ${HOSTNAME}:80 HTTP/1.1`)],
  ["* for GET", () => asLine("GET * HTTP/1.1")],
  ["a query without a path", () => asLine("GET ?x HTTP/1.1")],
  ["two slashes", (path) => asLine(`GET /${path} HTTP/1.1`), ...BOTH],
  ["a backslash", (path) => asLine(`GET ${path}\\..\\x HTTP/1.1`), ...BOTH],
  ["OPTIONS *", () => asLine("OPTIONS * HTTP/1.1"), 501, 200],
  ["OPTIONS in absolute form", () => asLine(`OPTIONS http://${HOSTNAME} HTTP/1.1`), 501, 200],
  ["CONNECT", () => asLine(`CONNECT ${HOSTNAME}:443 HTTP/1.1`), 501],
  ["CONNECT with a path", (path) => asLine(`CONNECT ${path} HTTP/1.1`), 501],
  ["CONNECT with a body", (path) => withFields("Content-Length: 5", path).replace("POST", "CONNECT"), 501],
]);

const EXPECTATIONS = group("expectations", [417], withFields, [
  ["one nobody knows", "Content-Length: 5\r\nExpect: 200-ok"],
  ["more than one", "Content-Length: 5\r\nExpect: 100-continue, x"],
  ["100-continue", "Content-Length: 5\r\nExpect: 100-continue", ...BOTH],
  ["100-continue in capitals, twice", "Content-Length: 5\r\nExpect: 100-CONTINUE\r\nexpect: 100-continue", ...BOTH],
]);

const CONNECTIONS = group("connections and upgrades", BOTH, whole, [
  [
    "a length that is said to belong to the connection",
    (path) => withFields("Connection: content-length\r\nContent-Length: 5", path),
  ],
  [
    "a coding that is said to",
    (path) => withChunks("Connection: transfer-encoding\r\nTransfer-Encoding: chunked", path),
  ],
  ["close", (path) => get("Connection: close\r\n", path), 200],
  ["close and keep-alive", (path) => get("Connection: keep-alive, close\r\n", path), 200],
  ["close in a second line", (path) => get("Connection: keep-alive\r\nConnection: close\r\n", path), 200],
  ["fields of proxies", (path) => get("Proxy-Connection: close\r\nKeep-Alive: timeout=1\r\n", path)],
  ["h2c", (path) => get("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n", path)],
  ["h2c with a body", (path) => withFields("Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5", path)],
  ["a WebSocket with a body", (path) => withFields(`${WEBSOCKET}Content-Length: 5`, path)],
  ["a WebSocket with chunks", (path) => withChunks(`${WEBSOCKET}Transfer-Encoding: chunked`, path)],
  ["a WebSocket that the service does not take", (path) => get(WEBSOCKET, path)],
  ["a WebSocket of no version it knows", (path) => get(WEBSOCKET.replace("13", "777"), path)],
  ["Upgrade that Connection does not name", (path) => get("Upgrade: websocket\r\n", path)],
  ["two kinds of upgrade", (path) => get("Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n", path)],
]);

const WEBSOCKET =
  "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";

const ENDS = group("where one ends and the next begins", BOTH, whole, [
  ["GET with a body", (path) => withFields("Content-Length: 5", path).replace("POST", "GET")],
  ["GET with chunks", (path) => withChunks("Transfer-Encoding: chunked", path).replace("POST", "GET")],
  ["HEAD with a body", (path) => withFields("Content-Length: 5", path).replace("POST", "HEAD")],
  ["a body that is a request", (path) => bodyOf(hidden(path), path)],
  ["a body that ends within a request", (path) => `${bodyOf(hidden(path), path)}${hidden(path)}`, ...BOTH, 200],
  ["two in a row", (path) => get("", path) + get("", `${path}/2`), ...BOTH, 200],
  ["an empty line behind a body", (path) => `${withFields("Content-Length: 5", path)}\r\n`],
  ["two bytes too many behind a body", (path) => `${withFields("Content-Length: 5", path)}!!`, 200, 200],
  ["a blank behind a body", (path) => `${withFields("Content-Length: 5", path)} `, 200, 400],
  ["a zero byte behind a body", (path) => `${withFields("Content-Length: 5", path)}\0`, 200, 400],
  ["a last chunk behind a body", (path) => `${withFields("Content-Length: 5", path)}0\r\n\r\n`, 200, 400],
  ["a refusal behind one that was served", (path) => get("", path) + get("X : a\r\n", `${path}/2`), 200, 400],
  ["POST without any framing", (path) => `POST ${path} HTTP/1.1\r\n${HOST}\r\n`],
]);

function bodyOf(text: string, path: string): string {
  return `POST ${path} HTTP/1.1\r\n${HOST}Content-Length: ${text.length}\r\n\r\n${text}`;
}

const UNFINISHED: readonly DesyncCase[] = group("what does not come to its end", [400], whole, [
  ["a length that takes the next request in", (path) => withFields("Content-Length: 500", path)],
  [
    "a length that takes the next request in, behind others",
    (path) => get("", `${path}/1`) + get("", `${path}/2`) + withFields("Content-Length: 500", path),
    ...[200, 200, 400],
  ],
  ["a chunk that takes the next request in", (path) => chunked("500\r\nhello", path)],
  ["trailers that take the next request in", (path) => chunked("5\r\nhello\r\n0\r\nX-Sum: ", path), 200],
]).map((one) => ({ ...one, waits: true }));

export const DESYNC_CASES: readonly DesyncCase[] = [
  ...LENGTHS,
  ...LENGTH_AND_CODING,
  ...CODINGS,
  ...NO_FRAMING,
  ...CHUNKS,
  ...TRAILERS,
  ...FIELDS,
  ...LINES,
  ...VERSIONS,
  ...HOSTS,
  ...EXPECTATIONS,
  ...CONNECTIONS,
  ...ENDS,
  ...UNFINISHED,
];
