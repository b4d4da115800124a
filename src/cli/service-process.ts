import { readdirSync, readFileSync, statSync } from "node:fs";
import { systemClock } from "../core/clock.ts";
import type { ServiceState } from "../service/init.ts";
import { serviceArguments } from "../service/layout.ts";
import type { Target } from "./service-target.ts";

/** `ps` counts whole seconds. */
const ROUNDED_MS = 2_000;

/** Which program a service's process runs: the one that is installed now, another such as an older version, or nobody tells. */
export type Running = "ours" | "other" | "unknown";

export async function processOf(target: Target, { pid }: ServiceState): Promise<Running> {
  const { spec, layout, machine } = target;
  const [program = ""] = spec.program;
  switch (process.platform) {
    case "linux":
      return pid === undefined
        ? programOfProcesses(program, serviceArguments(spec, layout, { connectedFile: layout.connectedFile }))
        : programOfProcess(pid, program);
    // A program that runs cannot be written over there, and what moves it away says that a restart is due.
    case "win32":
      return "ours";
    default: {
      if (pid === undefined) return "unknown";
      const { code, stdout } = await machine.run(["ps", "-o", "etime=", "-p", `${pid}`]);
      const ranMs = code === 0 ? elapsedMs(stdout) : undefined;
      return ranMs === undefined ? "unknown" : programByAge(program, systemClock.wallMs() - ranMs);
    }
  }
}

/**
 * By what Linux tells in /proc. Not by the name there: of a file that was replaced it ends in ` (deleted)`, and goes on
 * doing so when that very file is put back (proc(5)).
 */
export function programOfProcess(pid: number | undefined, program: string): Running {
  try {
    // Inode numbers have 64 bits.
    const runs = statSync(`/proc/${pid}/exe`, { bigint: true });
    const installed = statSync(program, { bigint: true });
    return runs.dev === installed.dev && runs.ino === installed.ino ? "ours" : "other";
  } catch {
    return "unknown";
  }
}

/**
 * Where the init system knows the supervisor only: the service is what was started with its arguments, behind a program
 * or a runtime and its script.
 */
export function programOfProcesses(program: string, args: readonly string[]): Running {
  const found = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && startedWith(name, args))
    .map((name) => programOfProcess(Number(name), program));
  return found.length === 0 || found.includes("unknown") ? "unknown" : found.includes("other") ? "other" : "ours";
}

function startedWith(pid: string, args: readonly string[]): boolean {
  try {
    const words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").slice(0, -1);
    const before = words.length - args.length;
    // A supervisor's own line ends with the same words.
    return (before === 1 || before === 2) && args.every((word, index) => words[before + index] === word);
  } catch {
    return false;
  }
}

/** A program that was put there before the process started is what it runs; a later one is not. */
export function programByAge(program: string, startedMs: number): Running {
  const stats = statSync(program, { throwIfNoEntry: false });
  if (stats === undefined) return "unknown";
  // Unlike the time of its content, no archive sets this one.
  return stats.ctimeMs + ROUNDED_MS < startedMs ? "ours" : "other";
}

/** `[[days-]hours:]minutes:seconds`, as ps(1) has them in POSIX. */
export function elapsedMs(text: string): number | undefined {
  const [, days = "0", hours = "0", minutes, seconds] =
    /^\s*(?:(?:(\d{1,6})-)?(\d{1,2}):)?(\d{1,2}):(\d{2})\s*$/.exec(text) ?? [];
  if (minutes === undefined || seconds === undefined) return undefined;
  return (((Number(days) * 24 + Number(hours)) * 60 + Number(minutes)) * 60 + Number(seconds)) * 1_000;
}
