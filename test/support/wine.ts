import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { linkSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pollUntil } from "./poll-until.ts";
import { type OwnedProcess, runProcess, startProcess } from "./processes.ts";
import { makeTempDir } from "./temp-dir.ts";
import { forwardingLibrary } from "./wine-shim.ts";

/** The first start makes the registry and some hundred files. */
const BOOT_DEADLINE_MS = 120_000;
const RUN_DEADLINE_MS = 90_000;
const FOLDER = ["Program Files", "culvert"] as const;

/** Why no Windows program can be started here; undefined = one can. */
export function wineMissing(): string | undefined {
  if (process.platform !== "linux" || process.arch !== "x64") return "needs wine on Linux x64";
  for (const command of ["wine", "wineserver"]) {
    if (spawnSync("which", [command]).status !== 0) return `needs ${command}: apt-get install wine`;
  }
  return undefined;
}

/** A Windows of its own under wine, with one program. It ends with its scope, and all that runs in it. */
export class WineMachine implements AsyncDisposable {
  /** The program's path on that Windows. */
  readonly program = ["C:", ...FOLDER, "culvert.exe"].join("\\");
  readonly #home = makeTempDir();
  #keeper: ChildProcess | undefined;

  private constructor() {}

  static async boot(binary: string): Promise<WineMachine> {
    const machine = new WineMachine();
    try {
      const { code, stderr } = await machine.#call(["wineboot", "--init"], BOOT_DEADLINE_MS);
      if (code !== 0) throw new Error(`wineboot ended with ${code}: ${stderr}`);
      // Else the old service manager, on its way out, and a new one are there together.
      await machine.#call(["wineserver", "-w"]);
      const folder = join(machine.drive, ...FOLDER);
      mkdirSync(folder, { recursive: true });
      linkSync(binary, join(folder, "culvert.exe"));
      // Every Windows since 8 has this one; Debian's wine does not.
      const library = forwardingLibrary("bcryptprimitives.dll", "ProcessPrng", "ADVAPI32.SystemFunction036");
      writeFileSync(join(folder, "bcryptprimitives.dll"), library);
      // With the last program of a user wine stops the services: this one waits for input that never comes.
      machine.#keeper = spawn("wine", ["cmd"], { stdio: ["pipe", "ignore", "ignore"], env: machine.env });
      // Wine's own services come first, and nobody else starts one meanwhile.
      await pollUntil(
        async () => (await machine.windows("net", "start", "PlugPlay")).stdout.includes("already running"),
        {
          what: "wine has started its services",
          deadlineMs: BOOT_DEADLINE_MS,
          everyMs: 200,
        },
      );
      return machine;
    } catch (error) {
      await machine[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Drive C. */
  get drive(): string {
    return join(this.#home.path, "prefix", "drive_c");
  }

  get env(): Readonly<Record<string, string>> {
    return {
      PATH: process.env["PATH"] ?? "",
      HOME: this.#home.path,
      WINEPREFIX: join(this.#home.path, "prefix"),
      WINEARCH: "win64",
      WINEDEBUG: "-all",
      // No questions about what is not installed, and no menu entries.
      WINEDLLOVERRIDES: "mscoree=;mshtml=;winemenubuilder.exe=",
    };
  }

  /** Runs the program to its end. */
  async culvert(...args: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
    const { code, stdout, stderr } = await this.#call(["wine", this.program, ...args]);
    return { code, stdout: stdout.replaceAll("\r\n", "\n"), stderr: stderr.replaceAll("\r\n", "\n") };
  }

  /** Runs the program to its end, with something on its standard input. */
  reading(input: string, ...args: string[]): { code: number | null; stdout: string; stderr: string } {
    const options = { env: this.env, input, encoding: "utf8", timeout: RUN_DEADLINE_MS } as const;
    const { status, stdout, stderr } = spawnSync("wine", [this.program, ...args], options);
    return { code: status, stdout: stdout.replaceAll("\r\n", "\n"), stderr: stderr.replaceAll("\r\n", "\n") };
  }

  /** Starts the program. */
  start(...args: string[]): OwnedProcess {
    return startProcess(["wine", this.program, ...args], { env: this.env });
  }

  /** Runs a script with the runtime that is inside the program; gives what it prints. */
  async script(path: string, ...args: string[]): Promise<string> {
    const env = { ...this.env, BUN_BE_BUN: "1" };
    const outcome = await runProcess(["wine", this.program, "run", `Z:${path}`, ...args], {
      env,
      deadlineMs: RUN_DEADLINE_MS,
    });
    if (outcome.code !== 0) throw new Error(`${path} ended with ${outcome.code}: ${outcome.stderr}`);
    return outcome.stdout;
  }

  /** Runs a program of Windows. */
  async windows(...argv: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
    return await this.#call(["wine", ...argv]);
  }

  async #call(argv: readonly string[], deadlineMs = RUN_DEADLINE_MS) {
    return await runProcess(argv, { env: this.env, deadlineMs });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#keeper?.stdin?.end();
    // Ends everything of this prefix, and of no other.
    await this.#call(["wineserver", "-k"]).catch(() => undefined);
    await this.#call(["wineserver", "-w"]).catch(() => undefined);
    this.#keeper?.kill("SIGKILL");
    this.#home[Symbol.dispose]();
  }
}
