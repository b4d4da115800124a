import { createHash } from "node:crypto";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { renderInstallScript, renderPowerShellInstaller } from "../../src/bundle/install-script.ts";
import {
  binaryComment,
  type Manifest,
  manifestComment,
  manifestName,
  NEWEST_MANIFEST,
  NEWEST_SUMS,
  type ReleaseFile,
  sumsComment,
  sumsName,
} from "../../src/update/manifest.ts";
import { minisignDigest, signMinisign } from "../../src/update/signature.ts";
import { type MinisignPublicKey, type MinisignSecretKey, minisignKeyName } from "../../src/wire/minisign.ts";
import { LICENSES_FILE } from "./licenses.ts";

interface PublishOptions {
  /** Folder that the binaries are in. */
  readonly out: string;
  readonly version: string;
  /** ISO 8601. */
  readonly date: string;
  readonly secret: MinisignSecretKey | undefined;
  /** What the installer trusts. @default the public half of `secret` */
  readonly keys?: readonly MinisignPublicKey[];
}

/** Writes sums, manifest, installer, licences and signatures beside binaries and their SBOMs. */
export function publish(files: readonly ReleaseFile[], options: PublishOptions): void {
  const { out, version, date, secret } = options;
  const keys = options.keys ?? (secret === undefined ? [] : [secret]);
  const manifest: Manifest = { format: 1, version, date, files };
  const manifestText = `${JSON.stringify(manifest, undefined, 2)}\n`;
  const licenses = `culvert-${version}-licenses.txt`;
  writeFileSync(join(out, licenses), readFileSync(LICENSES_FILE));
  for (const name of [manifestName(version), NEWEST_MANIFEST]) writeFileSync(join(out, name), manifestText);
  writeFileSync(join(out, "install.sh"), renderInstallScript({ baseUrl: undefined, keys }), { mode: 0o755 });
  writeFileSync(join(out, "install.ps1"), renderPowerShellInstaller({ baseUrl: undefined, keys }));
  const boms = files.map(({ target }) => `culvert-${version}-${target}.cdx.json`);
  const listed = boms.filter((name) => existsSync(join(out, name)));
  const summed = [...files.map(({ name }) => name), ...listed, licenses, manifestName(version)];
  const sums = summed.sort().map((name) => `${sha256Of(join(out, name))}  ${name}\n`);
  for (const name of [sumsName(version), NEWEST_SUMS]) writeFileSync(join(out, name), sums.join(""));
  const comments = new Map([
    ...files.map(({ name, target }) => [name, binaryComment(version, target)] as const),
    [manifestName(version), manifestComment(version)],
    [NEWEST_MANIFEST, manifestComment(version)],
    [sumsName(version), sumsComment(version)],
    [NEWEST_SUMS, sumsComment(version)],
    ["install.sh", `culvert ${version} installer`],
    ["install.ps1", `culvert ${version} installer for Windows`],
  ]);
  for (const [name, trusted] of comments) {
    const signature = join(out, `${name}.minisig`);
    // One of an earlier build would not fit.
    rmSync(signature, { force: true });
    if (secret === undefined) continue;
    const untrusted = `signature of culvert with minisign key ${minisignKeyName(secret.id)}`;
    writeFileSync(
      signature,
      signMinisign(secret, minisignDigest(readFileSync(join(out, name))), { trusted, untrusted }),
    );
  }
}

function sha256Of(path: string): string {
  return createHash("sha256").update(readFileSync(path)).digest("hex");
}
