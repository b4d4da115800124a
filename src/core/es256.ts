import { createPublicKey, type KeyObject, verify } from "node:crypto";

/** Says whether this is the signature of a text. */
export type VerifySignature = (text: string, signature: Uint8Array) => boolean;

/** Checks signatures of ES256 (RFC 7518 section 3.4) against one public key. */
export function es256Verifier(publicKey: KeyObject): VerifySignature {
  return (text, signature) => {
    try {
      return verify("sha256", Buffer.from(text), { key: publicKey, dsaEncoding: "ieee-p1363" }, signature);
    } catch {
      return false;
    }
  };
}

/** A public key as one word: its DER form (RFC 5480) in base64. */
export function formatPublicKey(key: KeyObject): string {
  return createPublicKey(key.export({ type: key.type === "private" ? "pkcs8" : "spki", format: "pem" }))
    .export({ type: "spki", format: "der" })
    .toString("base64");
}

/** Reads what {@link formatPublicKey} wrote; undefined for what is no key of the curve P-256. */
export function parsePublicKey(text: string): KeyObject | undefined {
  try {
    const key = createPublicKey({ key: Buffer.from(text, "base64"), type: "spki", format: "der" });
    const curve = key.asymmetricKeyDetails?.namedCurve;
    return curve === "prime256v1" || curve === "P-256" ? key : undefined;
  } catch {
    return undefined;
  }
}
