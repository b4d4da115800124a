/**
 * A visitor that keeps WebSockets open, on raw sockets. Reads one command a line from standard input and answers each
 * with one line of JSON, `{ open }`:
 *   open PORT HOST COUNT PER_ADDRESS  opens COUNT; at most PER_ADDRESS come from one loopback address. `failure` says
 *                                     why some were not opened
 *   echo                              sends a message on each; `open` counts those that came back
 *   close                             closes all
 */
import { randomBytes } from "node:crypto";
import { createInterface } from "node:readline";

/** Handshakes under way at once. */
const AT_ONCE = 64;
const DEADLINE_MS = 60_000;
/** Left free for the edge's count of connections that are just going. */
const PER_ADDRESS_MARGIN = 100;
/** Text "ping", masked with zeros, and as the server sends it back. */
const MESSAGE = Buffer.from([0x81, 0x84, 0, 0, 0, 0, ...Buffer.from("ping")]);
const ANSWER = Buffer.from([0x81, 0x04, ...Buffer.from("ping")]);

interface Visitor {
  /** Called with whatever comes; undefined = the socket closed. */
  receive: (chunk: Buffer | undefined) => void;
}

let sockets: Bun.Socket<Visitor>[] = [];

async function open(port: number, host: string, count: number, perAddress: number) {
  let next = 0;
  let failure: string | undefined;
  const worker = async (): Promise<void> => {
    while (next < count && failure === undefined) {
      const address = `127.0.0.${2 + Math.floor(next / (perAddress - PER_ADDRESS_MARGIN))}`;
      next += 1;
      try {
        sockets.push(await shakeHands(port, host, address));
      } catch (error) {
        failure = error instanceof Error ? error.message : String(error);
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return { open: sockets.length, ...(failure === undefined ? {} : { failure }) };
}

function shakeHands(port: number, host: string, localAddress: string): Promise<Bun.Socket<Visitor>> {
  const key = randomBytes(16).toString("base64");
  const request =
    `GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
    `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${key}\r\n\r\n`;
  return new Promise((resolve, reject) => {
    let head = "";
    const data: Visitor = { receive: () => {} };
    const options = { hostname: "127.0.0.1", port, localAddress, data, socket: handlers };
    Bun.connect<Visitor>(options).then((socket) => {
      data.receive = (chunk) => {
        if (chunk === undefined) {
          reject(new Error("the connection ended before its handshake"));
          return;
        }
        head += chunk.toString("latin1");
        if (!head.includes("\r\n\r\n")) return;
        if (head.startsWith("HTTP/1.1 101")) resolve(socket);
        else {
          reject(new Error(`answered "${head.slice(0, head.indexOf("\r\n"))}"`));
          socket.end();
        }
      };
      socket.write(request);
    }, reject);
  });
}

const handlers = {
  data(socket: Bun.Socket<Visitor>, chunk: Buffer): void {
    socket.data.receive(chunk);
  },
  close(socket: Bun.Socket<Visitor>): void {
    socket.data.receive(undefined);
  },
  error(socket: Bun.Socket<Visitor>): void {
    socket.data.receive(undefined);
  },
};

async function echo() {
  let answered = 0;
  const done = Promise.withResolvers<void>();
  const timer = setTimeout(done.resolve, DEADLINE_MS);
  for (const [index, socket] of sockets.entries()) {
    let received = Buffer.alloc(0);
    socket.data.receive = (chunk) => {
      received = Buffer.concat([received, chunk ?? Buffer.alloc(0)]);
      if (!received.equals(ANSWER)) return;
      answered += 1;
      if (answered === sockets.length) done.resolve();
    };
    socket.write(MESSAGE);
    // A burst of all of them at once would measure queues.
    if (index % AT_ONCE === 0) await Bun.sleep(1);
  }
  await done.promise;
  clearTimeout(timer);
  return { open: answered };
}

function close() {
  for (const socket of sockets) {
    socket.data.receive = () => {};
    socket.end();
  }
  sockets = [];
  return { open: 0 };
}

for await (const line of createInterface({ input: process.stdin })) {
  const [command, port, host, count, perAddress] = line.split(" ");
  const result =
    command === "open"
      ? await open(Number(port), host ?? "", Number(count), Number(perAddress))
      : command === "echo"
        ? await echo()
        : close();
  console.log(JSON.stringify(result));
}
