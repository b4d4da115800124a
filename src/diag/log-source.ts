import { execFile } from "node:child_process";
import { join } from "node:path";
import { systemCode } from "../core/errors.ts";
import { fieldsOf } from "./local-status.ts";
import { type Reader, readOwnedTail } from "./owned-file.ts";

/** As cloudflared: lines from the end, and how far back (surface: section 19). */
const MAX_LINES = 10_000;
const MAX_AGE = "336h";
const COMMAND_MS = 15_000;
const MAX_LOG_BYTES = 32 * 1024 * 1024;
/** The file in `--log-directory` that is written to. */
const LOG_NAMES = ["culvert.log", "cloudflared.log"] as const;

/** Where a connector's log is. `own`: where its flags say, else in the journal of its service. */
export type LogSource =
  | { readonly kind: "own" }
  | { readonly kind: "container"; readonly id: string }
  | { readonly kind: "pod"; readonly name: string };

/**
 * The last lines of the log. `flags`: what `/diag/configuration` says, which is believed only as far as `reader` goes.
 * Rejects with what to do.
 */
export async function readLog(source: LogSource, flags: Uint8Array, reader: Reader): Promise<string> {
  switch (source.kind) {
    case "container":
      return await run("docker", ["logs", "--tail", `${MAX_LINES}`, "--since", MAX_AGE, source.id]);
    case "pod":
      return await run("kubectl", ["logs", source.name, "--tail", `${MAX_LINES}`, `--since=${MAX_AGE}`]);
    case "own": {
      const told = fieldsOf({ status: 200, body: flags });
      const file = told["logfile"];
      if (typeof file === "string" && file !== "") return tailOf(file, reader);
      const directory = told["log-directory"];
      if (typeof directory === "string" && directory !== "") return ofDirectory(directory, reader);
      const units = ["culvert", "culvert@*.service", "cloudflared"].flatMap((name) => ["-u", name]);
      const journal = await run("journalctl", ["--no-pager", "-n", `${MAX_LINES}`, "--since", "-2weeks", ...units]);
      if (journal.trim() === "" || journal.includes("-- No entries --"))
        throw new Error("The service's journal is empty");
      return journal;
    }
  }
}

function ofDirectory(directory: string, reader: Reader): string {
  for (const name of LOG_NAMES) {
    try {
      return tailOf(join(directory, name), reader);
    } catch (error) {
      // The other name may be there.
      if (systemCode(error) !== "ENOENT") throw error;
    }
  }
  throw new Error(`There is no log in ${directory}`);
}

function run(program: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = { timeout: COMMAND_MS, maxBuffer: MAX_LOG_BYTES, windowsHide: true };
    // Containers write their log to either.
    execFile(program, args, options, (error, stdout, stderr) => {
      if (error === null) resolve(`${stdout}${stderr}`);
      else
        reject(new Error(`The log cannot be had with ${program}: ${(stderr || error.message).trim().slice(0, 200)}`));
    });
  });
}

function tailOf(path: string, reader: Reader): string {
  return readOwnedTail(path, MAX_LOG_BYTES, reader).split("\n").slice(-MAX_LINES).join("\n");
}
