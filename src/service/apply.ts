import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  type Stats,
  statSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { describe, TunnelError } from "../core/errors.ts";
import { replaceFile } from "../core/whole-file.ts";
import type { Machine } from "./machine.ts";
import { ACCOUNT_COMMENT, describeStep, type FileStep, type Step } from "./steps.ts";

const PERMISSIONS = 0o777;

/**
 * Carries steps out in order. Files appear whole or not at all.
 *
 * @returns paths of the files and folders that are not as they were
 * @throws `service.failed` at the first step that fails
 */
export async function applySteps(steps: readonly Step[], machine: Machine): Promise<ReadonlySet<string>> {
  const changed = new Set<string>();
  for (const step of steps) {
    if (await applyStep(step, machine)) changed.add("path" in step ? step.path : "");
  }
  return changed;
}

async function applyStep(step: Step, machine: Machine): Promise<boolean> {
  switch (step.kind) {
    case "dir": {
      const owner = await ownerId(step.owner, machine);
      return guard(`make folder ${step.path}`, () => makeDir(step.path, step.mode, owner));
    }
    case "file": {
      const owner = await ownerId(step.owner, machine);
      return guard(`write ${step.path}`, () => writeFile(step, owner));
    }
    case "remove":
      return guard(`remove ${step.path}`, () => {
        const known = stats(step.path);
        if (known?.isDirectory() === true) rmSync(step.path, { recursive: true, force: true });
        else rmSync(step.path, { force: true });
        return known !== undefined;
      });
    case "remove-empty":
      return guard(`remove ${step.path}`, () => {
        if (stats(step.path)?.isDirectory() !== true || readdirSync(step.path).length > 0) return false;
        rmdirSync(step.path);
        return true;
      });
    case "account":
      await makeAccount(step.name, machine);
      return false;
    case "remove-account":
      await removeAccount(step.name, machine);
      return false;
    case "run": {
      const { code, stdout, stderr } = await machine.run(step.argv);
      if (code === 0 || step.mayFail === true) return false;
      const said = (stderr.trim() || stdout.trim()).split("\n").slice(0, 5).join("; ");
      throw failed(describeStep(step), said === "" ? `exit code ${code}` : said);
    }
    case "call":
      await step.call();
      return false;
  }
}

function makeDir(path: string, mode: number, owner: number | undefined): boolean {
  const before = stats(path);
  if (before === undefined) mkdirSync(path, { recursive: true, mode });
  const now = statSync(path);
  if (!now.isDirectory()) throw new Error("something else is there");
  return setPermissions(path, now, mode, owner) || before === undefined;
}

function writeFile(step: FileStep, owner: number | undefined): boolean {
  const { path, content, mode } = step;
  const before = stats(path);
  if (before?.isFile() === true && (step.keep === true || readFileSync(path, "utf8") === content)) {
    return setPermissions(path, before, mode, owner);
  }
  // Hidden from service managers, which read every other file of some folders.
  const temporary = join(dirname(path), `.${basename(path)}.culvert-new`);
  replaceFile(path, content, { mode, owner, temporary });
  return true;
}

function setPermissions(path: string, now: Stats, mode: number, owner: number | undefined): boolean {
  if (process.platform === "win32") return false;
  const wrongMode = (now.mode & PERMISSIONS) !== mode;
  const wrongOwner = owner !== undefined && now.uid !== owner;
  if (wrongOwner) chownSync(path, owner, now.gid);
  if (wrongMode) chmodSync(path, mode);
  return wrongMode || wrongOwner;
}

/** Links are not followed. */
function stats(path: string): Stats | undefined {
  return lstatSync(path, { throwIfNoEntry: false });
}

async function ownerId(owner: string | undefined, machine: Machine): Promise<number | undefined> {
  if (owner === undefined) return undefined;
  const { code, stdout } = await machine.run(["id", "-u", owner]);
  if (code !== 0) throw failed(`find the account ${owner}`, "there is no such account");
  return Number(stdout.trim());
}

/** Debian and Red Hat have useradd, Alpine adduser of busybox, FreeBSD pw. */
async function makeAccount(name: string, machine: Machine): Promise<void> {
  if ((await machine.run(["id", "-u", name])).code === 0) return;
  const home = "/nonexistent";
  const shell = process.platform === "freebsd" ? "/usr/sbin/nologin" : "/sbin/nologin";
  const ways = [
    [
      "useradd",
      "--system",
      "--no-create-home",
      "--home-dir",
      home,
      "--shell",
      shell,
      "--comment",
      ACCOUNT_COMMENT,
      name,
    ],
    ["pw", "useradd", name, "-d", home, "-s", shell, "-c", ACCOUNT_COMMENT, "-w", "no"],
    ["adduser", "-S", "-D", "-H", "-h", home, "-s", shell, "-g", ACCOUNT_COMMENT, name],
  ];
  let said = "";
  for (const argv of ways) {
    const { code, stderr } = await machine.run(argv);
    if (code === 0) return;
    said = stderr.trim();
  }
  throw failed(`make the account ${name}`, said);
}

async function removeAccount(name: string, machine: Machine): Promise<void> {
  const { code, stdout } = await machine.run(["getent", "passwd", name]);
  // An account that somebody else made stays.
  if (code !== 0 || stdout.split(":")[4] !== ACCOUNT_COMMENT) return;
  for (const argv of [
    ["userdel", name],
    ["pw", "userdel", name],
    ["deluser", name],
  ]) {
    if ((await machine.run(argv)).code === 0) return;
  }
}

function guard(doing: string, act: () => boolean): boolean {
  try {
    return act();
  } catch (error) {
    throw failed(doing, describe(error));
  }
}

function failed(doing: string, why: string): TunnelError {
  return new TunnelError("service.failed", `Cannot ${doing}: ${why}`);
}
