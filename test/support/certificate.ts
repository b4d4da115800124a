import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface TestCertificate {
  /** PEM; also the authority to trust, since it signs itself. */
  readonly cert: string;
  readonly key: string;
}

/** A self-signed P-256 certificate for these names, made by OpenSSL so that it does not rest on our own code. */
export function makeTestCertificate(names: readonly string[]): Promise<TestCertificate> {
  const dir = mkdtempSync(join(tmpdir(), "culvert-cert-"));
  try {
    const certFile = join(dir, "cert.pem");
    const keyFile = join(dir, "key.pem");
    const alternatives = names.map((name) => `DNS:${name}`).join(",");
    execFileSync(
      "openssl",
      [
        ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"],
        ...["-subj", `/CN=${names[0] ?? "test"}`, "-addext", `subjectAltName=${alternatives}`],
        ...["-keyout", keyFile, "-out", certFile],
      ],
      { stdio: "ignore" },
    );
    return Promise.resolve({ cert: readFileSync(certFile, "utf8"), key: readFileSync(keyFile, "utf8") });
  } finally {
    rmSync(dir, { recursive: true });
  }
}
