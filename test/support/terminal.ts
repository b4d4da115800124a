import { closeSync, constants, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { pollUntil } from "./poll-until.ts";
import { type OwnedProcess, type ProcessOptions, runProcess, startProcess } from "./processes.ts";
import { quoteWords } from "./shell.ts";
import { makeTempDir } from "./temp-dir.ts";

/** A program on a terminal of its own that a test types into (`script` of util-linux). */
export interface Terminal extends AsyncDisposable {
  readonly process: OwnedProcess;
  /** Everything on the screen so far, as the program wrote it. */
  readonly screen: string;
  type(text: string): void;
  /** Types, and waits until the pattern stands behind what was there before. */
  say(text: string, pattern: RegExp): Promise<RegExpExecArray>;
  /** As if somebody changed the size of the window. */
  resize(rows: number, columns: number): Promise<void>;
}

export async function startTerminal(
  command: readonly string[],
  size: { readonly rows: number; readonly columns: number },
  options: ProcessOptions,
): Promise<Terminal> {
  await using stack = new AsyncDisposableStack();
  const dir = stack.use(makeTempDir());
  const input = join(dir.path, "input");
  await runProcess(["mkfifo", input]);
  // The name of the terminal is the first line on it.
  const inside = `tty; stty rows ${size.rows} cols ${size.columns}; exec ${quoteWords(command)}`;
  const argv = ["sh", "-c", 'exec script -qefc "$1" /dev/null <"$0"', input, inside];
  const child = stack.use(startProcess(argv, { ...options, env: { ...options.env, SHELL: "/bin/sh", TERM: "xterm" } }));
  // For both directions, so that opening it waits for nobody.
  const keyboard = openSync(input, constants.O_RDWR);
  stack.defer(() => closeSync(keyboard));
  const [, tty = ""] = await child.outputLine(/(\/dev\/pts\/\d+)/);
  const type = (text: string): void => void writeSync(keyboard, text);
  const owned = stack.move();
  return {
    process: child,
    get screen() {
      return child.stdout;
    },
    type,
    say: async (text, pattern) => {
      const before = child.stdout.length;
      type(text);
      return await pollUntil(() => pattern.exec(child.stdout.slice(before)), {
        what: `${pattern} on the screen`,
        deadlineMs: 15_000,
        everyMs: 20,
      }).catch((cause: unknown) => {
        throw new Error(`No ${pattern} on the screen:\n${child.stdout.slice(-2_000)}`, { cause });
      });
    },
    resize: async (rows, columns) => {
      await runProcess(["stty", "-F", tty, "rows", `${rows}`, "cols", `${columns}`]);
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
