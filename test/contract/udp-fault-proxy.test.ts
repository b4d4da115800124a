import { describe, expect, test } from "bun:test";
import { createSocket, type Socket } from "node:dgram";
import { createUdpCut, createUdpStall } from "../support/faults/udp/gate.ts";
import { udpLatency } from "../support/faults/udp/latency.ts";
import { udpLoss } from "../support/faults/udp/loss.ts";
import { udpRate } from "../support/faults/udp/rate.ts";
import { udpReorder } from "../support/faults/udp/reorder.ts";
import { leakCheck } from "../support/leak-check.ts";
import { pollUntil } from "../support/poll-until.ts";
import { seededRandom } from "../support/seeded-random.ts";
import { startUdpFaultProxy, type UdpFaultPlan, type UdpFaultProxy } from "../support/udp-fault-proxy.ts";

interface Echo {
  readonly port: number;
  readonly socket: Socket;
  /** Ports that datagrams came from, in order, without repeats. */
  readonly ports: number[];
}

async function open(): Promise<Socket> {
  const socket = createSocket("udp4");
  await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
  return socket;
}

async function startEcho(): Promise<Echo> {
  const socket = await open();
  const ports: number[] = [];
  socket.on("message", (bytes, from) => {
    if (!ports.includes(from.port)) ports.push(from.port);
    socket.send(bytes, from.port, from.address);
  });
  return { socket, ports, port: socket.address().port };
}

interface Ends extends AsyncDisposable {
  readonly proxy: UdpFaultProxy;
  readonly echo: Echo;
  /** What came back, in order. */
  readonly answers: string[];
  send(text: string): void;
}

async function connectThrough(plan: UdpFaultPlan): Promise<Ends> {
  const echo = await startEcho();
  const proxy = await startUdpFaultProxy({ host: "127.0.0.1", port: echo.port }, plan);
  const client = await open();
  const answers: string[] = [];
  client.on("message", (bytes) => void answers.push(bytes.toString()));
  return {
    ...{ proxy, echo, answers },
    send: (text) => client.send(text, proxy.port, proxy.host),
    [Symbol.asyncDispose]: async () => {
      await proxy[Symbol.asyncDispose]();
      for (const socket of [client, echo.socket]) await new Promise<void>((resolve) => socket.close(() => resolve()));
    },
  };
}

const numbers = (count: number): string[] => Array.from({ length: count }, (_, index) => String(index));

describe("UDP fault proxy", () => {
  test("without faults datagrams pass both ways, each client through a port of its own", async () => {
    await using _ = leakCheck();
    await using ends = await connectThrough({});
    const other = await open();
    const otherAnswers: string[] = [];
    other.on("message", (bytes) => void otherAnswers.push(bytes.toString()));
    ends.send("one");
    other.send("other", ends.proxy.port, ends.proxy.host);
    await pollUntil(() => ends.answers.length === 1 && otherAnswers.length === 1, { what: "both answers" });
    expect([ends.answers, otherAnswers]).toEqual([["one"], ["other"]]);
    expect([ends.proxy.clients, ends.echo.ports.length]).toEqual([2, 2]);
    await new Promise<void>((resolve) => other.close(() => resolve()));
  });

  test("latency delays each datagram and keeps order", async () => {
    await using ends = await connectThrough({ up: [udpLatency(40)], down: [udpLatency(40)] });
    const startMs = performance.now();
    for (const text of numbers(20)) ends.send(text);
    await pollUntil(() => ends.answers.length === 20, { what: "all answers" });
    const tookMs = performance.now() - startMs;
    expect(ends.answers).toEqual(numbers(20));
    expect(tookMs).toBeGreaterThanOrEqual(78);
    // Twenty delays one after the other would be 1600 ms.
    expect(tookMs).toBeLessThan(800);
  });

  test("rate spreads datagrams, and loses what the queue does not hold", async () => {
    await using ends = await connectThrough({ up: [udpRate(10_000, 1_000)] });
    const startMs = performance.now();
    for (let index = 0; index < 30; index += 1) ends.send("x".repeat(100));
    await pollUntil(() => ends.answers.length >= 11, { what: "what the queue holds" });
    expect(performance.now() - startMs).toBeGreaterThan(80);
    // A timer between two datagrams may have let one more in.
    expect(ends.answers.length).toBeLessThan(15);
  });

  test("loss takes the share it is given, the same ones for the same seed", async () => {
    await using ends = await connectThrough({ up: [udpLoss(0.3, seededRandom(7))] });
    const expected = numbers(200).filter(keptBy(0.3, 7));
    for (const text of numbers(200)) ends.send(text);
    await pollUntil(() => ends.answers.length >= expected.length, { what: "what was not lost" });
    expect(ends.answers).toEqual(expected);
    expect(expected.length).toBeGreaterThan(120);
    expect(expected.length).toBeLessThan(160);
  });

  test("reorder changes the order and loses nothing, not even the last one", async () => {
    await using ends = await connectThrough({ up: [udpReorder(0.5, seededRandom(3))] });
    for (const text of numbers(50)) ends.send(text);
    await pollUntil(() => ends.answers.length === 50, { what: "all answers" });
    expect(ends.answers).not.toEqual(numbers(50));
    expect(ends.answers.toSorted((a, b) => Number(a) - Number(b))).toEqual(numbers(50));
  });

  test("a cut loses what is sent meanwhile", async () => {
    const cut = createUdpCut();
    await using ends = await connectThrough({ down: [cut.fault] });
    ends.send("before");
    await pollUntil(() => ends.answers.length === 1, { what: "the answer before" });
    cut.begin();
    const seen = countAt(ends.echo);
    ends.send("lost");
    await pollUntil(() => seen() === 1, { what: "the lost datagram at the echo" });
    // The echo has answered by now; its answer gets the time to be lost.
    await turn();
    cut.end();
    ends.send("after");
    await pollUntil(() => ends.answers.includes("after"), { what: "the answer after" });
    expect(ends.answers).toEqual(["before", "after"]);
  });

  test("a stall holds datagrams back and loses none", async () => {
    const stall = createUdpStall();
    await using ends = await connectThrough({ up: [stall.fault] });
    const seen = countAt(ends.echo);
    stall.begin();
    for (const text of numbers(5)) ends.send(text);
    for (let index = 0; index < 5; index += 1) await turn();
    expect(seen()).toBe(0);
    stall.end();
    await pollUntil(() => ends.answers.length === 5, { what: "the answers after the stall" });
    expect(ends.answers).toEqual(numbers(5));
  });

  test("rebind gives the client another port towards the target", async () => {
    await using _ = leakCheck();
    await using ends = await connectThrough({});
    ends.send("before");
    await pollUntil(() => ends.answers.length === 1, { what: "the answer before" });
    await ends.proxy.rebind();
    ends.send("after");
    await pollUntil(() => ends.answers.length === 2, { what: "the answer after" });
    expect(ends.echo.ports.length).toBe(2);
    // What still comes to the old port reaches nobody.
    ends.echo.socket.send("stray", ends.echo.ports[0] ?? 0, "127.0.0.1");
    ends.send("last");
    await pollUntil(() => ends.answers.includes("last"), { what: "the last answer" });
    expect(ends.answers).toEqual(["before", "after", "last"]);
  });
});

/** Which of so many datagrams a loss with this seed lets pass. */
function keptBy(share: number, seed: number): () => boolean {
  const random = seededRandom(seed);
  return () => random() >= share;
}

function countAt(echo: Echo): () => number {
  let count = 0;
  echo.socket.on("message", () => {
    count += 1;
  });
  return () => count;
}

function turn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 5));
}
