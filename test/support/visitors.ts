import { createHash, randomBytes } from "node:crypto";
import { bodyChunks, field, framingOf, type Head, readBody, readHead } from "./lab-message.ts";
import { patternBytes } from "./lab-pattern.ts";
import { dialLab, type LabSocket } from "./lab-socket.ts";
import { acceptKey, LabWebSocket } from "./lab-websocket.ts";

export interface VisitorRequest {
  readonly host: string;
  readonly method?: string;
  /** @default "/" */
  readonly target?: string;
  /** Field lines beside Host, as they shall be sent. */
  readonly fields?: readonly (readonly [string, string])[];
  /** Sent with a Content-Length, unless `fields` already frames it. */
  readonly body?: Uint8Array | string;
}

export interface Answer extends Head {
  readonly status: number;
  /** Heads with 1xx that came before. */
  readonly informational: readonly number[];
  readonly body: Buffer;
  readonly trailers: readonly (readonly [string, string])[];
}

export function requestHead(request: VisitorRequest): string {
  const { host, method = "GET", target = "/", fields = [] } = request;
  const lines = [
    `${method} ${target} HTTP/1.1`,
    `Host: ${host}`,
    ...fields.map(([name, value]) => `${name}: ${value}`),
  ];
  return `${lines.join("\r\n")}\r\n\r\n`;
}

/** The answer's head, past any 1xx. */
export async function readAnswerHead(
  socket: LabSocket,
): Promise<Head & { readonly status: number; readonly informational: readonly number[] }> {
  const informational: number[] = [];
  for (;;) {
    const head = await readHead(socket);
    if (head === undefined) throw new Error(`The edge ended (${socket.end}) instead of answering`);
    const status = Number(head.startLine.split(" ")[1]);
    if (status >= 200 || status === 101) return { ...head, status, informational };
    informational.push(status);
  }
}

/** Asks on a connection that may be used again. */
export async function ask(socket: LabSocket, request: VisitorRequest): Promise<Answer> {
  const { body, fields = [] } = request;
  const bytes = typeof body === "string" ? Buffer.from(body) : body;
  const framed = fields.some(([name]) => /^(content-length|transfer-encoding)$/i.test(name));
  const sent = bytes === undefined || framed ? fields : [...fields, ["Content-Length", String(bytes.length)] as const];
  await socket.write(requestHead({ ...request, fields: sent }));
  if (bytes !== undefined) await socket.write(bytes);
  const head = await readAnswerHead(socket);
  return { ...head, ...(await readBody(socket, answerFraming(head, request))) };
}

function answerFraming(head: Head & { readonly status: number }, request: VisitorRequest) {
  const bodiless = request.method === "HEAD" || head.status === 204 || head.status === 304;
  return framingOf(head, { response: true, bodiless });
}

/** One request on a connection of its own. */
export async function visit(port: number, request: VisitorRequest): Promise<Answer> {
  await using socket = await dialLab(port);
  return await ask(socket, request);
}

/** Sends the head only, and reads the answer's head. */
export async function openVisit(port: number, request: VisitorRequest) {
  const socket = await dialLab(port);
  await socket.write(requestHead(request));
  const head = await readAnswerHead(socket);
  return { socket, head, chunks: bodyChunks(socket, answerFraming(head, request)) };
}

/** Downloads, keeping only the count and the SHA-256 of what came. */
export async function download(port: number, request: VisitorRequest): Promise<{ bytes: number; sha256: string }> {
  const { socket, chunks } = await openVisit(port, request);
  await using _ = socket;
  const hash = createHash("sha256");
  let bytes = 0;
  for await (const chunk of chunks) {
    hash.update(chunk);
    bytes += chunk.length;
  }
  return { bytes, sha256: hash.digest("hex") };
}

/** Uploads so many bytes of the pattern, and gives the answer. */
export async function upload(port: number, request: VisitorRequest, bytes: number): Promise<Answer> {
  await using socket = await dialLab(port);
  const fields = [...(request.fields ?? []), ["Content-Length", String(bytes)] as const];
  await socket.write(requestHead({ method: "POST", ...request, fields }));
  for (const piece of patternBytes(bytes)) if (!(await socket.write(piece))) break;
  const head = await readAnswerHead(socket);
  return { ...head, ...(await readBody(socket, answerFraming(head, request))) };
}

/** Opens a WebSocket through the edge; throws when the answer is not the right 101. */
export async function openWebSocket(port: number, request: VisitorRequest): Promise<LabWebSocket> {
  const socket = await dialLab(port);
  const key = randomBytes(16).toString("base64");
  const handshake: [string, string][] = [
    ["Connection", "Upgrade"],
    ["Upgrade", "websocket"],
    ["Sec-WebSocket-Version", "13"],
    ["Sec-WebSocket-Key", key],
  ];
  await socket.write(requestHead({ ...request, fields: [...(request.fields ?? []), ...handshake] }));
  const head = await readAnswerHead(socket);
  if (head.status !== 101 || field(head, "sec-websocket-accept") !== acceptKey(key)) {
    await socket[Symbol.asyncDispose]();
    throw new Error(`No WebSocket: ${head.startLine} ${JSON.stringify(head.fields)}`);
  }
  return new LabWebSocket(socket, "client");
}

/** The data of server-sent events, one at a time, from the pieces of a body. */
export async function* serverSentEvents(chunks: AsyncIterable<Buffer>): AsyncGenerator<string> {
  let text = "";
  for await (const chunk of chunks) {
    text += chunk.toString();
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      const event = text.slice(0, end);
      text = text.slice(end + 2);
      yield event
        .split("\n")
        .filter((line) => line.startsWith("data:"))
        .map((line) => line.slice(5).trim())
        .join("\n");
    }
  }
}
