import { describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { applySteps } from "../../../src/service/apply.ts";
import { thisMachine } from "../../../src/service/machine.ts";
import type { Step } from "../../../src/service/steps.ts";
import { makeTempDir } from "../../support/temp-dir.ts";

const apply = (...steps: Step[]): Promise<ReadonlySet<string>> => applySteps(steps, thisMachine);
const mode = (path: string): number => statSync(path).mode & 0o777;

describe("steps", () => {
  test("a file is written whole with its mode, and again only when it differs", async () => {
    using dir = makeTempDir();
    const path = join(dir.path, "token");
    const step = { kind: "file", path, content: "secret\n", mode: 0o600, secret: true } as const;
    expect([...(await apply(step))]).toEqual([path]);
    expect({ text: readFileSync(path, "utf8"), mode: mode(path) }).toEqual({ text: "secret\n", mode: 0o600 });
    expect([...(await apply(step))]).toEqual([]);
    expect([...(await apply({ ...step, mode: 0o644 }))]).toEqual([path]);
    expect([...(await apply({ ...step, content: "other\n" }))]).toEqual([path]);
    expect(readdirSync(dir.path)).toEqual(["token"]);
  });

  test("a file to keep keeps its content, and gets its mode", async () => {
    using dir = makeTempDir();
    const path = join(dir.path, "config.yml");
    writeFileSync(path, "mine", { mode: 0o600 });
    expect([...(await apply({ kind: "file", path, content: "yours", mode: 0o644, keep: true }))]).toEqual([path]);
    expect({ text: readFileSync(path, "utf8"), mode: mode(path) }).toEqual({ text: "mine", mode: 0o644 });
  });

  test("a link, as a masked unit is one, is replaced, and what it leads to is left alone", async () => {
    using dir = makeTempDir();
    const [target, path] = [join(dir.path, "target"), join(dir.path, "unit")];
    writeFileSync(target, "theirs");
    symlinkSync(target, path);
    await apply({ kind: "file", path, content: "ours", mode: 0o644 });
    expect([readFileSync(path, "utf8"), readFileSync(target, "utf8")]).toEqual(["ours", "theirs"]);
  });

  test("removing works for files, folders and what is not there", async () => {
    using dir = makeTempDir();
    const [file, folder, full] = [join(dir.path, "file"), join(dir.path, "folder"), join(dir.path, "full")];
    writeFileSync(file, "");
    mkdirSync(join(folder, "deep"), { recursive: true });
    mkdirSync(join(full, "deep"), { recursive: true });
    const steps: Step[] = [
      { kind: "remove", path: file },
      { kind: "remove", path: folder },
      { kind: "remove-empty", path: full },
      { kind: "remove-empty", path: join(full, "deep") },
    ];
    await apply(...steps, ...steps);
    expect([file, folder, full].map(existsSync)).toEqual([false, false, false]);
  });

  test("a program that fails ends it with what it said, unless it may fail", async () => {
    using dir = makeTempDir();
    const path = join(dir.path, "never");
    const failing = { kind: "run", argv: ["sh", "-c", "echo no good >&2; exit 3"] } as const;
    await apply({ ...failing, mayFail: true });
    const error = await apply(failing, { kind: "file", path, content: "", mode: 0o644 }).catch(
      (thrown: unknown) => thrown,
    );
    expect(error).toMatchObject({
      code: "service.failed",
      message: "Cannot run sh -c 'echo no good >&2; exit 3': no good",
    });
    expect(existsSync(path)).toBe(false);
    expect(await apply({ kind: "run", argv: ["/nonexistent/program"] }).catch((e: unknown) => e)).toMatchObject({
      code: "service.failed",
    });
  });

  test("a folder where a file is, and an owner that is not there, are refused", async () => {
    using dir = makeTempDir();
    const path = join(dir.path, "x");
    writeFileSync(path, "");
    expect(await apply({ kind: "dir", path, mode: 0o755 }).catch((e: unknown) => e)).toMatchObject({
      code: "service.failed",
    });
    const owned = { kind: "file", path, content: "", mode: 0o644, owner: "no-such-account" } as const;
    expect(await apply(owned).catch((e: unknown) => e)).toMatchObject({
      message: "Cannot find the account no-such-account: there is no such account",
    });
  });
});
