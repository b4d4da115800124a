import { mkdirSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { LabSocket } from "./lab-socket.ts";
import { pollUntil } from "./poll-until.ts";
import { runProcess, startProcess } from "./processes.ts";
import { readAnswers, readRequests, type StrictAnswer, type StrictRequest } from "./strict-http.ts";
import { makeTempDir } from "./temp-dir.ts";

/** An HTTP server of somebody else's that says which requests it found in the bytes it got. */
export interface SecondParser extends AsyncDisposable {
  readonly name: string;
  readonly version: string;
  readonly socketPath: string;
}

/** A request that another parser does not take; the bytes mean one request or none, never two. */
export interface Refusal {
  readonly parser: string;
  readonly request: string;
  readonly status: number;
}

const SENTINEL = "GET /sentinel HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

const NODE_SERVER = `
const http = require("http");
const server = http.createServer({ maxHeaderSize: 1 << 18 }, (request, response) => {
  let bytes = 0;
  request.on("data", (chunk) => { bytes += chunk.length; });
  request.on("end", () => {
    response.setHeader("X-Said", request.method + " " + request.url + " " + bytes);
    response.end("ok");
  });
});
server.requestTimeout = 0;
server.headersTimeout = 0;
server.listen(process.argv[1], () => console.log("ready"));
`;

/** Those of nginx and Node that this machine has. */
export async function startSecondParsers(): Promise<readonly SecondParser[]> {
  const found: SecondParser[] = [];
  const nginx = Bun.which("nginx");
  const node = Bun.which("node");
  if (nginx !== null) found.push(await startNginx(nginx));
  if (node !== null) {
    const version = await versionOf([node, "--version"]);
    found.push(await startParser({ name: "node", version }, (dir) => [node, "-e", NODE_SERVER, join(dir, "socket")]));
  }
  return found;
}

/** The first number with a dot that a command says. */
async function versionOf(argv: readonly string[]): Promise<string> {
  const { stdout, stderr } = await runProcess(argv);
  return /\d+(\.\d+)+/.exec(stdout + stderr)?.[0] ?? "";
}

async function startNginx(program: string): Promise<SecondParser> {
  const version = await versionOf([program, "-v"]);
  return startParser({ name: "nginx", version }, (dir) => {
    const temps = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
      (kind) => `${kind}_temp_path ${dir}/${kind};`,
    );
    const config = `
daemon off;
master_process off;
pid ${dir}/pid;
error_log ${dir}/error.log;
events {}
http {
  access_log off;
  ${temps.join("\n  ")}
  client_max_body_size 0;
  large_client_header_buffers 8 256k;
  keepalive_requests 1000000;
  default_type text/plain;
  # Answers only when the body is there.
  server {
    listen unix:${dir}/socket;
    add_header X-Said "$request_method $request_uri $upstream_http_x_bytes" always;
    location / {
      proxy_pass http://unix:${dir}/back;
      proxy_hide_header X-Bytes;
    }
  }
  server {
    listen unix:${dir}/back;
    add_header X-Bytes "$content_length" always;
    return 200 "ok";
  }
}
`;
    mkdirSync(join(dir, "logs"));
    writeFileSync(join(dir, "nginx.conf"), config);
    return [program, "-p", dir, "-c", join(dir, "nginx.conf")];
  });
}

async function startParser(
  about: Pick<SecondParser, "name" | "version">,
  argv: (dir: string) => readonly string[],
): Promise<SecondParser> {
  const { name } = about;
  await using stack = new AsyncDisposableStack();
  const dir = stack.use(makeTempDir());
  const child = stack.use(startProcess(argv(dir.path)));
  const socketPath = join(dir.path, "socket");
  await pollUntil(
    async () => {
      if (child.end !== undefined) throw new Error(`${name} ended: ${child.stderr}`);
      await using talk = new Talk({ socketPath });
      return (await talk.ask(SENTINEL, "GET"))?.status === 200;
    },
    { what: `${name} answers`, deadlineMs: 10_000 },
  );
  const owned = stack.move();
  return { ...about, socketPath, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** A connection to another parser, for one request after the other. */
class Talk implements AsyncDisposable {
  readonly #socket: LabSocket;

  constructor(parser: Pick<SecondParser, "socketPath">) {
    const socket = connect({ path: parser.socketPath, allowHalfOpen: true });
    socket.setTimeout(10_000, () => socket.destroy());
    this.#socket = new LabSocket(socket);
  }

  /** What is answered to these bytes; undefined when the parser ends without an answer. */
  async ask(text: string, method: string): Promise<StrictAnswer | undefined> {
    await this.#socket.write(text);
    let received = "";
    for (;;) {
      const chunk = await this.#socket.readSome();
      if (chunk === undefined) return undefined;
      received += chunk.toString("latin1");
      const { messages, rest } = readAnswers(received, [method]);
      if (messages.length > 1 || rest === "malformed") throw new Error(`More than an answer: ${received}`);
      if (rest === "none" && messages[0] !== undefined) return messages[0];
    }
  }

  /** Ends our direction behind these bytes; gives all that comes. */
  async finish(text: string): Promise<string> {
    await this.#socket.write(text);
    this.#socket.socket.end();
    return (await this.#socket.readToEnd()).toString("latin1");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#socket[Symbol.asyncDispose]();
  }
}

/**
 * Gives another parser what a connector sent on one connection, and compares: each request must be the same one to it,
 * or be refused; and what is cut off must be none. Throws on the first that is not; gives the refusals.
 */
export async function compareWith(parser: SecondParser, text: string): Promise<readonly Refusal[]> {
  const refusals: Refusal[] = [];
  const { messages, rest } = readRequests(text, { leadingLine: false });
  if (rest === "malformed") throw new Error(`No requests at all: ${JSON.stringify(text.slice(-400))}`);
  for (let next = 0; next < messages.length; ) {
    await using talk = new Talk(parser);
    for (let refused = false; next < messages.length && !refused; next += 1) {
      const request = messages[next] as StrictRequest;
      const expected = said(request);
      const answer = await talk.ask(text.slice(request.start, request.end), request.method);
      refused = answer?.status !== 200;
      if (refused) refusals.push({ parser: parser.name, request: expected, status: answer?.status ?? 0 });
      else sameRequest(parser, answer?.fields.get("x-said") ?? "", expected);
    }
    if (next === messages.length) await expectNothingMore(parser, talk);
  }
  if (rest === "cut") {
    const cut = text.slice(messages.at(-1)?.end ?? 0);
    await using talk = new Talk(parser);
    const { messages: answers } = readAnswers(await talk.finish(cut), []);
    if (answers.some(({ status }) => status < 400)) {
      throw new Error(`${parser.name} takes a request that was cut off for a whole one: ${JSON.stringify(cut)}`);
    }
  }
  return refusals;
}

/** The next request is the next request: nothing of the one before is left with the parser. */
async function expectNothingMore(parser: SecondParser, talk: Talk): Promise<void> {
  const received = await talk.finish(SENTINEL);
  const { messages } = readAnswers(received, []);
  if (received !== "" && messages.length !== 1) throw new Error(`Not one answer: ${received}`);
  if (messages[0]?.status === 200) sameRequest(parser, messages[0].fields.get("x-said") ?? "", "GET /sentinel 0");
}

function said({ method, target, body }: StrictRequest): string {
  return `${method} ${target} ${body.length}`;
}

/** nginx leaves the length of no body out. */
function sameRequest(parser: SecondParser, seen: string, expected: string): void {
  const same = seen === expected || (parser.name === "nginx" && `${seen} 0` === expected);
  if (!same)
    throw new Error(`${parser.name} understood ${JSON.stringify(seen)} instead of ${JSON.stringify(expected)}`);
}
