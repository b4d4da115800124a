import { expect, test } from "bun:test";
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  copyFileSync,
  linkSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { elapsedMs, programByAge, programOfProcess, programOfProcesses } from "../../../src/cli/service-process.ts";
import { pollUntil } from "../../support/poll-until.ts";
import { makeTempDir } from "../../support/temp-dir.ts";

test.skipIf(process.platform !== "linux")("a process is found by its arguments, and its program told", async () => {
  using dir = makeTempDir();
  const program = join(realpathSync(dir.path), "culvert");
  copyFileSync(realpathSync("/bin/sh"), program);
  const script = join(dir.path, "script");
  writeFileSync(script, "read -r _\n");
  const args = ["edge", "run", "--state-dir", join(dir.path, "state")];
  expect(programOfProcesses(program, args)).toBe("unknown");
  // As a supervisor's line ends.
  const supervisor = spawn(program, [script, "--", program, ...args], { stdio: ["pipe", "ignore", "ignore"] });
  const child = spawn(program, [script, ...args], { stdio: ["pipe", "ignore", "ignore"] });
  try {
    await pollUntil(() => programOfProcesses(program, args) === "ours", { what: "the process runs" });
    expect(programOfProcesses(program, args.slice(0, -1))).toBe("unknown");
    copyFileSync(program, `${program}.new`);
    renameSync(`${program}.new`, program);
    expect(programOfProcesses(program, args)).toBe("other");
    child.kill("SIGKILL");
    await once(child, "exit");
    expect(programOfProcesses(program, args)).toBe("unknown");
  } finally {
    child.kill("SIGKILL");
    supervisor.kill("SIGKILL");
  }
});

test.skipIf(process.platform !== "linux")("a program that is put back is the installed one again", async () => {
  using dir = makeTempDir();
  const program = join(realpathSync(dir.path), "culvert");
  const [previous, alias] = [`${program}.previous`, `${program}-alias`];
  copyFileSync(realpathSync("/bin/sh"), program);
  symlinkSync(program, alias);
  const child = spawn(program, ["-c", "read -r _"], { stdio: ["pipe", "ignore", "ignore"] });
  try {
    const { pid } = child;
    await pollUntil(() => programOfProcess(pid, program) === "ours", { what: "the process runs" });
    expect(programOfProcess(pid, alias)).toBe("ours");

    // As an update and a rollback do it.
    linkSync(program, previous);
    copyFileSync(program, `${program}.new`);
    renameSync(`${program}.new`, program);
    expect(programOfProcess(pid, program)).toBe("other");
    expect(programOfProcess(pid, previous)).toBe("ours");
    renameSync(previous, program);
    expect(readlinkSync(`/proc/${pid}/exe`)).not.toBe(program);
    expect(programOfProcess(pid, program)).toBe("ours");

    rmSync(program);
    expect(programOfProcess(pid, program)).toBe("unknown");
  } finally {
    child.kill("SIGKILL");
  }
  expect(programOfProcess(undefined, process.execPath)).toBe("unknown");
});

test("elsewhere a program that came after the process is another, whatever time it carries", () => {
  using dir = makeTempDir();
  const program = join(dir.path, "culvert");
  writeFileSync(program, "");
  utimesSync(program, 1, 1);
  const writtenMs = statSync(program).ctimeMs;
  expect(programByAge(program, writtenMs + 60_000)).toBe("ours");
  expect(programByAge(program, writtenMs - 60_000)).toBe("other");
  // Who cannot tell restarts.
  expect(programByAge(program, writtenMs)).toBe("other");
  rmSync(program);
  expect(programByAge(program, writtenMs + 60_000)).toBe("unknown");
});

test.each([
  ["   00:07\n", 7_000],
  ["12:07", 727_000],
  ["03:12:07", 11_527_000],
  ["10-03:12:07", 875_527_000],
  ["", undefined],
  ["soon", undefined],
])("ps says %j", (text, ms) => {
  expect(elapsedMs(text)).toBe(ms);
});
