import { expect, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import { cloudflareAuthorities } from "../../../src/connector/cloudflare-authorities.ts";
import { systemAuthorities } from "../../../src/net/authorities.ts";

const PEM = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

test("Cloudflare's own authorities stand behind the system's, and are the ones it publishes", () => {
  const all = cloudflareAuthorities().match(PEM) ?? [];
  const added = all.slice((systemAuthorities().match(PEM) ?? []).length).map((pem) => new X509Certificate(pem));
  expect(all.length - added.length).toBeGreaterThan(50);
  expect(added.map((certificate) => [certificate.ca, certificate.fingerprint256.slice(0, 23)])).toEqual([
    [true, "AA:63:69:7A:22:76:4B:67"],
    [true, "D3:C7:E8:5C:91:70:7F:C0"],
    [true, "9A:1A:C2:B4:BE:15:F9:F2"],
  ]);
  for (const certificate of added) expect(new Date(certificate.validTo).getTime()).toBeGreaterThan(Date.now());
});
