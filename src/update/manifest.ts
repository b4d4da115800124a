import { type Issue, type Parsed, refused } from "../wire/parsed.ts";
import { parseVersion } from "./version.ts";

/** A longer manifest is not read, in bytes. */
export const MAX_MANIFEST_BYTES = 256 * 1024;
/** Nothing larger is downloaded, whatever a manifest says, in bytes. */
export const MAX_BINARY_BYTES = 512 * 1024 * 1024;
const MAX_FILES = 64;

/** The newest release that is published in a folder. */
export const NEWEST_MANIFEST = "manifest.json";

/** The manifest of one release, beside the newest one's. */
export function manifestName(version: string): string {
  return `culvert-${version}.json`;
}

/** The sums of the newest release, as `sha256sum` reads them: what an installer, which reads no JSON, begins with. */
export const NEWEST_SUMS = "SHA256SUMS";

/** The sums of one release, beside the newest one's. */
export function sumsName(version: string): string {
  return `culvert-${version}-SHA256SUMS`;
}

/** What the signature of sums says about itself. */
export function sumsComment(version: string): string {
  return `culvert ${version} sums`;
}

/** What the signature of a manifest says about itself: nothing else that the same key signed can stand in for it. */
export function manifestComment(version: string): string {
  return `culvert ${version} manifest`;
}

/** What the signature of a binary says about itself. */
export function binaryComment(version: string, target: string): string {
  return `culvert ${version} ${target}`;
}

export interface ReleaseFile {
  /** As `BUILD_TARGET`. */
  readonly target: string;
  /** In the folder of the manifest. */
  readonly name: string;
  readonly sizeBytes: number;
  /** 64 hex digits, lower case. */
  readonly sha256: string;
}

export interface Manifest {
  readonly format: 1;
  readonly version: string;
  /** Time of the commit, ISO 8601. */
  readonly date: string;
  readonly files: readonly ReleaseFile[];
}

/** Reads a manifest; what is not known is skipped, so that a later format can say more. */
export function parseManifest(text: string): Parsed<Manifest> {
  let raw: unknown;
  try {
    raw = JSON.parse(text);
  } catch {
    return refused("", "not JSON");
  }
  if (!isRecord(raw)) return refused("", "not an object");
  if (raw["format"] !== 1) return refused("format", "not 1: this version of culvert cannot read it");
  const { version, date, files } = raw;
  if (typeof version !== "string" || parseVersion(version) === undefined) return refused("version", "not a version");
  if (typeof date !== "string" || date.length > 64) return refused("date", "not a text");
  if (!Array.isArray(files) || files.length > MAX_FILES) return refused("files", `not a list of up to ${MAX_FILES}`);
  const issues: Issue[] = [];
  const good: ReleaseFile[] = [];
  for (const [index, file] of (files as unknown[]).entries()) {
    const read = readFile(file);
    if (typeof read === "string") issues.push({ path: `files[${index}]`, message: read });
    else good.push(read);
  }
  return issues.length > 0 ? { ok: false, issues } : { ok: true, value: { format: 1, version, date, files: good } };
}

function readFile(raw: unknown): ReleaseFile | string {
  if (!isRecord(raw)) return "not an object";
  const { target, name, sizeBytes, sha256 } = raw;
  if (typeof target !== "string" || !/^[a-z0-9-]{1,64}$/.test(target)) return "target is not a name";
  // A name and no path: nothing outside the manifest's folder can be asked for.
  if (typeof name !== "string" || !/^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$/.test(name)) return "name is not a file name";
  if (typeof sha256 !== "string" || !/^[0-9a-f]{64}$/.test(sha256)) return "sha256 is not 64 hex digits";
  if (typeof sizeBytes !== "number" || !Number.isSafeInteger(sizeBytes) || sizeBytes < 1) return "sizeBytes is no size";
  if (sizeBytes > MAX_BINARY_BYTES) return `sizeBytes is above ${MAX_BINARY_BYTES}`;
  return { target, name, sizeBytes, sha256 };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
