import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { basename, dirname, join } from "node:path";
import { systemClock } from "../../../src/core/clock.ts";
import { TunnelError } from "../../../src/core/errors.ts";
import { silentLogger } from "../../../src/core/log.ts";
import { updateNowAndThen } from "../../../src/update/auto.ts";
import type { Rejection } from "../../../src/update/rejected.ts";
import { updateOnTrial } from "../../../src/update/trial.ts";
import { rollback, type UpdateOptions, update } from "../../../src/update/update.ts";
import { makeTestCertificate } from "../../support/certificate.ts";
import { makeMinisignKey } from "../../support/minisign-key.ts";
import { publishVersion, thisTarget } from "../../support/releases.ts";
import { makeTempDir } from "../../support/temp-dir.ts";

const { key } = makeMinisignKey();

function program(version: string): string {
  return `#!/bin/sh\necho ${version}\n`;
}

/** A process of 1.0.0 whose file is another version by now, and a release of 1.1.0. */
async function prepare(there: string) {
  const temp = makeTempDir();
  const releases = join(temp.path, "releases");
  publishVersion(releases, "1.1.0", Buffer.from(program("1.1.0")), key);
  const path = join(temp.path, "bin", "culvert");
  await mkdir(dirname(path));
  writeFileSync(path, program(there), { mode: 0o755 });
  const options = {
    ...{ from: releases, keys: [key], running: { path, version: "1.0.0", target: thisTarget().name } },
    ...{ clock: systemClock, signal: AbortSignal.timeout(20_000) },
  };
  const left = () => ({ files: readdirSync(dirname(path)).sort(), runs: readFileSync(path, "utf8") });
  return { options, left, [Symbol.dispose]: () => temp[Symbol.dispose]() };
}

function once(it: Awaited<ReturnType<typeof prepare>>, allowDowngrade = false): Promise<unknown> {
  const rest: Pick<UpdateOptions, "check" | "onProgress"> = { check: false, onProgress: () => {} };
  return update({ ...it.options, ...rest, allowDowngrade });
}

describe("what is in the file counts, not what runs", () => {
  test.each(["1.1.0", "1.2.0"])("%s stays", async (there) => {
    using it = await prepare(there);
    expect(await once(it)).toEqual({ kind: "current", version: there });
    expect(it.left()).toEqual({ files: ["culvert"], runs: program(there) });
  });

  test("an older one, one that does not run, and at a wanted downgrade a newer one are replaced", async () => {
    for (const { there, down } of [
      { there: "1.0.5", down: false },
      { there: "not; exit 1", down: false },
      { there: "1.2.0", down: true },
    ]) {
      using it = await prepare(there);
      expect(await once(it, down)).toMatchObject({ kind: "updated", to: "1.1.0" });
      expect(it.left()).toEqual({ files: ["culvert", "culvert.previous"], runs: program("1.1.0") });
    }
  });
});

describe("by itself", () => {
  const schedule = { everyMs: 5, window: undefined };

  test("a newer version that another process has installed takes over as it is", async () => {
    using it = await prepare("1.2.0");
    let runs = "";
    const handOver = async (): Promise<void> => {
      runs = it.left().runs;
    };
    await updateNowAndThen({ ...it.options, schedule, random: () => 0.5, log: silentLogger, handOver });
    expect(runs).toBe(program("1.2.0"));
    expect(it.left().files).toEqual(["culvert"]);
  });

  test("what others have installed is not taken back, and not tried again", async () => {
    using it = await prepare("1.2.0");
    const stop = new AbortController();
    let tries = 0;
    let checks = 0;
    const handOver = async (): Promise<void> => {
      tries++;
      throw new TunnelError("update.failed", "No");
    };
    const random = (): number => {
      if (++checks === 4) stop.abort();
      return 0.5;
    };
    await updateNowAndThen({ ...it.options, signal: stop.signal, schedule, random, log: silentLogger, handOver });
    expect(tries).toBe(1);
    expect(it.left()).toEqual({ files: ["culvert"], runs: program("1.2.0") });
  });

  test("what does not take over is taken back and remembered: no other process tries it, a person may", async () => {
    using it = await prepare("1.0.0");
    const stop = new AbortController();
    let checks = 0;
    const tried: string[] = [];
    const auto = {
      ...{ ...it.options, signal: stop.signal, schedule, log: silentLogger },
      handOver: async (): Promise<void> => {
        tried.push(it.left().runs);
        throw new TunnelError("update.failed", "It was not registered\nafter 60 s");
      },
      random: (): number => {
        if (++checks % 3 === 0) stop.abort();
        return 0.5;
      },
    };
    await updateNowAndThen(auto);
    expect(tried).toEqual([program("1.1.0")]);
    expect(it.left()).toEqual({
      files: [".culvert.rejected", "culvert", "culvert.previous"],
      runs: program("1.0.0"),
    });
    const again = new AbortController();
    await updateNowAndThen({
      ...{ ...auto, signal: again.signal },
      random: () => {
        if (++checks === 6) again.abort();
        return 0.5;
      },
    });
    expect(tried).toHaveLength(1);
    const rest = { allowDowngrade: false, onProgress: () => {} };
    for (const check of [true, false]) {
      expect(await update({ ...it.options, ...rest, check })).toEqual({
        kind: "rejected",
        rejection: { version: "1.1.0", at: expect.any(String), reason: "It was not registered after 60 s" },
      });
    }
    expect(it.left().runs).toBe(program("1.0.0"));
    const outcome = await update({ ...it.options, ...rest, check: false, version: "1.1.0", evenIfRejected: true });
    expect(outcome).toMatchObject({ kind: "updated", to: "1.1.0" });
    expect(it.left()).toEqual({ files: ["culvert", "culvert.previous"], runs: program("1.1.0") });
  });

  test("what does not take over while the edge is away is taken back, and tried again", async () => {
    using it = await prepare("1.0.0");
    const runs: string[] = [];
    await updateNowAndThen({
      ...{ ...it.options, schedule, random: () => 0.5, log: silentLogger },
      handOver: async () => {
        runs.push(it.left().runs);
        if (runs.length === 1) throw new TunnelError("update.failed", "It was not registered after 60 s");
        expect(it.left().files).toEqual([".culvert.trial", "culvert", "culvert.previous"]);
      },
      couldServe: () => false,
    });
    expect(runs).toEqual([program("1.1.0"), program("1.1.0")]);
  });

  test("what somebody went back from is left alone, until a person's update takes it", async () => {
    using it = await prepare("1.0.0");
    const { clock, running } = it.options;
    const rest = { allowDowngrade: false, onProgress: () => {} };
    expect(await once(it)).toMatchObject({ kind: "updated", to: "1.1.0" });
    expect(await rollback(running, clock)).toMatchObject({ kind: "updated", to: "1.0.0" });
    const left = { version: "1.1.0", at: expect.any(String), reason: "rolled back by hand", byHand: true };
    const stop = new AbortController();
    let checks = 0;
    await updateNowAndThen({
      ...{ ...it.options, signal: stop.signal, schedule, log: silentLogger },
      handOver: () => Promise.reject(new TunnelError("update.failed", "It must not be tried")),
      random: () => {
        if (++checks === 3) stop.abort();
        return 0.5;
      },
    });
    expect(it.left().runs).toBe(program("1.0.0"));
    for (const check of [true, false]) {
      const automatic = await update({ ...it.options, ...rest, automatic: true, check });
      expect(automatic).toEqual({ kind: "rejected", rejection: left as Rejection });
    }
    expect(await update({ ...it.options, ...rest, check: true })).toEqual({
      ...{ kind: "available", from: "1.0.0", to: "1.1.0", left: left as Rejection },
    });
    // To the newer one and back again: only the newer one is remembered.
    await rollback(running, clock);
    expect(it.left()).toEqual({ files: ["culvert", "culvert.previous"], runs: program("1.1.0") });
    await rollback(running, clock);
    expect(it.left()).toEqual({
      files: [".culvert.rejected", "culvert", "culvert.previous"],
      runs: program("1.0.0"),
    });
    expect(await once(it)).toMatchObject({ kind: "updated", to: "1.1.0" });
    expect(it.left()).toEqual({ files: ["culvert", "culvert.previous"], runs: program("1.1.0") });
  });

  test("from a server with an authority of its own, when that is given", async () => {
    using it = await prepare("1.0.0");
    const { cert, key: secret } = await makeTestCertificate(["localhost"]);
    const releases = it.options.from;
    const server = createServer({ cert, key: secret }, ({ url }, response) => {
      response.end(readFileSync(join(releases, basename(`${url}`))));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    try {
      const from = `https://localhost:${(server.address() as AddressInfo).port}/dl`;
      const rest = { check: true, allowDowngrade: false, onProgress: () => {} };
      await expect(update({ ...it.options, ...rest, from })).rejects.toThrow(TunnelError);
      let runs = "";
      await updateNowAndThen({
        ...{ ...it.options, from, ca: cert, schedule, random: () => 0.5, log: silentLogger },
        handOver: async () => {
          runs = it.left().runs;
        },
      });
      expect(runs).toBe(program("1.1.0"));
    } finally {
      server.close();
    }
  });

  describe("a trial that was cut short, after the installation", () => {
    async function cutShort() {
      const it = await prepare("1.0.0");
      const rest = { allowDowngrade: false, check: false, onProgress: () => {} };
      await update({ ...it.options, ...rest, onTrial: true });
      expect(it.left()).toEqual({ files: [".culvert.trial", "culvert", "culvert.previous"], runs: program("1.1.0") });
      // What the next one runs is what is installed.
      const running = { ...it.options.running, version: "1.1.0" };
      const tried: string[] = [];
      const next = (answer: () => Promise<void>) => {
        const takeOver = (version: string): Promise<void> => {
          tried.push(version);
          return answer();
        };
        return updateOnTrial({ ...it.options, ...rest, running, takeOver });
      };
      return { it, tried, next };
    }
    const failing = (): Promise<void> => Promise.reject(new TunnelError("update.failed", "It is not connected"));

    test("is gone through by the next one, once", async () => {
      const { it, tried, next } = await cutShort();
      using _ = it;
      for (let times = 0; times < 2; times++) {
        expect(await next(() => Promise.resolve())).toEqual({ kind: "current", version: "1.1.0" });
      }
      expect(tried).toEqual(["1.1.0"]);
      expect(it.left()).toEqual({ files: ["culvert", "culvert.previous"], runs: program("1.1.0") });
    });

    test.each(["1.1.0", "1.0.5"])("is gone through by one that runs the version before as well: %s", async (there) => {
      for (const serves of [false, true]) {
        using it = await prepare(there);
        const { path } = it.options.running;
        writeFileSync(join(dirname(path), ".culvert.trial"), `${there}\n`);
        writeFileSync(`${path}.previous`, program("1.0.0"), { mode: 0o755 });
        const tried: string[] = [];
        const outcome = await updateOnTrial({
          ...{ ...it.options, allowDowngrade: false, check: false, onProgress: () => {} },
          takeOver: async (version) => {
            tried.push(version);
            if (!serves) await failing();
          },
        });
        expect(outcome).toMatchObject(
          serves ? { kind: "current", version: there } : { kind: "failed", version: there, backTo: "1.0.0" },
        );
        expect(tried).toEqual([there]);
        const files = [...(serves ? [] : [".culvert.rejected"]), "culvert", "culvert.previous"];
        expect(it.left()).toEqual({ files, runs: program(serves ? there : "1.0.0") });
      }
    });

    test("ends with the version before when the new one does not serve", async () => {
      const { it, next } = await cutShort();
      using _ = it;
      const reason = "It is not connected";
      expect(await next(failing)).toEqual({
        kind: "failed",
        version: "1.1.0",
        backTo: "1.0.0",
        rejected: true,
        reason,
      });
      const files = [".culvert.rejected", "culvert", "culvert.previous"];
      expect(it.left()).toEqual({ files, runs: program("1.0.0") });
    });

    test("says why it failed also where that cannot be remembered", async () => {
      const { it, next } = await cutShort();
      using _ = it;
      await mkdir(join(dirname(it.options.running.path), ".culvert.rejected.tmp"));
      await expect(next(failing)).rejects.toThrow(
        /^Version 1\.1\.0 failed \(It is not connected\), and 1\.0\.0 is back, but that could not be remembered: \S/,
      );
      expect(it.left().runs).toBe(program("1.0.0"));
    });

    test("hinders no later update when there is nothing to go back to", async () => {
      const { it, tried, next } = await cutShort();
      using _ = it;
      rmSync(`${it.options.running.path}.previous`);
      await expect(next(failing)).rejects.toThrow(
        /^Version 1\.1\.0 failed \(It is not connected\), and it could not be taken back: There is no earlier version: /,
      );
      expect(await next(failing)).toEqual({ kind: "current", version: "1.1.0" });
      expect(tried).toEqual(["1.1.0"]);
    });
  });

  test("nothing is left of a replacement that fails because a folder is where the version before should go", async () => {
    using it = await prepare("1.0.0");
    await mkdir(join(dirname(it.options.running.path), "culvert.previous"));
    await expect(once(it)).rejects.toThrow("Cannot replace");
    expect(it.left()).toEqual({ files: ["culvert", "culvert.previous"], runs: program("1.0.0") });
  });

  describe("the mark of a trial", () => {
    const rest = { allowDowngrade: false, check: false, onProgress: () => {} };
    const mark = ".culvert.trial";
    const marked = async (there: string, version: string) => {
      const it = await prepare(there);
      const folder = dirname(it.options.running.path);
      writeFileSync(join(folder, mark), `${version}\n`);
      // Nothing can be kept as the version before while this is there.
      const hinder = () => mkdir(join(folder, "culvert.previous.tmp"));
      const read = () => (existsSync(join(folder, mark)) ? readFileSync(join(folder, mark), "utf8").trim() : undefined);
      return { ...it, hinder, read };
    };

    test("does not outlive a replacement that fails, unless it is of what stays", async () => {
      for (const { there, before, after } of [
        { there: "1.0.0", before: "1.1.0", after: undefined },
        { there: "1.0.0", before: "0.9.0", after: undefined },
        { there: "1.0.5", before: "1.0.5", after: "1.0.5" },
      ]) {
        using it = await marked(there, before);
        await it.hinder();
        await expect(update({ ...it.options, ...rest, onTrial: true })).rejects.toThrow("Cannot replace");
        expect(it.read()).toBe(after);
        expect(it.left().runs).toBe(program(there));
      }
    });

    test("ends with an update that is not on trial, of whatever version it was, and not with one that fails", async () => {
      for (const before of ["1.1.0", "1.0.0"]) {
        using it = await marked("1.0.0", before);
        await it.hinder();
        await expect(once(it)).rejects.toThrow("Cannot replace");
        expect(it.read()).toBe(before);
        rmSync(join(dirname(it.options.running.path), "culvert.previous.tmp"), { recursive: true });
        expect(await once(it)).toMatchObject({ kind: "updated", to: "1.1.0" });
        expect(it.left()).toEqual({ files: ["culvert", "culvert.previous"], runs: program("1.1.0") });
      }
    });

    test("ends with a rollback, also to the version that it is of, and from one that does not run", async () => {
      for (const { there, before } of [
        { there: "1.2.0", before: "1.1.0" },
        { there: "not; exit 1", before: "1.2.0" },
      ]) {
        using it = await marked(there, before);
        const { running, clock } = it.options;
        writeFileSync(`${running.path}.previous`, program("1.1.0"), { mode: 0o755 });
        expect(await rollback(running, clock)).toMatchObject({ kind: "updated", to: "1.1.0" });
        expect(it.read()).toBeUndefined();
      }
    });
  });

  test.each([true, false])(
    "after the version before is back, whether the new one is at fault is asked: %p",
    async (atFault) => {
      using it = await prepare("1.0.0");
      let ran = "";
      const outcome = await updateOnTrial({
        ...{ ...it.options, allowDowngrade: false, check: false, onProgress: () => {} },
        takeOver: () => Promise.reject(new TunnelError("update.failed", "It is not connected")),
        bringBack: async () => {
          ran = it.left().runs;
          return atFault;
        },
      });
      expect(outcome).toMatchObject({ kind: "failed", backTo: "1.0.0", rejected: atFault });
      expect(ran).toBe(program("1.0.0"));
      expect(it.left().files).toEqual([...(atFault ? [".culvert.rejected"] : []), "culvert", "culvert.previous"]);
      expect(await once(it)).toMatchObject({ kind: atFault ? "rejected" : "updated" });
    },
  );

  test("a damaged memory of rejections hinders no update, and one that was replaced meanwhile is not taken back", async () => {
    using it = await prepare("1.0.0");
    const { path } = it.options.running;
    writeFileSync(join(dirname(path), ".culvert.rejected"), '{"rejected":[{"version":"1.1.0"},7]}');
    const outcome = await updateOnTrial({
      ...{ ...it.options, allowDowngrade: false, check: false, onProgress: () => {} },
      takeOver: async () => {
        writeFileSync(path, program("1.3.0"), { mode: 0o755 });
        throw new TunnelError("update.failed", "No");
      },
    });
    expect(outcome).toEqual({ kind: "failed", version: "1.1.0", backTo: undefined, rejected: false, reason: "No" });
    expect(it.left().runs).toBe(program("1.3.0"));
  });
});
