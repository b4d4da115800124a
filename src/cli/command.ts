import type { Flag } from "../config/flags.ts";
import type { Host } from "../config/host.ts";
import type { Console } from "../core/console-output.ts";

/** Exit codes (surface: section 18). */
export const EXIT = { ok: 0, failed: 1, usage: 255 } as const;

/** What a command works with. */
export interface Context {
  /** Texts of the flags given, by name, in order. */
  readonly args: ReadonlyMap<string, readonly string[]>;
  readonly positionals: readonly string[];
  readonly host: Host;
  /** Writes one line on standard output: what a script reads. */
  readonly print: (text: string) => void;
  /** The same without the line's end. `done`: it has left, or is lost; for what prints without end (ConsoleOutput). */
  readonly write: (text: string | Uint8Array, done?: (error?: unknown) => void) => void;
  /**
   * Aborts when standard output takes no more: what prints without end ends, all else goes on and has its exit code
   * changed.
   */
  readonly outputLost: AbortSignal;
  /** Writes one line on standard error: what a person reads. */
  readonly note: (text: string) => void;
  /** What is behind `note`: takes many lines at once, and knows what it lost. */
  readonly console: Console;
  /** Aborts at the first SIGINT or SIGTERM: end in good order. The second ends the process. */
  readonly stop: AbortSignal;
  /** Tells of each SIGHUP until the function it gives is called; where nobody listens, the signal ends the process. */
  readonly onHangup?: (listener: () => void) => () => void;
  /** Absent where a process cannot become another program: Windows, and runtimes that do not let it. */
  readonly succession?: Succession;
}

/** How a process makes way for a newer program without ending. */
export interface Succession {
  /** What was started, with the words behind it. */
  readonly file: string;
  readonly args: readonly string[];
  /** Tells of each SIGUSR2 until the function it gives is called; where nobody listens, the signal ends the process. */
  onAsked(listener: () => void): () => void;
  /** The program file, as it is now, takes the place of this program in this process; throws when it cannot. */
  become(env: Readonly<Record<string, string>>): never;
}

/** What carries a command out; loaded when it is called for, so that `--version` stays quick. */
export type Run = (context: Context) => Promise<number>;

export interface Command {
  readonly name: string;
  /** One line, for the parent's list. */
  readonly summary: string;
  /** Positional arguments, as help shows them; without it, there are none. */
  readonly usage?: string;
  readonly description?: string;
  readonly examples?: readonly string[];
  readonly flags?: readonly Flag[];
  /** Flags of the commands above it that it goes by as well; the others of theirs are refused behind its name. */
  readonly reads?: readonly Flag[];
  /**
   * It, or the command that it belongs to, is one of cloudflared's, which lets flags of the levels above stand in front
   * of the name whether it reads them or not (surface: section 1). @default they are refused there, too
   */
  readonly cloudflared?: true;
  /** Words behind the first argument are arguments too, whatever they look like: they are for another program. */
  readonly passThrough?: boolean;
  readonly hidden?: boolean;
  readonly children?: readonly Command[];
  readonly load?: () => Promise<{ readonly run: Run }>;
}
