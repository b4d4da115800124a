import { describe, expect, test } from "bun:test";
import { formatIp, ipGroup, ipToBytes } from "../../../src/wire/ip-bytes.ts";
import { hex } from "./vectors.ts";

describe("IP addresses in registrations", () => {
  test.each([
    { text: "192.0.2.10", bytes: "00000000000000000000ffffc000020a" },
    { text: "2001:db8::1", bytes: "20010db8000000000000000000000001" },
    { text: "::", bytes: "00000000000000000000000000000000" },
    { text: "::1", bytes: "00000000000000000000000000000001" },
    { text: "fe80::", bytes: "fe800000000000000000000000000000" },
    { text: "1:0:0:2::3", bytes: "00010000000000020000000000000003" },
    { text: "1:0:2:3:4:5:6:7", bytes: "00010000000200030004000500060007" },
  ])("$text in both directions", ({ text, bytes }) => {
    expect(hex(ipToBytes(text))).toBe(bytes);
    expect(formatIp(ipToBytes(text))).toBe(text);
  });

  test.each([
    { text: "::ffff:192.0.2.10", want: "192.0.2.10" },
    { text: "fe80::1%eth0", want: "fe80::1" },
    { text: "2001:DB8:0:0:0:0:0:1", want: "2001:db8::1" },
  ])("$text reads as $want", ({ text, want }) => {
    expect(formatIp(ipToBytes(text))).toBe(want);
  });

  test.each([
    "",
    "host",
    "1.2.3",
    "1.2.3.256",
    "01.2.3.4",
    "1::2::3",
    "1:2",
    "1:2:3:4:5:6:7::8:9",
    "12345::",
    "1.2.3.4::",
    ":1::2",
  ])("%p is no address", (text) => {
    expect(ipToBytes(text)).toEqual(new Uint8Array(0));
  });

  test("four bytes are IPv4, other lengths nothing", () => {
    expect(formatIp(Uint8Array.of(10, 0, 0, 1))).toBe("10.0.0.1");
    expect(formatIp(new Uint8Array(5))).toBeUndefined();
  });
});

test("limits count IPv6 by its network and IPv4 by its address", () => {
  expect(ipGroup("2001:db8:0:1::5")).toBe(ipGroup("2001:db8::1:ffff:0:0:9"));
  expect(ipGroup("2001:db8:0:1::5")).not.toBe(ipGroup("2001:db8:0:2::5"));
  expect(ipGroup("192.0.2.1")).not.toBe(ipGroup("192.0.2.2"));
  expect(ipGroup("::ffff:192.0.2.1")).not.toBe(ipGroup("::ffff:192.0.2.2"));
});
