import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import { TunnelError } from "../../core/errors.ts";

const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/** Seals a secret for rest: nonce, AES-256-GCM ciphertext, tag. `context` binds it to its row. */
export function seal(key: Uint8Array, secret: Uint8Array, context: string): Uint8Array {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv("aes-256-gcm", key, nonce);
  cipher.setAAD(Buffer.from(context));
  return Buffer.concat([nonce, cipher.update(secret), cipher.final(), cipher.getAuthTag()]);
}

/** Opens what {@link seal} made. Throws `store.failed` for another key, another row or changed bytes. */
export function unseal(key: Uint8Array, sealed: Uint8Array, context: string): Uint8Array {
  try {
    const decipher = createDecipheriv("aes-256-gcm", key, sealed.subarray(0, NONCE_BYTES));
    decipher.setAAD(Buffer.from(context));
    decipher.setAuthTag(sealed.subarray(sealed.length - TAG_BYTES));
    return Buffer.concat([decipher.update(sealed.subarray(NONCE_BYTES, sealed.length - TAG_BYTES)), decipher.final()]);
  } catch (cause) {
    throw new TunnelError("store.failed", "Cannot open a sealed secret: seal.key is not the one it was sealed with", {
      cause,
    });
  }
}
