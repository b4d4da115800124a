import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import net from "node:net";
import { parseIngress } from "../../src/ingress/rules.ts";
import { MAX_INFORMATIONAL, MAX_TRAILER_FIELDS, RESPONSE_HEAD_LIMITS } from "../../src/wire/h1/limits.ts";
import { pollUntil } from "../support/poll-until.ts";
import { HOSTNAME, startWholePath, type WholePath } from "../support/whole-path.ts";

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const HEAD = "HTTP/1.1 200 OK\r\n";
/** Of requests with one. */
const BODY_LENGTH = 10;
const INTERIM = "HTTP/1.1 102 Processing\r\n\r\n";

interface Row {
  readonly name: string;
  readonly answer: string;
  /** The origin says no more afterwards. @default it keeps the connection open */
  readonly after?: "end" | "reset";
  readonly method?: string;
  readonly fields?: string;
}

/** Answers that cannot be understood before their head is through: the visitor gets 502. */
const REFUSED: readonly Row[] = [
  { name: "silence, then FIN", answer: "", after: "end" },
  { name: "silence, then a reset", answer: "", after: "reset" },
  { name: "another protocol", answer: "SSH-2.0-OpenSSH_9.9\r\n" },
  { name: "HTTP/2", answer: "\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0d" },
  { name: "HTTP/2, as a client begins it", answer: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" },
  { name: "a request instead of an answer", answer: "GET / HTTP/1.1\r\nHost: a\r\n\r\n" },
  { name: "nothing but NUL", answer: "\0".repeat(1_000) },
  { name: "nothing but line ends", answer: "\r\n".repeat(1_000) },
  { name: "a byte order mark in front", answer: `\xef\xbb\xbf${OK}` },
  { name: "a TLS alert", answer: "\x15\x03\x01\0\x02\x02\x46" },
  { name: "a body without a head (HTTP/0.9)", answer: "<html>hello</html>", after: "end" },
  { name: "an empty line in front", answer: `\r\n${OK}` },
  { name: "a space in front", answer: ` ${OK}` },
  { name: "version 2.0", answer: OK.replace("1.1", "2.0") },
  { name: "version 1.10", answer: OK.replace("1.1", "1.10") },
  { name: "a lower-case protocol", answer: OK.replace("HTTP", "http") },
  { name: "no version", answer: OK.replace("HTTP/1.1 ", "") },
  { name: "two spaces before the status", answer: OK.replace(" 200", "  200") },
  { name: "a tab before the status", answer: OK.replace(" 200", "\t200") },
  { name: "a status of two digits", answer: OK.replace("200", "20") },
  { name: "a status of four digits", answer: OK.replace("200", "2000") },
  { name: "a status below 100", answer: OK.replace("200", "099") },
  { name: "a status that is no number", answer: OK.replace("200", "2x0") },
  { name: "a NUL in the reason", answer: OK.replace("OK", "O\0K") },
  { name: "a lone CR in the reason", answer: OK.replace("OK", "O\rK") },
  { name: "LF alone", answer: OK.replaceAll("\r\n", "\n") },
  { name: "LF alone behind a field", answer: `${HEAD}X: 1\nContent-Length: 2\r\n\r\nok` },
  { name: "LF alone at the end of the head", answer: `${HEAD}Content-Length: 2\r\n\nok` },
  { name: "CR alone behind a field", answer: `${HEAD}X: 1\rContent-Length: 2\r\n\r\nok` },
  { name: "a line without a colon", answer: `${HEAD}Nonsense\r\nContent-Length: 2\r\n\r\nok` },
  { name: "a field without a name", answer: `${HEAD}: x\r\nContent-Length: 2\r\n\r\nok` },
  { name: "a space in front of the colon", answer: `${HEAD}Content-Length : 2\r\n\r\nok` },
  { name: "a space in a name", answer: `${HEAD}X Y: 1\r\nContent-Length: 2\r\n\r\nok` },
  { name: "a folded line", answer: `${HEAD}X: 1\r\n Set-Cookie: a=b\r\nContent-Length: 2\r\n\r\nok` },
  { name: "a folded line at once", answer: `${HEAD} X: 1\r\nContent-Length: 2\r\n\r\nok` },
  { name: "a NUL in a value", answer: `${HEAD}X: a\0b\r\nContent-Length: 2\r\n\r\nok` },
  { name: "a NUL in a name", answer: `${HEAD}X\0: a\r\nContent-Length: 2\r\n\r\nok` },
  { name: "a DEL in a name", answer: `${HEAD}X\x7f: a\r\nContent-Length: 2\r\n\r\nok` },
  { name: "a name beyond ASCII", answer: `${HEAD}X\xe9: a\r\nContent-Length: 2\r\n\r\nok` },
  { name: "a name in parentheses", answer: `${HEAD}(X): a\r\nContent-Length: 2\r\n\r\nok` },
  { name: "a lone CR in a value", answer: `${HEAD}X: a\rb\r\nContent-Length: 2\r\n\r\nok` },
  { name: "two CR at the end of a line", answer: `${HEAD}X: a\r\r\nContent-Length: 2\r\n\r\nok` },
  { name: "a lone CR at the end of the head", answer: `${HEAD}Content-Length: 2\r\n\rok`, after: "end" },
  { name: "a line folded by a tab", answer: `${HEAD}X: 1\r\n\tSet-Cookie: a=b\r\nContent-Length: 2\r\n\r\nok` },
  { name: "a bell in a value", answer: `${HEAD}X: a\x07b\r\nContent-Length: 2\r\n\r\nok` },
  { name: "two lengths", answer: `${HEAD}Content-Length: 2\r\nContent-Length: 3\r\n\r\nokk` },
  { name: "two lengths in a list", answer: `${HEAD}Content-Length: 2, 3\r\n\r\nokk` },
  { name: "a negative length", answer: `${HEAD}Content-Length: -1\r\n\r\n` },
  { name: "a length with a sign", answer: `${HEAD}Content-Length: +2\r\n\r\nok` },
  { name: "a length in hexadecimal", answer: `${HEAD}Content-Length: 0x2\r\n\r\nok` },
  { name: "an empty length", answer: `${HEAD}Content-Length: \r\n\r\nok` },
  { name: "a length with a fraction", answer: `${HEAD}Content-Length: 2.0\r\n\r\nok` },
  { name: "a length with an exponent", answer: `${HEAD}Content-Length: 2e0\r\n\r\nok` },
  { name: "a length with a space in it", answer: `${HEAD}Content-Length: 2 0\r\n\r\nok` },
  { name: "a length with a semicolon", answer: `${HEAD}Content-Length: 2;\r\n\r\nok` },
  { name: "a length in other digits", answer: `${HEAD}Content-Length: \xb2\r\n\r\nok` },
  { name: "a length beyond 64 bits", answer: `${HEAD}Content-Length: 18446744073709551618\r\n\r\nok` },
  { name: "a length beyond 53 bits", answer: `${HEAD}Content-Length: 9007199254740993\r\n\r\nok` },
  {
    name: "the same length twice, then another",
    answer: `${HEAD}Content-Length: 2, 2\r\nContent-Length: 4\r\n\r\nokok`,
  },
  { name: "a length beyond all numbers", answer: `${HEAD}Content-Length: 99999999999999999999\r\n\r\nok` },
  { name: "length and encoding", answer: `${HEAD}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n` },
  { name: "encoding and length", answer: `${HEAD}Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n` },
  {
    name: "an encoding twice",
    answer: `${HEAD}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
  },
  { name: "an encoding twice in a list", answer: `${HEAD}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n` },
  { name: "an encoding nobody knows", answer: `${HEAD}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n` },
  { name: "an encoding with a tail", answer: `${HEAD}Transfer-Encoding: chunked;x\r\n\r\n0\r\n\r\n` },
  { name: "chunked that is not the last", answer: `${HEAD}Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n` },
  { name: "an empty encoding", answer: `${HEAD}Transfer-Encoding: \r\n\r\nok` },
  { name: "an encoding in quotes", answer: `${HEAD}Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n` },
  { name: "an encoding behind a control character", answer: `${HEAD}Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n` },
  { name: "identity beside a length", answer: `${HEAD}Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nok` },
  { name: "an encoding in HTTP/1.0", answer: "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" },
  {
    name: "101 that nobody asked for",
    answer: "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nhi",
  },
  { name: "an interim answer with a body", answer: `HTTP/1.1 103 Hints\r\nContent-Length: 5\r\n\r\nhello${OK}` },
  { name: "an interim answer, then FIN", answer: "HTTP/1.1 103 Hints\r\n\r\n", after: "end" },
  { name: "interim answers for ever", answer: "HTTP/1.1 102 Processing\r\n\r\n".repeat(MAX_INFORMATIONAL + 1) },
  {
    name: "interim answers up to the limit, then another protocol",
    answer: `${INTERIM.repeat(MAX_INFORMATIONAL)}SSH-2.0`,
    after: "end",
  },
  { name: "an interim answer that is not well formed", answer: `HTTP/1.1 103 Hints\r\nLink : a\r\n\r\n${OK}` },
  {
    name: "an interim answer with chunks",
    answer: `HTTP/1.1 103 Hints\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${OK}`,
  },
  {
    name: "101 behind an interim answer",
    answer: `${INTERIM}HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`,
  },
  { name: "a protocol that ends early", answer: "HTT", after: "end" },
  { name: "a status line that ends early", answer: "HTTP/1.1 20", after: "end" },
  { name: "a status line without its LF, then FIN", answer: "HTTP/1.1 200 OK\r", after: "end" },
  { name: "a status line alone, then FIN", answer: HEAD, after: "end" },
  { name: "a head without its empty line, then FIN", answer: `${HEAD}Content-Length: 2\r\n`, after: "end" },
  { name: "a head without its last LF, then a reset", answer: `${HEAD}Content-Length: 2\r\n\r`, after: "reset" },
  { name: "a head that ends early", answer: `${HEAD}Content-Le`, after: "end" },
  { name: "a head that is reset", answer: `${HEAD}Content-Le`, after: "reset" },
  { name: "a head that is too large", answer: `${HEAD}X: ${"a".repeat(RESPONSE_HEAD_LIMITS.headBytes)}\r\n\r\n` },
  {
    name: "a reason that is too long",
    answer: `HTTP/1.1 200 ${"a".repeat(RESPONSE_HEAD_LIMITS.startLineBytes)}\r\n\r\n`,
  },
  { name: "too many fields", answer: `${HEAD}${"X: 1\r\n".repeat(RESPONSE_HEAD_LIMITS.fields + 1)}\r\n` },
];

/** Answers that turn out wrong behind their head: the visitor sees them cut, never whole. */
const CUT: readonly Row[] = [
  { name: "a body that ends early", answer: `${HEAD}Content-Length: 50\r\n\r\npart`, after: "end" },
  { name: "a body that is reset", answer: `${HEAD}Content-Length: 50\r\n\r\npart`, after: "reset" },
  { name: "chunks that end early", answer: `${HEAD}Transfer-Encoding: chunked\r\n\r\n9\r\npart`, after: "end" },
  {
    name: "chunks without the last one",
    answer: `${HEAD}Transfer-Encoding: chunked\r\n\r\n4\r\npart\r\n`,
    after: "end",
  },
  ...[
    ["a size line", "4"],
    ["a size line's CR", "4\r"],
    ["an extension", "4;name=va"],
    ["a chunk", "4\r\npa"],
    ["a chunk's line end", "4\r\npart\r"],
    ["the last size", "4\r\npart\r\n0"],
    ["the last size line", "4\r\npart\r\n0\r\n"],
    ["the trailers", "4\r\npart\r\n0\r\nX: 1\r\n"],
    ["the empty line", "4\r\npart\r\n0\r\n\r"],
  ].flatMap(([where = "", body = ""]) =>
    (["end", "reset"] as const).map((after) => ({
      name: `${after} within ${where}`,
      answer: `${HEAD}Transfer-Encoding: chunked\r\n\r\n${body}`,
      after,
    })),
  ),
  { name: "end in front of a body", answer: `${HEAD}Content-Length: 5\r\n\r\n`, after: "end" },
  { name: "reset in front of a body", answer: `${HEAD}Content-Length: 5\r\n\r\n`, after: "reset" },
  { name: "reset within a body without a length", answer: `${HEAD}\r\npart`, after: "reset" },
  ...[
    ["a size that is none", "zz\r\n"],
    ["a size with a sign", "+4\r\npart\r\n0\r\n\r\n"],
    ["a negative size", "-4\r\npart\r\n0\r\n\r\n"],
    ["an empty size", "\r\npart\r\n0\r\n\r\n"],
    ["a size with a NUL", "4\0\r\npart\r\n0\r\n\r\n"],
    ["a size with an underscore", "0_4\r\npart\r\n0\r\n\r\n"],
    ["a size of 2^64 + 4", "10000000000000004\r\npart\r\n0\r\n\r\n"],
    ["a size beyond 53 bits", "20000000000001\r\npart\r\n0\r\n\r\n"],
    ["a size of many zeros", `${"0".repeat(100)}4\r\npart\r\n0\r\n\r\n`],
    ["a last size of many zeros", `4\r\npart\r\n${"0".repeat(100)}\r\n\r\n`],
    ["a size line that ends with CR", "4\rpart\r\n0\r\n\r\n"],
    ["a chunk without its line end", "4\r\npart0\r\n\r\n"],
    ["a chunk with two line ends", "4\r\npart\r\n\r\n0\r\n\r\n"],
    ["a chunk that ends with CR", "4\r\npart\r0\r\n\r\n"],
    ["an extension of 1 MB", `4;${"x".repeat(1_000_000)}\r\npart\r\n0\r\n\r\n`],
    ["an extension with LF", "4;a\nb\r\npart\r\n0\r\n\r\n"],
    ["an extension with NUL", "4;a\0b\r\npart\r\n0\r\n\r\n"],
    ["extensions that are too long together", `${`1;${"x".repeat(1_000)}\r\na\r\n`.repeat(20)}0\r\n\r\n`],
    ["trailers that frame", "4\r\npart\r\n0\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n"],
    ["too many trailers", `4\r\npart\r\n0\r\n${"X: 1\r\n".repeat(MAX_TRAILER_FIELDS + 1)}\r\n`],
    ["a trailer with a NUL", "4\r\npart\r\n0\r\nX: a\0\r\n\r\n"],
    ["a trailer with a space in front of its colon", "4\r\npart\r\n0\r\nX : a\r\n\r\n"],
    ["trailers that end with LF", "4\r\npart\r\n0\r\n\n"],
    ["an answer where a size should be", OK],
    ["a size with 0x", "0x4\r\npart\r\n0\r\n\r\n"],
    ["a size with a space in front", " 4\r\npart\r\n0\r\n\r\n"],
    ["a size that overflows", `${"f".repeat(17)}\r\n`],
    ["a chunk longer than its size", "4\r\npart!\r\n0\r\n\r\n"],
    ["a chunk that ends with LF", "4\r\npart\n0\r\n\r\n"],
    ["a size line that ends with LF", "4\npart\r\n0\r\n\r\n"],
    ["an extension that is too long", `4;${"x".repeat(2_000)}\r\npart\r\n0\r\n\r\n`],
    ["trailers that are too long", `4\r\npart\r\n0\r\nX: ${"a".repeat(20_000)}\r\n\r\n`],
    ["a trailer that is no field", "4\r\npart\r\n0\r\nnonsense\r\n\r\n"],
    ["a folded trailer", "4\r\npart\r\n0\r\nX: a\r\n b\r\n\r\n"],
  ].map(([name = "", body = ""]) => ({
    name,
    answer: `${HEAD}Transfer-Encoding: chunked\r\n\r\n4\r\nmore\r\n${body}`,
  })),
];

/** Answers that stand, while their connection does not: the bytes behind them belong to nobody. */
const NOT_KEPT: readonly Row[] = [
  { name: "a second answer behind the first (response splitting)", answer: `${OK}${OK.replace("ok", "no")}` },
  { name: "more bytes than the length says", answer: `${OK}more` },
  { name: "bytes behind the last chunk", answer: `${HEAD}Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nmore` },
  { name: "a body on 204", answer: "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nmore" },
  {
    name: "chunks on 204",
    answer: "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nmore\r\n0\r\n\r\n",
  },
  {
    name: "chunks on 304",
    answer: "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nmore\r\n0\r\n\r\n",
  },
  { name: "an interim answer behind the answer", answer: `${OK}${INTERIM}` },
  { name: "a line end behind the answer", answer: `${OK}\r\n` },
  { name: "a TLS alert behind the answer", answer: `${OK}\x15\x03\x01\0\x02\x02\x46` },
  {
    name: "chunks for HEAD",
    answer: `${HEAD}Transfer-Encoding: chunked\r\n\r\n4\r\nmore\r\n0\r\n\r\n`,
    method: "HEAD",
  },
  { name: "a body on 304", answer: "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nmore" },
  { name: "a body for HEAD", answer: OK, method: "HEAD" },
  { name: "a success before the body was sent", answer: OK, method: "POST", fields: "Content-Length: 100000\r\n" },
  { name: "HTTP/1.0 without keep-alive", answer: OK.replace("1.1", "1.0") },
  { name: "Connection: close", answer: OK.replace("\r\n\r\n", "\r\nConnection: x, Close\r\n\r\n") },
];

/** Answers that go on until the connection is closed, piece by piece; `want`: what the visitor gets. */
interface EndlessRow {
  readonly name: string;
  readonly begin: string;
  readonly piece: string;
  readonly want: "502" | "cut";
}

const ENDLESS: readonly EndlessRow[] = [
  { name: "a status line", begin: "HTTP/1.1 200 ", piece: "a".repeat(1_000), want: "502" },
  { name: "a name", begin: HEAD, piece: "a".repeat(1_000), want: "502" },
  { name: "a value", begin: `${HEAD}X: `, piece: "a".repeat(1_000), want: "502" },
  { name: "fields", begin: HEAD, piece: "X: 1\r\n", want: "502" },
  { name: "interim answers", begin: "", piece: INTERIM, want: "502" },
  {
    name: "large interim answers",
    begin: "",
    piece: `HTTP/1.1 103 H\r\nLink: ${"a".repeat(9_000)}\r\n\r\n`,
    want: "502",
  },
  { name: "empty lines", begin: "", piece: "\r\n", want: "502" },
  { name: "a chunk size", begin: `${HEAD}Transfer-Encoding: chunked\r\n\r\n`, piece: "0".repeat(1_000), want: "cut" },
  { name: "an extension", begin: `${HEAD}Transfer-Encoding: chunked\r\n\r\n4;`, piece: "x".repeat(1_000), want: "cut" },
  {
    name: "chunks with extensions",
    begin: `${HEAD}Transfer-Encoding: chunked\r\n\r\n`,
    piece: `1;${"x".repeat(900)}\r\na\r\n`,
    want: "cut",
  },
  { name: "trailers", begin: `${HEAD}Transfer-Encoding: chunked\r\n\r\n0\r\n`, piece: "X: 1\r\n", want: "cut" },
];

/** What of such an answer is read before it is given up is less than this, with what lies in the buffers of sockets. */
const MAX_ENDLESS_BYTES = 16 * 1024 * 1024;

/** Answers in pieces so slow that they would take hours: the time that the rule gives for a head ends them. */
const SLOW: readonly { readonly name: string; readonly answer: string; readonly everyMs: number }[] = [
  { name: "nothing at all", answer: "", everyMs: 1 },
  { name: "a status line, a byte at a time", answer: `HTTP/1.1 200 ${"a".repeat(2_000)}`, everyMs: 10 },
  { name: "fields, a byte at a time", answer: `${HEAD}${"X: 1\r\n".repeat(400)}`, everyMs: 10 },
  { name: "an interim answer now and then", answer: INTERIM.repeat(MAX_INFORMATIONAL), everyMs: 10 },
];
const ANSWER_TIMEOUT_MS = 300;

/** An origin that answers the path `/N` with row N and everything else properly; it keeps no connection after `/last`. */
class ScriptedOrigin implements AsyncDisposable {
  rows: readonly Row[] = [];
  readonly sockets: net.Socket[] = [];
  /** Sockets that the connector has closed or ended. */
  readonly left = new Set<net.Socket>();
  /** Requests as they came, line by line of their start. */
  readonly requests: string[] = [];
  /** Bytes of endless answers that sockets took. */
  endlessBytes = 0;
  readonly #server: net.Server;

  constructor() {
    this.#server = net.createServer({ allowHalfOpen: true }, (socket) => {
      this.sockets.push(socket);
      socket.on("error", () => {});
      socket.on("end", () => this.left.add(socket));
      socket.on("close", () => this.left.add(socket));
      let head = "";
      socket.on("data", (chunk: Buffer) => {
        head += chunk.toString("latin1");
        const awaited = head.includes("?body") ? `\r\n\r\n${"x".repeat(BODY_LENGTH)}` : "\r\n\r\n";
        if (!head.includes(awaited)) return;
        this.requests.push(head.slice(0, head.indexOf("\r\n")));
        const [, kind = "", number] = / \/(endless|slow|stale)?\/?([0-9]*)[ ?]/.exec(head) ?? [];
        const at = number === undefined || number === "" ? -1 : Number(number);
        if (kind !== "") {
          head = "";
          this.#misbehave(kind, at, socket);
          return;
        }
        const row = this.rows[at];
        const fine = head.includes(" /last ") ? OK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n") : OK;
        head = "";
        socket.write(Buffer.from(row?.answer ?? fine, "latin1"));
        if (row?.after === "end") socket.end();
        if (row?.after === "reset") setTimeout(() => socket.resetAndDestroy(), 20);
      });
    });
  }

  #misbehave(kind: string, at: number, socket: net.Socket): void {
    const endless = ENDLESS[at];
    const slow = SLOW[at];
    if (kind === "endless" && endless !== undefined) {
      const pieces = endless.piece.repeat(Math.ceil(16_384 / endless.piece.length));
      const more = (): void => {
        while (!this.left.has(socket) && this.endlessBytes < MAX_ENDLESS_BYTES) {
          this.endlessBytes += pieces.length;
          if (!socket.write(pieces, "latin1")) {
            socket.once("drain", more);
            return;
          }
        }
      };
      socket.write(endless.begin, "latin1");
      more();
    } else if (kind === "slow" && slow !== undefined) {
      let sent = 0;
      const timer = setInterval(() => {
        if (this.left.has(socket) || sent >= slow.answer.length) clearInterval(timer);
        else socket.write(slow.answer.charAt(sent));
        sent += 1;
      }, slow.everyMs);
    } else if (kind === "stale") socket.end();
  }

  async listen(): Promise<number> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return (this.#server.address() as net.AddressInfo).port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

let path: WholePath;
let origin: ScriptedOrigin;

beforeAll(async () => {
  origin = new ScriptedOrigin();
  const port = await origin.listen();
  path = await startWholePath();
  const service = `http://127.0.0.1:${port}`;
  const { rules } = parseIngress({
    ingress: [
      { path: "^/slow/", service, originRequest: { responseHeaderTimeout: `${ANSWER_TIMEOUT_MS}ms` } },
      { service },
    ],
  });
  if (rules === undefined) throw new Error("no rules");
  const connector = await path.connect({ rules, connections: 1 });
  await connector.ready;
});

afterAll(async () => {
  await path[Symbol.asyncDispose]();
  await origin[Symbol.asyncDispose]();
});

/** Everything that a visitor with one connection gets for one request, interim answers left out. */
async function visit(target: string, { method = "GET", fields = "" }: Partial<Row> = {}): Promise<string> {
  const socket = net.connect({ host: "127.0.0.1", port: path.publicPort });
  let got = "";
  socket.on("error", () => {});
  socket.on("data", (chunk: Buffer) => {
    got += chunk.toString("latin1");
  });
  const closed = new Promise<void>((resolve) => socket.on("close", () => resolve()));
  const body = fields === "" ? "" : "x".repeat(BODY_LENGTH);
  socket.write(`${method} ${target} HTTP/1.1\r\nHost: ${HOSTNAME}\r\nConnection: close\r\n${fields}\r\n${body}`);
  await closed;
  return got.replace(/^(?:HTTP\/1\.1 10[23][^\r]*\r\n(?:[^\r]+\r\n)*\r\n)+/, "");
}

/** The connection of the last request is closed by us, and the next request is served on another one. */
async function expectFreshStart(socketsBefore: number): Promise<void> {
  const used = origin.sockets[socketsBefore];
  await pollUntil(() => used !== undefined && origin.left.has(used), { what: "the connection is closed" });
  expect(await visit("/fine")).toEndWith("\r\n\r\nok");
  expect(origin.sockets).toHaveLength(socketsBefore + 2);
}

/** Leaves no idle connection behind, so that each case begins on one of its own. */
async function begin(rows: readonly Row[]): Promise<number> {
  origin.rows = rows;
  expect(await visit("/last")).toEndWith("\r\n\r\nok");
  await pollUntil(() => origin.sockets.every((socket) => origin.left.has(socket)), { what: "all are closed" });
  for (const socket of origin.sockets) socket.destroy();
  return origin.sockets.length;
}

describe("an answer that cannot be understood becomes 502, and its connection is closed", () => {
  test.each(REFUSED.map((row, i) => ({ ...row, i })))("$name", async ({ i }) => {
    const before = await begin(REFUSED);
    const got = await visit(`/${i}`);
    expect(got).toStartWith("HTTP/1.1 502 ");
    expect(got).not.toContain("Set-Cookie");
    await expectFreshStart(before);
  });
});

describe("an answer that goes wrong behind its head is cut, and its connection is closed", () => {
  test.each(CUT.map((row, i) => ({ ...row, i })))("$name", async ({ i }) => {
    const before = await begin(CUT);
    const got = await visit(`/${i}`);
    expect(got).toStartWith("HTTP/1.1 200 ");
    expect(got).not.toEndWith("0\r\n\r\n");
    await expectFreshStart(before);
  });
});

describe("an answer with something wrong behind it stands alone, and its connection is closed", () => {
  test.each(NOT_KEPT.map((row, i) => ({ ...row, i })))("$name", async ({ i, method, fields }) => {
    const before = await begin(NOT_KEPT);
    const got = await visit(`/${i}`, {
      ...(method === undefined ? {} : { method }),
      ...(fields === undefined ? {} : { fields }),
    });
    expect(got.match(/HTTP\/1\.1 [0-9]{3}/g)).toEqual([expect.stringMatching(/^HTTP\/1\.1 (?:200|204|304)$/)]);
    expect(got).not.toContain("more");
    await expectFreshStart(before);
  });
});

describe("an answer that never ends is given up, and its connection is closed", () => {
  test.each(ENDLESS.map((row, i) => ({ ...row, i })))("$name for ever", async ({ i, want }) => {
    const before = await begin([]);
    origin.endlessBytes = 0;
    const got = await visit(`/endless/${i}`);
    if (want === "502") expect(got).toStartWith("HTTP/1.1 502 ");
    else {
      expect(got).toStartWith("HTTP/1.1 200 ");
      expect(got).not.toEndWith("0\r\n\r\n");
    }
    await expectFreshStart(before);
    expect(origin.endlessBytes).toBeLessThan(MAX_ENDLESS_BYTES);
  });
});

describe("an answer whose head takes longer than the rule allows becomes 504, and its connection is closed", () => {
  test.each(SLOW.map((row, i) => ({ ...row, i })))("$name", async ({ i }) => {
    const before = await begin([]);
    const startMs = performance.now();
    const got = await visit(`/slow/${i}`);
    const tookMs = performance.now() - startMs;
    expect(got).toStartWith("HTTP/1.1 504 ");
    expect(tookMs).toBeGreaterThanOrEqual(ANSWER_TIMEOUT_MS - 10);
    expect(tookMs).toBeLessThan(ANSWER_TIMEOUT_MS * 10);
    await expectFreshStart(before);
  });
});

describe("a kept connection that closes as the next request comes", () => {
  test("GET: asked again on another one, once", async () => {
    const before = await begin([]);
    expect(await visit("/fine")).toEndWith("\r\n\r\nok");
    expect(origin.sockets).toHaveLength(before + 1);
    const seen = origin.requests.length;
    const got = await visit("/stale?get");
    // The other one closes too, and that is that.
    expect(got).toStartWith("HTTP/1.1 502 ");
    expect(origin.requests.slice(seen)).toEqual(["GET /stale?get HTTP/1.1", "GET /stale?get HTTP/1.1"]);
    expect(await visit("/fine")).toEndWith("\r\n\r\nok");
    expect(origin.sockets).toHaveLength(before + 3);
  });

  test.each([
    { name: "never asked again once it has all, since it may have been done", times: 1 },
    {
      name: "asked again, once, where the visitor says that this does no harm",
      key: "Idempotency-Key: k\r\n",
      times: 2,
    },
  ])("POST: $name (RFC 9110 section 9.2.2)", async ({ key = "", times }) => {
    const target = "/stale?body";
    const before = await begin([]);
    expect(await visit("/fine")).toEndWith("\r\n\r\nok");
    const seen = origin.requests.length;
    const fields = `Content-Length: ${BODY_LENGTH}\r\n${key}`;
    expect(await visit(target, { method: "POST", fields })).toStartWith("HTTP/1.1 502 ");
    expect(origin.requests.slice(seen)).toEqual(Array.from({ length: times }, () => `POST ${target} HTTP/1.1`));
    expect(await visit("/fine")).toEndWith("\r\n\r\nok");
    expect(origin.sockets).toHaveLength(before + 1 + times);
  });
});

test("trailers that would change what was read before do not travel on, and the connection is kept", async () => {
  const trailers = ["Content-Length: 9", "Set-Cookie: a=b", "Host: x", "Cf-Ray: x", "X-Kept: 1"];
  const answer = `${HEAD}Trailer: X-Kept\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n${trailers.join("\r\n")}\r\n\r\n`;
  const before = await begin([{ name: "trailers", answer }]);
  const got = await visit("/0", { fields: "TE: trailers\r\n" });
  expect(got).toContain("2\r\nok\r\n0\r\n");
  expect(got.slice(got.indexOf("ok\r\n"))).not.toMatch(/set-cookie|cf-ray|host|content-length/i);
  expect(await visit("/fine")).toEndWith("\r\n\r\nok");
  expect(origin.sockets).toHaveLength(before + 1);
});
