import { createHash, createPrivateKey, createPublicKey, sign, verify } from "node:crypto";
import {
  encodeMinisignSignature,
  type MinisignPublicKey,
  type MinisignSecretKey,
  parseMinisignSignature,
  trustedCommentMessage,
} from "../wire/minisign.ts";
import { type Parsed, refused } from "../wire/parsed.ts";

/** BLAKE2b-512 of a file: what its signature is over. */
export function minisignDigest(content: Uint8Array): Uint8Array {
  return createHash("blake2b512").update(content).digest();
}

/**
 * Checks a `.minisig` file against the digest of what it signs; both of its signatures must be good.
 *
 * @returns the trusted comment
 */
export function verifyMinisign(
  keys: readonly MinisignPublicKey[],
  signatureText: string,
  digest: Uint8Array,
): Parsed<string> {
  const parsed = parseMinisignSignature(signatureText);
  if (!parsed.ok) return parsed;
  const { keyId, signature, trustedComment, commentSignature } = parsed.value;
  const key = keys.find(({ id }) => Buffer.from(id).equals(keyId));
  if (key === undefined) return refused("", "signed with a key that is not trusted");
  const publicKey = createPublicKey({ key: jwk(key.key), format: "jwk" });
  const good =
    verify(null, digest, publicKey, signature) &&
    verify(null, trustedCommentMessage(signature, trustedComment), publicKey, commentSignature);
  return good ? { ok: true, value: trustedComment } : refused("", "the signature does not fit");
}

/** The content of a `.minisig` file for what has this digest. */
export function signMinisign(
  key: MinisignSecretKey,
  digest: Uint8Array,
  comments: { readonly trusted: string; readonly untrusted: string },
): string {
  const secret = createPrivateKey({ key: { ...jwk(key.key), d: base64url(key.seed) }, format: "jwk" });
  const signature = sign(null, digest, secret);
  const commentSignature = sign(null, trustedCommentMessage(signature, comments.trusted), secret);
  return encodeMinisignSignature(
    { keyId: key.id, signature, trustedComment: comments.trusted, commentSignature },
    comments.untrusted,
  );
}

function jwk(publicKey: Uint8Array): { kty: string; crv: string; x: string } {
  return { kty: "OKP", crv: "Ed25519", x: base64url(publicKey) };
}

function base64url(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("base64url");
}
