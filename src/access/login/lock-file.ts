import { closeSync, mkdirSync, openSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { type Clock, delay } from "../../core/clock.ts";
import { systemCode, TunnelError } from "../../core/errors.ts";
import { parseObject } from "./jwt.ts";

const RETRY_MS = 2_000;
/** How long somebody may take to log in, in ms; older locks are nobody's. */
const TIMEOUT_MS = 10 * 60_000;
/** Start times are compared as cloudflared does, in ms. */
const START_TOLERANCE_MS = 1_000;
/** Clock ticks a second in /proc, the same on all of Linux's architectures that matter. */
const TICKS_PER_S = 100;
const MODE = 0o600;

/** A lock that this process holds: no other process, ours or cloudflared, logs in for this token (surface: section 5). */
export class LockFile implements Disposable {
  readonly #lockPath: string;
  readonly #urlPath: string;

  private constructor(tokenPath: string) {
    this.#lockPath = `${tokenPath}.lock`;
    this.#urlPath = `${tokenPath}.url`;
  }

  /**
   * Waits for the lock of a token's file. `onOther` gets the page at which the holder waits for a login, once for each.
   * Rejects with `timeout`, `aborted` or `store.failed`.
   */
  static async acquire(
    tokenPath: string,
    deps: { readonly clock: Clock; readonly onOther: (url: string, pid: number) => void },
    signal: AbortSignal,
  ): Promise<LockFile> {
    const lock = new LockFile(tokenPath);
    const endMs = deps.clock.nowMs() + TIMEOUT_MS;
    let shown = "";
    while (!lock.#tryCreate()) {
      const holder = lock.#holder(deps.clock.wallMs());
      if (holder === "none") {
        rmSync(lock.#lockPath, { force: true });
        continue;
      }
      const url = readText(lock.#urlPath)?.trim() ?? "";
      if (url !== "" && url !== shown) deps.onOther(url, holder);
      shown = url;
      if (deps.clock.nowMs() > endMs)
        throw new TunnelError("timeout", `${lock.#lockPath} is held by process ${holder}`);
      if (!(await delay(deps.clock, RETRY_MS, signal))) throw new TunnelError("aborted", "Given up");
    }
    return lock;
  }

  /** Tells those who wait where the login takes place. */
  publishUrl(url: string): void {
    try {
      writeFileSync(this.#urlPath, url, { mode: MODE });
    } catch {
      // Those who wait then only do not know why.
    }
  }

  [Symbol.dispose](): void {
    rmSync(this.#urlPath, { force: true });
    rmSync(this.#lockPath, { force: true });
  }

  #tryCreate(): boolean {
    let file: number;
    try {
      mkdirSync(dirname(this.#lockPath), { recursive: true, mode: 0o700 });
      file = openSync(this.#lockPath, "wx", MODE);
    } catch (cause) {
      if (systemCode(cause) === "EEXIST") return false;
      throw new TunnelError("store.failed", `Cannot create ${this.#lockPath}: ${systemCode(cause)}`, { cause });
    }
    try {
      writeFileSync(file, `${JSON.stringify({ pid: process.pid, start_time: startTimeMs(process.pid) })}\n`);
      return true;
    } catch (cause) {
      rmSync(this.#lockPath, { force: true });
      throw new TunnelError("store.failed", `Cannot write ${this.#lockPath}: ${systemCode(cause)}`, { cause });
    } finally {
      closeSync(file);
    }
  }

  /** Process id of the living holder. A lock that is being written belongs to somebody, whom we cannot name: 0. */
  #holder(wallMs: number): number | "none" {
    let ageMs: number;
    try {
      ageMs = wallMs - statSync(this.#lockPath).mtimeMs;
    } catch {
      return "none";
    }
    if (ageMs > TIMEOUT_MS) return "none";
    const content = parseObject(readText(this.#lockPath) ?? "");
    const pid = content?.["pid"];
    const started = content?.["start_time"];
    if (typeof pid !== "number" || typeof started !== "number") return ageMs < RETRY_MS ? 0 : "none";
    if (!isAlive(pid)) return "none";
    const actual = startTimeMs(pid);
    return actual !== undefined && Math.abs(actual - started) > START_TOLERANCE_MS ? "none" : pid;
  }
}

function isAlive(pid: number): boolean {
  if (!Number.isSafeInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return systemCode(error) === "EPERM";
  }
}

/** When a process started, in ms since 1970; undefined where only its own is known and it is another one. */
function startTimeMs(pid: number): number | undefined {
  const stat = readText(`/proc/${pid}/stat`);
  const bootS = /^btime (\d+)$/m.exec(readText("/proc/stat") ?? "")?.[1];
  // The name, in parentheses, may hold anything; field 22 is the twentieth behind it.
  const ticks = stat
    ?.slice(stat.lastIndexOf(")") + 2)
    .split(" ")
    .at(19);
  if (ticks !== undefined && bootS !== undefined) {
    return Number(bootS) * 1_000 + Math.floor((Number(ticks) * 1_000) / TICKS_PER_S);
  }
  return pid === process.pid ? Math.round(Date.now() - process.uptime() * 1_000) : undefined;
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
