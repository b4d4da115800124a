import { describe, expect, test } from "bun:test";
import { createHash, randomBytes } from "node:crypto";
import {
  handshakeFields,
  handshakeProblem,
  isWebSocketKey,
  webSocketAccept,
  webSocketKey,
} from "../../../../src/wire/websocket/handshake.ts";

const sha1 = (text: string): string => createHash("sha1").update(text).digest("base64");
const KEY = "dGhlIHNhbXBsZSBub25jZQ==";
const GOOD = ["Upgrade", "WebSocket", "Connection", "keep-alive, Upgrade", "Sec-WebSocket-Accept"];

describe("handshake", () => {
  test("the example of RFC 6455 section 1.3", () => {
    expect(webSocketAccept(KEY, sha1)).toBe("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
  });

  test("keys are 16 bytes", () => {
    for (let i = 0; i < 50; i++) expect(isWebSocketKey(webSocketKey(randomBytes(16)))).toBe(true);
    for (const key of ["", "abc", "dGhlIHNhbXBsZSBub25jZQ", `${"A".repeat(40)}==`])
      expect(isWebSocketKey(key)).toBe(false);
  });

  test("a client's fields", () => {
    expect(handshakeFields(KEY)).toEqual([
      "Upgrade",
      "websocket",
      "Connection",
      "Upgrade",
      "Sec-WebSocket-Key",
      KEY,
      "Sec-WebSocket-Version",
      "13",
    ]);
  });

  test("a good answer, and what is wrong with others", () => {
    const good = [...GOOD, webSocketAccept(KEY, sha1)];
    expect(handshakeProblem(101, good, KEY, sha1)).toBeUndefined();
    expect(handshakeProblem(200, good, KEY, sha1)).toContain("status 200");
    expect(handshakeProblem(101, good.slice(2), KEY, sha1)).toContain("Upgrade");
    expect(handshakeProblem(101, ["Upgrade", "websocket", "Connection", "close"], KEY, sha1)).toContain("Connection");
    expect(handshakeProblem(101, [...GOOD, "bm8="], KEY, sha1)).toContain("Accept");
    expect(handshakeProblem(101, [...good, "Sec-WebSocket-Extensions", "x"], KEY, sha1)).toContain("extension");
    expect(handshakeProblem(101, [...good, "Sec-WebSocket-Protocol", "x"], KEY, sha1)).toContain("protocol");
  });
});
