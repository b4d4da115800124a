import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pollUntil } from "./poll-until.ts";
import { type OwnedProcess, runProcess, startProcess } from "./processes.ts";
import { RELEASE_TESTS_OFF } from "./release-tests.ts";
import { makeTempDir } from "./temp-dir.ts";

/** Who is the first process of a machine, and looks after its services. */
export type MachineInit = "systemd" | "sysv" | "openrc";

const CACHE = process.env["CULVERT_TEST_CACHE"] ?? join(tmpdir(), "culvert-test-cache");
/** File systems; a number changes with what is in it. */
const ROOT_FS: Readonly<Record<MachineInit, string>> = {
  systemd: join(CACHE, "debian-systemd-3"),
  sysv: join(CACHE, "debian-sysv-1"),
  openrc: join(CACHE, "debian-openrc-1"),
};
const PACKAGES = {
  systemd: ["systemd-sysv", "dbus", "libpam-systemd", "dbus-user-session", "polkitd", "iproute2", "procps", "curl"],
  sysv: ["sysvinit-core", "sysv-rc", "procps", "curl", "busybox"],
} as const;
/** What takes the place of sysv-rc; the rest of such a machine is the same. */
const OPENRC_PACKAGES = ["openrc", "libeinfo1", "librc1"] as const;
const COMMANDS = ["systemd-nspawn", "debootstrap", "nsenter", "mount", "apt-get"] as const;
const CONFINED = ["--quiet", "--register=no", "--keep-unit"] as const;
const BOOT_DEADLINE_MS = 60_000;
/** Signal to PID 1 (systemd(1)); SIGRTMIN as nsenter's kill counts it. */
const POWER_OFF = "RTMIN+4";
/** How systemd-nspawn ends when its machine wants to start again. */
const REBOOT_EXIT = 133;

/**
 * Why no machine with one of these can be made here; undefined when one with each can. Makes a file system at the first
 * call, which takes a minute each and needs a Debian mirror.
 */
export function bootedMachineMissing(...inits: readonly MachineInit[]): string | undefined {
  if (RELEASE_TESTS_OFF !== undefined) return RELEASE_TESTS_OFF;
  if (process.platform !== "linux") return "needs Linux";
  if (process.getuid?.() !== 0) return "needs root";
  for (const command of COMMANDS) {
    if (spawnSync("sh", ["-c", `command -v ${command}`]).status !== 0) return `needs ${command}`;
  }
  mkdirSync(CACHE, { recursive: true });
  for (const init of inits) {
    let problem: string | undefined;
    // A download may fail once.
    for (let tries = 0; tries < 2 && !existsSync(ROOT_FS[init]); tries++) problem = makeRootFs(init);
    if (!existsSync(ROOT_FS[init])) return problem;
    problem = attempt("systemd-nspawn", [
      ...CONFINED,
      "--private-network",
      "--read-only",
      `--directory=${ROOT_FS[init]}`,
      "/bin/true",
    ]);
    if (problem !== undefined) return problem;
  }
  return undefined;
}

/** What went wrong, if anything did. The folder appears whole or not at all: another run may make it too. */
function makeRootFs(init: MachineInit): string | undefined {
  const partial = `${ROOT_FS[init]}.${process.pid}`;
  try {
    const problem = init === "openrc" ? replaceSysvRc(partial) : debootstrap(init, partial);
    if (problem === undefined && !existsSync(ROOT_FS[init])) renameSync(partial, ROOT_FS[init]);
    return problem;
  } finally {
    // Cut short, it leaves these mounted.
    for (const name of ["proc", "sys", "dev/pts", "dev"]) spawnSync("umount", ["-q", join(partial, name)]);
    spawnSync("rm", ["-rf", "--one-file-system", partial]);
  }
}

function debootstrap(init: "systemd" | "sysv", folder: string): string | undefined {
  const release = /^VERSION_CODENAME=(\w+)$/m.exec(readFileSync("/etc/os-release", "utf8"))?.[1] ?? "stable";
  return attempt("debootstrap", ["--variant=minbase", `--include=${PACKAGES[init].join(",")}`, ...[release, folder]]);
}

/** debootstrap cannot: it takes the first alternative of a dependency, which is sysv-rc. */
function replaceSysvRc(folder: string): string | undefined {
  const missing = bootedMachineMissing("sysv");
  if (missing !== undefined) return missing;
  const steps = [
    `cp -a '${ROOT_FS.sysv}' '${folder}'`,
    `mkdir '${folder}/var/debs'`,
    `cd '${folder}/var/debs'`,
    `apt-get -q download ${OPENRC_PACKAGES.join(" ")}`,
    `chroot '${folder}' dpkg --force-depends --purge sysv-rc`,
    `chroot '${folder}' sh -c 'dpkg -i /var/debs/*.deb && rm -r /var/debs'`,
  ];
  return attempt("sh", ["-ec", steps.join("\n")]);
}

function attempt(command: string, args: readonly string[]): string | undefined {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: "utf8", maxBuffer: 16 * 1024 * 1024 });
  return status === 0 ? undefined : `${command} failed: ${`${stdout}${stderr}`.trim().split("\n").at(-1) ?? ""}`;
}

export interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

interface MachineOptions {
  /** Network namespace to live in, as a path; it stays over reboots. @default one of its own that leads nowhere */
  readonly network?: string;
}

/** A Debian of its own: `await using machine = await BootedMachine.boot("systemd")`. */
export class BootedMachine implements AsyncDisposable {
  readonly init: MachineInit;
  readonly root: string;
  readonly #dir: ReturnType<typeof makeTempDir>;
  readonly #network: string | undefined;
  #spawned: OwnedProcess;
  #leader = 0;

  private constructor(init: MachineInit, dir: ReturnType<typeof makeTempDir>, { network }: MachineOptions) {
    this.init = init;
    this.#network = network;
    this.#dir = dir;
    this.root = join(dir.path, "root");
    for (const name of ["root", "upper", "work"]) mkdirSync(join(dir.path, name));
    const layers = `lowerdir=${ROOT_FS[init]},upperdir=${join(dir.path, "upper")},workdir=${join(dir.path, "work")}`;
    execFileSync("mount", ["-t", "overlay", "overlay", "-o", layers, this.root]);
    this.#spawned = this.#spawn();
  }

  /** Boots it with these files in it: host path by path inside, all executable. */
  static async boot(
    init: MachineInit,
    files: Readonly<Record<string, string>> = {},
    options: MachineOptions = {},
  ): Promise<BootedMachine> {
    const machine = new BootedMachine(init, makeTempDir(), options);
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
    return await runProcess(this.#inside(argv, options), { deadlineMs: options.deadlineMs ?? 60_000 });
  }

  /** Starts a command inside, as root. */
  start(argv: readonly string[]): OwnedProcess {
    return startProcess(this.#inside(argv, {}));
  }

  #inside(
    argv: readonly string[],
    options: { readonly env?: Readonly<Record<string, string>>; readonly uid?: number },
  ): readonly string[] {
    const env = { PATH: "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", HOME: "/root", ...options.env };
    const words = Object.entries(env).map(([key, value]) => `${key}=${value}`);
    const as =
      options.uid === undefined
        ? []
        : ["setpriv", `--reuid=${options.uid}`, `--regid=${options.uid}`, "--clear-groups"];
    return ["nsenter", "-t", `${this.#leader}`, "-a", ...as, "env", "-i", ...words, ...argv];
  }

  /** The same, for commands that must succeed: gives their output. */
  async ask(...argv: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await this.run(argv);
    if (code !== 0) throw new Error(`${argv.join(" ")} ended with ${code}\n${stdout}\n${stderr}`);
    return stdout.trimEnd();
  }

  /** Restarts it, as `reboot` inside would. */
  async reboot(): Promise<void> {
    await this.run(["reboot"]);
    const code = await this.#spawned.exitCode(BOOT_DEADLINE_MS);
    if (code !== REBOOT_EXIT) throw new Error(`The machine ended with ${code} instead of restarting`);
    await this.#spawned[Symbol.asyncDispose]();
    this.#spawned = this.#spawn();
    await this.#awaitBoot();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Other inits have no such signal; there is nothing to keep.
    const signal = this.init === "systemd" ? POWER_OFF : "KILL";
    if (this.#leader !== 0) spawnSync("kill", ["-s", signal, `${this.#leader}`]);
    // A service inside that does not end is not waited for.
    await this.#spawned.exitCode(20_000).catch(() => this.#spawned.kill());
    await this.#spawned[Symbol.asyncDispose]();
    spawnSync("umount", ["-l", this.root]);
    this.#dir[Symbol.dispose]();
  }

  #spawn(): OwnedProcess {
    return startProcess([
      ...["systemd-nspawn", "--boot", "--console=read-only", ...CONFINED],
      // A network of its own: nothing in it can reach, or be reached from, the machine around it.
      this.#network === undefined ? "--private-network" : `--network-namespace-path=${this.#network}`,
      ...[`--machine=culvert-test-${process.pid}`, `--directory=${this.root}`],
    ]);
  }

  async #awaitBoot(): Promise<void> {
    const { pid } = this.#spawned;
    const booted = async (): Promise<boolean> => {
      // The first child only prepares: ask again each time.
      this.#leader = childOf(pid) ?? 0;
      if (this.#leader === 0) return false;
      if (this.init === "systemd") {
        return /^(running|degraded)$/m.test((await this.run(["systemctl", "is-system-running"])).stdout);
      }
      // It starts these once the runlevel is reached.
      return (await this.run(["pgrep", "-x", "getty"])).code === 0;
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
