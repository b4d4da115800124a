import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readdir, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { Clock } from "../core/clock.ts";
import { describe, TunnelError, toTunnelError } from "../core/errors.ts";
import { MAX_SIGNATURE_TEXT, type MinisignPublicKey } from "../wire/minisign.ts";
import { download } from "./download.ts";
import {
  beginTrial,
  begunTrial,
  endTrial,
  type InstalledBinary,
  installedBinary,
  makeExecutable,
  replace,
  selfTest,
  swapWithPrevious,
  versionOf,
} from "./installed.ts";
import { lockUpdates } from "./lock.ts";
import {
  MAX_BINARY_BYTES,
  MAX_MANIFEST_BYTES,
  type Manifest,
  manifestComment,
  manifestName,
  NEWEST_MANIFEST,
  parseManifest,
  type ReleaseFile,
} from "./manifest.ts";
import { forget, type Rejection, rejectionOf, remember } from "./rejected.ts";
import { minisignDigest, verifyMinisign } from "./signature.ts";
import { openSource, type ReleaseFolder } from "./source.ts";
import { compareVersions, parseVersion } from "./version.ts";

/** The binary that runs. */
export interface Running {
  readonly path: string;
  readonly version: string;
  /** As `BUILD_TARGET`. */
  readonly target: string;
}

export interface UpdateOptions {
  /** An http(s) address, a folder, or one signed binary. */
  readonly from: string;
  readonly running: Running;
  /** A release is taken when one of these has signed it. */
  readonly keys: readonly MinisignPublicKey[];
  /** Wanted instead of the newest one. */
  readonly version?: string | undefined;
  /** A version below the running one is refused unless this is true. */
  readonly allowDowngrade: boolean;
  /** Takes a version that was taken back here before. @default false */
  readonly evenIfRejected?: boolean;
  /** Nobody asks for it right now, so it leaves what somebody went back from as well. @default false */
  readonly automatic?: boolean;
  /** It holds only when somebody ends its trial; see `beginTrial`. @default false */
  readonly onTrial?: boolean;
  /** Only look. */
  readonly check: boolean;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** See `SourceDeps`. */
  readonly ca?: string | undefined;
  readonly onProgress: (doneBytes: number, totalBytes: number) => void;
  /** See `download`. */
  readonly firstPauseMs?: number;
}

export type UpdateOutcome =
  | { readonly kind: "current"; readonly version: string }
  /** `left`: somebody went back from it before. */
  | { readonly kind: "available"; readonly from: string; readonly to: string; readonly left: Rejection | undefined }
  | { readonly kind: "updated"; readonly from: string; readonly to: string }
  /** Nothing was done: this version was taken back here before. */
  | { readonly kind: "rejected"; readonly rejection: Rejection };

/** What there is to install. */
interface Release {
  readonly version: string;
  readonly folder: ReleaseFolder;
  readonly file: ReleaseFile;
}

/**
 * Brings the binary that runs to another version: found, verified, downloaded, tried, and only then put in its place.
 * Where another process has put the same version or, unless a downgrade is wanted, a newer one there, that stays, and it
 * is `current`. Throws a TunnelError, and then what was installed before is still there as it was, unless the message says
 * that the new version is there: what failed is then only what is written down beside it. On trial no message says so,
 * since all of that is written before.
 */
export async function update(options: UpdateOptions): Promise<UpdateOutcome> {
  const { running, clock } = options;
  const release = await findRelease(options);
  const from = running.version;
  const to = release.version;
  const order = compare(to, from);
  if (order === 0) return { kind: "current", version: from };
  if (order < 0 && !options.allowDowngrade) {
    throw refusal(`Version ${to} is older than ${from}, which runs: --allow-downgrade takes it all the same`);
  }
  const binary = installedBinary(running.path);
  const rejection = options.evenIfRejected === true ? undefined : await rejectionOf(binary.rejected, to);
  const left = options.automatic !== true && rejection?.byHand === true ? rejection : undefined;
  if (rejection !== undefined && left === undefined) return { kind: "rejected", rejection };
  if (options.check) return { kind: "available", from, to, left };
  const unlock = await lockUpdates(binary);
  try {
    // The file may be another than the one that this process was started from. One that does not run is replaced.
    const there = await versionOf(binary.path, clock).catch(() => "");
    if (parseVersion(there) !== undefined) {
      const change = compare(to, there);
      if (change === 0 || (change < 0 && !options.allowDowngrade)) return { kind: "current", version: there };
    }
    const fresh = binary.partial(release.file.sha256);
    await forgetOtherPartials(binary, fresh);
    await download(release.folder, release.file, fresh, options);
    try {
      await makeExecutable(fresh, binary.path);
      await selfTest(fresh, to, clock);
      if (options.onTrial === true) await replaceOnTrial(binary, fresh, { to, there });
      else await replace(binary, fresh);
    } catch (error) {
      // Whole and yet no good: the next try must not find it.
      await rm(fresh, { force: true });
      throw toTunnelError(error, "update.failed", `Cannot replace "${binary.path}"`);
    }
    if (options.onTrial !== true) {
      // Somebody wants this one: a trial that a kill has cut short, of whatever version, must not take it back.
      await afterReplace(binary, to, () => endTrial(binary));
      await afterReplace(binary, to, () => forget(binary.rejected, to));
    }
  } finally {
    await unlock();
  }
  return { kind: "updated", from, to };
}

/** Why a version is taken back. */
export interface Blame {
  readonly version: string;
  /** For people; remembered. */
  readonly reason: string;
}

/**
 * Goes back to the version that the last update replaced; once more brings it back. With `failed` this is done only while
 * that version is installed; without, somebody asks, and no update takes the newer of the two again by itself. Throws a
 * TunnelError.
 */
export async function rollback(running: Running, clock: Clock, failed?: string): Promise<UpdateOutcome> {
  const binary = installedBinary(running.path);
  const there = await stat(binary.previous).then(
    (found) => found.isFile(),
    () => false,
  );
  if (!there) throw refusal(`There is no earlier version: "${binary.previous}" does not exist`);
  const unlock = await lockUpdates(binary);
  try {
    const said = await versionOf(binary.path, clock).catch(() => "");
    if (failed !== undefined && said !== failed) return { kind: "current", version: said };
    const to = await versionOf(binary.previous, clock);
    if (parseVersion(to) === undefined) throw refusal(`"${binary.previous}" is not a culvert`);
    await swapWithPrevious(binary);
    await endTrial(binary);
    await forget(binary.rejected, to);
    const at = new Date(clock.wallMs()).toISOString();
    if (failed === undefined && parseVersion(said) !== undefined && compare(said, to) > 0) {
      await remember(binary.rejected, { version: said, at, reason: "rolled back by hand", byHand: true });
    }
    return { kind: "updated", from: running.version, to };
  } catch (error) {
    throw toTunnelError(error, "update.failed", `Cannot replace "${binary.path}"`);
  } finally {
    await unlock();
  }
}

/** No update takes the version again unless it is named, or has been installed again meanwhile. Throws a TunnelError. */
export async function reject(running: Running, clock: Clock, blame: Blame): Promise<void> {
  const binary = installedBinary(running.path);
  const unlock = await lockUpdates(binary);
  try {
    if ((await versionOf(binary.path, clock).catch(() => "")) === blame.version) return;
    await remember(binary.rejected, { ...blame, at: new Date(clock.wallMs()).toISOString() });
  } catch (error) {
    throw toTunnelError(error, "update.failed", `Cannot write "${binary.rejected}"`);
  } finally {
    await unlock();
  }
}

async function findRelease(options: UpdateOptions): Promise<Release> {
  if (options.keys.length === 0) {
    throw refusal("There is no key to verify a release with: this binary has none built in, so name one: --update-key");
  }
  const source = await openSource(options.from, options);
  if (source.kind === "file") return await readSignedBinary(source.folder, source.name, options);
  const { folder } = source;
  const manifest = await readManifest(folder, options);
  const file = manifest.files.find(({ target }) => target === options.running.target);
  if (file === undefined) throw refusal(`Version ${manifest.version} has no binary for ${options.running.target}`);
  return { version: manifest.version, folder, file };
}

/** The signed manifest of the newest release in a folder, or of one version. Throws a TunnelError unless all is well. */
export async function readManifest(
  folder: ReleaseFolder,
  { version, keys }: Pick<UpdateOptions, "version" | "keys">,
): Promise<Manifest> {
  const name = version === undefined ? NEWEST_MANIFEST : manifestName(version);
  const content = await folder.read(name, MAX_MANIFEST_BYTES);
  const comment = await verifyBeside(folder, name, minisignDigest(content), keys);
  const parsed = parseManifest(new TextDecoder().decode(content));
  if (!parsed.ok) {
    const [issue] = parsed.issues;
    throw refusal(`"${name}" is no manifest: ${issue?.path === "" ? "" : `${issue?.path}: `}${issue?.message}`);
  }
  const manifest = parsed.value;
  if (comment !== manifestComment(manifest.version)) throw refusal(`"${name}" is signed as something else: ${comment}`);
  if (version !== undefined && manifest.version !== version) {
    throw refusal(`"${name}" is of version ${manifest.version}`);
  }
  return manifest;
}

/** A release that is one binary: its version and target stand in its signature. */
async function readSignedBinary(folder: ReleaseFolder, name: string, options: UpdateOptions): Promise<Release> {
  const path = join(folder.name, name);
  const sizeBytes = (await stat(path)).size;
  if (sizeBytes < 1 || sizeBytes > MAX_BINARY_BYTES) throw refusal(`"${path}" has ${sizeBytes} bytes`);
  const [blake2b, sha256] = [createHash("blake2b512"), createHash("sha256")];
  for await (const chunk of createReadStream(path)) {
    blake2b.update(chunk as Uint8Array);
    sha256.update(chunk as Uint8Array);
  }
  const comment = await verifyBeside(folder, name, blake2b.digest(), options.keys);
  const [, version = "", target = ""] = /^culvert (\S+) (\S+)$/.exec(comment) ?? [];
  if (parseVersion(version) === undefined) throw refusal(`"${path}" is signed as something else: ${comment}`);
  if (target !== options.running.target) {
    throw refusal(`"${path}" is for ${target}, and this is ${options.running.target}`);
  }
  if (options.version !== undefined && options.version !== version) throw refusal(`"${path}" is of version ${version}`);
  return { version, folder, file: { target, name, sizeBytes, sha256: sha256.digest("hex") } };
}

/** The trusted comment of the signature beside a file. Throws a TunnelError unless one of the keys made it. */
export async function verifyBeside(
  folder: ReleaseFolder,
  name: string,
  digest: Uint8Array,
  keys: readonly MinisignPublicKey[],
): Promise<string> {
  const signature = await folder.read(`${name}.minisig`, MAX_SIGNATURE_TEXT);
  const verified = verifyMinisign(keys, new TextDecoder().decode(signature), digest);
  if (!verified.ok) throw refusal(`"${name}" of ${folder.name} is refused: ${verified.issues[0]?.message}`);
  return verified.value;
}

/**
 * All is written down before the file is replaced: neither a kill nor a failure in between leaves a version installed that
 * nobody tries.
 */
async function replaceOnTrial(
  binary: InstalledBinary,
  fresh: string,
  { to, there }: { readonly to: string; readonly there: string },
): Promise<void> {
  const before = await begunTrial(binary);
  const rejection = await rejectionOf(binary.rejected, to);
  try {
    await beginTrial(binary, to);
    await forget(binary.rejected, to);
    await replace(binary, fresh);
  } catch (error) {
    // What stays may be on trial itself.
    const restored = before === there ? beginTrial(binary, there) : endTrial(binary);
    await restored.catch(() => undefined);
    if (rejection !== undefined) await remember(binary.rejected, rejection).catch(() => undefined);
    throw error;
  }
}

/** Whoever reads of a failure here must not believe that the old version is still there. */
async function afterReplace({ path }: InstalledBinary, version: string, act: () => Promise<void>): Promise<void> {
  try {
    await act();
  } catch (error) {
    const message = `"${path}" is version ${version} now, but what is remembered beside it cannot be changed`;
    throw new TunnelError("update.failed", `${message}: ${describe(error)}`, { cause: error });
  }
}

/** Downloads of other versions that were given up. */
async function forgetOtherPartials(binary: InstalledBinary, fresh: string): Promise<void> {
  const folder = dirname(binary.path);
  const [before = "", after = ""] = basename(binary.partial("*")).split("*");
  const stale = (await readdir(folder)).filter(
    (name) =>
      name.startsWith(before) &&
      name.endsWith(after) &&
      /^[0-9a-f]{16}$/.test(name.slice(before.length, -after.length)),
  );
  for (const name of stale) if (name !== basename(fresh)) await rm(join(folder, name), { force: true });
}

function compare(a: string, b: string): number {
  const [left, right] = [parseVersion(a), parseVersion(b)];
  if (left === undefined || right === undefined) throw refusal(`"${left === undefined ? a : b}" is not a version`);
  return compareVersions(left, right);
}

function refusal(message: string): TunnelError {
  return new TunnelError("update.failed", message);
}
