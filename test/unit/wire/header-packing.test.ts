import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { MAX_PACKED_CHARS, MAX_PACKED_FIELDS, packHeaders, unpackHeaders } from "../../../src/wire/header-packing.ts";
import { Memo } from "../../../src/wire/memo.ts";

const VECTOR = "WC1PcmlnaW4:eWVz;Q29udGVudC1MZW5ndGg:NQ";

describe("packHeaders", () => {
  test("packs as cloudflared does, in both directions", () => {
    const headers = ["X-Origin", "yes", "Content-Length", "5"];
    expect(packHeaders(headers)).toBe(VECTOR);
    expect(unpackHeaders(VECTOR)).toEqual({ kind: "value", value: headers });
  });

  test.each([":status", "cf-int-trace", "Cf-Int-Trace", "CF-Cloudflared-Response-Meta", "cf-proxy-x"])(
    "drops %s in both directions",
    (name) => {
      expect(packHeaders([name, "1", "A", "b"])).toBe("QQ:Yg");
      expect(unpackHeaders(`${btoa(name).replaceAll("=", "")}:MQ;QQ:Yg`)).toMatchObject(
        name === ":status" ? { kind: "malformed" } : { kind: "value", value: ["A", "b"] },
      );
    },
  );

  test("keeps the fields of a WebSocket handshake, repeats, case, and empty values", () => {
    const headers = ["Connection", "Upgrade", "upgrade", "websocket", "Set-Cookie", "a", "set-cookie", "b", "X", ""];
    expect(unpackHeaders(packHeaders(headers))).toEqual({ kind: "value", value: headers });
  });

  test("nothing packs to nothing", () => {
    expect(packHeaders([])).toBe("");
    expect(unpackHeaders("")).toEqual({ kind: "value", value: [] });
  });

  test("a char that is no byte does not throw", () => {
    expect(unpackHeaders(packHeaders(["X", "a\u2028b"]))).toEqual({ kind: "value", value: ["X", "a?b"] });
  });

  test("any fields come back, also when their texts are known already", () => {
    const name = fc.stringMatching(/^x[!#$%&'*+\-.^_`|~0-9A-Za-z]{0,150}$/);
    const value = fc.string({ unit: fc.nat(255).map((code) => String.fromCharCode(code)), maxLength: 150 });
    const field = fc.tuple(
      name,
      value.map((text) => text.replace(/[\0\r\n]/g, "")),
    );
    fc.assert(
      fc.property(fc.array(field), (fields) => {
        const headers = fields.flat();
        for (let i = 0; i < 2; i += 1) {
          expect(unpackHeaders(packHeaders(headers))).toEqual({ kind: "value", value: headers });
        }
      }),
      { numRuns: 200 },
    );
  });
});

describe("unpackHeaders", () => {
  const base64 = (text: string): string => btoa(text).replaceAll("=", "");

  test("skips empty pairs and takes padding", () => {
    expect(unpackHeaders(";QQ==:Yg==;;Qg:;")).toEqual({ kind: "value", value: ["A", "b", "B", ""] });
  });

  test.each([
    { name: "no colon", packed: "QQ" },
    { name: "colon of the next pair", packed: "QQ;QQ:Yg" },
    { name: "two colons", packed: "QQ:Yg:Yg" },
    { name: "empty name", packed: ":Yg" },
    { name: "not base64", packed: "Q*:Yg" },
    { name: "base64 of an impossible length", packed: "QQQQQ:Yg" },
    { name: "URL-safe alphabet", packed: "QQ:_-8" },
    { name: "line break in the value", packed: `QQ:${base64("a\r\nSet-Cookie: x")}` },
    { name: "NUL in the value", packed: `QQ:${base64("a\0")}` },
    { name: "space in the name", packed: `${base64("A B")}:Yg` },
    { name: "too many fields", packed: "QQ:Yg;".repeat(MAX_PACKED_FIELDS + 1) },
    { name: "too long", packed: ";".repeat(MAX_PACKED_CHARS + 1) },
  ])("$name is malformed", ({ packed }) => {
    expect(unpackHeaders(packed).kind).toBe("malformed");
    expect(unpackHeaders(packed).kind).toBe("malformed");
  });

  test("any text never throws", () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(..."AQg=:;+/\u20ac") }), (text) => void unpackHeaders(text)),
    );
  });
});

describe("Memo", () => {
  test("stays bounded, and keeps what is in use", () => {
    let computed = 0;
    const memo = new Memo(
      (text: string) => {
        computed += 1;
        return text.length;
      },
      { maxEntries: 4, maxTextChars: 8 },
    );
    for (let i = 0; i < 100; i += 1) {
      expect(memo.get("steady")).toBe(6);
      memo.get(`once ${i}`);
      expect(memo.size).toBeLessThanOrEqual(8);
    }
    expect(computed).toBe(101);
    memo.get("far too long");
    memo.get("far too long");
    expect(computed).toBe(103);
  });
});
