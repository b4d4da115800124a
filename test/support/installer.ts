import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { renderInstallScript } from "../../src/bundle/install-script.ts";
import type { MinisignSecretKey } from "../../src/wire/minisign.ts";
import { makeMinisignKey } from "./minisign-key.ts";
import { runProcess } from "./processes.ts";
import { RELEASE_TESTS_OFF } from "./release-tests.ts";
import { publishVersion } from "./releases.ts";
import { makeTempDir } from "./temp-dir.ts";

export function hasCommand(name: string): boolean {
  return spawnSync("sh", ["-c", `command -v ${name}`]).status === 0;
}

/** A shell, and the other programs of its world. */
export interface Shell {
  readonly name: string;
  readonly argv: readonly string[];
  /** busybox and nothing else: its own awk, tar and wget, no curl, no openssl. */
  readonly busyboxOnly: boolean;
}

const ALL_SHELLS: readonly Shell[] = [
  { name: "dash", argv: ["dash"], busyboxOnly: false },
  { name: "bash", argv: ["bash"], busyboxOnly: false },
  { name: "busybox ash with busybox alone", argv: ["busybox", "ash"], busyboxOnly: true },
];

const PRESENT = ALL_SHELLS.filter(({ argv }) => hasCommand(argv[0] ?? ""));
/** Those of them that this machine has; one is enough where no release is made. */
export const SHELLS = RELEASE_TESTS_OFF === undefined ? PRESENT : PRESENT.slice(0, 1);
export const [PLAIN_SHELL = { name: "sh", argv: ["sh"], busyboxOnly: false }] = SHELLS;

export interface InstallerOptions {
  readonly shell?: Shell;
  readonly baseUrl?: string;
  /** Instead of the script with `baseUrl` and the lab's key in it. */
  readonly script?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** In front of the shell, such as `unshare -n`. */
  readonly wrap?: readonly string[];
  readonly uid?: number;
  readonly cwd?: string;
}

export interface Outcome {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** A home, a folder of releases and their key, all of it gone at the end of the scope. */
export class InstallLab implements Disposable {
  readonly #temp = makeTempDir();
  readonly path = this.#temp.path;
  readonly home = join(this.path, "home");
  readonly dir = join(this.home, "bin");
  readonly releases = join(this.path, "releases");
  readonly key: MinisignSecretKey = makeMinisignKey().key;
  readonly #applets = join(this.path, "applets");

  constructor() {
    for (const folder of [this.home, this.releases]) mkdirSync(folder, { recursive: true });
  }

  /** Publishes a program that says it is that version, with so many bytes behind it; gives its file name. */
  publish(version: string, options: { readonly sizeBytes?: number; readonly key?: MinisignSecretKey } = {}): string {
    const program = programOf(version);
    const padding = Buffer.alloc(Math.max(0, (options.sizeBytes ?? 0) - program.length), `${version} `);
    const content = Buffer.concat([Buffer.from(program), padding]);
    return publishVersion(this.releases, version, content, options.key ?? this.key);
  }

  /** Runs the installer as `curl | sh` would: the script on standard input, and no terminal anywhere. */
  async run(args: readonly string[], options: InstallerOptions = {}): Promise<Outcome> {
    const { shell = PLAIN_SHELL, baseUrl } = options;
    const file = join(this.path, "script");
    writeFileSync(file, options.script ?? renderInstallScript({ baseUrl, keys: [this.key] }));
    const argv = [
      ...["sh", "-c", 'exec "$@" <"$0"', file, "setsid", "-w", ...(options.wrap ?? [])],
      ...[...this.#shellArgv(shell), "-s", "--", ...args],
    ];
    const path = shell.busyboxOnly ? this.#busyboxPath() : `${process.env["PATH"]}`;
    const { code, stdout, stderr } = await runProcess(argv, {
      env: { HOME: this.home, PATH: `${process.env["PATH"]}`, INSTALLER_PATH: path, ...options.env },
      cwd: options.cwd ?? this.path,
      ...(options.uid === undefined ? {} : { uid: options.uid }),
      deadlineMs: 60_000,
    });
    return { code, out: stdout, err: stderr };
  }

  /** Installs into {@link dir}. */
  async install(args: readonly string[], options: InstallerOptions = {}): Promise<Outcome> {
    return await this.run(["--dir", this.dir, ...args], options);
  }

  /** The shell gets its PATH last, so that what stands in front of it is found. */
  #shellArgv({ argv }: Shell): readonly string[] {
    const [command = "", ...rest] = argv;
    return ["sh", "-c", 'PATH=$INSTALLER_PATH; unset INSTALLER_PATH; exec "$@"', "sh", which(command), ...rest];
  }

  #busyboxPath(): string {
    if (!existsSync(this.#applets)) {
      mkdirSync(this.#applets);
      const { stdout } = spawnSync("busybox", ["--list"], { encoding: "utf8" });
      for (const applet of stdout.trim().split("\n")) symlinkSync(which("busybox"), join(this.#applets, applet));
    }
    return this.#applets;
  }

  [Symbol.dispose](): void {
    this.#temp[Symbol.dispose]();
  }
}

function which(command: string): string {
  return spawnSync("sh", ["-c", `command -v ${command}`], { encoding: "utf8" }).stdout.trim();
}

/**
 * What stands for culvert where only its version matters. What else it is asked goes to `$0.log`, with the token it reads;
 * `$0.answer` is a script that answers, without it no service is installed.
 */
export function programOf(version: string): string {
  return `#!/bin/sh
[ "$1" = --version ] && { echo "culvert version ${version} (built TEST)"; exit 0; }
echo "$*; environment \${CULVERT_TOKEN-without}" >>"$0.log"
[ "$3 $4" = "--token-file -" ] && cat >>"$0.log"
[ -e "$0.answer" ] && exec sh "$0.answer" "$@"
[ "$2" != status ] || exit 4
exit 0
`;
}
