import { link, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { systemCode, TunnelError, toTunnelError } from "../core/errors.ts";
import { lockFile } from "../net/file-lock.ts";
import type { InstalledBinary } from "./installed.ts";

/** Behind the process id in a mark of ours: an installer's has the number alone. */
const OURS = "update";
/** `USER_HZ`, the same on all of our architectures (proc(5)). */
const TICKS_A_SECOND = 100;

/**
 * Takes the place of the one that updates this binary. Between updates a lock of the operating system decides, which
 * ends with its process. Installers are scripts and know only a file with a process id, so that is kept as well: ours for
 * them to see, theirs for us. Throws a TunnelError when another process has either.
 *
 * @returns gives it back
 */
export async function lockUpdates(binary: InstalledBinary): Promise<() => Promise<void>> {
  const { lock, mark, path } = binary;
  let unlock: (() => void) | undefined;
  try {
    unlock = await lockFile(lock);
  } catch (error) {
    throw toTunnelError(error, "update.failed", `Cannot write to "${dirname(path)}", run it as the owner`);
  }
  if (unlock === undefined) throw taken(await readMark(mark));
  try {
    await makeMark(binary);
  } catch (error) {
    unlock();
    throw toTunnelError(error, "update.failed", `Cannot write to "${dirname(path)}", run it as the owner`);
  }
  return async () => {
    await rm(mark, { force: true });
    unlock();
  };
}

async function makeMark({ mark }: InstalledBinary): Promise<void> {
  for (let tries = 0; ; tries++) {
    try {
      return await writeFile(mark, `${process.pid} ${OURS}\n`, { flag: "wx", mode: 0o644 });
    } catch (error) {
      if (systemCode(error) !== "EEXIST") throw error;
    }
    const text = await readMark(mark);
    if (tries > 0 || (await isInForce(mark, text))) throw taken(text);
    await removeMark(mark, text);
  }
}

async function readMark(mark: string): Promise<string> {
  return (await readFile(mark, "utf8").catch(() => "")).slice(0, 64);
}

/** Whoever asks has the lock, so no other update lives. */
async function isInForce(mark: string, text: string): Promise<boolean> {
  const pid = Number.parseInt(text, 10);
  if (text.includes(OURS) || !(pid > 0) || !isAlive(pid)) return false;
  const [started, written] = [
    await startedMs(pid),
    await stat(mark).then(
      ({ mtimeMs }) => mtimeMs,
      () => 0,
    ),
  ];
  // A process that started after the mark was made has but the number of the one that made it.
  return started === undefined || started <= written;
}

/** When a process started, rounded down, in ms since 1970; undefined where the system does not tell in a file. */
async function startedMs(pid: number): Promise<number | undefined> {
  try {
    const [own, system] = await Promise.all([readFile(`/proc/${pid}/stat`, "utf8"), readFile("/proc/stat", "utf8")]);
    // The name may hold blanks and brackets; the start is the 22nd field, and the 20th behind the name (proc(5)).
    const ticks = Number(own.slice(own.lastIndexOf(")") + 2).split(" ")[19]);
    const bootS = Number(/^btime (\d+)$/m.exec(system)?.[1]);
    const ms = (bootS + Math.floor(ticks / TICKS_A_SECOND) - 1) * 1000;
    return Number.isFinite(ms) ? ms : undefined;
  } catch {
    return undefined;
  }
}

/** Moved aside first: an installer may have put its own in the place of the one that was judged. */
async function removeMark(mark: string, judged: string): Promise<void> {
  const aside = `${mark}.${process.pid}`;
  try {
    await rename(mark, aside);
  } catch (error) {
    if (systemCode(error) === "ENOENT") return;
    throw error;
  }
  if ((await readMark(aside)) !== judged) await link(aside, mark).catch(() => undefined);
  await rm(aside, { force: true });
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return systemCode(error) === "EPERM";
  }
}

function taken(text: string): TunnelError {
  const pid = Number.parseInt(text, 10);
  const holder = pid > 0 ? ` (process ${pid})` : "";
  return new TunnelError("update.failed", `Another update is under way${holder}`);
}
