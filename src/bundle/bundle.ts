import { createReadStream, createWriteStream } from "node:fs";
import { mkdtemp, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import { TunnelError, toTunnelError } from "../core/errors.ts";
import { type DownloadOptions, download } from "../update/download.ts";
import { MAX_MANIFEST_BYTES, type ReleaseFile, sumsComment, sumsName } from "../update/manifest.ts";
import { minisignDigest } from "../update/signature.ts";
import type { ReleaseFolder } from "../update/source.ts";
import { readManifest, verifyBeside } from "../update/update.ts";
import { MAX_SIGNATURE_TEXT, type MinisignPublicKey } from "../wire/minisign.ts";
import { EXAMPLE_CONFIG } from "./example-config.ts";
import { renderInstallScript, renderPowerShellInstaller } from "./install-script.ts";
import { type TarFile, tar } from "./tar.ts";

/** Top folder of the archive: `install.sh --offline` looks there. */
const FOLDER = "culvert-bundle";

/** What a bundle is made of. */
export interface BundleContent {
  readonly version: string;
  /** ISO 8601: the time of every file in the archive. */
  readonly date: string;
  /** Content of SHA256SUMS. */
  readonly sums: Uint8Array;
  /** Content of its `.minisig`; undefined when nobody has signed it. */
  readonly signature: Uint8Array | undefined;
  readonly files: readonly ReleaseFile[];
}

/**
 * What a folder of releases has of one version, verified. Throws a TunnelError, also for a target that it lacks.
 *
 * @param options `targets`: as `BUILD_TARGET`; empty = all
 */
export async function readRelease(
  folder: ReleaseFolder,
  options: {
    readonly version: string | undefined;
    readonly keys: readonly MinisignPublicKey[];
    readonly targets: readonly string[];
  },
): Promise<BundleContent> {
  const { version, date, files } = await readManifest(folder, options);
  const name = sumsName(version);
  const sums = await folder.read(name, MAX_MANIFEST_BYTES);
  const comment = await verifyBeside(folder, name, minisignDigest(sums), options.keys);
  if (comment !== sumsComment(version)) throw refusal(`"${name}" is signed as something else: ${comment}`);
  const listed = new Set(new TextDecoder().decode(sums).split("\n"));
  const missing = options.targets.find((target) => !files.some((file) => file.target === target));
  if (missing !== undefined) {
    const known = files.map(({ target }) => target).join(", ");
    throw refusal(`Version ${version} has no binary for "${missing}", only for ${known}`);
  }
  const wanted = files.filter(({ target }) => options.targets.length === 0 || options.targets.includes(target));
  for (const file of wanted) {
    if (!listed.has(`${file.sha256}  ${file.name}`)) throw refusal(`"${name}" and the manifest differ on ${file.name}`);
  }
  return { version, date, sums, signature: await folder.read(`${name}.minisig`, MAX_SIGNATURE_TEXT), files: wanted };
}

export interface BundleOptions extends DownloadOptions {
  /** What the installer in the bundle trusts. */
  readonly keys: readonly MinisignPublicKey[];
  /** The archive; what is there is replaced once the new one is whole. */
  readonly output: string;
}

/**
 * Writes one archive with everything that `install.sh --offline` needs. The same content gives the same bytes. Throws a
 * TunnelError, and then leaves nothing behind.
 */
export async function writeBundle(
  folder: ReleaseFolder,
  content: BundleContent,
  options: BundleOptions,
): Promise<void> {
  const { output } = options;
  const work = await mkdtemp(join(dirname(output), `.${basename(output)}.`)).catch((error: unknown) => {
    throw toTunnelError(error, "update.failed", `Cannot write to "${dirname(output)}"`);
  });
  try {
    const binaries: TarFile[] = [];
    for (const file of oncePerContent(content.files)) {
      const path = join(work, file.name);
      await download(folder, file, path, options);
      const { size } = await stat(path);
      const entry = { name: `${FOLDER}/${file.name}`, mode: 0o755, sizeBytes: size, content: readLater(path) };
      binaries.push(entry);
    }
    const mtimeS = Math.max(0, Math.floor(Date.parse(content.date) / 1000) || 0);
    const fresh = join(work, "archive");
    const archive = Readable.from(tar([...texts(content, options.keys), ...binaries], mtimeS), { objectMode: false });
    await pipeline(archive, createGzip(), createWriteStream(fresh, { mode: 0o644, flush: true }), {
      signal: options.signal,
    });
    await rename(fresh, output);
  } catch (error) {
    if (options.signal.aborted) throw new TunnelError("aborted", "Stopped", { cause: error });
    throw toTunnelError(error, "update.failed", `Cannot write "${output}"`);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** Twins are the same bytes under two names: the installer finds them by their sum. */
function oncePerContent(files: readonly ReleaseFile[]): readonly ReleaseFile[] {
  return files.filter(({ sha256 }, index) => files.findIndex((other) => other.sha256 === sha256) === index);
}

function texts({ sums, signature }: BundleContent, keys: readonly MinisignPublicKey[]): readonly TarFile[] {
  const text = (name: string, content: Uint8Array | string, mode = 0o644): TarFile => {
    const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
    return { name: `${FOLDER}/${name}`, mode, sizeBytes: bytes.length, content: [bytes] };
  };
  return [
    text("SHA256SUMS", sums),
    ...(signature === undefined ? [] : [text("SHA256SUMS.minisig", signature)]),
    text("install.sh", renderInstallScript({ baseUrl: undefined, keys }), 0o755),
    text("install.ps1", renderPowerShellInstaller({ baseUrl: undefined, keys })),
    text("config.example.yml", EXAMPLE_CONFIG),
  ];
}

/** Opened when its turn comes: not all files at once. */
async function* readLater(path: string): AsyncGenerator<Uint8Array> {
  for await (const chunk of createReadStream(path, { highWaterMark: 256 * 1024 })) yield chunk as Uint8Array;
}

function refusal(message: string): TunnelError {
  return new TunnelError("update.failed", message);
}
