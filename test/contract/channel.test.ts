import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { TunnelError } from "../../src/core/errors.ts";
import { dialBun, listenBun } from "../../src/net/bun-sockets.ts";
import type { ByteChannel, ChannelEvents } from "../../src/net/channel.ts";
import { createMemoryChannelPair } from "../../src/net/memory-channel.ts";
import { dialNode, listenNode } from "../../src/net/node-sockets.ts";
import { pipe } from "../../src/net/pipe.ts";
import type { Connection, DialAddress, DialOptions, Listener, ListenOptions } from "../../src/net/sockets.ts";
import { WebSocketChannel } from "../../src/net/websocket-channel.ts";
import { makeTestCertificate, type TestCertificate } from "../support/certificate.ts";

const MIB = 1024 * 1024;

interface Kind {
  readonly name: string;
  pair(): Promise<[ByteChannel, ByteChannel]>;
}

type Dial = (address: DialAddress, options: DialOptions) => Promise<Connection>;
type Listen = (options: ListenOptions) => Promise<Listener> | Listener;

let certificate: TestCertificate;
const listeners: Listener[] = [];

beforeAll(async () => {
  certificate = await makeTestCertificate(["h2.cftunnel.com"]);
});

afterAll(async () => {
  for (const listener of listeners) await listener.close();
});

function sockets(name: string, dial: Dial, listen: Listen, secure: boolean): Kind {
  return {
    name,
    pair: async () => {
      const accepted = Promise.withResolvers<Connection>();
      const listener = await listen({
        host: "127.0.0.1",
        port: 0,
        maxConnections: 10,
        ...(secure ? { tls: certificate } : {}),
        onConnection: accepted.resolve,
      });
      listeners.push(listener);
      const tls = { serverName: "h2.cftunnel.com", ca: certificate.cert };
      const dialled = await dial({ host: "127.0.0.1", port: listener.port }, secure ? { tls } : {});
      return [dialled.channel, (await accepted.promise).channel];
    },
  };
}

function inWebSocket(name: string, carriers: () => Promise<[ByteChannel, ByteChannel]>): Kind {
  return {
    name,
    pair: async () => {
      const [a, b] = await carriers();
      return [new WebSocketChannel(a, { role: "client" }), new WebSocketChannel(b, { role: "server" })];
    },
  };
}

const listenBunLater: Listen = (options) => listenBun(options);

const KINDS: Kind[] = [
  { name: "memory", pair: () => Promise.resolve(createMemoryChannelPair()) },
  sockets("Bun TCP", dialBun, listenBunLater, false),
  sockets("Bun TLS", dialBun, listenBunLater, true),
  sockets("node TCP", dialNode, listenNode, false),
  sockets("node TLS", dialNode, listenNode, true),
  sockets("node TLS to Bun TLS", dialNode, listenBunLater, true),
  inWebSocket("WebSocket in memory", () => Promise.resolve(createMemoryChannelPair())),
  inWebSocket("WebSocket on Bun TCP", sockets("", dialBun, listenBunLater, false).pair),
];

describe.each(KINDS)("channel contract: $name", ({ pair }) => {
  test("what waits before somebody listens arrives whole and in order", async () => {
    const [a, b] = await pair();
    for (let i = 0; i < 100; i++) a.write(text(`${i},`));
    a.end();
    await turns(5);
    const seen = record(b);
    b.end();
    await until(() => seen.ended, "the end");
    expect(seen.text()).toBe(Array.from({ length: 100 }, (_, i) => `${i},`).join(""));
  });

  test("a slice of what arrives is a copy, so that a kept part keeps no more than itself", async () => {
    const [a, b] = await pair();
    let part: Uint8Array | undefined;
    const seen = record(b, {
      onData: (chunk) => {
        part ??= chunk.slice(0, 1);
      },
    });
    a.write(text("kept and dropped"));
    a.end();
    b.end();
    await until(() => seen.ended && part !== undefined, "the bytes");
    expect(part?.buffer.byteLength).toBe(1);
  });

  test("half-close: the other direction goes on, and both close properly", async () => {
    const [a, b] = await pair();
    const atA = record(a);
    const atB = record(b);
    a.write(text("question"));
    a.end();
    await until(() => atB.ended, "the end of the question");
    expect(atB.closed).toBe(false);
    b.write(text("answer after the end"));
    b.end();
    await until(() => atA.closed && atB.closed, "both closed");
    expect(atA.text()).toBe("answer after the end");
    expect(atA.ended).toBe(true);
    expect([atA.error, atB.error]).toEqual([undefined, undefined]);
  });

  test("abort reaches the peer as a failure, never as a proper end", async () => {
    const [a, b] = await pair();
    const atA = record(a);
    const atB = record(b);
    a.write(text("x"));
    await until(() => atB.text() === "x", "the byte");
    a.abort(new TunnelError("aborted", "test"));
    await until(() => atA.closed && atB.closed, "both closed");
    expect(atA.error?.code).toBe("aborted");
    expect(atB.ended && atB.error === undefined).toBe(false);
  });

  test("a stopped reader holds the writer back; nothing is lost when it goes on", async () => {
    const [a, b] = await pair();
    const total = 64 * MIB;
    const block = new Uint8Array(64 * 1024);
    let sent = 0;
    const go = (): void => {
      while (sent < total) {
        sent += block.length;
        if (!a.write(block)) return;
      }
      a.end();
    };
    record(a, { onDrain: go });
    let received = 0;
    const seen = record(b, {
      onData: (chunk) => {
        received += chunk.length;
      },
    });
    b.pause();
    go();
    await turns(50);
    const stuckAt = sent;
    await turns(50);
    expect(sent).toBe(stuckAt);
    expect(sent).toBeLessThan(24 * MIB);
    b.resume();
    b.end();
    await until(() => seen.ended, "the end");
    expect(received).toBe(total);
  });

  test("pausing inside onData stops the very next chunk", async () => {
    const [a, b] = await pair();
    let chunks = 0;
    record(b, {
      onData: () => {
        chunks += 1;
        b.pause();
      },
    });
    for (let i = 0; i < 3; i++) {
      a.write(new Uint8Array(256 * 1024));
      await turns(3);
    }
    await until(() => chunks === 1, "one chunk");
    await turns(20);
    expect(chunks).toBe(1);
    b.resume();
    await until(() => chunks === 2, "the next chunk");
  });

  test("a pipe keeps half-close and counts bytes", async () => {
    const [a, left] = await pair();
    const [right, b] = await pair();
    const done = Promise.withResolvers<{ forwardBytes: number; backwardBytes: number }>();
    pipe(left, right, done.resolve);
    const atA = record(a);
    const atB = record(b);
    a.write(text("12345"));
    a.end();
    await until(() => atB.ended, "the end comes through");
    b.write(text("678"));
    b.end();
    await until(() => atA.ended, "the answer comes through");
    expect(atA.text()).toBe("678");
    expect(await done.promise).toMatchObject({ forwardBytes: 5, backwardBytes: 3, error: undefined });
  });
});

describe.each<[string, Dial, Listen]>([
  ["Bun", dialBun, listenBunLater],
  ["node", dialNode, listenNode],
])("dialling and listening with %s", (_name, dial, listen) => {
  const serve = async (options: Partial<ListenOptions> = {}): Promise<{ listener: Listener; refused: string[] }> => {
    const refused: string[] = [];
    const listener = await listen({
      host: "127.0.0.1",
      port: 0,
      maxConnections: 10,
      onConnection: (connection) => void record(connection.channel),
      onRefused: (_ip, reason) => refused.push(reason),
      ...options,
    });
    listeners.push(listener);
    return { listener, refused };
  };
  const failure = async (dialled: Promise<Connection>): Promise<TunnelError> => {
    try {
      await dialled;
    } catch (error) {
      if (error instanceof TunnelError) return error;
    }
    throw new Error("the dial did not fail as it should");
  };

  test("a port nobody listens on", async () => {
    const error = await failure(dial({ host: "127.0.0.1", port: 1 }, {}));
    expect([error.code, error.message]).toEqual(["dial.failed", "Cannot connect to 127.0.0.1:1: connection refused"]);
  });

  test("a certificate for another name", async () => {
    const { listener } = await serve({ tls: certificate });
    const tls = { serverName: "other.example", ca: certificate.cert };
    expect((await failure(dial({ host: "127.0.0.1", port: listener.port }, { tls }))).code).toBe("dial.tls");
  });

  test("a certificate nobody vouches for", async () => {
    const { listener } = await serve({ tls: certificate });
    const tls = { serverName: "h2.cftunnel.com" };
    expect((await failure(dial({ host: "127.0.0.1", port: listener.port }, { tls }))).code).toBe("dial.tls");
  });

  test("a peer that accepts and never shakes hands", async () => {
    const { listener } = await serve();
    const tls = { serverName: "h2.cftunnel.com", ca: certificate.cert };
    const error = await failure(dial({ host: "127.0.0.1", port: listener.port }, { tls, timeoutMs: 100 }));
    expect([error.code, error.message]).toEqual([
      "dial.tls",
      `TLS handshake with 127.0.0.1:${listener.port} failed: no answer within 100 ms`,
    ]);
  });

  test("a dial that is given up", async () => {
    const { listener } = await serve();
    const tls = { serverName: "h2.cftunnel.com" };
    const giveUp = new AbortController();
    const dialled = failure(dial({ host: "127.0.0.1", port: listener.port }, { tls, signal: giveUp.signal }));
    giveUp.abort();
    expect((await dialled).code).toBe("aborted");
  });

  test("a port that is taken says what to do", async () => {
    const { listener } = await serve();
    const again = (async () =>
      await listen({ host: "127.0.0.1", port: listener.port, maxConnections: 1, onConnection: () => {} }))();
    await expect(again).rejects.toMatchObject({ code: "listen.failed", message: expect.stringContaining("is in use") });
  });

  test("garbage and slow handshakes do not hold up the next connection", async () => {
    const { listener, refused } = await serve({ tls: certificate, handshakeTimeoutMs: 200 });
    const silent = await dial({ host: "127.0.0.1", port: listener.port }, {});
    const garbage = await dial({ host: "127.0.0.1", port: listener.port }, {});
    const atSilent = record(silent.channel);
    record(garbage.channel);
    garbage.channel.write(text("GET / HTTP/1.1\r\n\r\n"));
    const tls = { serverName: "h2.cftunnel.com", ca: certificate.cert };
    const good = await dial({ host: "127.0.0.1", port: listener.port }, { tls });
    record(good.channel);
    await until(() => refused.length === 2, "both are refused");
    await until(() => atSilent.closed || atSilent.ended, "the silent one is cut");
  });

  test("connections over the limit are refused, and room comes back", async () => {
    const { listener, refused } = await serve({ maxConnections: 1 });
    const first = await dial({ host: "127.0.0.1", port: listener.port }, {});
    const atFirst = record(first.channel);
    const second = await dial({ host: "127.0.0.1", port: listener.port }, {});
    record(second.channel);
    await until(() => refused.length === 1, "the second is refused");
    expect(atFirst.closed).toBe(false);
    first.channel.abort(new TunnelError("aborted", "test"));
    await until(() => atFirst.closed, "the first is gone");
    await turns(10);
    const third = await dial({ host: "127.0.0.1", port: listener.port }, {});
    const atThird = record(third.channel);
    await turns(10);
    expect(atThird.closed || atThird.ended).toBe(false);
    expect(refused).toEqual(["limit"]);
  });
});

/** Listens and keeps what happens. */
function record(channel: ByteChannel, override: Partial<ChannelEvents> = {}) {
  const parts: string[] = [];
  const decoder = new TextDecoder();
  const seen = {
    ended: false,
    closed: false,
    error: undefined as TunnelError | undefined,
    text: () => parts.join(""),
  };
  channel.listen({
    onData: (chunk) => void parts.push(decoder.decode(chunk, { stream: true })),
    onEnd: () => {
      seen.ended = true;
    },
    onDrain: () => {},
    onClose: (error) => {
      seen.closed = true;
      seen.error = error;
    },
    ...override,
  });
  return seen;
}

function text(value: string): Uint8Array {
  return new TextEncoder().encode(value);
}

/** Lets the event loop go round: real sockets need the kernel's turn, not time. */
async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setTimeout(resolve, 1));
}

async function until(condition: () => boolean, what: string, deadlineMs = 5_000): Promise<void> {
  const giveUpAt = performance.now() + deadlineMs;
  while (!condition()) {
    if (performance.now() > giveUpAt) throw new Error(`Waited ${deadlineMs} ms in vain: ${what}`);
    await turns(1);
  }
}
