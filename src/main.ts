import { existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { isatty } from "node:tty";
import type { Context, Succession } from "./cli/command.ts";
import { EXIT } from "./cli/command.ts";
import { ROOT } from "./cli/commands.ts";
import { reportError, reportFailure } from "./cli/failure.ts";
import { renderHelp } from "./cli/help.ts";
import { commandName, parseArguments } from "./cli/parse.ts";
import { versionLine } from "./cli/version.ts";
import { wrongValues } from "./cli/wrong-values.ts";
import { ConsoleOutput } from "./core/console-output.ts";
import { describe } from "./core/errors.ts";
import { type OutputLoss, StandardOutput } from "./core/standard-output.ts";
import { BUILD_TARGET } from "./core/version.ts";

/** Exit code of a process that a signal ended, less the signal's number. */
const SIGNAL_EXIT_BASE = 128;

/** Exit code where the reader of what we print has left: what a shell shows of tools that SIGPIPE ends. */
const READER_LEFT = SIGNAL_EXIT_BASE + 13;
/** How long whoever asks us to end waits for a reader that does not read, in ms. */
const UNREAD_MS = 1_000;

const standardError = new ConsoleOutput(process.stderr);
const note = standardError.write;
const outputLost = new AbortController();
const output = new StandardOutput(() => process.stdout, onLost);
const print = (text: string): void => output.write(`${text}\n`);
const stopped = new AbortController();

function onLost({ kind, error }: OutputLoss): void {
  if (kind === "failed") note(`culvert: Cannot write to standard output: ${describe(error)}`);
  outputLost.abort(error);
}

/** The exit code, once what was printed has gone. What a command says of its own failure stands. */
async function finish(code: number): Promise<number> {
  await Promise.race([output.end(), unreadFor(UNREAD_MS)]);
  if (output.loss === undefined || code !== EXIT.ok) return code;
  return output.loss.kind === "left" ? READER_LEFT : EXIT.failed;
}

/** Resolves `ms` after we were asked to end. */
function unreadFor(ms: number): Promise<void> {
  return new Promise((resolve) => {
    const wait = (): void => void setTimeout(resolve, ms);
    if (stopped.signal.aborted) wait();
    else stopped.signal.addEventListener("abort", wait, { once: true });
  });
}

/** The first signal asks for a good end, the second does not ask. */
function stopOnSignals(stop: AbortController): AbortSignal {
  const numbers = { SIGINT: 2, SIGTERM: 15 } as const;
  for (const [signal, number] of Object.entries(numbers) as ["SIGINT" | "SIGTERM", number][]) {
    process.on(signal, () => {
      if (stop.signal.aborted) process.exit(SIGNAL_EXIT_BASE + number);
      stop.abort(signal === "SIGINT" ? "interrupt" : "terminated");
    });
  }
  return stop.signal;
}

/**
 * SIGHUP asks to read the configuration again, or says that the terminal we run in has closed: then we end as at
 * SIGTERM, since nobody would know of a tunnel that goes on.
 */
function onHangup(listener: () => void): () => void {
  if (process.platform === "win32") return () => {};
  const inTerminal = isatty(process.stderr.fd);
  const onSignal = (): void => {
    if (inTerminal && !isatty(process.stderr.fd)) process.kill(process.pid, "SIGTERM");
    else listener();
  };
  process.on("SIGHUP", onSignal);
  return () => process.off("SIGHUP", onSignal);
}

/** The path is taken at the start: of a program file that was replaced meanwhile, the system only knows that it is gone. */
function prepareSuccession(): Succession | undefined {
  const { execPath: file, execArgv, argv, execve } = process;
  // Run from source, the runtime is the program, and the first word is ours.
  const args = BUILD_TARGET === undefined ? [...execArgv, ...argv.slice(1)] : argv.slice(2);
  if (process.platform === "win32" || execve === undefined) return undefined;
  return {
    file,
    args,
    onAsked: (listener) => {
      process.on("SIGUSR2", listener);
      return () => process.off("SIGUSR2", listener);
    },
    become: (env) => execve.call(process, file, [file, ...args], env),
  };
}

/** An account that a service manager made for this run may have no home, and no entry where homes are looked up. */
function findHome(): string {
  try {
    return homedir();
  } catch {
    return "/";
  }
}

async function main(argv: readonly string[]): Promise<number> {
  const parsed = parseArguments(ROOT, argv);
  switch (parsed.kind) {
    case "version":
      print(versionLine());
      return EXIT.ok;
    case "help":
      print(renderHelp(parsed.path));
      return EXIT.ok;
    case "usage":
      note(`culvert: ${parsed.message}`);
      note(`See '${commandName(parsed.path)} --help'.`);
      return EXIT.usage;
    case "run": {
      const succession = prepareSuccession();
      const context: Context = {
        args: parsed.args,
        positionals: parsed.positionals,
        host: {
          env: process.env,
          homeDir: findHome(),
          platform: process.platform,
          readFile: (path) => readFileSync(path, "utf8"),
          exists: existsSync,
        },
        print,
        write: output.write,
        outputLost: outputLost.signal,
        note,
        console: standardError,
        stop: stopOnSignals(stopped),
        onHangup,
        ...(succession === undefined ? {} : { succession }),
      };
      const named = parsed.path.at(-1) ?? ROOT;
      const wrong = wrongValues(named, parsed.args);
      if (wrong.length > 0) return reportFailure(context, wrong, { usage: true, command: commandName(parsed.path) });
      const command = await named.load?.();
      try {
        return (await command?.run(context)) ?? EXIT.failed;
      } catch (error) {
        return reportError(context, error);
      }
    }
  }
}

process.exit(await finish(await main(process.argv.slice(2))));
