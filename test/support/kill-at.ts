/**
 * Preloaded by Bun, kills the process right before its n-th change to the file system among those that some modules make:
 * `KILL_AT=n KILL_IN=name.ts,name.ts bun --preload kill-at.ts PROGRAM`. Counted is what the modules call themselves of
 * node:fs; SQLite and the modules' helpers go uncounted.
 */
import fs from "node:fs";
import { basename } from "node:path";

/** Of node:fs, what changes something on disk. */
const CHANGES = [
  ...["chmodSync", "copyFileSync", "fchmodSync", "fchownSync", "fsyncSync", "linkSync", "mkdirSync", "openSync"],
  ...["renameSync", "rmSync", "rmdirSync", "unlinkSync", "writeFileSync", "writeSync"],
] as const;

const modules = (process.env["KILL_IN"] ?? "").split(",").filter((name) => name !== "");
if (modules.length > 0) {
  Bun.plugin({
    name: "kill-at",
    setup: (build) => {
      build.onLoad({ filter: /\/src\/(core|edge)\/.*\.ts$/ }, ({ path }) => {
        const source = fs.readFileSync(path, "utf8");
        const contents = modules.includes(basename(path))
          ? source.replace('from "node:fs";', `from ${JSON.stringify(import.meta.path)};`)
          : source;
        return { contents, loader: "ts" };
      });
    },
  });
}

let left = Number(process.env["KILL_AT"] ?? Number.POSITIVE_INFINITY);

function deadly<Args extends readonly unknown[], Result>(name: string, work: (...args: Args) => Result) {
  return (...args: Args): Result => {
    left -= 1;
    if (left <= 0) {
      fs.writeSync(2, `killed before ${name} ${String(args[0])}\n`);
      process.kill(process.pid, "SIGKILL");
    }
    return work(...args);
  };
}

const wrapped = Object.fromEntries(CHANGES.map((name) => [name, deadly(name, fs[name] as () => unknown)]));
export const chmodSync = wrapped["chmodSync"];
export const copyFileSync = wrapped["copyFileSync"];
export const fchmodSync = wrapped["fchmodSync"];
export const fchownSync = wrapped["fchownSync"];
export const fsyncSync = wrapped["fsyncSync"];
export const linkSync = wrapped["linkSync"];
export const mkdirSync = wrapped["mkdirSync"];
export const openSync = wrapped["openSync"];
export const renameSync = wrapped["renameSync"];
export const rmSync = wrapped["rmSync"];
export const rmdirSync = wrapped["rmdirSync"];
export const unlinkSync = wrapped["unlinkSync"];
export const writeFileSync = wrapped["writeFileSync"];
export const writeSync = wrapped["writeSync"];
export const { closeSync, constants, existsSync, fstatSync, readdirSync, readFileSync, readSync } = fs;
