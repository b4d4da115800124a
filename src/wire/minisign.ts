// Keys and detached signatures as minisign writes them (https://jedisct1.github.io/minisign/, "Signature format" and
// "Public key format"): Ed25519 over BLAKE2b-512 of the file. Text to values and back; the arithmetic is its user's.

import { decodeBytes, encodeBytes } from "./base64.ts";
import { decodeLatin1 } from "./latin1.ts";
import { type Parsed, refused } from "./parsed.ts";

export const KEY_ID_BYTES = 8;
export const PUBLIC_KEY_BYTES = 32;
export const SIGNATURE_BYTES = 64;
/** A longer signature file is not read. A trusted comment of minisign's may have 8192 bytes by itself. */
export const MAX_SIGNATURE_TEXT = 16 * 1024;
const MAX_KEY_TEXT = 1024;

const KEY_ALGORITHM = "Ed";
/** The signed message is the BLAKE2b-512 of the file; `Ed`, the whole file, is minisign's form of before 2021. */
const PREHASHED = "ED";
const NO_KEY_DERIVATION = "\0\0";
const UNTRUSTED = "untrusted comment: ";
const TRUSTED = "trusted comment: ";

export interface MinisignPublicKey {
  /** 8 bytes that say which key it is. */
  readonly id: Uint8Array;
  /** Ed25519, 32 bytes. */
  readonly key: Uint8Array;
}

export interface MinisignSecretKey extends MinisignPublicKey {
  /** The Ed25519 seed, 32 bytes. */
  readonly seed: Uint8Array;
}

export interface MinisignSignature {
  readonly keyId: Uint8Array;
  /** Over the BLAKE2b-512 of the file. */
  readonly signature: Uint8Array;
  /** One line that is signed as well. */
  readonly trustedComment: string;
  /** Over {@link trustedCommentMessage}. */
  readonly commentSignature: Uint8Array;
}

/** A public key: a `.pub` file, or its second line alone. */
export function parseMinisignPublicKey(text: string): Parsed<MinisignPublicKey> {
  const bytes = text.length > MAX_KEY_TEXT ? undefined : decodeBytes(keyLine(text));
  const size = KEY_ALGORITHM.length + KEY_ID_BYTES + PUBLIC_KEY_BYTES;
  if (bytes?.length !== size || decodeLatin1(bytes, 0, 2) !== KEY_ALGORITHM) {
    return refused("", "not a minisign public key");
  }
  return { ok: true, value: { id: bytes.slice(2, 10), key: bytes.slice(10) } };
}

/** The second line of a `.pub` file. */
export function encodeMinisignPublicKey({ id, key }: MinisignPublicKey): string {
  return encodeBytes(Uint8Array.from([...ascii(KEY_ALGORITHM), ...id, ...key]));
}

/** A secret key file without a password, as `minisign -G -W` makes it. */
export function parseMinisignSecretKey(text: string): Parsed<MinisignSecretKey> {
  const bytes = text.length > MAX_KEY_TEXT ? undefined : decodeBytes(keyLine(text));
  // Algorithm, key derivation and checksum algorithm; salt and two costs of the derivation; id, key and checksum.
  if (bytes?.length !== 2 + 2 + 2 + 32 + 8 + 8 + KEY_ID_BYTES + 64 + 32) {
    return refused("", "not a minisign secret key");
  }
  if (decodeLatin1(bytes, 0, 2) !== KEY_ALGORITHM) return refused("", "not a minisign secret key");
  if (decodeLatin1(bytes, 2, 4) !== NO_KEY_DERIVATION) {
    return refused("", "the secret key has a password: remove it from a copy with minisign -C -W");
  }
  const at = 54 + KEY_ID_BYTES;
  return {
    ok: true,
    value: { id: bytes.slice(54, at), seed: bytes.slice(at, at + 32), key: bytes.slice(at + 32, at + 64) },
  };
}

/** The content of a `.minisig` file. */
export function parseMinisignSignature(text: string): Parsed<MinisignSignature> {
  if (text.length > MAX_SIGNATURE_TEXT) return refused("", "too long for a minisign signature");
  const [untrusted = "", first = "", trusted = "", second = "", ...rest] = text.replaceAll("\r\n", "\n").split("\n");
  if (!untrusted.startsWith(UNTRUSTED) || !trusted.startsWith(TRUSTED) || rest.some((line) => line !== "")) {
    return refused("", "not a minisign signature");
  }
  const head = decodeExactly(first);
  const commentSignature = decodeExactly(second);
  if (head?.length !== 2 + KEY_ID_BYTES + SIGNATURE_BYTES || commentSignature?.length !== SIGNATURE_BYTES) {
    return refused("", "not a minisign signature");
  }
  if (decodeLatin1(head, 0, 2) !== PREHASHED) {
    return refused("", "not a prehashed minisign signature");
  }
  return {
    ok: true,
    value: {
      keyId: head.slice(2, 10),
      signature: head.slice(10),
      trustedComment: trusted.slice(TRUSTED.length),
      commentSignature,
    },
  };
}

/** The content of a `.minisig` file. The comments are one line each. */
export function encodeMinisignSignature(signature: MinisignSignature, untrustedComment: string): string {
  const head = Uint8Array.from([...ascii(PREHASHED), ...signature.keyId, ...signature.signature]);
  const lines = [
    `${UNTRUSTED}${untrustedComment}`,
    encodeBytes(head),
    `${TRUSTED}${signature.trustedComment}`,
    encodeBytes(signature.commentSignature),
  ];
  return `${lines.join("\n")}\n`;
}

/** What the second signature is over: the first one, and the comment as it stands in the file. */
export function trustedCommentMessage(signature: Uint8Array, trustedComment: string): Uint8Array {
  const comment = new TextEncoder().encode(trustedComment);
  const message = new Uint8Array(signature.length + comment.length);
  message.set(signature);
  message.set(comment, signature.length);
  return message;
}

/** As minisign shows it: the number that the 8 bytes are, low byte first, in capitals. */
export function minisignKeyName(id: Uint8Array): string {
  return Array.from(id, (byte) => byte.toString(16).padStart(2, "0"))
    .reverse()
    .join("")
    .toUpperCase();
}

/** The line with the key: the only one, or the one behind the comment. */
function keyLine(text: string): string {
  const [first = "", second = ""] = text.trim().split(/\r?\n/);
  return (first.startsWith(UNTRUSTED) ? second : first).trim();
}

/** Base64 as it would be written: one text for one value, so that no changed file passes for the same. */
function decodeExactly(line: string): Uint8Array | undefined {
  const bytes = decodeBytes(line);
  return bytes !== undefined && encodeBytes(bytes) === line ? bytes : undefined;
}

function ascii(text: string): number[] {
  return Array.from(text, (char) => char.charCodeAt(0));
}
