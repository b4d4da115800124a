/**
 * Visitors of the lab: `load.ts PLAN` with a `LoadPlan` as JSON. Prints a `VisitRecord` a line when a request is over.
 * SIGTERM: begins nothing new, and ends with the last answer.
 *
 * Each request has an edge; when that one cannot be connected to, it goes to the other, as clients of two addresses do.
 * A GET whose kept connection ends before any byte of the answer goes out again (RFC 9112 section 9.3.1). Everything
 * else that is not a whole answer with status 200 is a failure.
 */
import { connect } from "node:net";
import { bodyChunks, framingOf, readHead } from "../lab-message.ts";
import { LabSocket } from "../lab-socket.ts";
import { ContentCheck, content } from "./content.ts";
import type { LoadPlan, VisitKind, VisitRecord } from "./visit-record.ts";

/** An edge that does not take a connection within this time is passed over, in ms. */
const CONNECT_MS = 1_000;
/** A visitor's patience for one request, in ms. */
const PATIENCE_MS = 30_000;
const SLOW_MS = 300;
const POST_BYTES = 2_000;
/** Kept connections live this long without use: less than any edge gives them, in ms. */
const KEEP_MS = 4_000;
const MAX_MOVES = 4;

const plan = JSON.parse(process.argv[2] ?? "") as LoadPlan;
const kept: { readonly edge: number; readonly socket: LabSocket; readonly sinceMs: number }[] = [];
let running = 0;
let nextId = 1;
let stopping = false;
const timers = [
  ...every(plan.getsPerSecond, "get"),
  ...every(plan.slowPerSecond, "slow"),
  ...every(plan.postsPerSecond, "post"),
];
for (let index = 0; index < plan.downloads; index += 1) void keepDownloading();
setTimeout(stop, plan.atMostMs);
process.on("SIGTERM", stop);

function every(perSecond: number, kind: VisitKind): ReturnType<typeof setInterval>[] {
  return perSecond === 0 ? [] : [setInterval(() => void visit(kind), 1_000 / perSecond)];
}

async function keepDownloading(): Promise<void> {
  while (!stopping) {
    const { failure } = await visit("download");
    // Without a pause a refused download would be asked for as fast as it is refused.
    if (failure !== undefined) await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

function stop(): void {
  stopping = true;
  for (const timer of timers) clearInterval(timer);
  leaveWhenDone();
}

function leaveWhenDone(): void {
  if (stopping && running === 0) process.exit(0);
}

async function visit(kind: VisitKind): Promise<VisitRecord> {
  const id = nextId;
  nextId += 1;
  running += 1;
  const startMs = Date.now();
  const began = performance.now();
  const check = new ContentCheck(id);
  const progress = { moved: 0 };
  const failure = await attempt(kind, id, check, progress).then(
    () => undefined,
    (error: unknown) => (error instanceof Error ? error.message : String(error)),
  );
  const record: VisitRecord = {
    ...{ id, kind, startMs, tookMs: Math.round(performance.now() - began), wrongBytes: check.wrong },
    moved: progress.moved,
    ...(failure === undefined ? {} : { failure }),
  };
  process.stdout.write(`${JSON.stringify(record)}\n`);
  running -= 1;
  leaveWhenDone();
  return record;
}

async function attempt(kind: VisitKind, id: number, check: ContentCheck, progress: { moved: number }): Promise<void> {
  let edge = id % plan.edges.length;
  for (;;) {
    const line = await take(edge, kind !== "post");
    if (line !== undefined) {
      const outcome = await ask(line.socket, kind, id, check);
      if (outcome === "done") {
        kept.push({ edge, socket: line.socket, sinceMs: performance.now() });
        return;
      }
      if (outcome === "closing") return;
      if (kind === "post" || !line.reused) throw new Error("the edge closed instead of answering");
    } else edge = (edge + 1) % plan.edges.length;
    progress.moved += 1;
    if (progress.moved > MAX_MOVES) throw new Error("no edge takes a connection");
  }
}

/** A connection to this edge, a kept one if there is one and it may be; undefined when the edge takes none. */
async function take(edge: number, mayReuse: boolean): Promise<{ socket: LabSocket; reused: boolean } | undefined> {
  while (mayReuse) {
    const at = kept.findIndex((line) => line.edge === edge);
    const line = at < 0 ? undefined : kept.splice(at, 1)[0];
    if (line === undefined) break;
    if (line.socket.end === undefined && performance.now() - line.sinceMs < KEEP_MS) {
      return { socket: line.socket, reused: true };
    }
    line.socket.socket.destroy();
  }
  const address = plan.edges[edge];
  if (address === undefined) throw new Error(`There is no edge ${edge}`);
  const socket = connect({ ...address, allowHalfOpen: true });
  const connected = await new Promise<boolean>((resolve) => {
    const timer = setTimeout(() => resolve(false), CONNECT_MS);
    socket.on("error", () => resolve(false));
    socket.on("connect", () => {
      clearTimeout(timer);
      resolve(true);
    });
  });
  if (connected) return { socket: new LabSocket(socket), reused: false };
  socket.destroy();
  return undefined;
}

/** `unanswered`: the connection ended before any byte of the answer. Throws when the answer is not whole and right. */
async function ask(
  socket: LabSocket,
  kind: VisitKind,
  id: number,
  check: ContentCheck,
): Promise<"done" | "closing" | "unanswered"> {
  let impatient = false;
  const timer = setTimeout(() => {
    impatient = true;
    socket.socket.destroy();
  }, PATIENCE_MS);
  try {
    const { head: text, expected, body } = requestOf(kind, id);
    if (body === undefined) await socket.write(text);
    else await socket.write(Buffer.concat([Buffer.from(text), body]));
    const head = await readHead(socket);
    if (head === undefined) {
      if (impatient) throw new Error("no answer");
      socket.socket.destroy();
      return "unanswered";
    }
    const status = head.startLine.split(" ")[1];
    const parts: Buffer[] = [];
    for await (const chunk of bodyChunks(socket, framingOf(head, { response: true }))) {
      if (status === "200" && kind !== "post") check.take(chunk);
      else parts.push(chunk);
    }
    if (status !== "200") throw new Error(`status ${status}`);
    const answer = Buffer.concat(parts).toString();
    if (kind === "post" && answer !== `${POST_BYTES} bytes, 0 wrong`) {
      check.wrong += POST_BYTES;
      throw new Error(`the origin got ${answer}`);
    }
    if (kind !== "post" && check.bytes !== expected) throw new Error(`${check.bytes} of ${expected} bytes`);
    if (check.wrong > 0) throw new Error(`${check.wrong} wrong bytes`);
    const closing = head.fields.some(([name, value]) => /^connection$/i.test(name) && /close/i.test(value));
    if (closing) socket.socket.destroy();
    return closing ? "closing" : "done";
  } catch (error) {
    socket.socket.destroy();
    throw impatient ? new Error(`no whole answer within ${PATIENCE_MS / 1_000} s`) : error;
  } finally {
    clearTimeout(timer);
  }
}

function requestOf(kind: VisitKind, id: number): { head: string; expected: number; body?: Buffer } {
  const size = 500 + ((id * 7_321) % 50_000);
  const get = (path: string, expected: number): { head: string; expected: number } => ({
    head: `GET ${path}?id=${id} HTTP/1.1\r\nHost: ${plan.hostname}\r\n\r\n`,
    expected,
  });
  switch (kind) {
    case "get":
      return get(`/bytes/${size}`, size);
    case "slow":
      return get(`/slow/${SLOW_MS}/${size}`, size);
    case "download":
      return get(`/paced/${plan.downloadBytes}/${plan.downloadBytesPerSecond}`, plan.downloadBytes);
    case "post":
      return {
        head: `POST /check/${SLOW_MS}?id=${id} HTTP/1.1\r\nHost: ${plan.hostname}\r\nContent-Length: ${POST_BYTES}\r\n\r\n`,
        expected: 0,
        body: content(id, POST_BYTES),
      };
  }
}
