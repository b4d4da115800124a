import { spawn } from "node:child_process";
import { chmod, chown, copyFile, link, open, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { Clock } from "../core/clock.ts";
import { describe, systemCode, TunnelError } from "../core/errors.ts";

/** A new binary that takes longer to say its version is not taken, in ms. */
export const SELF_TEST_LIMIT_MS = 30_000;
const MAX_ANSWER_CHARS = 4096;
const MAX_VERSION_CHARS = 64;
const NOT_LINKABLE: ReadonlySet<string | undefined> = new Set(["EPERM", "ENOTSUP", "ENOSYS", "EMLINK", "EOPNOTSUPP"]);

/** The binary that an update replaces, and the files beside it that an update makes. */
export interface InstalledBinary {
  readonly path: string;
  /** The version before, for `--rollback`; can be run by hand as well. */
  readonly previous: string;
  /** What has been downloaded of the file with this SHA-256. */
  partial(sha256: string): string;
  /** Taken by the one that updates; see `lockUpdates`. */
  readonly lock: string;
  /** What installers see of it. */
  readonly mark: string;
  /** Versions that were taken back here. */
  readonly rejected: string;
  /** The version whose trial has begun and not ended. */
  readonly trial: string;
}

/** Names the files around a binary; all of them in its folder, so that a rename is enough to put one in place. */
export function installedBinary(path: string): InstalledBinary {
  const folder = dirname(path);
  const [, stem = "", extension = ""] = /^(.*?)(\.exe)?$/i.exec(basename(path)) ?? [];
  return {
    path,
    previous: join(folder, `${stem}.previous${extension}`),
    // Windows runs nothing without the extension.
    partial: (sha256) => join(folder, `.${stem}.${sha256.slice(0, 16)}.new${extension}`),
    lock: join(folder, `.${stem}.lock`),
    mark: join(folder, `.${stem}.update`),
    rejected: join(folder, `.${stem}.rejected`),
    trial: join(folder, `.${stem}.trial`),
  };
}

/** What a package manager has installed is its to update: the word in the file that our packages bring, or undefined. */
export async function packageManagerOf(path: string): Promise<string | undefined> {
  const marker = join(dirname(dirname(path)), "lib", "culvert", "package-manager");
  return await readFile(marker, "utf8").then(
    (text) => text.trim().slice(0, 32),
    () => undefined,
  );
}

/** Gives a new file the rights of the one it will replace. */
export async function makeExecutable(path: string, like: string): Promise<void> {
  const { mode, uid, gid } = await stat(like);
  const own = await stat(path);
  if (own.uid !== uid || own.gid !== gid) await chown(path, uid, gid).catch(() => undefined);
  await chmod(path, (mode & 0o777) | 0o100);
}

/** Throws a TunnelError unless a binary starts here, and says in time that it is `version`. */
export async function selfTest(path: string, version: string, clock: Clock): Promise<void> {
  const said = await versionOf(path, clock);
  if (said !== version) {
    throw new TunnelError("update.failed", `The new binary says "${said}" instead of version ${version}`);
  }
}

/** Asks a binary for its version, as a service manager would start it: with an empty environment. */
export async function versionOf(path: string, clock: Clock): Promise<string> {
  let answer = "";
  let late = false;
  const problem = await new Promise<string>((resolve) => {
    const child = startQuietly(path, ["version", "--short"]);
    if (typeof child === "string") return resolve(child);
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      if (answer.length < MAX_ANSWER_CHARS) answer += text;
    });
    const cancel = clock.after(SELF_TEST_LIMIT_MS, () => {
      late = true;
      child.kill("SIGKILL");
    });
    child.on("error", (error) => {
      cancel();
      resolve(describe(error));
    });
    child.on("close", (code, signal) => {
      cancel();
      resolve(code === 0 ? "" : `it ended with ${signal ?? code}`);
    });
  });
  if (late) throw notRunning(path, `it did not answer in ${SELF_TEST_LIMIT_MS / 1000} s`);
  if (problem !== "") throw notRunning(path, problem);
  return answer.trim().slice(0, MAX_VERSION_CHARS);
}

/** A child with an empty environment and a pipe for its output; or why there is none. */
function startQuietly(path: string, args: readonly string[]) {
  const { SYSTEMROOT } = process.env;
  try {
    return spawn(path, args, {
      stdio: ["ignore", "pipe", "ignore"],
      env: SYSTEMROOT === undefined ? {} : { SYSTEMROOT },
      windowsHide: true,
    });
  } catch (error) {
    // Bun throws what Node emits.
    return describe(error);
  }
}

function notRunning(path: string, problem: string): TunnelError {
  return new TunnelError("update.failed", `"${path}" does not run here: ${problem}`);
}

/** Writes a trial down, for whoever comes after one that was killed meanwhile. */
export async function beginTrial({ trial }: InstalledBinary, version: string): Promise<void> {
  await writeFile(trial, `${version}\n`, { mode: 0o644 });
  await syncFile(trial);
}

/** The version whose trial has not ended; undefined when there is none. */
export async function begunTrial({ trial }: InstalledBinary): Promise<string | undefined> {
  return await readFile(trial, "utf8").then(
    (text) => text.trim().slice(0, MAX_VERSION_CHARS),
    () => undefined,
  );
}

/** The trial of a version has ended, either way; without a version that of any: call it so with the lock. */
export async function endTrial(binary: InstalledBinary, version?: string): Promise<void> {
  if (version === undefined || (await begunTrial(binary)) === version) await rm(binary.trial, { force: true });
}

/** Puts a tested binary in place; at no moment is there none, and whoever runs the old one goes on with it. */
export async function replace(binary: InstalledBinary, fresh: string): Promise<void> {
  await syncFile(fresh);
  if (process.platform === "win32") await replaceOnWindows(binary, fresh);
  else {
    await keepAs(binary.path, binary.previous);
    await rename(fresh, binary.path);
    await syncFile(dirname(binary.path));
  }
}

/** Puts the version before in place; what it takes the place of becomes the version before. */
export async function swapWithPrevious(binary: InstalledBinary): Promise<void> {
  const aside = `${binary.previous}.aside`;
  await rm(aside, { force: true });
  if (process.platform === "win32") {
    await rename(binary.previous, aside);
    await replaceOnWindows(binary, aside);
    return;
  }
  await keepAs(binary.path, aside);
  await rename(binary.previous, binary.path);
  await rename(aside, binary.previous);
  await syncFile(dirname(binary.path));
}

/** A second name for a file, in place of what had it; a copy where the file system has no links. */
async function keepAs(path: string, name: string): Promise<void> {
  const work = `${name}.tmp`;
  await rm(work, { force: true });
  try {
    await link(path, work).catch(async (error: unknown) => {
      if (!NOT_LINKABLE.has(systemCode(error))) throw error;
      await copyFile(path, work);
    });
    await rename(work, name);
  } catch (error) {
    await rm(work, { force: true }).catch(() => undefined);
    throw error;
  }
}

/** A program that runs can be neither written over nor removed there, but it can be renamed. */
async function replaceOnWindows({ path, previous }: InstalledBinary, fresh: string): Promise<void> {
  await rm(previous, { force: true }).catch(async () => {
    // The version before may still run as well: it is removed the next time.
    const old = `${previous}.old`;
    await rm(old, { force: true });
    await rename(previous, old);
  });
  await rename(path, previous);
  await rename(fresh, path).catch(async (error: unknown) => {
    await rename(previous, path);
    throw error;
  });
}

/** Names and content must be on the disk before the old ones go. */
async function syncFile(path: string): Promise<void> {
  try {
    await using handle = await open(path, "r");
    await handle.sync();
  } catch {
    // Not every system lets a folder, or a file opened for reading, be synced.
  }
}
