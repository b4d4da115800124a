import { ConsoleOutput } from "../../src/core/console-output.ts";

/** A console that takes everything and shows nothing. */
export const SILENT_CONSOLE = new ConsoleOutput({ write: (_lines, done) => done() });
