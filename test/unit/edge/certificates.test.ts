import { expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createAuthority, createEdgeCertificate, needsRenewal } from "../../../src/edge/certificates.ts";
import { makeTempDir } from "../../support/temp-dir.ts";

const NOW = Date.now();
const DAY = 86_400_000;
const NAMES = ["edge.example.com", "*.edge.example.com", "192.0.2.7", "2001:db8::7"];

const authority = createAuthority(NOW);
const edge = createEdgeCertificate(authority, NAMES, NOW);

test("the authority is one, and nothing else", () => {
  const cert = new X509Certificate(authority.cert);
  expect(cert.ca).toBe(true);
  expect(cert.checkIssued(cert)).toBe(true);
  expect(cert.subject).toMatch(/^CN=Culvert edge CA [0-9a-f]{8}$/);
  expect(Date.parse(cert.validTo) - NOW).toBeGreaterThan(3640 * DAY);
});

test("the edge's certificate is the authority's, for its names, and good for a year", () => {
  const cert = new X509Certificate(edge.cert);
  expect(cert.ca).toBe(false);
  expect(cert.checkIssued(new X509Certificate(authority.cert))).toBe(true);
  for (const name of ["h2.cftunnel.com", "quic.cftunnel.com", "probe.cftunnel.com", "localhost", "edge.example.com"]) {
    expect(cert.checkHost(name)).toBe(name);
  }
  for (const ip of ["127.0.0.1", "::1", "192.0.2.7", "2001:db8::7"]) expect(cert.checkIP(ip)).toBe(ip);
  expect(cert.checkHost("other.example.com")).toBeUndefined();
  expect(Date.parse(cert.validTo) - NOW).toBeGreaterThan(365 * DAY);
  // Apple and others refuse leaves that live longer.
  expect(Date.parse(cert.validTo) - Date.parse(cert.validFrom)).toBeLessThanOrEqual(398 * DAY);
  expect(Date.parse(cert.validFrom)).toBeLessThan(NOW);
});

test("OpenSSL finds nothing wrong, for any of the names connectors ask for", () => {
  using dir = makeTempDir();
  const ca = join(dir.path, "ca.pem");
  const leaf = join(dir.path, "edge.pem");
  writeFileSync(ca, authority.cert);
  writeFileSync(leaf, edge.cert);
  const openssl = (...args: string[]): string => execFileSync("openssl", args, { encoding: "utf8", stdio: "pipe" });
  for (const name of ["h2.cftunnel.com", "quic.cftunnel.com", "a.edge.example.com"]) {
    const check = ["-x509_strict", "-purpose", "sslserver", "-verify_hostname", name, "-CAfile", ca];
    expect(openssl("verify", ...check, leaf)).toContain("OK");
  }
  expect(() =>
    openssl("verify", "-x509_strict", "-verify_hostname", "evil.example.com", "-CAfile", ca, leaf),
  ).toThrow();
  const text = openssl("x509", "-in", leaf, "-noout", "-text");
  for (const part of ["Digital Signature", "TLS Web Server Authentication", "CA:FALSE", "prime256v1"]) {
    expect(text).toContain(part);
  }
  const keyIds = [...text.matchAll(/(?:[0-9A-F]{2}:){19}[0-9A-F]{2}/g)].map(([id]) => id);
  const caText = openssl("x509", "-in", ca, "-noout", "-text");
  expect(caText).toContain("Certificate Sign, CRL Sign");
  expect(caText).toContain("CA:TRUE, pathlen:0");
  // The authority key id of the leaf is the subject key id of the authority.
  expect(keyIds.some((id) => caText.includes(id))).toBe(true);
});

test("two certificates share neither serial number nor key", () => {
  const other = createEdgeCertificate(authority, NAMES, NOW);
  expect(new X509Certificate(other.cert).serialNumber).not.toBe(new X509Certificate(edge.cert).serialNumber);
  expect(other.key).not.toBe(edge.key);
});

test.each([
  { name: "a fresh one with all names", names: NAMES, days: 0, want: false },
  { name: "one with more names than needed", names: [], days: 0, want: false },
  { name: "one with 40 days left", names: NAMES, days: 357, want: false },
  { name: "one with 29 days left", names: NAMES, days: 368, want: true },
  { name: "one that ran out", names: NAMES, days: 400, want: true },
  { name: "one that lacks a name", names: ["new.example.com"], days: 0, want: true },
  { name: "one whose wildcard would do, but is not asked for", names: ["a.edge.example.com"], days: 0, want: true },
  { name: "one that lacks an address", names: ["192.0.2.8"], days: 0, want: true },
])("$name is renewed: $want", ({ names, days, want }) => {
  expect(needsRenewal(edge, authority, names, NOW + days * DAY)).toBe(want);
});

test("a certificate of another authority is renewed", () => {
  expect(needsRenewal(edge, createAuthority(NOW), NAMES, NOW)).toBe(true);
});

test("an authority made late in its century writes years beyond 2049 in the longer form", () => {
  const late = createAuthority(Date.UTC(2045, 0, 1));
  expect(new Date(new X509Certificate(late.cert).validTo).getUTCFullYear()).toBe(2054);
});
