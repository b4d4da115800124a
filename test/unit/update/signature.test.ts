import { describe, expect, test } from "bun:test";
import { minisignDigest, signMinisign, verifyMinisign } from "../../../src/update/signature.ts";
import { makeMinisignKey } from "../../support/minisign-key.ts";

const CONTENT = Buffer.from("what is signed");
const COMMENTS = { trusted: "culvert 1.2.3 manifest", untrusted: "anything" };

describe("signatures", () => {
  const { key } = makeMinisignKey();
  const text = signMinisign(key, minisignDigest(CONTENT), COMMENTS);

  test("a good one gives its trusted comment, whichever of the keys made it", () => {
    const keys = [makeMinisignKey().key, key];
    expect(verifyMinisign(keys, text, minisignDigest(CONTENT))).toEqual({ ok: true, value: COMMENTS.trusted });
  });

  test("other content is refused", () => {
    expect(verifyMinisign([key], text, minisignDigest(Buffer.from("what is not"))).ok).toBe(false);
  });

  test("another trusted comment is refused", () => {
    const changed = text.replace("1.2.3", "9.9.9");
    expect(verifyMinisign([key], changed, minisignDigest(CONTENT)).ok).toBe(false);
  });

  test("an unknown key is refused, and no key at all", () => {
    expect(verifyMinisign([makeMinisignKey().key], text, minisignDigest(CONTENT)).ok).toBe(false);
    expect(verifyMinisign([], text, minisignDigest(CONTENT)).ok).toBe(false);
  });

  test("another key under the same id is refused", () => {
    const impostor = { ...makeMinisignKey().key, id: key.id };
    expect(verifyMinisign([impostor], text, minisignDigest(CONTENT)).ok).toBe(false);
  });

  test("a change of any bit of the file is refused or was in the comment that is not signed", () => {
    const signed = text.indexOf("\n") + 1;
    for (let at = signed; at < text.length - 1; at++) {
      const changed = `${text.slice(0, at)}${String.fromCharCode(text.charCodeAt(at) ^ 1)}${text.slice(at + 1)}`;
      expect(verifyMinisign([key], changed, minisignDigest(CONTENT)).ok).toBe(false);
    }
  });
});
