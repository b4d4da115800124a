import { createPrivateKey, generateKeyPairSync, type KeyObject } from "node:crypto";

/** P-256, as cloudflared makes it (surface: section 5); its names are those of RFC 5656 section 6.2. */
const KEY_TYPE = "ecdsa-sha2-nistp256";
const CURVE = "nistp256";
const CERTIFICATE_TYPE = `${KEY_TYPE}-cert-v01@openssh.com`;
const COORDINATE_BYTES = 32;
/** Chars of a certificate; real ones have some two thousand. */
const MAX_CERTIFICATE_CHARS = 64 * 1024;

/** A key pair in the two forms that OpenSSH reads. */
export interface SshKey {
  /** PEM, SEC 1. */
  readonly privateKey: string;
  /** `ecdsa-sha2-nistp256 BASE64` and a line end, as in `authorized_keys`. */
  readonly publicKey: string;
}

export function generateSshKey(): SshKey {
  return sshKeyOf(generateKeyPairSync("ec", { namedCurve: "prime256v1" }).privateKey);
}

/** The pair of a private key in PEM; undefined when it is no key of this kind. */
export function parseSshKey(pem: string): SshKey | undefined {
  try {
    const key = createPrivateKey(pem);
    return key.asymmetricKeyDetails?.namedCurve === "prime256v1" ? sshKeyOf(key) : undefined;
  } catch {
    return undefined;
  }
}

/**
 * The line of a certificate for this key and no other; undefined when the text is anything else. Whether its authority
 * is to be trusted is the server's to say (OpenSSH PROTOCOL.certkeys).
 */
export function certificateFor(key: SshKey, text: string): string | undefined {
  const line = text.trim();
  const found = /^(\S+) ([A-Za-z0-9+/]+={0,2})(?: [\x20-\x7e]*)?$/.exec(line);
  if (line.length > MAX_CERTIFICATE_CHARS || found?.[1] !== CERTIFICATE_TYPE) return undefined;
  const [type, , curve, point] = sshStrings(Buffer.from(found[2] ?? "", "base64"), 4);
  const [, , own] = sshStrings(Buffer.from(key.publicKey.split(" ")[1] ?? "", "base64"), 3);
  const isOwn = own !== undefined && point?.equals(own) === true;
  return isOwn && type?.toString() === CERTIFICATE_TYPE && curve?.toString() === CURVE ? `${line}\n` : undefined;
}

function sshKeyOf(privateKey: KeyObject): SshKey {
  const { x = "", y = "" } = privateKey.export({ format: "jwk" });
  const coordinates = [x, y].map((text) => {
    const bytes = Buffer.from(text, "base64url");
    return Buffer.concat([Buffer.alloc(Math.max(0, COORDINATE_BYTES - bytes.length)), bytes]);
  });
  const point = Buffer.concat([Buffer.of(4), ...coordinates]);
  const blob = Buffer.concat([KEY_TYPE, CURVE, point].map(sshString));
  return {
    privateKey: privateKey.export({ type: "sec1", format: "pem" }).toString(),
    publicKey: `${KEY_TYPE} ${blob.toString("base64")}\n`,
  };
}

/** RFC 4251 section 5. */
function sshString(value: string | Buffer): Buffer {
  const bytes = Buffer.from(value);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

/** The first strings of a blob, as many as there are of those wanted. */
function sshStrings(blob: Buffer, wanted: number): Buffer[] {
  const found: Buffer[] = [];
  for (let at = 0; found.length < wanted && at + 4 <= blob.length; ) {
    const end = at + 4 + blob.readUInt32BE(at);
    if (end > blob.length) break;
    found.push(blob.subarray(at + 4, end));
    at = end;
  }
  return found;
}
