import { describe, expect, test } from "bun:test";
import { TunnelError } from "../../../../src/core/errors.ts";
import type { ByteChannel } from "../../../../src/net/channel.ts";
import { createMemoryChannelPair } from "../../../../src/net/memory-channel.ts";
import type { Connection } from "../../../../src/net/sockets.ts";
import type { Destination } from "../../../../src/origin/tcp/reach.ts";
import { SOCKS_HANDSHAKE_MS, SocksSession } from "../../../../src/origin/tcp/socks-session.ts";
import { StreamConversation } from "../../../support/tunnel-client.ts";
import { VirtualClock } from "../../../support/virtual-clock.ts";
import { concat } from "../../wire/vectors.ts";

const GREETING = Uint8Array.of(5, 1, 0);
const REQUEST = Uint8Array.of(5, 1, 0, 1, 192, 0, 2, 7, 1, 187);
const text = (value: string): Uint8Array => new TextEncoder().encode(value);
const settled = async (): Promise<void> => {
  for (let i = 0; i < 30; i++) await Promise.resolve();
};

function start(answer: (to: Destination, signal: AbortSignal) => Promise<Connection>) {
  const clock = new VirtualClock();
  const [outside, inside] = createMemoryChannelPair();
  const asked: Destination[] = [];
  const aborted: boolean[] = [];
  new SocksSession(
    inside,
    (to, signal) => {
      asked.push(to);
      signal.addEventListener("abort", () => aborted.push(true));
      return answer(to, signal);
    },
    clock,
  );
  return { clock, client: new StreamConversation(outside), asked, aborted };
}

function connection(channel: ByteChannel): Connection {
  return { channel, remoteIp: "192.0.2.7", remotePort: 443, localIp: "192.0.2.1" };
}

describe("a SOCKS client", () => {
  test("that sends everything at once loses nothing", async () => {
    const [ours, theirs] = createMemoryChannelPair();
    const dialled = Promise.withResolvers<Connection>();
    const { client, asked } = start(() => dialled.promise);
    await client.write(concat([GREETING, REQUEST, text("first ")]));
    await client.write(text("second"));
    client.channel.end();
    await settled();
    expect(asked).toEqual([{ host: "192.0.2.7", port: 443 }]);
    expect([...client.received]).toEqual([5, 0]);
    const target = new StreamConversation(theirs);
    dialled.resolve(connection(ours));
    await settled();
    expect(target.received.toString()).toBe("first second");
    expect(target.ended).toBe(true);
    await target.write("answer");
    theirs.end();
    await settled();
    expect([...client.received.subarray(2, 12)]).toEqual([5, 0, 0, 1, 192, 0, 2, 1, 0, 0]);
    expect(client.received.subarray(12).toString()).toBe("answer");
    expect(client.closed).toEqual({ error: undefined });
  });

  test.each([
    ["forbidden", new TunnelError("origin.forbidden", "no"), 2],
    ["refused", new TunnelError("origin.dial", "no", { cause: { code: "ECONNREFUSED" } }), 5],
    ["no network", new TunnelError("origin.dial", "no", { cause: { code: "ENETUNREACH" } }), 3],
    ["no route", new TunnelError("origin.dial", "no", { cause: { code: "EHOSTUNREACH" } }), 4],
    ["too slow", new TunnelError("origin.timeout", "no"), 4],
    ["no such name", new TunnelError("origin.dial", "no", { cause: { code: "ENOTFOUND" } }), 4],
    ["something else", new Error("no"), 4],
  ])("is told when its target is not reached: %s", async (_what, error, reply) => {
    const { clock, client } = start(() => Promise.reject(error));
    await client.write(concat([GREETING, REQUEST]));
    await settled();
    expect([...client.received]).toEqual([5, 0, 5, reply, 0, 1, 0, 0, 0, 0, 0, 0]);
    expect([client.ended, client.closed]).toEqual([true, undefined]);
    // One that stays is shown out.
    await clock.advance(5_000);
    await settled();
    expect(client.closed?.error).toMatchObject({ code: "channel.reset" });
  });

  test("that says nothing, or half of it, is given up", async () => {
    const { clock, client, asked } = start(() => Promise.reject(new Error("never asked")));
    await client.write(GREETING.subarray(0, 2));
    await clock.advance(SOCKS_HANDSHAKE_MS);
    await settled();
    expect(client.closed?.error).toMatchObject({ code: "channel.reset" });
    expect(asked).toEqual([]);
  });

  test("that leaves while its target is dialled ends the dial; a late connection is dropped", async () => {
    const [ours, theirs] = createMemoryChannelPair();
    const dialled = Promise.withResolvers<Connection>();
    const { client, aborted } = start(() => dialled.promise);
    await client.write(concat([GREETING, REQUEST]));
    await settled();
    client.channel.abort(new TunnelError("aborted", "gone"));
    await settled();
    expect(aborted).toEqual([true]);
    const target = new StreamConversation(theirs);
    dialled.resolve(connection(ours));
    await settled();
    expect(target.closed?.error).toMatchObject({ code: "channel.reset" });
  });

  test("that ends before it asked has ended", async () => {
    const { client } = start(() => Promise.reject(new Error("never asked")));
    client.channel.end();
    await settled();
    expect(client.closed).toEqual({ error: undefined });
  });
});
