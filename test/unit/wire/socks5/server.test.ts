import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  encodeMethodChoice,
  encodeReply,
  SOCKS_REPLY,
  type SocksMessage,
  SocksReader,
} from "../../../../src/wire/socks5/server.ts";
import { concat } from "../vectors.ts";

const text = (value: string): Uint8Array => new TextEncoder().encode(value);
const GREETING = Uint8Array.of(5, 2, 0, 2);

function request(type: number, address: Uint8Array, port = 443, command = 1): Uint8Array {
  return concat([Uint8Array.of(5, command, 0, type), address, Uint8Array.of(port >> 8, port & 0xff)]);
}

function named(name: string): Uint8Array {
  return request(3, concat([Uint8Array.of(name.length), text(name)]));
}

function read(bytes: Uint8Array, size = bytes.length || 1): { messages: SocksMessage[]; rest: Uint8Array } {
  const reader = new SocksReader();
  const messages: SocksMessage[] = [];
  for (let at = 0; at < bytes.length; at += size) {
    reader.receive(bytes.slice(at, at + size));
    for (let message = reader.next(); message !== undefined; message = reader.next()) messages.push(message);
  }
  return { messages, rest: reader.takeRest() };
}

describe("a SOCKS5 client", () => {
  test.each([
    ["an IPv4 address", request(1, Uint8Array.of(192, 0, 2, 7)), "192.0.2.7"],
    [
      "an IPv6 address",
      request(4, Uint8Array.of(0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)),
      "2001:db8::1",
    ],
    ["a name", named("db_1.internal"), "db_1.internal"],
  ])("asks for %s, in pieces of any size, and what follows is kept", (_what, asked, host) => {
    const bytes = concat([GREETING, asked, text("first bytes")]);
    for (let size = 1; size <= bytes.length; size++) {
      const { messages, rest } = read(bytes, size);
      expect(messages).toEqual([
        { kind: "greeting", open: true },
        { kind: "request", command: 1, host, port: 443 },
      ]);
      expect(new TextDecoder().decode(rest)).toBe("first bytes");
    }
  });

  test("that insists on authentication is told so", () => {
    expect(read(Uint8Array.of(5, 1, 2)).messages).toEqual([{ kind: "greeting", open: false }]);
    expect(read(Uint8Array.of(5, 0)).messages).toEqual([{ kind: "greeting", open: false }]);
    expect([...encodeMethodChoice(false)]).toEqual([5, 255]);
    expect([...encodeMethodChoice(true)]).toEqual([5, 0]);
  });

  test.each([
    ["version 4", Uint8Array.of(4, 1, 0, 80), undefined],
    ["a reserved byte", concat([GREETING, Uint8Array.of(5, 1, 1, 1)]), SOCKS_REPLY.failure],
    ["an unknown address type", concat([GREETING, Uint8Array.of(5, 1, 0, 9)]), SOCKS_REPLY.addressUnknown],
    ["an empty name", concat([GREETING, Uint8Array.of(5, 1, 0, 3, 0)]), SOCKS_REPLY.failure],
    ["a name with a line break", concat([GREETING, named("a\r\nb")]), SOCKS_REPLY.hostUnreachable],
    ["a name with a zero", concat([GREETING, named("a\0.example")]), SOCKS_REPLY.hostUnreachable],
  ])("%s is malformed", (_what, bytes, reply) => {
    const last = read(bytes, 1).messages.at(-1);
    expect(last).toMatchObject({ kind: "malformed", ...(reply === undefined ? {} : { reply }) });
  });

  test("any bytes: no throw, at most three messages, and few bytes wait", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), fc.integer({ min: 1, max: 50 }), (bytes, size) => {
        const started = concat([Uint8Array.of(5), bytes]);
        expect(read(started, size).messages).toEqual(read(started).messages);
        expect(read(started).messages.length).toBeLessThanOrEqual(2);
      }),
      { numRuns: 500 },
    );
  });
});

test("replies carry the address we dialled from", () => {
  expect([...encodeReply(SOCKS_REPLY.succeeded, "192.0.2.9", 258)]).toEqual([5, 0, 0, 1, 192, 0, 2, 9, 1, 2]);
  expect([...encodeReply(SOCKS_REPLY.refused)]).toEqual([5, 5, 0, 1, 0, 0, 0, 0, 0, 0]);
  expect([...encodeReply(SOCKS_REPLY.succeeded, "::1")]).toEqual([5, 0, 0, 4, ...Array(15).fill(0), 1, 0, 0]);
});
