import { describe, expect, test } from "bun:test";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { type FaultPlan, type FaultProxy, startFaultProxy } from "../support/fault-proxy.ts";
import { cutAfterBytes } from "../support/faults/cut-after-bytes.ts";
import { halfCloseAfterBytes } from "../support/faults/half-close-after-bytes.ts";
import { latency } from "../support/faults/latency.ts";
import { rate } from "../support/faults/rate.ts";
import { resetAfterBytes } from "../support/faults/reset-after-bytes.ts";
import { slice } from "../support/faults/slice.ts";
import { createStall } from "../support/faults/stall.ts";
import { leakCheck } from "../support/leak-check.ts";
import { pollUntil } from "../support/poll-until.ts";

interface Seen {
  text: string;
  chunks: number;
  ended: boolean;
  closed: boolean;
  code: string | undefined;
}

function watch(socket: Socket): Seen {
  const seen: Seen = { text: "", chunks: 0, ended: false, closed: false, code: undefined };
  socket.on("data", (chunk: Buffer) => {
    seen.text += chunk.toString("latin1");
    seen.chunks += 1;
  });
  socket.on("end", () => {
    seen.ended = true;
  });
  socket.on("error", (error: NodeJS.ErrnoException) => {
    seen.code = error.code;
  });
  socket.on("close", () => {
    seen.closed = true;
  });
  return seen;
}

interface Ends extends AsyncDisposable {
  readonly proxy: FaultProxy;
  readonly client: Socket;
  readonly atClient: Seen;
  readonly server: Socket;
  readonly atServer: Seen;
}

/** A client and a server with the proxy between them. */
async function connectThrough(plan: FaultPlan): Promise<Ends> {
  const accepted = Promise.withResolvers<Socket>();
  const sockets: Socket[] = [];
  const listener = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.push(socket);
    accepted.resolve(socket);
  });
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const { port } = listener.address() as AddressInfo;
  const proxy = await startFaultProxy({ host: "127.0.0.1", port }, plan);
  const client = connect({ host: proxy.host, port: proxy.port, allowHalfOpen: true });
  const atClient = watch(client);
  const server = await accepted.promise;
  const atServer = watch(server);
  return {
    ...{ proxy, client, atClient, server, atServer },
    [Symbol.asyncDispose]: async () => {
      await proxy[Symbol.asyncDispose]();
      client.destroy();
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => listener.close(() => resolve()));
    },
  };
}

describe("fault proxy", () => {
  test("without faults both directions, and their ends, pass one by one", async () => {
    await using _ = leakCheck();
    await using ends = await connectThrough({});
    ends.client.end("question");
    await pollUntil(() => ends.atServer.ended, { what: "the client's end at the server" });
    expect(ends.atServer.text).toBe("question");
    ends.server.end("answer");
    await pollUntil(() => ends.atClient.closed && ends.proxy.open === 0, { what: "both ends closed" });
    expect(ends.atClient).toMatchObject({ text: "answer", ended: true, code: undefined });
    expect(ends.proxy.accepted).toBe(1);
  });

  test("a reset of one side reaches the other", async () => {
    await using ends = await connectThrough({});
    ends.server.resetAndDestroy();
    await pollUntil(() => ends.atClient.closed, { what: "the client closed" });
    expect(ends.atClient.code).toBe("ECONNRESET");
  });

  test("latency delays each chunk and keeps order", async () => {
    await using ends = await connectThrough({ up: [slice(10), latency(60)] });
    const startMs = performance.now();
    ends.client.write("0123456789".repeat(20));
    await pollUntil(() => ends.atServer.text.length === 200, { what: "all bytes" });
    const tookMs = performance.now() - startMs;
    expect(ends.atServer.text).toBe("0123456789".repeat(20));
    expect(tookMs).toBeGreaterThanOrEqual(58);
    // Twenty delays one after the other would be 1200 ms.
    expect(tookMs).toBeLessThan(900);
  });

  test("rate bounds the bytes a second", async () => {
    await using ends = await connectThrough({ down: [rate(10_000)] });
    const startMs = performance.now();
    ends.server.write("x".repeat(2_000));
    await pollUntil(() => ends.atClient.text.length === 2_000, { what: "all bytes" });
    expect(performance.now() - startMs).toBeGreaterThan(150);
  });

  test("slice keeps the bytes and breaks the chunks", async () => {
    await using ends = await connectThrough({ up: [slice(1)] });
    ends.client.write("abcdefghij");
    await pollUntil(() => ends.atServer.text === "abcdefghij", { what: "all bytes" });
    expect(ends.atServer.chunks).toBeGreaterThan(1);
  });

  test("cutAfterBytes passes exactly that many and closes both sides", async () => {
    await using ends = await connectThrough({ down: [cutAfterBytes(4)] });
    ends.server.write("abcdefgh");
    await pollUntil(() => ends.atClient.ended || ends.atClient.closed, { what: "the end at the client" });
    expect(ends.atClient.text).toBe("abcd");
    await pollUntil(() => ends.atServer.ended || ends.atServer.closed, { what: "the end at the server" });
  });

  test("resetAfterBytes shows both sides a reset", async () => {
    await using ends = await connectThrough({ down: [resetAfterBytes(4)] });
    ends.server.write("abcdefgh");
    await pollUntil(() => ends.atClient.closed && ends.atServer.closed, { what: "both sides closed" });
    expect([ends.atClient.code, ends.atServer.code]).toEqual(["ECONNRESET", "ECONNRESET"]);
  });

  test("halfCloseAfterBytes ends one direction and leaves the other", async () => {
    await using ends = await connectThrough({ up: [halfCloseAfterBytes(3)] });
    ends.client.write("abcdef");
    await pollUntil(() => ends.atServer.ended, { what: "the end at the server" });
    expect(ends.atServer.text).toBe("abc");
    ends.server.write("still here");
    await pollUntil(() => ends.atClient.text === "still here", { what: "the answer at the client" });
    expect(ends.atClient).toMatchObject({ ended: false, closed: false });
  });

  test("a stall holds bytes back and loses none", async () => {
    const stall = createStall();
    await using ends = await connectThrough({ up: [stall.fault] });
    stall.begin();
    ends.client.write("held");
    // The other direction as a clock: when its bytes have passed, ours had every chance to.
    ends.server.write("tick");
    await pollUntil(() => ends.atClient.text === "tick", { what: "the other direction" });
    expect(ends.atServer.text).toBe("");
    stall.end();
    await pollUntil(() => ends.atServer.text === "held", { what: "the bytes after the stall" });
  });

  test("resetAll ends what is open; a new plan holds for what comes next", async () => {
    await using ends = await connectThrough({});
    ends.proxy.setPlan({ up: [cutAfterBytes(0)] });
    ends.client.write("fine");
    await pollUntil(() => ends.atServer.text === "fine", { what: "bytes under the old plan" });
    ends.proxy.resetAll();
    await pollUntil(() => ends.atClient.closed, { what: "the client closed" });
    expect(ends.atClient.code).toBe("ECONNRESET");
    const next = connect({ host: ends.proxy.host, port: ends.proxy.port });
    const atNext = watch(next);
    next.write("never arrives");
    await pollUntil(() => atNext.closed, { what: "the second client cut" });
    expect(ends.proxy.accepted).toBe(2);
  });
});

test("leakCheck fails while a socket is left open", async () => {
  const listener = createServer();
  const check = leakCheck({ deadlineMs: 20 });
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  try {
    if (process.platform === "linux") await expect(check[Symbol.asyncDispose]()).rejects.toThrow("sockets open");
  } finally {
    await new Promise<void>((resolve) => listener.close(() => resolve()));
  }
});
