import { createHash } from "node:crypto";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { bodyChunks, CutMessage, field, framingOf, type Head, readBody, readHead } from "./lab-message.ts";
import { patternBytes } from "./lab-pattern.ts";
import { LabSocket } from "./lab-socket.ts";
import { acceptKey, closeOf, LabWebSocket, OPCODE } from "./lab-websocket.ts";

/** A request as the origin got it. */
export interface SeenRequest extends Head {
  readonly target: string;
  /** `aborted` when the connection went away before the answer, or the request's body, was complete. */
  outcome: "open" | "done" | "aborted";
  /** The close code that a WebSocket client sent. */
  closeCode?: number;
}

export interface LabOrigin extends AsyncDisposable {
  readonly port: number;
  readonly seen: readonly SeenRequest[];
  /** The requests to one path, query included in the match. */
  seenAt(target: string): SeenRequest | undefined;
  /** Lets handlers go on that wait for the gate of this name. */
  open(gate: string): void;
}

interface Exchange {
  readonly socket: LabSocket;
  readonly head: Head;
  readonly request: SeenRequest;
  readonly query: URLSearchParams;
  readonly gate: (name: string) => Promise<void>;
}

type Handler = (exchange: Exchange) => Promise<void>;

/**
 * An HTTP/1.1 origin on a raw socket: it keeps request heads byte for byte, and can do what a web framework would not
 * (cut a body, answer early, trailers). Its bodies and hashes come from the shared pattern.
 */
export async function startOrigin(port = 0): Promise<LabOrigin> {
  const seen: SeenRequest[] = [];
  const gates = new Map<string, PromiseWithResolvers<void>>();
  const gate = (name: string): PromiseWithResolvers<void> => {
    const known = gates.get(name) ?? Promise.withResolvers<void>();
    gates.set(name, known);
    return known;
  };
  const sockets = new Set<LabSocket>();
  const server = createServer((socket: Socket) => {
    const lab = new LabSocket(socket);
    sockets.add(lab);
    void serve(lab, seen, (name) => gate(name).promise).finally(async () => {
      await lab[Symbol.asyncDispose]();
      sockets.delete(lab);
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", resolve);
  });
  return {
    port: (server.address() as AddressInfo).port,
    seen,
    seenAt: (target) => seen.findLast((request) => request.target === target),
    open: (name) => gate(name).resolve(),
    [Symbol.asyncDispose]: async () => {
      const down = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets) socket.socket.destroy();
      await down;
    },
  };
}

async function serve(socket: LabSocket, seen: SeenRequest[], gate: Exchange["gate"]): Promise<void> {
  for (;;) {
    const head = await readHead(socket);
    if (head === undefined) return;
    const target = head.startLine.split(" ")[1] ?? "";
    const request: SeenRequest = { ...head, target, outcome: "open" };
    seen.push(request);
    const url = new URL(target, "http://origin");
    const handler = ROUTES[url.pathname] ?? ROUTES[`/${url.pathname.split("/")[1]}`] ?? notFound;
    try {
      await handler({ socket, head, request, query: url.searchParams, gate });
    } catch (error) {
      if (!(error instanceof CutMessage)) throw error;
      request.outcome = "aborted";
      return;
    }
    if (request.outcome === "open") request.outcome = socket.socket.destroyed ? "aborted" : "done";
    if (socket.end !== undefined || socket.socket.destroyed) return;
  }
}

const ROUTES: Readonly<Record<string, Handler>> = {
  "/hello": async ({ socket, head }) => {
    await readRequest(socket, head);
    await answer(socket, "200 OK", [["Content-Type", "text/plain"]], "hello");
  },

  /** The request back as JSON. */
  "/echo": async ({ socket, head }) => {
    const { body, trailers } = await readRequest(socket, head);
    const { startLine, fields } = head;
    const told = JSON.stringify({ startLine, fields, body: body.toString("latin1"), trailers });
    await answer(socket, "200 OK", [["Content-Type", "application/json"]], told);
  },

  "/bulk": async ({ socket, head, query }) => {
    await readRequest(socket, head);
    const bytes = Number(query.get("bytes"));
    if (query.has("chunked")) {
      await socket.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
      for (const piece of patternBytes(bytes)) await writeChunk(socket, piece);
      await socket.write("0\r\n\r\n");
      return;
    }
    await socket.write(`HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: ${bytes}\r\n\r\n`);
    for (const piece of patternBytes(bytes)) if (!(await socket.write(piece))) return;
  },

  "/upload": async ({ socket, head }) => {
    const hash = createHash("sha256");
    let bytes = 0;
    for await (const chunk of bodyChunks(socket, framingOf(head, { response: false }))) {
      hash.update(chunk);
      bytes += chunk.length;
    }
    await answer(socket, "200 OK", [], JSON.stringify({ bytes, sha256: hash.digest("hex") }));
  },

  /** One event at once; the second, and the end, when the gate opens. */
  "/sse": async ({ socket, gate, query }) => {
    await socket.write(
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    await writeChunk(socket, Buffer.from("data: first\n\n"));
    await Promise.race([gate(query.get("gate") ?? ""), socket.closed]);
    await writeChunk(socket, Buffer.from("data: second\n\n"));
    await socket.write("0\r\n\r\n");
  },

  /** Half of ten bytes at once, the rest when the gate opens. */
  "/slow": async ({ socket, head, gate, query }) => {
    await readRequest(socket, head);
    const chunked = query.has("chunked");
    const framing = chunked ? "Transfer-Encoding: chunked" : "Content-Length: 10";
    await socket.write(`HTTP/1.1 200 OK\r\n${framing}\r\n\r\n${chunked ? "5\r\nfirst\r\n" : "first"}`);
    await Promise.race([gate(query.get("gate") ?? ""), socket.closed]);
    await socket.write(chunked ? "5\r\nafter\r\n0\r\n\r\n" : "after");
  },

  "/status": async ({ socket, head, request }) => {
    await readRequest(socket, head);
    const status = request.target.split("/")[2] ?? "200";
    const length = status === "204" || status === "304" ? "" : "Content-Length: 0\r\n";
    await socket.write(`HTTP/1.1 ${status} Status ${status}\r\nETag: "kept"\r\n${length}\r\n`);
  },

  "/head": async ({ socket, head }) => {
    await readRequest(socket, head);
    await socket.write("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nX-Head: yes\r\n\r\n");
  },

  "/fields": async ({ socket, head }) => {
    await readRequest(socket, head);
    const fields: [string, string][] = [
      ["Set-Cookie", "a=1; Path=/"],
      ["Set-Cookie", "b=2"],
      ["X-Odd-CASE", "Value"],
    ];
    await answer(socket, "200 OK", fields, "fields");
  },

  "/trailers": async ({ socket, head }) => {
    await readRequest(socket, head);
    await socket.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n");
    await writeChunk(socket, Buffer.from("body"));
    await socket.write("0\r\nX-Sum: 42\r\n\r\n");
  },

  "/continue": async ({ socket, head }) => {
    if (field(head, "expect") !== undefined) await socket.write("HTTP/1.1 100 Continue\r\n\r\n");
    const { body } = await readRequest(socket, head);
    await answer(socket, "200 OK", [], `got ${body.length}`);
  },

  "/hints": async ({ socket, head }) => {
    await readRequest(socket, head);
    await socket.write("HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n");
    await answer(socket, "200 OK", [], "hinted");
  },

  /** Refuses a body it does not read, then lingers so that the answer is not lost in a reset. */
  "/early": async ({ socket, request }) => {
    await answer(socket, "413 Content Too Large", [["Connection", "close"]], "too much");
    request.outcome = "done";
    socket.socket.end();
    while ((await socket.readSome()) !== undefined);
  },

  /** Promises more than it sends, then resets. */
  "/abort": async ({ socket, head, query, request }) => {
    await readRequest(socket, head);
    const framing = query.has("chunked") ? "Transfer-Encoding: chunked" : "Content-Length: 1000000";
    await socket.write(`HTTP/1.1 200 OK\r\n${framing}\r\n\r\n`);
    const part = Buffer.alloc(1_000, "x");
    await (query.has("chunked") ? writeChunk(socket, part) : socket.write(part));
    request.outcome = "done";
    socket.reset();
  },

  /** Echoes messages; the text `close CODE REASON` makes it close so. */
  "/ws": async ({ socket, head, request }) => {
    const key = field(head, "sec-websocket-key");
    if (key === undefined) return await answer(socket, "426 Upgrade Required", [], "WebSocket only");
    const upgrade = `Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${acceptKey(key)}`;
    await socket.write(`HTTP/1.1 101 Switching Protocols\r\n${upgrade}\r\n\r\n`);
    await echoMessages(new LabWebSocket(socket, "server"), request);
    socket.socket.end();
  },
};

async function echoMessages(ws: LabWebSocket, request: SeenRequest): Promise<void> {
  for (;;) {
    const frame = await ws.receive();
    const close = closeOf(frame);
    if (close !== undefined) {
      request.closeCode = close.code;
      return await ws.sendClose(close.code, close.reason);
    }
    if (frame === undefined) return;
    const order = frame.opcode === OPCODE.text ? /^close (\d+) (.*)$/.exec(frame.payload.toString()) : null;
    if (order !== null) await ws.sendClose(Number(order[1]), order[2]);
    else await ws.send(frame.opcode === OPCODE.ping ? OPCODE.pong : frame.opcode, frame.payload, frame.final);
  }
}

const notFound: Handler = async ({ socket, head }) => {
  await readRequest(socket, head);
  await answer(socket, "404 Not Found", [], "origin knows no such path");
};

async function readRequest(socket: LabSocket, head: Head) {
  return await readBody(socket, framingOf(head, { response: false }));
}

async function answer(socket: LabSocket, status: string, fields: readonly (readonly [string, string])[], body: string) {
  const lines = [...fields, ["Content-Length", String(Buffer.byteLength(body))]].map(
    ([name, value]) => `${name}: ${value}`,
  );
  await socket.write(Buffer.from(`HTTP/1.1 ${status}\r\n${lines.join("\r\n")}\r\n\r\n${body}`));
}

async function writeChunk(socket: LabSocket, bytes: Buffer): Promise<void> {
  await socket.write(`${bytes.length.toString(16)}\r\n`);
  await socket.write(bytes);
  await socket.write("\r\n");
}
