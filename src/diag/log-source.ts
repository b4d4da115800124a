import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fieldsOf } from "./local-status.ts";

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

/** The last lines of the log. `flags`: what `/diag/configuration` says. Rejects with what to do. */
export async function readLog(source: LogSource, flags: Uint8Array): Promise<string> {
  switch (source.kind) {
    case "container":
      return await run("docker", ["logs", "--tail", `${MAX_LINES}`, "--since", MAX_AGE, source.id]);
    case "pod":
      return await run("kubectl", ["logs", source.name, "--tail", `${MAX_LINES}`, `--since=${MAX_AGE}`]);
    case "own": {
      const told = fieldsOf({ status: 200, body: flags });
      const file = told["logfile"];
      if (typeof file === "string" && file !== "") return lastLines(readFileSync(file, "utf8"));
      const directory = told["log-directory"];
      if (typeof directory === "string" && directory !== "") return ofDirectory(directory);
      const units = ["culvert", "cloudflared"].flatMap((name) => ["-u", name]);
      const journal = await run("journalctl", ["--no-pager", "-n", `${MAX_LINES}`, "--since", "-2weeks", ...units]);
      if (journal.trim() === "" || journal.includes("-- No entries --"))
        throw new Error("The service's journal is empty");
      return journal;
    }
  }
}

function ofDirectory(directory: string): string {
  for (const name of LOG_NAMES) {
    try {
      return lastLines(readFileSync(join(directory, name), "utf8"));
    } catch {
      // The other name may be there.
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

function lastLines(text: string): string {
  return text.slice(-MAX_LOG_BYTES).split("\n").slice(-MAX_LINES).join("\n");
}
