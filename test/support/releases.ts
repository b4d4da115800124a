import { createHash } from "node:crypto";
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { compile } from "../../scripts/release/compile.ts";
import { publish } from "../../scripts/release/publish.ts";
import { binaryName, nativeTarget, type Target } from "../../scripts/release/targets.ts";
import { encodeMinisignPublicKey, type MinisignSecretKey } from "../../src/wire/minisign.ts";

const ROOT = join(import.meta.dirname, "..", "..");
const DATE = "2026-01-01T00:00:00Z";

export function thisTarget(): Target {
  const target = nativeTarget();
  if (target === undefined) throw new Error("no target for this machine");
  return target;
}

/** Builds the source as another version, whose updates are to be signed with `trusts`; gives the binary. */
export function buildVersion(version: string, folder: string, trusts: MinisignSecretKey): string {
  const root = join(folder, `source-${version}`);
  mkdirSync(root, { recursive: true });
  cpSync(join(ROOT, "src"), join(root, "src"), { recursive: true });
  for (const name of ["tsconfig.json", "install.sh", "install.ps1"]) cpSync(join(ROOT, name), join(root, name));
  const manifest: object = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
  writeFileSync(join(root, "package.json"), JSON.stringify({ ...manifest, version }));
  symlinkSync(join(ROOT, "node_modules"), join(root, "node_modules"));
  const updateKeys = [encodeMinisignPublicKey(trusts)];
  const compiled = compile(thisTarget(), { version, date: DATE, updateKeys, root });
  const path = join(folder, `culvert-${version}`);
  renameSync(compiled.path, path);
  rmSync(compiled.folder, { recursive: true });
  rmSync(root, { recursive: true });
  return path;
}

/** Publishes a program as a release of this machine's target; gives the name of the file. */
export function publishVersion(
  folder: string,
  version: string,
  program: string | Buffer,
  secret: MinisignSecretKey,
  target = thisTarget().name,
): string {
  mkdirSync(folder, { recursive: true });
  const name = binaryName(version, target);
  const content = typeof program === "string" ? readFileSync(program) : program;
  const work = mkdtempSync(join(folder, ".work-"));
  writeFileSync(join(work, name), content);
  chmodSync(join(work, name), 0o755);
  const sha256 = createHash("sha256").update(content).digest("hex");
  const file = { target, name, sizeBytes: content.length, sha256 };
  publish([file], { work, out: folder, version, date: DATE, secret, newest: true });
  rmSync(work, { recursive: true });
  return name;
}
