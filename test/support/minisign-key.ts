import { generateKeyPairSync, randomBytes } from "node:crypto";
import { encodeMinisignPublicKey, type MinisignSecretKey } from "../../src/wire/minisign.ts";

/** A fresh key, as values and as the two files `minisign -G -W` makes. */
export function makeMinisignKey(): {
  readonly key: MinisignSecretKey;
  readonly publicFile: string;
  readonly secretFile: string;
} {
  const { d = "", x = "" } = generateKeyPairSync("ed25519").privateKey.export({ format: "jwk" });
  const key = { id: randomBytes(8), seed: Buffer.from(d, "base64url"), key: Buffer.from(x, "base64url") };
  // Without a password there is neither salt nor checksum: minisign writes zeros.
  const secret = ["Ed\0\0B2", Buffer.alloc(48), key.id, key.seed, key.key, Buffer.alloc(32)].map((part) =>
    typeof part === "string" ? Buffer.from(part, "latin1") : part,
  );
  return {
    key,
    publicFile: `untrusted comment: minisign public key\n${encodeMinisignPublicKey(key)}\n`,
    secretFile: `untrusted comment: minisign secret key\n${Buffer.concat(secret).toString("base64")}\n`,
  };
}
