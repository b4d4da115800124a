import { describe, expect, test } from "bun:test";
import { newTunnelId, parseTunnelId, tunnelIdFromBytes, uuidToBytes } from "../../../src/core/ids.ts";

describe("tunnel ids", () => {
  test("text and bytes in both directions", () => {
    const id = parseTunnelId("01234567-89AB-cdef-0123-456789abcdef");
    if (id === undefined) throw new Error("refused");
    expect(id as string).toBe("01234567-89ab-cdef-0123-456789abcdef");
    const bytes = Uint8Array.of(
      0x01,
      0x23,
      0x45,
      0x67,
      0x89,
      0xab,
      0xcd,
      0xef,
      0x01,
      0x23,
      0x45,
      0x67,
      0x89,
      0xab,
      0xcd,
      0xef,
    );
    expect(uuidToBytes(id)).toEqual(bytes);
    expect(tunnelIdFromBytes(bytes)).toBe(id);
  });

  test("new ones are UUIDs and differ", () => {
    const id = newTunnelId();
    expect(parseTunnelId(id)).toBe(id);
    expect(newTunnelId()).not.toBe(id);
  });

  test.each([
    "",
    "0123456789abcdef0123456789abcdef",
    "01234567-89ab-cdef-0123-456789abcdeg",
    " 01234567-89ab-cdef-0123-456789abcdef",
  ])("%p is no id", (text) => {
    expect(parseTunnelId(text)).toBeUndefined();
  });

  test("a wrong number of bytes is no id", () => {
    expect(tunnelIdFromBytes(new Uint8Array(15))).toBeUndefined();
  });
});
