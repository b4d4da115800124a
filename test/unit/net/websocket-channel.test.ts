import { expect, test } from "bun:test";
import type { TunnelError } from "../../../src/core/errors.ts";
import type { ByteChannel } from "../../../src/net/channel.ts";
import { createMemoryChannelPair } from "../../../src/net/memory-channel.ts";
import { MAX_MESSAGE_BYTES, WebSocketChannel } from "../../../src/net/websocket-channel.ts";
import { CLOSE, OPCODE } from "../../../src/wire/websocket/frame.ts";
import { encodeClose, encodeFrame } from "../../../src/wire/websocket/writer.ts";
import { pollUntil } from "../../support/poll-until.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";
import { concat } from "../wire/vectors.ts";
import { record } from "../wire/websocket/recorder.ts";

const MASK = Uint8Array.of(1, 2, 3, 4);
const text = (value: string): Uint8Array => new TextEncoder().encode(value);
const masked = (opcode: 0 | 1 | 2 | 9 | 10, value: string, fin = true): Uint8Array =>
  encodeFrame(opcode, text(value), { mask: MASK, fin });

/** What a channel's owner was told. */
function watch(channel: ByteChannel) {
  const parts: Uint8Array[] = [];
  const seen = {
    chunks: 0,
    ended: false,
    closed: undefined as { error: TunnelError | undefined } | undefined,
    bytes: (): Uint8Array => concat(parts),
    text: (): string => new TextDecoder().decode(concat(parts)),
  };
  channel.listen({
    onData: (chunk) => {
      seen.chunks += 1;
      parts.push(chunk);
    },
    onEnd: () => {
      seen.ended = true;
    },
    onDrain: () => {},
    onClose: (error) => {
      seen.closed = { error };
    },
  });
  return seen;
}

function server(options: { pingEveryMs?: number } = {}) {
  const clock = new VirtualClock();
  const [peer, carrier] = createMemoryChannelPair();
  const channel = new WebSocketChannel(carrier, { role: "server", clock, ...options });
  return { clock, peer, channel, atPeer: watch(peer), seen: watch(channel) };
}

const settled = async (): Promise<void> => {
  for (let i = 0; i < 20; i++) await Promise.resolve();
};

test("messages of any size and in fragments are bytes; small ones that came together go on together", async () => {
  const { peer, seen } = server();
  const long = "x".repeat(200_000);
  peer.write(concat([masked(2, "a"), masked(2, "b", false), masked(9, "p"), masked(0, "c"), masked(2, "")]));
  await settled();
  expect(seen.text()).toBe("abc");
  expect(seen.chunks).toBe(1);
  peer.write(masked(2, long));
  await settled();
  expect(seen.text()).toBe(`abc${long}`);
});

test("text messages are dropped by a server, as cloudflared does", async () => {
  const { peer, seen } = server();
  peer.write(concat([masked(1, "hello"), masked(2, "bytes")]));
  await settled();
  expect(seen.text()).toBe("bytes");
});

test("what is written goes out in messages that cloudflared reads whole", async () => {
  const { channel, atPeer } = server();
  const bytes = new Uint8Array(3 * MAX_MESSAGE_BYTES + 7).map((_, i) => i % 251);
  channel.write(bytes);
  await settled();
  const { messages } = record(atPeer.bytes(), false);
  expect(messages.map((message) => message.bytes.length)).toEqual([16_384, 16_384, 16_384, 7]);
  expect(concat(messages.map((message) => message.bytes))).toEqual(bytes);
});

test("half-close by us: a close frame, behind which the peer goes on", async () => {
  const { peer, channel, atPeer, seen } = server();
  channel.write(text("last"));
  channel.end();
  await settled();
  expect(record(atPeer.bytes(), false).events).toEqual(["binary 4", "close 1000 "]);
  expect(atPeer.ended).toBe(false);
  peer.write(masked(2, "more"));
  await settled();
  expect([seen.text(), seen.ended, seen.closed]).toEqual(["more", false, undefined]);
  peer.write(encodeClose(CLOSE.normal, "", MASK));
  await settled();
  expect([seen.ended, atPeer.ended]).toEqual([true, true]);
  peer.end();
  await settled();
  expect(seen.closed).toEqual({ error: undefined });
});

test("half-close by the peer: its close frame is its end; the rest still goes to it", async () => {
  const { peer, channel, atPeer, seen } = server();
  peer.write(concat([masked(2, "question"), encodeClose(CLOSE.goingAway, "bye", MASK), masked(2, "ignored")]));
  await settled();
  expect([seen.text(), seen.ended, seen.closed]).toEqual(["question", true, undefined]);
  channel.write(text("answer"));
  channel.end();
  await settled();
  expect(record(atPeer.bytes(), false).events).toEqual(["binary 6", "close 1000 "]);
  expect(atPeer.ended).toBe(true);
  peer.end();
  await settled();
  expect(seen.closed).toEqual({ error: undefined });
});

test("a peer that ends its connection without a close frame has ended too; within a message it was cut", async () => {
  const whole = server();
  whole.peer.write(masked(2, "all"));
  whole.peer.end();
  await settled();
  expect([whole.seen.text(), whole.seen.ended]).toEqual(["all", true]);
  const cut = server();
  cut.peer.write(masked(2, "half of it").subarray(0, 9));
  cut.peer.end();
  await settled();
  expect(cut.seen.ended).toBe(false);
  expect(cut.seen.closed?.error?.code).toBe("channel.lost");
});

test("a peer that never closes its connection is given up after five seconds", async () => {
  const { clock, peer, channel, atPeer, seen } = server();
  channel.end();
  peer.write(encodeClose(CLOSE.normal, "", MASK));
  await settled();
  await clock.advance(4_999);
  expect(seen.closed).toBeUndefined();
  await clock.advance(1);
  await settled();
  expect(seen.closed).toEqual({ error: undefined });
  expect(atPeer.closed?.error?.code).toBe("channel.reset");
});

test("a peer that breaks the protocol is told with 1002, and the owner with an error", async () => {
  const { peer, atPeer, seen } = server();
  peer.write(concat([masked(2, "fine"), Uint8Array.of(0x83, 0x80, 0, 0, 0, 0)]));
  await settled();
  expect(record(atPeer.bytes(), false).events).toEqual([expect.stringMatching(/^close 1002 /)]);
  expect(seen.closed?.error?.code).toBe("stream.protocol");
});

test("an abort is a reset for the other side, both ways", async () => {
  const ours = server();
  ours.channel.abort({ code: "aborted" } as TunnelError);
  await settled();
  expect(ours.atPeer.closed?.error?.code).toBe("channel.reset");
  const theirs = server();
  theirs.peer.abort({ code: "aborted" } as TunnelError);
  await settled();
  expect(theirs.seen.closed?.error?.code).toBe("channel.reset");
});

test("pings are answered; our own come every so often until the end", async () => {
  const { clock, peer, channel, atPeer } = server({ pingEveryMs: 54_000 });
  peer.write(masked(9, "are you there"));
  await clock.advance(108_000);
  await settled();
  expect(record(atPeer.bytes(), false).events).toEqual(["pong are you there", "ping ", "ping "]);
  channel.end();
  peer.write(encodeClose(CLOSE.normal, "", MASK));
  peer.end();
  await settled();
  await clock.advance(108_000);
  await settled();
  expect(record(atPeer.bytes(), false).events.length).toBe(4);
});

test("a peer that pings and never reads gets one answer for all of them", async () => {
  const [peer, carrier] = createMemoryChannelPair();
  peer.pause();
  const channel = new WebSocketChannel(carrier, { role: "server", clock: new VirtualClock() });
  const seen = watch(channel);
  while (channel.write(new Uint8Array(MAX_MESSAGE_BYTES)));
  for (let i = 0; i < 1_000; i++) peer.write(masked(OPCODE.ping, `${i}`));
  await settled();
  const atPeer = watch(peer);
  peer.resume();
  await pollUntil(() => record(atPeer.bytes(), false).events.some((event) => event.startsWith("pong")), {
    what: "the answer",
  });
  const pongs = record(atPeer.bytes(), false).events.filter((event) => event.startsWith("pong"));
  expect(pongs).toEqual(["pong 999"]);
  expect(seen.closed).toBeUndefined();
});

test.each([
  { code: CLOSE.normal, clean: true },
  { code: CLOSE.goingAway, clean: true },
  { code: CLOSE.internalError, clean: false },
])("a close with code $code is an end: $clean", async ({ code, clean }) => {
  const { peer, channel, seen } = server();
  peer.write(masked(2, "part"));
  peer.write(encodeClose(code, "", MASK));
  await settled();
  channel.end();
  await settled();
  expect(seen.ended).toBe(clean);
  if (!clean) expect(seen.closed?.error).toMatchObject({ code: "channel.reset" });
});
