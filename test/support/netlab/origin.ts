/**
 * The service behind a connector of the lab, on a port that several of them may share: `origin.ts PORT`. Prints the id
 * of each request it gets. SIGTERM: finishes what runs, then ends.
 *
 * - `GET /bytes/N?id=I`: N bytes of the content of I
 * - `GET /slow/MS/N?id=I`: the same, MS later
 * - `GET /paced/N/RATE?id=I`: the same, at RATE bytes a second
 * - `POST /check/MS?id=I`: says, MS later, how many bytes came, and how many of them are not the content of I
 */
import { createServer, type ListenOptions, type Socket } from "node:net";
import { bodyChunks, framingOf, type Head, readHead } from "../lab-message.ts";
import { LabSocket } from "../lab-socket.ts";
import { ContentCheck, contentPieces } from "./content.ts";

const PORTION_MS = 20;

const idle = new Set<LabSocket>();
let ending = false;

const server = createServer({ allowHalfOpen: true }, (socket: Socket) => void serve(new LabSocket(socket)));
const options: ListenOptions & { readonly reusePort: boolean } = {
  host: "127.0.0.1",
  port: Number(process.argv[2]),
  reusePort: true,
};
server.listen(options, () => console.log("ready"));
process.on("SIGTERM", () => {
  ending = true;
  server.close(() => process.exit(0));
  for (const socket of idle) socket.socket.end();
});

async function serve(socket: LabSocket): Promise<void> {
  try {
    for (;;) {
      idle.add(socket);
      const head = await readHead(socket);
      idle.delete(socket);
      if (head === undefined) break;
      await answer(socket, head);
      if (ending) break;
    }
    socket.socket.end();
  } catch {
    socket.socket.destroy();
  } finally {
    idle.delete(socket);
  }
}

async function answer(socket: LabSocket, head: Head): Promise<void> {
  const url = new URL(head.startLine.split(" ")[1] ?? "/", "http://origin");
  const [, kind, first, second] = url.pathname.split("/");
  const id = Number(url.searchParams.get("id"));
  console.log(`id ${id}`);
  const check = new ContentCheck(id);
  for await (const chunk of bodyChunks(socket, framingOf(head, { response: false }))) check.take(chunk);
  switch (kind) {
    case "bytes":
      return await send(socket, contentPieces(id, Number(first)), Number(first));
    case "slow":
      await pause(Number(first));
      return await send(socket, contentPieces(id, Number(second)), Number(second));
    case "paced": {
      const portion = Math.ceil((Number(second) * PORTION_MS) / 1_000);
      return await send(socket, contentPieces(id, Number(first), portion), Number(first), PORTION_MS);
    }
    case "check": {
      await pause(Number(first));
      const text = `${check.bytes} bytes, ${check.wrong} wrong`;
      return await send(socket, [Buffer.from(text)], text.length);
    }
    default:
      throw new Error(`No such path: ${url.pathname}`);
  }
}

async function send(socket: LabSocket, pieces: Iterable<Buffer>, total: number, pauseMs = 0): Promise<void> {
  const close = ending ? "Connection: close\r\n" : "";
  await socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${total}\r\n${close}\r\n`);
  for (const piece of pieces) {
    if (!(await socket.write(piece))) throw new Error("the connector is gone");
    if (pauseMs > 0) await pause(pauseMs);
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
