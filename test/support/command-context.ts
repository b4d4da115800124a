import type { Context } from "../../src/cli/command.ts";
import { ConsoleOutput } from "../../src/core/console-output.ts";
import { memoryHost } from "../unit/config/memory-host.ts";

/** What a command works with: an empty machine, nobody who reads or stops it, and what a test says instead. */
export function commandContext(parts: Partial<Context>): Context {
  return {
    args: new Map(),
    positionals: [],
    host: memoryHost(),
    print: () => {},
    write: (_text, done) => done?.(),
    outputLost: new AbortController().signal,
    note: () => {},
    console: new ConsoleOutput({ write: (_lines, done) => done() }),
    stop: new AbortController().signal,
    ...parts,
  };
}
