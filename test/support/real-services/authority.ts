import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { runProcess } from "../processes.ts";

export interface IssuedFiles {
  /** PEM files. */
  readonly cert: string;
  readonly key: string;
}

/** A private authority in a folder, made by OpenSSL so that it does not rest on our own code. */
export interface Authority {
  /** PEM file of its certificate. */
  readonly cert: string;
  /** A certificate for a server of this DNS name and of 127.0.0.1, or for a client that is called so. */
  issue(name: string, purpose: "serverAuth" | "clientAuth"): Promise<IssuedFiles>;
}

const NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];

export async function makeAuthority(dir: string, name: string): Promise<Authority> {
  const path = (file: string): string => join(dir, file);
  const cert = path(`${name}.pem`);
  const key = path(`${name}.key`);
  const constraints = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"];
  await openssl(
    "req",
    "-x509",
    ...NEW_KEY,
    "-days",
    "2",
    "-subj",
    `/CN=${name}`,
    ...constraints,
    "-keyout",
    key,
    "-out",
    cert,
  );
  return {
    cert,
    issue: async (subject, purpose) => {
      const issued = { cert: path(`${subject}.pem`), key: path(`${subject}.key`) };
      const request = path(`${subject}.csr`);
      const extensions = path(`${subject}.ext`);
      writeFileSync(extensions, `subjectAltName=DNS:${subject},IP:127.0.0.1\nextendedKeyUsage=${purpose}\n`);
      await openssl("req", ...NEW_KEY, "-subj", `/CN=${subject}`, "-keyout", issued.key, "-out", request);
      const by = ["-CA", cert, "-CAkey", key, "-CAcreateserial", "-days", "2", "-extfile", extensions];
      await openssl("x509", "-req", "-in", request, ...by, "-out", issued.cert);
      return issued;
    },
  };
}

async function openssl(...args: readonly string[]): Promise<void> {
  const { code, stderr } = await runProcess(["openssl", ...args]);
  if (code !== 0) throw new Error(`openssl ${args[0]} ended with ${code}: ${stderr}`);
}
