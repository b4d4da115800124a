import { type ChildProcess, spawn } from "node:child_process";
import { writeSync } from "node:fs";
import type { Readable } from "node:stream";
import { type Clock, delay } from "../core/clock.ts";
import { describe, TunnelError } from "../core/errors.ts";

// How one program takes over from another without an end of service, and without another process id, which whoever
// supervises it (systemd, launchd, a script with a pidfile, a container) has written down:
//
//   old program             bridge (a child, the new program)      heir (the new program, as the old process)
//   starts the bridge  ───▶ registers, says so on READY_FD
//   drains, then execve ─────────────────────────────────────────▶ registers
//                           drains, ends              ◀─── SIGTERM

/** The variable that tells a program its part: `bridge`, or the process id of the bridge that holds its place. */
const PART_VARIABLE = "CULVERT_HANDOVER";
/** Where a bridge says that it is registered. */
const READY_FD = 3;
const READY = "ready\n";
/** A new program that has not registered by then is not taken, in ms. */
const READY_LIMIT_MS = 60_000;
/** How long a bridge goes on when the process it stands in for is gone: its supervisor starts it again, in ms. */
const ORPHAN_LIMIT_MS = 60_000;
const PARENT_LOOK_MS = 1_000;
/** Variables by which a program speaks to its supervisor: only the main process may. */
const SUPERVISOR_VARIABLES = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID"];

type Environment = Readonly<Record<string, string | undefined>>;

/** What a program was started as. */
export type Part =
  | { readonly kind: "usual" }
  | { readonly kind: "bridge" }
  /** `bridge`: process id of who serves until this program does. */
  | { readonly kind: "heir"; readonly bridge: number };

export function readPart(env: Environment): Part {
  const text = env[PART_VARIABLE];
  if (text === "bridge") return { kind: "bridge" };
  const bridge = Number(text);
  return Number.isSafeInteger(bridge) && bridge > 1 ? { kind: "heir", bridge } : { kind: "usual" };
}

/** How this program was started: the file, and all words behind it. */
export interface Launch {
  readonly file: string;
  readonly args: readonly string[];
  readonly env: Environment;
}

export interface Bridge {
  readonly pid: number;
  /** Lets it drain and end. */
  stop(): void;
}

/** The environment of the program that the process becomes while a bridge serves. */
export function heirEnvironment(env: Environment, bridge: Bridge): Record<string, string> {
  return { ...defined(env), [PART_VARIABLE]: `${bridge.pid}` };
}

/** Starts the program file as it is now; resolves when it is registered. Throws a TunnelError, and then it is gone. */
export async function startBridge(
  { file, args, env }: Launch,
  { clock, signal }: { readonly clock: Clock; readonly signal: AbortSignal },
): Promise<Bridge> {
  const own = Object.entries(defined(env)).filter(([name]) => !SUPERVISOR_VARIABLES.includes(name));
  const given = { ...Object.fromEntries(own), [PART_VARIABLE]: "bridge" };
  let child: ChildProcess;
  try {
    child = spawn(file, args, { stdio: ["ignore", "inherit", "inherit", "pipe"], env: given });
  } catch (error) {
    throw failed(describe(error));
  }
  const settled = new AbortController();
  const outcome = await new Promise<string>((resolve) => {
    child.on("error", (error) => resolve(describe(error)));
    child.on("exit", (code, by) => resolve(`it ended with ${by ?? code}`));
    (child.stdio[READY_FD] as Readable).on("data", () => resolve(READY)).on("error", () => undefined);
    signal.addEventListener("abort", () => resolve("stopped"), { once: true, signal: settled.signal });
    void delay(clock, READY_LIMIT_MS, settled.signal).then((late) => {
      if (late) resolve(`it was not registered after ${READY_LIMIT_MS / 1000} s`);
    });
    if (signal.aborted) resolve("stopped");
  });
  settled.abort();
  const { pid } = child;
  if (outcome !== READY || pid === undefined) {
    child.kill("SIGKILL");
    throw failed(outcome);
  }
  return { pid, stop: () => void child.kill("SIGTERM") };
}

/** A bridge says that it serves. */
export function sayReady(): void {
  try {
    writeSync(READY_FD, READY);
  } catch {
    // Who asked has gone; the watch on it sees that.
  }
}

/**
 * Calls back when a bridge is no longer needed though nobody said so: its parent was killed, and had time to return.
 *
 * @returns ends the watch
 */
export function watchParent(clock: Clock, onOrphaned: () => void): () => void {
  const parent = process.ppid;
  let cancel = (): void => {};
  const look = (): void => {
    const orphaned = process.ppid !== parent;
    cancel = clock.after(orphaned ? ORPHAN_LIMIT_MS : PARENT_LOOK_MS, orphaned ? onOrphaned : look);
  };
  look();
  return () => cancel();
}

function defined(env: Environment): Record<string, string> {
  const rest = Object.entries(env).filter(
    (entry): entry is [string, string] => entry[1] !== undefined && entry[0] !== PART_VARIABLE,
  );
  return Object.fromEntries(rest);
}

function failed(why: string): TunnelError {
  return new TunnelError("update.failed", `The new program did not take over: ${why}`);
}
