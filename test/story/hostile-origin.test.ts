import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import net from "node:net";
import { singleRule } from "../../src/ingress/rules.ts";
import { MAX_INFORMATIONAL, RESPONSE_HEAD_LIMITS } from "../../src/wire/h1/limits.ts";
import { pollUntil } from "../support/poll-until.ts";
import { HOSTNAME, startWholePath, type WholePath } from "../support/whole-path.ts";

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const HEAD = "HTTP/1.1 200 OK\r\n";

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
  { name: "a bell in a value", answer: `${HEAD}X: a\x07b\r\nContent-Length: 2\r\n\r\nok` },
  { name: "two lengths", answer: `${HEAD}Content-Length: 2\r\nContent-Length: 3\r\n\r\nokk` },
  { name: "two lengths in a list", answer: `${HEAD}Content-Length: 2, 3\r\n\r\nokk` },
  { name: "a negative length", answer: `${HEAD}Content-Length: -1\r\n\r\n` },
  { name: "a length with a sign", answer: `${HEAD}Content-Length: +2\r\n\r\nok` },
  { name: "a length in hexadecimal", answer: `${HEAD}Content-Length: 0x2\r\n\r\nok` },
  { name: "an empty length", answer: `${HEAD}Content-Length: \r\n\r\nok` },
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
  { name: "an encoding in HTTP/1.0", answer: "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" },
  {
    name: "101 that nobody asked for",
    answer: "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nhi",
  },
  { name: "an interim answer with a body", answer: `HTTP/1.1 103 Hints\r\nContent-Length: 5\r\n\r\nhello${OK}` },
  { name: "an interim answer, then FIN", answer: "HTTP/1.1 103 Hints\r\n\r\n", after: "end" },
  { name: "interim answers for ever", answer: "HTTP/1.1 102 Processing\r\n\r\n".repeat(MAX_INFORMATIONAL + 1) },
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
    ["a size that is none", "zz\r\n"],
    ["a size with a sign", "+4\r\npart\r\n0\r\n\r\n"],
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
  { name: "a body on 304", answer: "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nmore" },
  { name: "a body for HEAD", answer: OK, method: "HEAD" },
  { name: "a success before the body was sent", answer: OK, method: "POST", fields: "Content-Length: 100000\r\n" },
  { name: "HTTP/1.0 without keep-alive", answer: OK.replace("1.1", "1.0") },
  { name: "Connection: close", answer: OK.replace("\r\n\r\n", "\r\nConnection: x, Close\r\n\r\n") },
];

/** An origin that answers the path `/N` with row N and everything else properly; it keeps no connection after `/last`. */
class ScriptedOrigin implements AsyncDisposable {
  rows: readonly Row[] = [];
  readonly sockets: net.Socket[] = [];
  /** Sockets that the connector has closed or ended. */
  readonly left = new Set<net.Socket>();
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
        if (!head.includes("\r\n\r\n")) return;
        const row = this.rows[Number(/ \/([0-9]+) /.exec(head)?.[1])];
        const fine = head.includes(" /last ") ? OK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n") : OK;
        head = "";
        socket.write(Buffer.from(row?.answer ?? fine, "latin1"));
        if (row?.after === "end") socket.end();
        if (row?.after === "reset") setTimeout(() => socket.resetAndDestroy(), 20);
      });
    });
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
  const connector = await path.connect({
    rules: singleRule({ kind: "http", host: "127.0.0.1", port }),
    connections: 1,
  });
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
  const body = fields === "" ? "" : "x".repeat(10);
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
