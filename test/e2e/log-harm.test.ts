import { expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { closeSync, constants, openSync, readFileSync, readSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { CULVERT, cleanEnvironment, HOST, type Lab, startConnector, startLab } from "../support/lab.ts";
import { dialLab } from "../support/lab-socket.ts";
import { pollUntil } from "../support/poll-until.ts";
import { type OwnedProcess, startProcess } from "../support/processes.ts";
import { freePort } from "../support/real-services/commands.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { ask, visit } from "../support/visitors.ts";

const messages = (text: string): readonly string[] =>
  text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => (JSON.parse(line) as { message: string }).message);

test("what a visitor puts into a path reaches neither terminal as it is", async () => {
  await using lab = await startLab(CULVERT, {
    connectorFlags: ["--log-requests", "--loglevel", "debug"],
    edgeFlags: ["--access-log", "-", "--access-log-format", "json"],
  });
  // Chars are sent as bytes: the CSI is in UTF-8 here, and by itself there.
  const target = Buffer.from("/hello/\u009b31m/é").toString("latin1");
  await visit(lab.port, { host: HOST, target, fields: [["User-Agent", "\u009b31m"]] });
  await lab.connector.errorLine(/INF request .* path=\/hello\/%C2%9B31m\/%C3%A9 /);
  await lab.edge.process.outputLine(/"path":"\/hello\/%C2%9B31m\/%C3%A9".*"user_agent":"[^"]*\\u009b31m/);
  for (const shown of [lab.connector.stderr, lab.edge.process.stdout]) {
    expect(shown.replaceAll("\n", "")).not.toMatch(/[\p{Cc}\p{Cf}\u2028\u2029]/u);
  }
}, 30_000);

test("why a run fails is said last, in the format of the log, and in the file", async () => {
  await using lab = await startLab(CULVERT);
  using dir = makeTempDir();
  const taken = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => taken.once("listening", resolve));
  try {
    const address = taken.address();
    if (address === null || typeof address === "string") throw new Error("no port");
    const run = async (flags: readonly string[]): Promise<string> => {
      const metrics = ["--metrics", `127.0.0.1:${address.port}`];
      await using connector = startConnector(CULVERT, { ...lab.run, flags: [...metrics, ...flags] });
      expect(await connector.exitCode()).toBe(1);
      return connector.stderr;
    };
    const lines = (await run([])).trimEnd().split("\n");
    expect(lines[0]).toMatch(/INF Starting tunnel/);
    expect(lines.filter((line) => /Cannot listen/.test(line))).toEqual([lines.at(-1) ?? ""]);
    expect(lines.at(-1)).toMatch(/^\S+Z ERR Cannot listen /);
    const logfile = join(dir.path, "a.log");
    const json = messages(await run(["--output", "json", "--logfile", logfile]));
    expect(json.at(-1)).toMatch(/^Cannot listen/);
    expect(messages(readFileSync(logfile, "utf8"))).toEqual(json);
    expect(await run(["--loglevel", "fatal"])).toMatch(/^culvert: Cannot listen .*\n$/);
    const nowhere = await run(["--output", "json", "--logfile", join(logfile, "a.log")]);
    expect(messages(nowhere)).toEqual([expect.stringMatching(/^Cannot write the log file/)]);
  } finally {
    taken.close();
  }
}, 60_000);

/** A connector whose standard error is a pipe that is open for reading and read by nobody. */
function startUnread(lab: Lab, pipe: string, flags: readonly string[]): OwnedProcess {
  const argv = CULVERT.argv({ ...lab.run, flags });
  return startProcess(["/bin/sh", "-c", `exec "$0" "$@" 2>'${pipe}'`, ...argv], { env: cleanEnvironment() });
}

async function lostLines(port: number): Promise<number> {
  const { body } = await visit(port, { host: "127.0.0.1", target: "/metrics" });
  return Number(/^culvert_log_lines_dropped_total\{sink="console"\} (\d+)$/m.exec(body.toString())?.[1]);
}

test("standard error that nobody reads costs lines and no memory, and is gone on with when somebody does", async () => {
  await using lab = await startLab(CULVERT);
  await lab.connector.kill();
  using dir = makeTempDir();
  const pipe = join(dir.path, "errors");
  execFileSync("mkfifo", [pipe]);
  const end = openSync(pipe, constants.O_RDWR | constants.O_NONBLOCK);
  try {
    const metrics = await freePort();
    const logfile = join(dir.path, "a.log");
    await using _connector = startUnread(lab, pipe, [
      ...["--loglevel", "debug", "--logfile", logfile, "--metrics", `127.0.0.1:${metrics}`],
    ]);
    await lab.served(15_000);
    expect(await lostLines(metrics)).toBe(0);
    const fields = [["X-Filler", "x".repeat(3_900)]] as const;
    const askMany = async (count: number): Promise<void> => {
      await using socket = await dialLab(lab.port);
      for (let i = 0; i < count; i += 1) await ask(socket, { host: HOST, target: "/hello", fields });
    };
    await Promise.all(Array.from({ length: 8 }, () => askMany(250)));
    const lost = await pollUntil(async () => (await lostLines(metrics)) || undefined, { what: "lines are lost" });
    expect(lost).toBeGreaterThan(100);
    // From here on it is read.
    const chunk = Buffer.alloc(1024 * 1024);
    let shown = "";
    await pollUntil(
      () => {
        try {
          for (let read = 1; read > 0; ) {
            read = readSync(end, chunk);
            shown += chunk.toString("latin1", 0, read);
          }
        } catch (error) {
          if (!(error instanceof Error && "code" in error && error.code === "EAGAIN")) throw error;
        }
        return /WRN Lines for the console were lost, since nobody read them lines=\d+/.test(shown);
      },
      { what: "it is said", everyMs: 5 },
    );
    const [, said] = /nobody read them lines=(\d+)/.exec(shown) ?? [];
    expect(Number(said)).toBe(await lostLines(metrics));
    expect(shown).toMatch(/^\S+Z INF Starting tunnel/);
    expect(messages(readFileSync(logfile, "utf8"))).toContain(
      "Lines for the console were lost, since nobody read them",
    );
  } finally {
    closeSync(end);
  }
}, 60_000);
