import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
  X509Certificate,
} from "node:crypto";
import * as der from "../wire/der.ts";
import { ipToBytes } from "../wire/ip-bytes.ts";

/** Names every edge certificate carries: what connectors check (protocol: section 1.5), and this machine. */
const FIXED_NAMES = [
  "h2.cftunnel.com",
  "quic.cftunnel.com",
  "probe.cftunnel.com",
  "localhost",
  "127.0.0.1",
  "::1",
] as const;

const DAY_MS = 86_400_000;
const CA_DAYS = 3650;
const EDGE_DAYS = 397;
/** An edge certificate with less than this left is replaced, in days. */
export const RENEW_BEFORE_DAYS = 30;

const OID = {
  ecdsaWithSha256: "1.2.840.10045.4.3.2",
  commonName: "2.5.4.3",
  subjectKeyId: "2.5.29.14",
  keyUsage: "2.5.29.15",
  subjectAltName: "2.5.29.17",
  basicConstraints: "2.5.29.19",
  authorityKeyId: "2.5.29.35",
  extendedKeyUsage: "2.5.29.37",
  serverAuth: "1.3.6.1.5.5.7.3.1",
} as const;

/** A certificate and its private key (PKCS #8), both PEM. */
export interface CertifiedKey {
  readonly cert: string;
  readonly key: string;
}

/** A new private key for an authority: P-256, PEM. */
export function createAuthorityKey(): string {
  return exportKey(generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey);
}

/** The authority that connectors are told to trust: self-signed, ten years, for this key or a new one. */
export function createAuthority(nowMs: number, key: string = createAuthorityKey()): CertifiedKey {
  const privateKey = createPrivateKey(key);
  const publicKey = createPublicKey(privateKey);
  const name = commonName(`Culvert edge CA ${randomBytes(4).toString("hex")}`);
  const cert = issue({
    issuer: name,
    subject: name,
    publicKey,
    signer: { key: privateKey, publicKey },
    nowMs,
    days: CA_DAYS,
    extensions: [
      extension(OID.basicConstraints, true, der.sequence(der.boolean(true), der.integer(Uint8Array.of(0)))),
      // keyCertSign and cRLSign.
      extension(OID.keyUsage, true, der.bitString(Uint8Array.of(0x06), 1)),
    ],
  });
  return { cert, key };
}

/** The edge's own certificate: server authentication for the fixed names and these, signed by the authority. */
export function createEdgeCertificate(authority: CertifiedKey, names: readonly string[], nowMs: number): CertifiedKey {
  return createServerCertificate(authority, edgeNames(names), { nowMs, days: EDGE_DAYS, commonName: "Culvert edge" });
}

/** A new key and its certificate: server authentication for exactly these names, signed by the authority. */
export function createServerCertificate(
  authority: CertifiedKey,
  names: readonly string[],
  options: { readonly nowMs: number; readonly days: number; readonly commonName: string },
): CertifiedKey {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const authorityKey = createPrivateKey(authority.key);
  const cert = issue({
    issuer: subjectOf(authority.cert),
    subject: commonName(options.commonName),
    publicKey,
    signer: { key: authorityKey, publicKey: createPublicKey(authorityKey) },
    nowMs: options.nowMs,
    days: options.days,
    extensions: [
      extension(OID.basicConstraints, true, der.sequence()),
      extension(OID.keyUsage, true, der.bitString(Uint8Array.of(0x80), 7)),
      extension(OID.extendedKeyUsage, false, der.sequence(der.oid(OID.serverAuth))),
      extension(OID.subjectAltName, false, der.sequence(...names.map(generalName))),
    ],
  });
  return { cert, key: exportKey(privateKey) };
}

/** True when the certificate runs out soon, lacks a name, or was not signed by this authority. */
export function needsRenewal(
  edge: CertifiedKey,
  authority: CertifiedKey,
  names: readonly string[],
  nowMs: number,
): boolean {
  const cert = new X509Certificate(edge.cert);
  const left = Date.parse(cert.validTo) - nowMs;
  if (!(left > RENEW_BEFORE_DAYS * DAY_MS)) return true;
  if (!cert.verify(createPublicKey(createPrivateKey(authority.key)))) return true;
  return edgeNames(names).some((name) =>
    ipToBytes(name).length > 0
      ? cert.checkIP(name) === undefined
      : cert.subjectAltName?.split(", ").includes(`DNS:${name}`) !== true,
  );
}

function edgeNames(names: readonly string[]): string[] {
  return [...new Set([...FIXED_NAMES, ...names])];
}

function issue(request: {
  issuer: Uint8Array;
  subject: Uint8Array;
  publicKey: KeyObject;
  signer: { key: KeyObject; publicKey: KeyObject };
  nowMs: number;
  days: number;
  extensions: Uint8Array[];
}): string {
  const algorithm = der.sequence(der.oid(OID.ecdsaWithSha256));
  const serial = randomBytes(16);
  serial[0] = ((serial[0] as number) & 0x7f) | 0x40;
  const body = der.sequence(
    der.explicit(0, der.integer(Uint8Array.of(2))),
    der.integer(serial),
    algorithm,
    request.issuer,
    // A clock that is a little behind must not find the certificate not yet valid.
    der.sequence(
      der.time(new Date(request.nowMs - DAY_MS).toISOString()),
      der.time(new Date(request.nowMs + request.days * DAY_MS).toISOString()),
    ),
    request.subject,
    spki(request.publicKey),
    der.explicit(
      3,
      der.sequence(
        ...request.extensions,
        extension(OID.subjectKeyId, false, der.octetString(keyId(request.publicKey))),
        extension(OID.authorityKeyId, false, der.sequence(der.implicit(0, keyId(request.signer.publicKey)))),
      ),
    ),
  );
  const signature = sign("sha256", body, request.signer.key);
  return pem("CERTIFICATE", der.sequence(body, algorithm, der.bitString(signature)));
}

function extension(id: string, critical: boolean, value: Uint8Array): Uint8Array {
  return der.sequence(der.oid(id), ...(critical ? [der.boolean(true)] : []), der.octetString(value));
}

function generalName(name: string): Uint8Array {
  const ip = ipToBytes(name);
  if (ip.length === 0) return der.implicit(2, new TextEncoder().encode(name));
  return der.implicit(7, name.includes(":") ? ip : ip.subarray(12));
}

function commonName(text: string): Uint8Array {
  return der.sequence(der.set(der.sequence(der.oid(OID.commonName), der.utf8String(text))));
}

/** Authorities of ours have nothing but a common name. */
function subjectOf(cert: string): Uint8Array {
  return commonName(new X509Certificate(cert).subject.replace(/^CN=/, ""));
}

function spki(key: KeyObject): Uint8Array {
  return key.export({ type: "spki", format: "der" });
}

/** SHA-1 of the key's bits (RFC 5280 section 4.2.1.2): the last 65 bytes of a P-256 key are its point. */
function keyId(key: KeyObject): Uint8Array {
  return createHash("sha1").update(spki(key).subarray(-65)).digest();
}

function exportKey(key: KeyObject): string {
  return key.export({ type: "pkcs8", format: "pem" }) as string;
}

function pem(label: string, bytes: Uint8Array): string {
  const base64 = Buffer.from(bytes).toString("base64");
  return `-----BEGIN ${label}-----\n${base64.replace(/.{64}(?!$)/g, "$&\n")}\n-----END ${label}-----\n`;
}
