import { describe, expect, test } from "bun:test";
import {
  encodeChunk,
  encodeLastChunk,
  encodeRequestHead,
  encodeResponseHead,
  type Unencodable,
} from "../../../../src/wire/h1/encoder.ts";
import { bytesOf, textOf } from "./recorder.ts";

function text(encoded: Uint8Array | Unencodable): string {
  return encoded instanceof Uint8Array ? textOf(encoded) : `refused ${encoded.part} ${encoded.field ?? ""}`.trimEnd();
}

describe("encodeRequestHead", () => {
  test("bytes as they are, body behind", () => {
    const request = { method: "PuT", target: "/\xe4?|", headers: ["X-oDD", "\xff \t", "x-odd", ""] };
    expect(text(encodeRequestHead(request))).toBe("PuT /\xe4?| HTTP/1.1\r\nX-oDD: \xff \t\r\nx-odd: \r\n\r\n");
    expect(text(encodeRequestHead(request, bytesOf("abc")))).toEndWith("\r\n\r\nabc");
  });

  test.each([
    { method: "", target: "/", headers: [], want: "refused method" },
    { method: "GET / HTTP/1.1\r\nX:", target: "/", headers: [], want: "refused method" },
    { method: "GET", target: "", headers: [], want: "refused target" },
    { method: "GET", target: "/ HTTP/1.1\r\nX: y", headers: [], want: "refused target" },
    { method: "GET", target: "/a b", headers: [], want: "refused target" },
    { method: "GET", target: "/\u0100", headers: [], want: "refused target" },
    { method: "GET", target: "/\u010d\u010a", headers: [], want: "refused target" },
    { method: "GET", target: "/", headers: ["", "a"], want: "refused field-name" },
    { method: "GET", target: "/", headers: ["X ", "a"], want: "refused field-name X" },
    { method: "GET", target: "/", headers: ["X:", "a"], want: "refused field-name X:" },
    { method: "GET", target: "/", headers: ["X\u0141", "a"], want: "refused field-name X\u0141" },
    { method: "GET", target: "/", headers: ["X", "a\r\nY: b"], want: "refused field-value X" },
    { method: "GET", target: "/", headers: ["X", "a\n"], want: "refused field-value X" },
    { method: "GET", target: "/", headers: ["X", "a\r"], want: "refused field-value X" },
    { method: "GET", target: "/", headers: ["X", "a\0"], want: "refused field-value X" },
    { method: "GET", target: "/", headers: ["X", "a\u010a"], want: "refused field-value X" },
    { method: "GET", target: "/", headers: ["X", "\u20ac"], want: "refused field-value X" },
  ])("$method $target $headers: $want", ({ want, ...request }) => {
    expect(text(encodeRequestHead(request))).toBe(want);
  });
});

describe("encodeResponseHead", () => {
  test("bytes as they are, body behind", () => {
    const response = { status: 200, reason: "", headers: ["Content-Length", "2"] };
    expect(text(encodeResponseHead(response, bytesOf("ok")))).toBe("HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok");
  });

  test.each([
    { status: 99, reason: "", headers: [], want: "refused status" },
    { status: 1000, reason: "", headers: [], want: "refused status" },
    { status: 200.5, reason: "", headers: [], want: "refused status" },
    { status: Number.NaN, reason: "", headers: [], want: "refused status" },
    { status: 200, reason: "O\r\nSet-Cookie: a", headers: [], want: "refused reason" },
    { status: 200, reason: "\u010aK", headers: [], want: "refused reason" },
    { status: 200, reason: "OK", headers: ["Location", "/\r\n\r\n<script>"], want: "refused field-value Location" },
  ])("$status $reason $headers: $want", ({ want, ...response }) => {
    expect(text(encodeResponseHead(response))).toBe(want);
  });
});

describe("chunked coding", () => {
  test.each([1, 15, 16, 255, 4096])("a chunk of %d bytes", (size) => {
    const data = new Uint8Array(size).fill(0x61);
    expect(textOf(encodeChunk(data))).toBe(`${size.toString(16)}\r\n${"a".repeat(size)}\r\n`);
  });

  test("the end, without and with trailers", () => {
    expect(text(encodeLastChunk([]))).toBe("0\r\n\r\n");
    expect(text(encodeLastChunk(["Grpc-Status", "0", "x", ""]))).toBe("0\r\nGrpc-Status: 0\r\nx: \r\n\r\n");
    expect(text(encodeLastChunk(["X", "a\r\n"]))).toBe("refused field-value X");
  });
});
