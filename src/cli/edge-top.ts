import { Values } from "../config/values.ts";
import { delay, systemClock } from "../core/clock.ts";
import { TunnelError } from "../core/errors.ts";
import { createEdgeControl } from "../edge/control/client.ts";
import type { EdgeControl } from "../edge/control/port.ts";
import { type Context, EXIT } from "./command.ts";
import { EDGE_TOP_FLAGS } from "./edge-flags.ts";
import { stateDirOf } from "./edge-state.ts";
import { reportError, reportFailure } from "./failure.ts";
import { type Reading, topFrame } from "./top-frame.ts";

const MIN_INTERVAL_MS = 200;
const MAX_INTERVAL_MS = 60_000;
const PIPE_SCREEN = { columns: 80, rows: 1_000 };

const ESCAPE = "\u001b";
/** The alternate screen, so that what was on the terminal is there afterwards; no cursor. */
const ENTER = `${ESCAPE}[?1049h${ESCAPE}[?25l`;
const LEAVE = `${ESCAPE}[?25h${ESCAPE}[?1049l`;
/** Terminals that know it show the frame at once (synchronized output); the others pass over it. */
const BEGIN = `${ESCAPE}[?2026h${ESCAPE}[H`;
const END = `${ESCAPE}[J${ESCAPE}[?2026l`;
const END_OF_LINE = `${ESCAPE}[K`;

/** `culvert edge top`: what the edge on this state directory does, again and again, until `q` or Ctrl-C. */
export async function run(context: Context): Promise<number> {
  const values = new Values(EDGE_TOP_FLAGS, { args: context.args, env: context.host.env });
  const problems = values.issues.map((issue) => issue.message);
  const intervalMs = values.number("interval");
  if (intervalMs < MIN_INTERVAL_MS || intervalMs > MAX_INTERVAL_MS) {
    problems.push("--interval must be from 200ms to 1m");
  }
  if (problems.length > 0) return reportFailure(context, problems, { usage: true, command: "culvert edge top" });
  try {
    const control = createEdgeControl(stateDirOf(values, context.host), { clock: systemClock });
    const first = await read(control);
    if (first === undefined) {
      throw new TunnelError(
        "store.missing",
        "No edge runs here: start one with culvert edge run, or name its --state-dir",
      );
    }
    // Rates need two looks; a pipe gets them once.
    if (!process.stdout.isTTY || values.bool("once")) {
      await delay(systemClock, intervalMs, context.stop);
      const second = (await read(control)) ?? first;
      context.print(topFrame(first, second, { ...PIPE_SCREEN, clock: clockText() }).join("\n"));
      return EXIT.ok;
    }
    return await watch(context, control, first, intervalMs);
  } catch (error) {
    return reportError(context, error);
  }
}

async function read(control: EdgeControl): Promise<Reading | undefined> {
  const numbers = await control.numbers();
  return numbers === undefined ? undefined : { atMs: systemClock.nowMs(), numbers };
}

async function watch(context: Context, control: EdgeControl, first: Reading, intervalMs: number): Promise<number> {
  const { stdin, stdout } = process;
  const { write, stop, outputLost } = context;
  const quit = new AbortController();
  const ended = AbortSignal.any([stop, outputLost, quit.signal]);
  let before: Reading | undefined;
  let now = first;
  const draw = (): void => {
    // A terminal that does not know its size says 0.
    const [columns, rows] = [stdout.columns || 80, stdout.rows || 24];
    const lines = topFrame(before, now, { columns, rows, clock: clockText() });
    // One write a frame, over what is there: nothing is ever blank in between.
    write(BEGIN + lines.map((line) => line + END_OF_LINE).join("\r\n") + END);
  };
  const onKey = (typed: Buffer): void => {
    if (/[qQ\u0003\u0004]/.test(typed.toString("latin1"))) quit.abort();
  };
  let gone = false;
  write(ENTER);
  try {
    if (stdin.isTTY) {
      stdin.setRawMode(true);
      stdin.on("data", onKey);
      stdin.resume();
    }
    stdout.on("resize", draw);
    draw();
    while (!ended.aborted && !gone) {
      await delay(systemClock, intervalMs, ended);
      if (ended.aborted) break;
      const next = await read(control);
      if (next === undefined) gone = true;
      else {
        // An edge that began anew in between has other numbers.
        before = next.numbers.startedAt === now.numbers.startedAt ? now : undefined;
        now = next;
        draw();
      }
    }
  } finally {
    stdout.off("resize", draw);
    if (stdin.isTTY) {
      stdin.off("data", onKey);
      stdin.setRawMode(false);
      stdin.pause();
    }
    write(LEAVE);
  }
  if (gone) throw new TunnelError("store.missing", "The edge has stopped");
  return EXIT.ok;
}

function clockText(): string {
  const now = new Date(systemClock.wallMs());
  return [now.getHours(), now.getMinutes(), now.getSeconds()].map((part) => String(part).padStart(2, "0")).join(":");
}
