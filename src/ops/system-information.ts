import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { arch, freemem, hostname, release, totalmem, type, version } from "node:os";
import { describe } from "../core/errors.ts";

/** Time `df` has, in ms: it may hang on a file system that is gone. */
const DF_TIMEOUT_MS = 5_000;
const MAX_DF_BYTES = 64 * 1024;
const KIB = 1024;

/** Parts that could not be had, by cloudflared's names. */
interface Failures {
  fileDescriptorsInformationError?: Failure;
  diskVolumeInformationError?: Failure;
}
interface Failure {
  readonly error: string;
  readonly rawInfo: string;
}

/** What `/diag/system` shows, in the shape of cloudflared's (surface: section 15): memory and disks in KiB. */
export async function systemInformation(
  programVersion: string,
): Promise<{ readonly info: Readonly<Record<string, unknown>>; readonly errors: Failures }> {
  const errors: Failures = {};
  const files = attempt(fileDescriptors, (failure) => {
    errors.fileDescriptorsInformationError = failure;
  });
  const disk = await disks().catch((error: unknown) => {
    errors.diskVolumeInformationError = { error: describe(error), rawInfo: "" };
    return undefined;
  });
  return {
    info: {
      memoryMaximum: Math.round(totalmem() / KIB),
      memoryCurrent: Math.round((totalmem() - availableMemory()) / KIB),
      ...files,
      osSystem: type(),
      hostName: hostname(),
      osVersion: release(),
      osRelease: version(),
      architecture: arch() === "x64" ? "x86_64" : arch() === "arm64" ? "aarch64" : arch(),
      cloudflaredVersion: programVersion,
      goVersion: `bun${process.versions["bun"] ?? ""}`,
      goArch: arch() === "x64" ? "amd64" : arch(),
      ...(disk === undefined ? {} : { disk }),
    },
    errors,
  };
}

/** Free memory as Linux counts it leaves out what could be had from caches. */
function availableMemory(): number {
  try {
    const kib = /^MemAvailable:\s+(\d+) kB/m.exec(readFileSync("/proc/meminfo", "utf8"))?.[1];
    return kib === undefined ? freemem() : Number(kib) * KIB;
  } catch {
    return freemem();
  }
}

/** Of the whole system. */
function fileDescriptors(): { readonly fileDescriptorMaximum: number; readonly fileDescriptorCurrent: number } {
  const [current, , maximum] = readFileSync("/proc/sys/fs/file-nr", "utf8").trim().split(/\s+/).map(Number);
  return { fileDescriptorMaximum: maximum ?? 0, fileDescriptorCurrent: current ?? 0 };
}

interface Disk {
  readonly name: string;
  readonly sizeMaximum: number;
  readonly sizeCurrent: number;
}

function disks(): Promise<readonly Disk[]> {
  return new Promise((resolve, reject) => {
    execFile("df", ["-k"], { timeout: DF_TIMEOUT_MS, maxBuffer: MAX_DF_BYTES }, (error, stdout) => {
      const found = stdout
        .split("\n")
        .slice(1)
        .flatMap((line): Disk[] => {
          const [name, size, used] = line.split(/\s+/);
          return name === undefined || used === undefined
            ? []
            : [{ name, sizeMaximum: Number(size), sizeCurrent: Number(used) }];
        });
      // A file system that cannot be read makes it fail after it has shown the others.
      if (error !== null && found.length === 0) reject(error);
      else resolve(found);
    });
  });
}

function attempt<T>(read: () => T, failed: (failure: Failure) => void): T | undefined {
  try {
    return read();
  } catch (error) {
    failed({ error: describe(error), rawInfo: "" });
    return undefined;
  }
}
