import type { Random } from "../../../src/core/clock.ts";
import { FLAG, FRAME } from "../../../src/wire/h2/constants.ts";
import { HOSTNAME } from "../../support/whole-path.ts";
import { frame, requestFrame } from "./h2-visitor.ts";

const HOST = `Host: ${HOSTNAME}\r\n`;

/** Requests with nothing wrong with them, for mutations to begin from. */
const CORPUS: readonly ((path: string) => string)[] = [
  (path) => `GET ${path} HTTP/1.1\r\n${HOST}User-Agent: visitor\r\nAccept: */*\r\n\r\n`,
  (path) => `GET http://${HOSTNAME}${path}?a=b HTTP/1.1\r\n${HOST}\r\n`,
  (path) => `HEAD ${path} HTTP/1.1\r\n${HOST}\r\n`,
  () => `OPTIONS * HTTP/1.1\r\n${HOST}\r\n`,
  (path) => `GET ${path} HTTP/1.0\r\n${HOST}Connection: keep-alive\r\n\r\n`,
  (path) => `POST ${path} HTTP/1.1\r\n${HOST}Content-Length: 11\r\n\r\nhello world`,
  (path) => `POST ${path} HTTP/1.1\r\n${HOST}Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello`,
  (path) =>
    `PUT ${path} HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;a=b\r\n world\r\n0\r\n\r\n`,
  (path) =>
    `POST ${path} HTTP/1.1\r\n${HOST}Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\n0\r\nX-Sum: 7\r\n\r\n`,
  (path) =>
    `POST ${path} HTTP/1.1\r\n${HOST}Content-Length: 43\r\n\r\nGET ${"/hidden".padEnd(25, "x")} HTTP/1.1\r\n\r\n`,
  (path) =>
    `GET ${path} HTTP/1.1\r\n${HOST}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n` +
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
  (path) => `DELETE ${path} HTTP/1.1\r\n${HOST}Connection: close, X-A\r\nX-A: b\r\nCookie: a=b\r\n\r\n`,
];

/** What attacks are made of. */
const PIECES = [
  ...["\r", "\n", "\r\n", "\n\r", "\r\n\r\n", "\n\n", "\0", " ", "\t", "\x0b", "\x0c", "\x7f", "\x85", "\xa0", "\xff"],
  ...[":", ";", ",", "=", '"', "#", "/", "\\", "@", "%0d%0a", "_", "-", "+", "0x", "0", "1", "f", "00000000000000000"],
  ...[
    "Transfer-Encoding: chunked\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    HOST,
    "X: y\r\n",
    " folded\r\n",
  ],
  ...[
    "Connection: close\r\n",
    "HTTP/1.1",
    "HTTP/1.0",
    "HTTP/2.0",
    "0\r\n\r\n",
    "5\r\nhello\r\n",
    "chunked",
    "identity, ",
  ],
  ...[
    "Expect: 100-continue\r\n",
    "GET /hidden HTTP/1.1\r\n",
    "Upgrade: h2c\r\n",
    ";a=b",
    "Host: other.example.com\r\n",
  ],
];

function below(random: Random, limit: number): number {
  return Math.floor(random() * limit);
}

function pick<T>(random: Random, list: readonly T[]): T {
  return list[below(random, list.length)] as T;
}

/** One to three requests behind each other, changed in one to four places. */
export function mutant(random: Random, path: string): string {
  let text = "";
  for (let i = 0; i <= below(random, 3); i += 1) text += pick(random, CORPUS)(`${path}/${i}`);
  for (let i = 0; i <= below(random, 4); i += 1) text = change(random, text);
  return text;
}

function change(random: Random, text: string): string {
  const at = below(random, text.length + 1);
  const length = 1 + below(random, 12);
  const head = text.slice(0, at);
  const behind = text.slice(at + length);
  const span = text.slice(at, at + length);
  const lines = text.split("\r\n");
  switch (below(random, 10)) {
    case 0:
      return head + pick(random, PIECES) + text.slice(at);
    case 1:
      return head + pick(random, PIECES) + text.slice(at + 1);
    case 2:
      return head + behind;
    case 3:
      return head + span + span + behind;
    case 4:
      return head + String.fromCharCode(below(random, 256)) + text.slice(at + 1);
    case 5:
      return head + (/[a-z]/.test(span) ? span.toUpperCase() : span.toLowerCase()) + behind;
    case 6:
      return replaceOnce(text, at, "\r\n", pick(random, ["\n", "\r", "\r\r\n", "\r\n ", " \r\n", "\r\n\r\n"]));
    case 7:
      return replaceOnce(text, at, ":", pick(random, [" :", "\t:", "::", "", ": ", ":\r\n ", "="]));
    case 8: {
      const line = below(random, lines.length);
      lines.splice(below(random, lines.length), 0, lines[line] ?? "");
      return lines.join("\r\n");
    }
    default: {
      const digit = /[0-9]/g;
      digit.lastIndex = at;
      const found = digit.exec(text);
      return found === null
        ? text
        : text.slice(0, found.index) + String(below(random, 100)) + text.slice(found.index + 1);
    }
  }
}

function replaceOnce(text: string, from: number, what: string, by: string): string {
  const found = text.indexOf(what, from);
  return found < 0 ? text : text.slice(0, found) + by + text.slice(found + what.length);
}

/** A request of HTTP/2 with one of its texts changed, and what it asks if it asks anything. */
export function h2Mutant(
  random: Random,
  path: string,
): { readonly frames: string; readonly meaning: { method: string; target: string; body: string } } {
  const body = below(random, 2) === 0 ? "" : "hello";
  const fields: string[] = [
    ":method",
    body === "" ? "GET" : "POST",
    ":scheme",
    "http",
    ":authority",
    HOSTNAME,
    ":path",
    path,
  ];
  fields.push("x-test", "some text", "cookie", "a=b");
  if (body !== "" && below(random, 2) === 0) fields.push("content-length", String(body.length));
  const index = below(random, fields.length);
  const text = fields[index] as string;
  const at = below(random, text.length + 1);
  fields[index] = text.slice(0, at) + pick(random, PIECES) + text.slice(at + below(random, 2));
  const frames = requestFrame(1, fields, body === "");
  return {
    frames: body === "" ? frames : frames + frame(FRAME.data, FLAG.endStream, 1, Buffer.from(body)),
    meaning: { method: fields[1] ?? "", target: fields[7] ?? "", body },
  };
}
