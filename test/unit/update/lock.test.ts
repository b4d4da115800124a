import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { TunnelError } from "../../../src/core/errors.ts";
import { installedBinary } from "../../../src/update/installed.ts";
import { lockUpdates } from "../../../src/update/lock.ts";
import { pollUntil } from "../../support/poll-until.ts";
import { type OwnedProcess, startProcess } from "../../support/processes.ts";
import { makeTempDir } from "../../support/temp-dir.ts";

const HOLDER = join(import.meta.dirname, "..", "..", "support", "update-lock-holder.ts");
const DEADLINE_MS = 60_000;

function prepare() {
  const temp = makeTempDir();
  const path = join(temp.path, "culvert");
  const log = (): readonly string[] =>
    existsSync(`${path}.log`) ? readFileSync(`${path}.log`, "utf8").trim().split("\n") : [];
  return {
    ...{ path, log, binary: installedBinary(path) },
    left: () => readdirSync(temp.path).filter((name) => !name.endsWith(".log")),
    start: (how: string): OwnedProcess => startProcess([process.execPath, HOLDER, path, how]),
    [Symbol.dispose]: () => temp[Symbol.dispose](),
  };
}

async function refusal(locking: Promise<unknown>): Promise<string> {
  const thrown = await locking.then(
    () => undefined,
    (error: unknown) => error,
  );
  expect(thrown).toBeInstanceOf(TunnelError);
  return (thrown as TunnelError).message;
}

describe("one update at a time", () => {
  test("a second one is told who has it, in another process and in this one, and nothing is left behind", async () => {
    using it = prepare();
    const unlock = await lockUpdates(it.binary);
    expect(await refusal(lockUpdates(it.binary))).toBe(`Another update is under way (process ${process.pid})`);
    expect(statSync(it.binary.lock).mode & 0o777).toBe(0o600);
    await unlock();
    expect(it.left()).toEqual([]);
    await using holder = it.start("hold");
    await pollUntil(() => it.log().length === 2, { what: "it has the lock" });
    const [, pid] = it.log()[0]?.split(" ") ?? [];
    expect(await refusal(lockUpdates(it.binary))).toBe(`Another update is under way (process ${pid})`);
    await holder.kill();
    await (await lockUpdates(it.binary))();
    expect(it.left()).toEqual([]);
  });

  test(
    "four processes that want it at once, of which some are killed while they have it, are never in at once",
    async () => {
      using it = prepare();
      const killed = new Set<string>();
      const running: OwnedProcess[] = [];
      try {
        for (let n = 0; n < 4; n++) running.push(it.start("150"));
        for (let kills = 0; kills < 6; kills++) {
          // Whoever is in right now dies there; another takes its place.
          const victim = await pollUntil(
            () => {
              const [what, pid] = it.log().at(-1)?.split(" ") ?? [];
              return what === "in" && pid !== undefined && !killed.has(pid) ? pid : undefined;
            },
            { what: "one is in", everyMs: 1 },
          );
          process.kill(Number(victim), "SIGKILL");
          killed.add(victim);
          running.push(it.start("50"));
        }
        for (const each of running) await each.exitCode(DEADLINE_MS);
      } finally {
        for (const each of running) await each[Symbol.asyncDispose]();
      }
      let inside: string | undefined;
      const overlaps: string[] = [];
      for (const [index, line] of it.log().entries()) {
        const [what, pid = ""] = line.split(" ");
        if (what === "out" && inside !== pid) overlaps.push(`${index}: ${line}, where ${inside} is in`);
        if (what === "in" && inside !== undefined && !killed.has(inside))
          overlaps.push(`${index}: ${line}, ${inside} is in`);
        inside = what === "in" ? pid : undefined;
      }
      expect(overlaps).toEqual([]);
      expect(it.log().length).toBeGreaterThan(300);
      expect(it.left()).toEqual([]);
    },
    DEADLINE_MS,
  );

  test(
    "after a SIGKILL exactly one of many that come at once gets it",
    async () => {
      using it = prepare();
      await using first = it.start("hold");
      await pollUntil(() => it.log().length === 2, { what: "it has the lock" });
      await first.kill();
      expect(it.left().sort()).toEqual([".culvert.lock", ".culvert.update"]);
      const got = await Promise.allSettled(Array.from({ length: 20 }, () => lockUpdates(it.binary)));
      const won = got.filter((each) => each.status === "fulfilled");
      expect(won).toHaveLength(1);
      await won[0]?.value();
      expect(it.left()).toEqual([]);
    },
    DEADLINE_MS,
  );
});

describe("the number of a process says nothing by itself", () => {
  test("one that an update left behind is not in force, though a process has that number", async () => {
    using it = prepare();
    writeFileSync(it.binary.mark, `${process.ppid} update\n`);
    await (await lockUpdates(it.binary))();
    expect(it.left()).toEqual([]);
  });

  test("an installer's is in force while it runs, and not when its number has gone to a later process", async () => {
    using it = prepare();
    await using installer = startProcess(["sleep", "60"]);
    writeFileSync(it.binary.mark, `${installer.pid}\n`);
    expect(await refusal(lockUpdates(it.binary))).toBe(`Another update is under way (process ${installer.pid})`);
    expect(it.left()).toEqual([".culvert.update"]);
    if (process.platform === "linux") {
      const before = Date.now() / 1000 - 3600;
      utimesSync(it.binary.mark, before, before);
      await (await lockUpdates(it.binary))();
      expect(it.left()).toEqual([]);
      writeFileSync(it.binary.mark, `${installer.pid}\n`);
    }
    await installer.kill();
    await (await lockUpdates(it.binary))();
    expect(it.left()).toEqual([]);
  });
});
