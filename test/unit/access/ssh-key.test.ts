import { expect, test } from "bun:test";
import { generateKeyPairSync } from "node:crypto";
import fc from "fast-check";
import { certificateFor, generateSshKey, parseSshKey } from "../../../src/access/login/ssh-key.ts";

const TYPE = "ecdsa-sha2-nistp256-cert-v01@openssh.com";

function strings(...values: readonly (string | Buffer)[]): Buffer {
  return Buffer.concat(
    values.map((value) => {
      const bytes = Buffer.from(value);
      const length = Buffer.alloc(4);
      length.writeUInt32BE(bytes.length);
      return Buffer.concat([length, bytes]);
    }),
  );
}

const key = generateSshKey();
const point = Buffer.from(key.publicKey.split(" ")[1] ?? "", "base64").subarray(-65);
const blob = strings(TYPE, "nonce", "nistp256", point, "the rest");
const line = `${TYPE} ${blob.toString("base64")} me@example.test`;

test("a key comes back from its private half", () => {
  expect(parseSshKey(key.privateKey)).toEqual(key);
  expect(point[0]).toBe(4);
});

test("what is no P-256 key is none", () => {
  const rsa = generateKeyPairSync("rsa", { modulusLength: 2_048 }).privateKey.export({ type: "pkcs8", format: "pem" });
  const p384 = generateKeyPairSync("ec", { namedCurve: "secp384r1" }).privateKey.export({
    type: "sec1",
    format: "pem",
  });
  for (const text of ["", "no key", String(rsa), String(p384)]) expect(parseSshKey(text)).toBeUndefined();
});

test("a certificate is taken for its own key alone", () => {
  expect(certificateFor(key, `${line}\n`)).toBe(`${line}\n`);
  expect(certificateFor(generateSshKey(), line)).toBeUndefined();
});

test.each([
  ["nothing", ""],
  ["a plain key", key.publicKey],
  ["another type in front", line.replace(TYPE, "ssh-ed25519-cert-v01@openssh.com")],
  ["another type inside", `${TYPE} ${strings("other", "nonce", "nistp256", point).toString("base64")}`],
  ["another curve inside", `${TYPE} ${strings(TYPE, "nonce", "nistp384", point).toString("base64")}`],
  ["two lines", `${line}\n${line}`],
  ["an option in front", `command="id" ${line}`],
  ["a blob cut short", `${TYPE} ${blob.subarray(0, 60).toString("base64")}`],
  ["more than anybody would send", `${line}${"x".repeat(70_000)}`],
])("%s is no certificate", (_what, text) => {
  expect(certificateFor(key, text)).toBeUndefined();
});

test("no answer makes it throw", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      const text = `${TYPE} ${Buffer.from(bytes).toString("base64")}`;
      expect(certificateFor(key, text)).toBeUndefined();
    }),
  );
});
