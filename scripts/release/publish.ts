import { createHash } from "node:crypto";
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { renderInstallScript, renderPowerShellInstaller } from "../../src/bundle/install-script.ts";
import {
  binaryComment,
  type Manifest,
  manifestComment,
  manifestName,
  NEWEST_MANIFEST,
  NEWEST_SUMS,
  parseManifest,
  type ReleaseFile,
  sumsComment,
  sumsName,
} from "../../src/update/manifest.ts";
import { minisignDigest, signMinisign } from "../../src/update/signature.ts";
import { compareVersions, parseVersion } from "../../src/update/version.ts";
import { type MinisignPublicKey, type MinisignSecretKey, minisignKeyName } from "../../src/wire/minisign.ts";
import { LICENSES_FILE } from "./licenses.ts";

interface PublishOptions {
  /** Folder that the binaries and their SBOMs are in, and nothing else; on the file system of `out`. */
  readonly work: string;
  /** Folder that all of it goes to. */
  readonly out: string;
  readonly version: string;
  /** ISO 8601. */
  readonly date: string;
  readonly secret: MinisignSecretKey | undefined;
  /** What the installer trusts. @default the public half of `secret` */
  readonly keys?: readonly MinisignPublicKey[];
  /** From {@link placeOf}. */
  readonly newest: boolean;
}

/**
 * Whether a version becomes the newest one of a folder: not when a higher one is. Throws when the folder has the version
 * for targets that are not among these, or a manifest that cannot be read.
 */
export function placeOf(out: string, version: string, targets: readonly string[]): { readonly newest: boolean } {
  const gone = otherTargets(out, version, targets);
  if (gone.length > 0) {
    throw new Error(
      `${out} has version ${version} for ${gone.join(", ")} too, which would no longer be found: build those as well, ` +
        "or say --replace",
    );
  }
  const newest = parseVersion(readManifestIn(out, NEWEST_MANIFEST)?.version ?? "");
  const own = parseVersion(version);
  return { newest: newest === undefined || own === undefined || compareVersions(own, newest) >= 0 };
}

/** Targets beside these that a folder has a version for. Throws for a manifest that cannot be read. */
export function otherTargets(out: string, version: string, targets: readonly string[]): readonly string[] {
  const there = readManifestIn(out, manifestName(version))?.files.map(({ target }) => target) ?? [];
  return there.filter((target) => !targets.includes(target));
}

function readManifestIn(out: string, name: string): Manifest | undefined {
  const path = join(out, name);
  if (!existsSync(path)) return undefined;
  const parsed = parseManifest(readFileSync(path, "utf8"));
  if (!parsed.ok) throw new Error(`${path} is no manifest, ${parsed.issues[0]?.message}: see to it, or say --replace`);
  return parsed.value;
}

/**
 * Writes sums, manifest, installer, licences and signatures beside binaries and their SBOMs, and then puts everything in
 * its place. Each file gets there whole, and no sooner than what it names; the newest manifest is the last of all.
 */
export function publish(files: readonly ReleaseFile[], options: PublishOptions): void {
  const { work, out, version, date, secret, newest } = options;
  const keys = options.keys ?? (secret === undefined ? [] : [secret]);
  const manifest: Manifest = { format: 1, version, date, files };
  const manifestText = `${JSON.stringify(manifest, undefined, 2)}\n`;
  const licenses = `culvert-${version}-licenses.txt`;
  const write = (name: string, content: string | Buffer, mode = 0o644): void =>
    writeFileSync(join(work, name), content, { mode });
  write(licenses, readFileSync(LICENSES_FILE));
  write(manifestName(version), manifestText);
  const boms = files.map(({ target }) => `culvert-${version}-${target}.cdx.json`);
  const listed = boms.filter((name) => existsSync(join(work, name)));
  const summed = [...files.map(({ name }) => name), ...listed, licenses, manifestName(version)];
  const sums = summed
    .sort()
    .map((name) => `${sha256Of(join(work, name))}  ${name}\n`)
    .join("");
  write(sumsName(version), sums);
  if (newest) {
    write("install.sh", renderInstallScript({ baseUrl: undefined, keys }), 0o755);
    write("install.ps1", renderPowerShellInstaller({ baseUrl: undefined, keys }));
    write(NEWEST_SUMS, sums);
    write(NEWEST_MANIFEST, manifestText);
  }
  const comments: ReadonlyMap<string, string> = new Map([
    ...files.map(({ name, target }) => [name, binaryComment(version, target)] as const),
    [manifestName(version), manifestComment(version)],
    [NEWEST_MANIFEST, manifestComment(version)],
    [sumsName(version), sumsComment(version)],
    [NEWEST_SUMS, sumsComment(version)],
    ["install.sh", `culvert ${version} installer`],
    ["install.ps1", `culvert ${version} installer for Windows`],
  ]);
  const heads = newest ? ["install.ps1", "install.sh", NEWEST_SUMS, NEWEST_MANIFEST] : [];
  const inOrder = [...files.map(({ name }) => name), ...listed, licenses, sumsName(version), manifestName(version)];
  for (const name of [...inOrder, ...heads]) {
    const trusted = comments.get(name);
    if (trusted === undefined || secret === undefined) continue;
    const untrusted = `signature of culvert with minisign key ${minisignKeyName(secret.id)}`;
    const digest = minisignDigest(readFileSync(join(work, name)));
    write(`${name}.minisig`, signMinisign(secret, digest, { trusted, untrusted }));
  }
  for (const name of [...inOrder, ...heads]) {
    // Before the file: one who comes between the two finds what does not fit, takes nothing, and asks again another time.
    const signature = `${name}.minisig`;
    if (existsSync(join(work, signature))) renameSync(join(work, signature), join(out, signature));
    else rmSync(join(out, signature), { force: true });
    renameSync(join(work, name), join(out, name));
  }
}

function sha256Of(path: string): string {
  return createHash("sha256").update(readFileSync(path)).digest("hex");
}
