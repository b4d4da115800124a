import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { pollUntil } from "./poll-until.ts";
import { makeTempDir } from "./temp-dir.ts";

/** A process that does not end within this time after SIGTERM is killed, in ms. */
const END_DEADLINE_MS = 5_000;

export interface ProcessOptions {
  /** The whole environment of the process; default: ours. */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** User to run as; only root may choose. */
  readonly uid?: number;
}

export interface ProcessEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/**
 * A child process that never outlives its scope: `await using edge = startProcess([...])`. Its output goes to files
 * instead of pipes: nothing is lost when it is killed, and it cannot block on a reader that is busy with a test.
 */
export class OwnedProcess implements AsyncDisposable {
  readonly name: string;
  readonly ended: Promise<ProcessEnd>;
  end: ProcessEnd | undefined;
  readonly #child: ChildProcess;
  readonly #output = makeTempDir();
  #disposed: { readonly stdout: string; readonly stderr: string } | undefined;

  constructor(argv: readonly string[], options: ProcessOptions = {}) {
    const [command = "", ...args] = argv;
    this.name = [command.slice(command.lastIndexOf("/") + 1), ...args.slice(0, 3)].join(" ");
    const stdout = openSync(join(this.#output.path, "stdout"), "a");
    const stderr = openSync(join(this.#output.path, "stderr"), "a");
    this.#child = spawn(command, args, {
      stdio: ["ignore", stdout, stderr],
      env: options.env ?? process.env,
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      ...(options.uid === undefined ? {} : { uid: options.uid, gid: options.uid }),
    });
    closeSync(stdout);
    closeSync(stderr);
    this.ended = new Promise((resolve, reject) => {
      this.#child.on("error", reject);
      this.#child.on("exit", (code, signal) => {
        this.end = { code, signal };
        resolve(this.end);
      });
    });
    // Whoever awaits it sees the error; nobody awaiting it must not end the test run.
    this.ended.catch(() => undefined);
  }

  get stdout(): string {
    return this.#disposed?.stdout ?? readFileSync(join(this.#output.path, "stdout"), "utf8");
  }

  get stderr(): string {
    return this.#disposed?.stderr ?? readFileSync(join(this.#output.path, "stderr"), "utf8");
  }

  get pid(): number {
    const { pid } = this.#child;
    if (pid === undefined) throw new Error(`${this.name} did not start`);
    return pid;
  }

  signal(signal: NodeJS.Signals): void {
    if (this.end === undefined) this.#child.kill(signal);
  }

  async kill(): Promise<void> {
    this.signal("SIGKILL");
    await this.ended;
  }

  /** The exit code, within a deadline. */
  async exitCode(deadlineMs = END_DEADLINE_MS): Promise<number | null> {
    const end = await pollUntil(() => this.end, {
      what: `${this.name} ends\n${this.stderr.slice(-2_000)}`,
      deadlineMs,
    });
    return end.code;
  }

  /** The first match in standard error, at once or when it comes. */
  async errorLine(pattern: RegExp, deadlineMs = 10_000): Promise<RegExpExecArray> {
    return await this.#says("stderr", pattern, deadlineMs);
  }

  /** The first match in standard output, at once or when it comes. */
  async outputLine(pattern: RegExp, deadlineMs = 10_000): Promise<RegExpExecArray> {
    return await this.#says("stdout", pattern, deadlineMs);
  }

  async #says(where: "stdout" | "stderr", pattern: RegExp, deadlineMs: number): Promise<RegExpExecArray> {
    const look = (): RegExpExecArray | "ended" | null => {
      // Asked first: what a process wrote before its end counts.
      const over = this.end !== undefined;
      return pattern.exec(this[where]) ?? (over ? "ended" : null);
    };
    const what = `${this.name} says ${pattern}`;
    const found = await pollUntil(look, { what, deadlineMs }).catch((): "late" => "late");
    if (typeof found === "object") return found;
    const state = found === "late" ? `not within ${deadlineMs} ms` : `ended with ${JSON.stringify(this.end)}`;
    throw new Error(`${what}: ${state}\n--- standard error\n${this.stderr.slice(-4_000)}`);
  }

  /** Resident memory now, in bytes (Linux). */
  residentBytes(): number {
    return this.#statusBytes("VmRSS");
  }

  /** The most resident memory it ever had, in bytes (Linux). */
  peakResidentBytes(): number {
    return this.#statusBytes("VmHWM");
  }

  #statusBytes(key: string): number {
    const status = readFileSync(`/proc/${this.pid}/status`, "utf8");
    return Number(new RegExp(`^${key}:\\s+(\\d+) kB$`, "m").exec(status)?.[1]) * 1024;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.signal("SIGTERM");
    // Two ways: an unkillable grace period must not outlast the scope, and a stopped process does not read SIGTERM.
    const timer = setTimeout(() => this.signal("SIGKILL"), END_DEADLINE_MS);
    await this.ended.catch(() => undefined);
    clearTimeout(timer);
    this.#disposed ??= { stdout: this.stdout, stderr: this.stderr };
    this.#output[Symbol.dispose]();
  }
}

export function startProcess(argv: readonly string[], options?: ProcessOptions): OwnedProcess {
  return new OwnedProcess(argv, options);
}

/** Runs a command to its end. */
export async function runProcess(
  argv: readonly string[],
  options: ProcessOptions & { readonly deadlineMs?: number } = {},
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  await using child = startProcess(argv, options);
  const code = await child.exitCode(options.deadlineMs ?? 15_000);
  return { code, stdout: child.stdout, stderr: child.stderr };
}
