import { expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, renameSync, statSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Clock, systemClock } from "../../../src/core/clock.ts";
import { LogFile } from "../../../src/core/log-file.ts";
import { pollUntil } from "../../support/poll-until.ts";
import { makeTempDir } from "../../support/temp-dir.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

const record = (message: string) => ({ level: "info", wallMs: 0, message, fields: { n: 1 } }) as const;
const messages = (path: string): string[] =>
  readFileSync(path, "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => (JSON.parse(line) as { message: string }).message);

test("lines are appended as JSON, readable for all, and behind what is there", async () => {
  using dir = makeTempDir();
  const path = join(dir.path, "a.log");
  for (const message of ["one", "two"]) {
    const file = await LogFile.open({ kind: "file", path }, systemClock);
    file.take(record(message));
    await file.close();
  }
  expect(messages(path)).toEqual(["one", "two"]);
  expect(statSync(path).mode & 0o777).toBe(0o644);
});

test("a file that was moved away is opened anew", async () => {
  using dir = makeTempDir();
  const path = join(dir.path, "a.log");
  let nowMs = 0;
  const clock: Clock = { ...systemClock, nowMs: () => nowMs };
  const file = await LogFile.open({ kind: "file", path }, clock);
  file.take(record("before"));
  await pollUntil(() => existsSync(path) && messages(path).length === 1, { what: "the first line is there" });
  renameSync(path, `${path}.1`);
  nowMs += 10_000;
  file.take(record("after"));
  await file.close();
  expect(messages(`${path}.1`)).toEqual(["before"]);
  expect(messages(path)).toEqual(["after"]);
});

test("a directory's file is put aside when it is full; the oldest go by number, and by age", async () => {
  using dir = makeTempDir();
  const path = join(dir.path, "logs");
  let wallMs = Date.UTC(2026, 0, 1);
  const clock: Clock = { ...systemClock, wallMs: () => wallMs };
  const target = { kind: "directory", path, maxMegabytes: 1, maxFiles: 3, maxAgeMs: 3_600_000 } as const;
  const file = await LogFile.open(target, clock);
  const half = "x".repeat(600_000);
  const aside = () =>
    readdirSync(path)
      .filter((name) => name !== "cloudflared.log")
      .sort();
  for (let i = 0; i < 6; i += 1) {
    file.take(record(`${i} ${half}`));
    await pollUntil(() => messages(join(path, "cloudflared.log")).at(-1)?.startsWith(`${i} `), { what: `line ${i}` });
    wallMs += 60_000;
  }
  expect(aside()).toEqual(["03", "04", "05"].map((minute) => `cloudflared-2026-01-01T00-${minute}-00.000.log`));
  for (const name of readdirSync(path)) expect(statSync(join(path, name)).size).toBeLessThan(1024 * 1024);
  writeFileSync(join(path, "cloudflared-other.log"), "not ours");
  wallMs += 2 * 3_600_000;
  file.take(record(`6 ${half}`));
  await pollUntil(() => aside().length === 2, { what: "old files are gone" });
  await file.close();
  expect(aside()).toEqual(["cloudflared-2026-01-01T02-06-00.000.log", "cloudflared-other.log"]);
});

/** A file system of 64 KiB, or why there is none. */
function mountSmall(path: string): string | undefined {
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", path], { stdio: "pipe" });
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

test("a full disk tears one line, and says so; the next one begins anew", async () => {
  using dir = makeTempDir();
  const refused = mountSmall(dir.path);
  if (refused !== undefined) {
    console.warn(`Not tested: a full disk needs a small file system, which only root can mount (${refused.trim()})`);
    return;
  }
  try {
    const path = join(dir.path, "a.log");
    const ballast = join(dir.path, "ballast");
    writeFileSync(ballast, Buffer.alloc(16 * 1024));
    const clock = new VirtualClock();
    const said: string[] = [];
    const file = await LogFile.open({ kind: "file", path }, clock, (lines, why) => void said.push(`${lines} ${why}`));
    const size = (): number => statSync(path).size;
    const full = 48 * 1024;
    let taken = 0;
    while (size() < full) {
      const before = { size: size(), dropped: file.dropped };
      file.take(record(`${taken} ${"x".repeat(700)}`));
      taken += 1;
      await pollUntil(() => size() > before.size || file.dropped > before.dropped, { what: "it is written or lost" });
    }
    await pollUntil(() => file.dropped === 1, { what: "the line that was torn is counted" });
    for (let i = 1; i <= 3; i += 1) {
      file.take(record("lost"));
      await pollUntil(() => file.dropped === 1 + i, { what: `line ${i} is lost` });
    }
    expect(said).toEqual([expect.stringMatching(/^1 ENOSPC/)]);
    await clock.advance(10_000);
    expect(said.slice(1)).toEqual([expect.stringMatching(/^3 ENOSPC/)]);
    unlinkSync(ballast);
    for (const message of ["first", "second"]) file.take(record(message));
    await file.close();
    const lines = readFileSync(path, "utf8").split("\n");
    expect(lines.at(-1)).toBe("");
    expect(lines.slice(-3, -1).map((line) => (JSON.parse(line) as { message: string }).message)).toEqual([
      "first",
      "second",
    ]);
    const whole = lines.filter((line) => line.endsWith("}"));
    expect(whole.map((line) => JSON.parse(line) as unknown)).toHaveLength(taken - 1 + 2);
    expect(file.dropped).toBe(4);
  } finally {
    execFileSync("umount", [dir.path]);
  }
});

test("a file whose last line somebody else left torn is gone on with behind it", async () => {
  using dir = makeTempDir();
  const path = join(dir.path, "a.log");
  writeFileSync(path, '{"message":"whole"}\n{"mess');
  const file = await LogFile.open({ kind: "file", path }, systemClock);
  file.take(record("next"));
  await file.close();
  expect(readFileSync(path, "utf8")).toMatch(/\n\{"mess\n\{"level":"info".*"next".*\}\n$/);
});

test("a place that cannot be written is said at once", async () => {
  using dir = makeTempDir();
  writeFileSync(join(dir.path, "file"), "");
  const path = join(dir.path, "file", "a.log");
  const opening = LogFile.open({ kind: "file", path }, systemClock);
  await expect(opening).rejects.toThrow(/Cannot write the log file ".*": (?:ENOTDIR|EEXIST)/);
});

test("the folder of a file is made where it is missing", async () => {
  using dir = makeTempDir();
  const path = join(dir.path, "missing", "deep", "a.log");
  const file = await LogFile.open({ kind: "file", path }, systemClock);
  file.take(record("first"));
  await file.close();
  expect(readFileSync(path, "utf8")).toContain('"first"');
});
