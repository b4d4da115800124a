import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { addTunnel, CULVERT, type EdgeProcess, HOST, type Lab, startEdgeProcess, startLab } from "../support/lab.ts";
import { field } from "../support/lab-message.ts";
import { dialLab } from "../support/lab-socket.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { visit } from "../support/visitors.ts";

describe("an edge without connectors", () => {
  const stack = new AsyncDisposableStack();
  let edge: EdgeProcess;
  let stateDir: string;
  beforeAll(async () => {
    stateDir = join(stack.use(makeTempDir()).path, "state");
    edge = await startEdgeProcess(stateDir);
    stack.use(edge.process);
    await addTunnel(stateDir, "lonely", [HOST]);
  });
  afterAll(() => stack.disposeAsync());

  test.each([
    { what: "an unknown hostname", host: "nobody.example", status: 404, text: /404/ },
    { what: "a tunnel that is not connected", host: HOST, status: 530, text: /1033/ },
  ])("answers $what with a page, JSON or text, as Accept says", async ({ host, status, text }) => {
    const kinds = [
      { accept: "text/html,application/xhtml+xml", type: /^text\/html/ },
      { accept: "application/json", type: /^application\/json/ },
      { accept: "*/*", type: /^text\/plain/ },
    ];
    for (const { accept, type } of kinds) {
      const answer = await visit(edge.publicPort, { host, fields: [["Accept", accept]] });
      expect([answer.status, field(answer, "content-type")]).toEqual([status, expect.stringMatching(type)]);
      const body = answer.body.toString();
      expect(body).toMatch(text);
      if (accept === "application/json") JSON.parse(body);
    }
  });

  test("prints nothing on standard output", () => {
    expect(edge.process.stdout).toBe("");
  });

  test("lists its tunnels while it runs", async () => {
    const token = await addTunnel(stateDir, "second", ["second.example", "*.second.example"]);
    expect(token).toMatch(/^[A-Za-z0-9+/=_-]+$/);
    const answer = await visit(edge.publicPort, { host: "any.second.example" });
    expect(answer.status).toBe(530);
  });
});

/** Each would let two parsers see two different requests; the full table is among the unit tests. */
const SMUGGLING = [
  { what: "two lengths", head: "POST / HTTP/1.1\r\nHost: H\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc" },
  {
    what: "a length and chunks",
    head: "POST / HTTP/1.1\r\nHost: H\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
  },
  {
    what: "chunks that are not the last coding",
    head: "POST / HTTP/1.1\r\nHost: H\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
  },
  { what: "an unknown coding", head: "POST / HTTP/1.1\r\nHost: H\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" },
  {
    what: "a chunk size that is none",
    head: "POST / HTTP/1.1\r\nHost: H\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
  },
  { what: "a folded line", head: "GET / HTTP/1.1\r\nHost: H\r\nX-A: 1\r\n folded\r\n\r\n" },
  { what: "bare line feeds", head: "GET / HTTP/1.1\nHost: H\n\n" },
  { what: "two hosts", head: "GET / HTTP/1.1\r\nHost: H\r\nHost: other.example\r\n\r\n" },
  { what: "no host", head: "GET / HTTP/1.1\r\nX-A: 1\r\n\r\n" },
  { what: "a space before the colon", head: "GET / HTTP/1.1\r\nHost: H\r\nContent-Length : 3\r\n\r\nabc" },
  { what: "a signed length", head: "POST / HTTP/1.1\r\nHost: H\r\nContent-Length: +3\r\n\r\nabc" },
] as const;

describe("smuggling at the public listener", () => {
  let lab: Lab;
  beforeAll(async () => {
    lab = await startLab(CULVERT);
  });
  afterAll(() => lab[Symbol.asyncDispose]());

  test.each(SMUGGLING)("$what: 400, closed, and nothing of it reaches the origin", async ({ head }) => {
    const before = lab.origin.seen.length;
    await using socket = await dialLab(lab.port);
    const behind = `GET /smuggled HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`;
    await socket.write(head.replace("Host: H", `Host: ${HOST}`) + behind);
    const answer = (await socket.readToEnd()).toString("latin1");
    expect(answer).toMatch(/^HTTP\/1\.1 (400|501) /);
    expect(answer.match(/HTTP\/1\.1 /g)?.length).toBe(1);
    expect((await visit(lab.port, { host: HOST, target: "/hello" })).status).toBe(200);
    // A head may have gone before its body turned out to be bad, but never what was hidden behind it.
    expect(lab.origin.seen.slice(before).map((request) => request.target)).not.toContain("/smuggled");
  });
});
