import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  encodeMinisignPublicKey,
  encodeMinisignSignature,
  minisignKeyName,
  parseMinisignPublicKey,
  parseMinisignSecretKey,
  parseMinisignSignature,
} from "../../../src/wire/minisign.ts";
import { makeMinisignKey } from "../../support/minisign-key.ts";

// Made by minisign 0.11 with -G -W.
const PUBLIC_KEY = "RWSX25fmyks10E+tWDN+CXYgKopJrOEocxm7hht206J/8NT/li7oYA6v";

function bytes(length: number): fc.Arbitrary<Uint8Array> {
  return fc.uint8Array({ minLength: length, maxLength: length });
}

describe("minisign files", () => {
  test("a public key is read from its file and from its second line", () => {
    const line = parseMinisignPublicKey(PUBLIC_KEY);
    const file = parseMinisignPublicKey(`untrusted comment: minisign public key D0354BCAE697DB97\r\n${PUBLIC_KEY}\n`);
    expect(line).toEqual(file);
    if (!line.ok) throw new Error("not read");
    expect(minisignKeyName(line.value.id)).toBe("D0354BCAE697DB97");
    expect(encodeMinisignPublicKey(line.value)).toBe(PUBLIC_KEY);
  });

  test("a secret key is read, and one with a password is refused with what to do", () => {
    const { key, secretFile } = makeMinisignKey();
    const read = parseMinisignSecretKey(secretFile);
    if (!read.ok) throw new Error("not read");
    expect(Buffer.from(read.value.seed)).toEqual(Buffer.from(key.seed));
    expect(Buffer.from(read.value.key)).toEqual(Buffer.from(key.key));
    const [comment, line = ""] = secretFile.split("\n");
    const locked = Buffer.from(line, "base64");
    locked.write("Sc", 2, "latin1");
    expect(parseMinisignSecretKey(`${comment}\n${locked.toString("base64")}\n`)).toMatchObject({
      issues: [{ message: expect.stringContaining("minisign -C -W") }],
    });
  });

  test("a signature survives writing and reading", () => {
    fc.assert(
      fc.property(bytes(8), bytes(64), bytes(64), fc.stringMatching(/^[^\r\n]{0,80}$/), (keyId, a, b, comment) => {
        const signature = { keyId, signature: a, trustedComment: comment, commentSignature: b };
        const read = parseMinisignSignature(encodeMinisignSignature(signature, "who wrote it"));
        expect(read).toEqual({ ok: true, value: signature });
      }),
    );
  });

  test.each([
    ["nothing", ""],
    ["no comment", "RUQ=\n"],
    ["another file", "<html>\n<body>\n</body>\n</html>\n"],
    ["a short signature", "untrusted comment: x\nRUQ=\ntrusted comment: y\nRUQ=\n"],
    ["something behind it", `${sample()}more\n`],
    ["too much", `untrusted comment: ${"x".repeat(20_000)}\n`],
    ["the form of before 2021", sample().replace(/^(untrusted.*\n)RU/, "$1RW")],
  ])("%s is refused as a signature", (_, text) => {
    expect(parseMinisignSignature(text).ok).toBe(false);
  });

  test.each(["", "RWQ", "untrusted comment: only", `${PUBLIC_KEY}AAAA`, `X${PUBLIC_KEY.slice(1)}`, "x".repeat(2_000)])(
    "%j is refused as a key",
    (text) => {
      expect(parseMinisignPublicKey(text).ok).toBe(false);
      expect(parseMinisignSecretKey(text).ok).toBe(false);
    },
  );
});

function sample(): string {
  const zeros = new Uint8Array(64);
  const signature = {
    keyId: new Uint8Array(8),
    signature: zeros,
    trustedComment: "comment",
    commentSignature: zeros,
  };
  return encodeMinisignSignature(signature, "untrusted");
}
