import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pollUntil } from "./poll-until.ts";
import { type OwnedProcess, runProcess, startProcess } from "./processes.ts";
import { makeTempDir } from "./temp-dir.ts";

const CACHE = process.env["CULVERT_TEST_CACHE"] ?? join(tmpdir(), "culvert-test-cache");
/** Changes with what is in it. */
const ROOT_FS = join(CACHE, "debian-systemd-2");
const PACKAGES = ["systemd-sysv", "dbus", "libpam-systemd", "dbus-user-session", "iproute2", "procps", "curl"];
const BOOT_DEADLINE_MS = 60_000;
/** Signals to PID 1 (systemd(1)); SIGRTMIN as nsenter's kill counts it. */
const POWER_OFF = "RTMIN+4";
const REBOOT = "RTMIN+5";
/** How systemd-nspawn ends when its machine wants to start again. */
const REBOOT_EXIT = 133;

/** Why no such machine can be made here; undefined when one can. Makes its file system at the first call: a minute. */
export function systemdMachineMissing(): string | undefined {
  if (process.platform !== "linux") return "needs Linux";
  if (process.getuid?.() !== 0) return "needs root";
  for (const command of ["systemd-nspawn", "debootstrap", "nsenter", "mount"]) {
    if (spawnSync("sh", ["-c", `command -v ${command}`]).status !== 0) return `needs ${command}`;
  }
  if (existsSync(ROOT_FS)) return undefined;
  mkdirSync(CACHE, { recursive: true });
  let problem: string | undefined;
  // A download may fail once.
  for (let tries = 0; tries < 2 && !existsSync(ROOT_FS); tries++) problem = makeRootFs();
  return existsSync(ROOT_FS) ? undefined : problem;
}

function makeRootFs(): string | undefined {
  const partial = `${ROOT_FS}.${process.pid}`;
  const release = /^VERSION_CODENAME=(\w+)$/m.exec(readFileSync("/etc/os-release", "utf8"))?.[1] ?? "stable";
  const include = `--include=${PACKAGES.join(",")}`;
  const made = spawnSync("debootstrap", ["--variant=minbase", include, release, partial], {
    encoding: "utf8",
    maxBuffer: 16 * 1024 * 1024,
  });
  try {
    if (made.status === 0 && !existsSync(ROOT_FS)) {
      renameSync(partial, ROOT_FS);
      return undefined;
    }
    return `debootstrap failed: ${`${made.stdout}${made.stderr}`.trim().split("\n").at(-1) ?? ""}`;
  } finally {
    // Cut short, it leaves these mounted.
    for (const name of ["proc", "sys", "dev/pts", "dev"]) spawnSync("umount", ["-q", join(partial, name)]);
    spawnSync("rm", ["-rf", "--one-file-system", partial]);
  }
}

export interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A Debian with systemd as its first process and a network of its own that leads nowhere: `await using m = await …`. */
export class SystemdMachine implements AsyncDisposable {
  readonly root: string;
  readonly #dir: ReturnType<typeof makeTempDir>;
  #spawned: OwnedProcess;
  #leader = 0;

  private constructor(dir: ReturnType<typeof makeTempDir>) {
    this.#dir = dir;
    this.root = join(dir.path, "root");
    for (const name of ["root", "upper", "work"]) mkdirSync(join(dir.path, name));
    const layers = `lowerdir=${ROOT_FS},upperdir=${join(dir.path, "upper")},workdir=${join(dir.path, "work")}`;
    execFileSync("mount", ["-t", "overlay", "overlay", "-o", layers, this.root]);
    this.#spawned = this.#spawn();
  }

  /** Boots it with these files in it: host path by path inside, all executable. */
  static async boot(files: Readonly<Record<string, string>> = {}): Promise<SystemdMachine> {
    const machine = new SystemdMachine(makeTempDir());
    try {
      for (const [inside, outside] of Object.entries(files)) copyFileSync(outside, join(machine.root, inside));
      await machine.#awaitBoot();
      return machine;
    } catch (error) {
      await machine[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Runs a command inside, as root unless `user` says otherwise, with a small environment of its own. */
  async run(
    argv: readonly string[],
    options: {
      readonly env?: Readonly<Record<string, string>>;
      readonly uid?: number;
      readonly deadlineMs?: number;
    } = {},
  ): Promise<Ran> {
    const env = { PATH: "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", HOME: "/root", ...options.env };
    const words = Object.entries(env).map(([key, value]) => `${key}=${value}`);
    const as =
      options.uid === undefined
        ? []
        : ["setpriv", `--reuid=${options.uid}`, `--regid=${options.uid}`, "--clear-groups"];
    return await runProcess(["nsenter", "-t", `${this.#leader}`, "-a", ...as, "env", "-i", ...words, ...argv], {
      deadlineMs: options.deadlineMs ?? 60_000,
    });
  }

  /** The same, for commands that must succeed: gives their output. */
  async ask(...argv: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await this.run(argv);
    if (code !== 0) throw new Error(`${argv.join(" ")} ended with ${code}\n${stdout}\n${stderr}`);
    return stdout.trimEnd();
  }

  /** Restarts it, as `reboot` inside would. */
  async reboot(): Promise<void> {
    spawnSync("kill", ["-s", REBOOT, `${this.#leader}`]);
    const code = await this.#spawned.exitCode(BOOT_DEADLINE_MS);
    if (code !== REBOOT_EXIT) throw new Error(`The machine ended with ${code} instead of restarting`);
    await this.#spawned[Symbol.asyncDispose]();
    this.#spawned = this.#spawn();
    await this.#awaitBoot();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#leader !== 0) spawnSync("kill", ["-s", POWER_OFF, `${this.#leader}`]);
    // A service inside that does not end is not waited for.
    await this.#spawned.exitCode(20_000).catch(() => this.#spawned.kill());
    await this.#spawned[Symbol.asyncDispose]();
    spawnSync("umount", ["-l", this.root]);
    this.#dir[Symbol.dispose]();
  }

  #spawn(): OwnedProcess {
    return startProcess([
      ...["systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit", "--console=read-only"],
      // Its own network: nothing in it can reach, or be reached from, anywhere else.
      ...["--private-network", `--machine=culvert-test-${process.pid}`, `--directory=${this.root}`],
    ]);
  }

  async #awaitBoot(): Promise<void> {
    const { pid } = this.#spawned;
    const booted = async (): Promise<boolean> => {
      // The first child only prepares: ask again each time.
      this.#leader = childOf(pid) ?? 0;
      if (this.#leader === 0) return false;
      return /^(running|degraded)$/m.test((await this.run(["systemctl", "is-system-running"])).stdout);
    };
    await pollUntil(booted, { what: "the machine has booted", deadlineMs: BOOT_DEADLINE_MS, everyMs: 100 });
  }
}

function childOf(pid: number): number | undefined {
  const found = spawnSync("pgrep", ["-P", `${pid}`], { encoding: "utf8" })
    .stdout.trim()
    .split("\n")[0];
  return found === undefined || found === "" ? undefined : Number(found);
}
