import { spawn } from "node:child_process";
import type { Outcome } from "./init.ts";

/** Bytes kept of what a program writes, on each channel. */
const MAX_OUTPUT_BYTES = 256 * 1024;
const COMMAND_NOT_FOUND = 127;

/** Runs programs of this machine. */
export interface Machine {
  /** Runs to the end; a program that is not there ends with 127. */
  run(argv: readonly string[]): Promise<Outcome>;
  /** Runs with our own input and output until it ends or `stop` aborts; gives its exit code. */
  show(argv: readonly string[], stop: AbortSignal): Promise<number>;
}

/** `env` is added to our own environment. */
export const createMachine = (env: Readonly<Record<string, string>> = {}): Machine => ({
  run(argv) {
    const [command = "", ...args] = argv;
    return new Promise((resolve) => {
      const child = spawn(command, args, {
        stdio: ["ignore", "pipe", "pipe"],
        env: { ...process.env, ...env, LC_ALL: "C" },
      });
      const out = collect(child.stdout);
      const err = collect(child.stderr);
      child.on("error", (error) => resolve({ code: COMMAND_NOT_FOUND, stdout: "", stderr: error.message }));
      child.on("close", (code) => resolve({ code: code ?? 1, stdout: out(), stderr: err() }));
    });
  },
  show(argv, stop) {
    const [command = "", ...args] = argv;
    return new Promise((resolve) => {
      const child = spawn(command, args, { stdio: "inherit", env: { ...process.env, ...env } });
      const end = (): void => {
        child.kill("SIGTERM");
      };
      stop.addEventListener("abort", end, { once: true });
      const finish = (code: number): void => {
        stop.removeEventListener("abort", end);
        resolve(stop.aborted ? 0 : code);
      };
      child.on("error", () => finish(COMMAND_NOT_FOUND));
      child.on("close", (code) => finish(code ?? 1));
    });
  },
});

export const thisMachine: Machine = createMachine();

function collect(stream: NodeJS.ReadableStream): () => string {
  const chunks: Buffer[] = [];
  let left = MAX_OUTPUT_BYTES;
  stream.on("data", (chunk: Buffer) => {
    if (left <= 0) return;
    chunks.push(chunk.subarray(0, left));
    left -= chunk.length;
  });
  return () => Buffer.concat(chunks).toString("utf8");
}
