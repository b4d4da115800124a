import { readFileSync } from "node:fs";
import net from "node:net";
import { pollUntil } from "./poll-until.ts";
import { startProcess } from "./processes.ts";

/** A connection that is not taken within this time on loopback is one that the system leaves waiting, in ms. */
const NOT_TAKEN_MS = 300;
/** More than the longest queue that a system is set to. */
const MAX_CONNECTIONS = 10_000;

/**
 * A port whose connections are neither taken nor refused, as behind a firewall that drops packets: its process stands
 * still and its queue is full.
 */
export async function startFullListener(host: string, port = 0): Promise<{ readonly port: number } & AsyncDisposable> {
  await using stack = new AsyncDisposableStack();
  const script = `const s = require("node:net").createServer(() => {});
    s.listen({ host: "${host}", port: ${port}, backlog: 1 }, () => console.log("port", s.address().port));`;
  const child = stack.use(startProcess([process.execPath, "-e", script]));
  // One that stands still would not end when it is told to.
  stack.defer(() => child.kill());
  const [, text] = await child.outputLine(/port (\d+)/);
  const listening = Number(text);
  child.signal("SIGSTOP");
  await pollUntil(() => / T /.test(readFileSync(`/proc/${child.pid}/stat`, "utf8")), {
    what: "the process stands still",
  });
  const sockets: net.Socket[] = [];
  stack.defer(() => {
    for (const socket of sockets) socket.destroy();
  });
  while (await isTaken(listening, host, sockets)) {
    if (sockets.length > MAX_CONNECTIONS) throw new Error("The queue has no end");
  }
  const owned = stack.move();
  return { port: listening, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

function isTaken(port: number, host: string, sockets: net.Socket[]): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect({ port, host });
    sockets.push(socket);
    const timer = setTimeout(() => resolve(false), NOT_TAKEN_MS);
    socket.on("error", () => {});
    socket.once("connect", () => {
      clearTimeout(timer);
      resolve(true);
    });
  });
}
