import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { copyFile } from "node:fs/promises";
import { join } from "node:path";
import { bootedMachineMissing, type Ran } from "../support/booted-machine.ts";
import { EDGE, EdgeTown, ORIGIN, type TownLoad } from "../support/edge-town.ts";
import { makeMinisignKey } from "../support/minisign-key.ts";
import { netlabMissing } from "../support/netlab/commands.ts";
import { pollUntil } from "../support/poll-until.ts";
import { buildVersion, publishVersion } from "../support/releases.ts";
import { makeTempDir } from "../support/temp-dir.ts";

const MISSING = netlabMissing() ?? bootedMachineMissing("systemd");
const UID = 1500;
/** The issue's bound on `systemd-analyze security`. */
const MAX_EXPOSURE = 1.5;
const TEST_MS = 120_000;

/** As whom it is all done, and where things are then. */
interface Installation {
  readonly who: string;
  readonly uid: number | undefined;
  readonly program: string;
  readonly config: string;
  readonly systemctl: string;
  /** The owner of the process. */
  readonly runsAs: RegExp;
}

const INSTALLATIONS: readonly Installation[] = [
  {
    who: "root",
    uid: undefined,
    program: "/usr/local/bin/culvert",
    config: "/etc/culvert/config.yml",
    systemctl: "systemctl",
    // An account that exists as long as the service runs.
    runsAs: /^6\d{4}$/,
  },
  {
    who: "an account without root",
    uid: UID,
    program: "/home/tester/.local/bin/culvert",
    config: "/home/tester/.config/culvert/config.yml",
    systemctl: "systemctl --user",
    runsAs: /^1500$/,
  },
];

interface Status {
  readonly active: string;
  readonly pid?: number;
  readonly connected?: boolean;
  readonly connections?: number;
  readonly outdated: boolean;
  readonly restarts?: number;
}

const { key } = makeMinisignKey();
const VERSIONS = ["1.0.0", "1.1.0", "1.2.0"] as const;

(MISSING === undefined ? describe : describe.skip)(
  `curl | sh, from an edge to a service${MISSING === undefined ? "" : ` (${MISSING})`}`,
  () => {
    const built = makeTempDir();
    const programs = new Map<string, string>();
    let town: EdgeTown;
    let token = "";

    beforeAll(async () => {
      for (const version of VERSIONS) programs.set(version, buildVersion(version, built.path, key));
      const releases = join(built.path, "releases");
      mkdirSync(releases);
      town = await EdgeTown.open(programs.get(VERSIONS[0]) ?? "", releases);
      await town.machine.ask("useradd", "--create-home", "--shell", "/bin/sh", "--uid", `${UID}`, "tester");
      token = await town.addTunnel("web");
    }, TEST_MS);
    afterAll(async () => {
      await town?.[Symbol.asyncDispose]();
      built[Symbol.dispose]();
    }, TEST_MS);

    /** From here on it is the newest of the edge's releases. */
    function release(version: string, folder = "releases"): void {
      publishVersion(join(built.path, folder), version, programs.get(version) ?? "", key);
    }

    describe.each(INSTALLATIONS.map((at) => ({ ...at, at })))("as $who", ({ at }) => {
      const who =
        at.uid === undefined ? {} : { uid: at.uid, env: { HOME: "/home/tester", XDG_RUNTIME_DIR: `/run/user/${UID}` } };
      let untouched: readonly string[] = [];

      async function shell(script: string): Promise<Ran> {
        return await town.machine.run(["sh", "-c", script], { ...who, deadlineMs: 100_000 });
      }
      async function oneLiner(...words: readonly string[]): Promise<Ran> {
        return await shell(`curl -fsSL http://${EDGE}/install.sh | sh -s -- ${words.join(" ")}`);
      }
      async function status(): Promise<Status> {
        return JSON.parse((await shell(`${at.program} service status --json`)).stdout) as Status;
      }
      async function connected(not?: number): Promise<Status & { readonly pid: number }> {
        return await pollUntil(
          async () => {
            const now = await status();
            const { pid } = now;
            return now.connected === true && pid !== undefined && pid !== not ? { ...now, pid } : undefined;
          },
          { what: "the service is connected", deadlineMs: 30_000, everyMs: 100 },
        );
      }
      async function served(): Promise<void> {
        const answered = async (): Promise<boolean> => (await town.visit("/bytes/1000?id=1")).status === 200;
        await pollUntil(answered, { what: "a visitor is answered", deadlineMs: 30_000, everyMs: 100 });
      }
      async function version(): Promise<string> {
        return (await shell(`${at.program} version --short`)).stdout.trim();
      }

      test(
        "TOKEN: the service is up and connected, and a visitor is answered through the tunnel",
        async () => {
          release("1.0.0");
          untouched = await everything(town);
          const installed = await oneLiner(token);
          expect({ code: installed.code, stderr: installed.stderr }).toEqual({ code: 0, stderr: "" });
          expect(installed.stdout).toContain(`installed ${at.program}: culvert version 1.0.0`);
          expect(installed.stdout).toContain("culvert.service is installed and running\nconnected\n");
          writeFileSync(join(town.machine.root, at.config), `ingress:\n  - service: ${ORIGIN}\n`);
          await served();
          expect(await town.visit("/bytes/70000?id=3")).toEqual({ status: 200, bodyBytes: 70_000 });
          const { pid } = await connected();
          expect(await town.machine.ask("stat", "-c", "%u", `/proc/${pid}`)).toMatch(at.runsAs);
        },
        TEST_MS,
      );

      test(
        "again: there is nothing to do, and the process goes on",
        async () => {
          const { pid } = await connected();
          const again = await oneLiner(token);
          expect({ code: again.code, stderr: again.stderr }).toEqual({ code: 0, stderr: "" });
          expect(again.stdout).toContain(`culvert 1.0.0 is installed already: ${at.program}`);
          expect(again.stdout).toContain("culvert.service is installed and running: nothing to do\nconnected\n");
          expect((await connected()).pid).toBe(pid);
        },
        TEST_MS,
      );

      test(
        "how hardened it is",
        async () => {
          const flags = at.uid === undefined ? "" : "--user";
          const said = await shell(`systemd-analyze ${flags} security culvert.service --no-pager`);
          const exposure = Number(/Overall exposure level for \S+: ([0-9.]+)/.exec(said.stdout)?.[1]);
          console.info(`culvert.service of ${at.who}: systemd-analyze security says ${exposure}`);
          // An account's own systemd may mount nothing, and so takes little away.
          expect(exposure).toBeLessThan(at.uid === undefined ? MAX_EXPOSURE : 10);
        },
        TEST_MS,
      );

      test(
        "killed with -9, it is back",
        async () => {
          const { pid, restarts = 0 } = await connected();
          await town.machine.ask("kill", "-9", `${pid}`);
          expect((await connected(pid)).restarts).toBe(restarts + 1);
          await served();
        },
        TEST_MS,
      );

      test(
        "the machine boots anew, and it is back",
        async () => {
          await town.machine.reboot();
          await connected();
          await served();
        },
        TEST_MS,
      );

      test(
        "the edge goes and comes back, and so does the tunnel, in the same process",
        async () => {
          const { pid } = await connected();
          await town.stopEdge();
          await pollUntil(async () => (await status()).connections === 0, { what: "it says so", deadlineMs: 30_000 });
          expect((await status()).active).toBe("running");
          await town.startEdge();
          expect((await connected()).pid).toBe(pid);
          await served();
        },
        TEST_MS,
      );

      test(
        "the one-liner again, with a newer release and under load, loses no request",
        async () => {
          release("1.1.0");
          const before = await connected();
          // Downloads of 8 s, which run when the old version is told to go and would hold up whoever waits for its end.
          await using load = town.startLoad({
            ...{ getsPerSecond: 40, slowPerSecond: 10, downloads: 2 },
            ...{ downloadBytes: 800_000, downloadBytesPerSecond: 100_000 },
          });
          await begun(load);
          const upgraded = await oneLiner(token);
          expect({ code: upgraded.code, stderr: upgraded.stderr }).toEqual({ code: 0, stderr: "" });
          expect(upgraded.stdout).toContain(`installed ${at.program}: culvert version 1.1.0`);
          expect(await version()).toBe("1.1.0");
          expect(await connected()).toMatchObject({ outdated: false, pid: before.pid, restarts: before.restarts });
          await begun(load);
          await nothingLost(load, `upgraded by ${at.who} with the one-liner`);
        },
        TEST_MS,
      );

      test(
        "culvert update and a restart of the service, under load, lose no request",
        async () => {
          release("1.2.0", "newer");
          const { pid } = await connected();
          const folder = join(town.machine.root, "srv/newer");
          if (!existsSync(folder)) {
            mkdirSync(folder);
            for (const name of readdirSync(join(built.path, "newer"))) {
              await copyFile(join(built.path, "newer", name), join(folder, name));
            }
          }
          await using load = town.startLoad({ getsPerSecond: 40, slowPerSecond: 10, downloads: 0 });
          await begun(load);
          expect(await shell(`${at.program} update --from /srv/newer`)).toMatchObject({ code: 11 });
          expect((await status()).outdated).toBe(true);
          expect((await shell(`${at.program} service restart`)).code).toBe(0);
          const after = await connected(pid);
          expect(after.outdated).toBe(false);
          expect(await version()).toBe("1.2.0");
          await begun(load);
          await nothingLost(load, `updated by ${at.who} and restarted`);
        },
        TEST_MS,
      );

      test(
        "--uninstall --purge leaves nothing",
        async () => {
          await town.machine.ask("rm", "-r", "/srv/newer");
          const removed = await oneLiner("--uninstall", "--purge");
          expect({ code: removed.code, stderr: removed.stderr }).toEqual({ code: 0, stderr: "" });
          expect(removed.stdout).toContain(`removed ${at.program}`);
          const left = await everything(town);
          expect(left.filter((line) => !untouched.includes(line))).toEqual([]);
          expect(untouched.filter((line) => !left.includes(line))).toEqual([]);
          // systemd forgets a unit a moment after its last job. An account's has ended with its last service.
          await pollUntil(
            async () => (await shell(`${at.systemctl} list-units --all --no-legend 'culvert*'`)).stdout === "",
            { what: "systemd knows no unit of ours", deadlineMs: 10_000, everyMs: 200 },
          );
          expect((await town.machine.run(["pgrep", "-a", "culvert"])).stdout).toBe("");
          expect(await town.machine.ask("find", "/run", "/tmp", "/dev/shm", "-name", "*culvert*")).toBe("");
        },
        TEST_MS,
      );
    });
  },
);

/** Resolves once visitors have got answers to what they asked from now on. */
async function begun(load: TownLoad): Promise<void> {
  const fromMs = Date.now();
  const answers = (): number => load.visits.filter(({ startMs, kind }) => startMs > fromMs && kind === "get").length;
  await pollUntil(() => answers() >= 40, { what: "40 more answers", deadlineMs: 20_000, everyMs: 50 });
}

async function nothingLost(load: TownLoad, what: string): Promise<void> {
  const visits = await load.end();
  const lost = visits.filter(({ failure }) => failure !== undefined);
  const quick = visits.filter(({ kind }) => kind === "get").map(({ tookMs }) => tookMs);
  console.info(`${what}: ${visits.length} requests, ${lost.length} lost, slowest GET ${Math.max(...quick)} ms`);
  expect(lost).toEqual([]);
  expect(visits.length).toBeGreaterThan(50);
}

/** Every file of the machine with its mode, owner and size, and the content of those that configure it. */
async function everything({ machine }: EdgeTown): Promise<readonly string[]> {
  // What a machine with systemd changes by itself.
  const own = [
    "/var/log/(journal|wtmp|btmp|lastlog)",
    "/(etc|var)/\\.updated",
    "/etc/(machine-id|resolv\\.conf)",
    "/var/lib/systemd/(timers|random-seed|catalog|timesync)",
    "/var/(cache/ldconfig|lib/dbus|tmp/systemd-private)",
  ].join("|");
  const listing = await machine.ask(
    "sh",
    "-c",
    [
      "find / -xdev \\( -type d -printf '%p %M %U:%G\\n' -o -printf '%p %M %U:%G %s %l\\n' \\)",
      "find /etc /home /root /usr/local -xdev -type f -exec sha256sum {} + | sed 's/^\\([0-9a-f]*\\)  \\(.*\\)/\\2 \\1/'",
    ].join("\n"),
  );
  const ignored = new RegExp(`^(${own})`);
  return listing
    .split("\n")
    .filter((line) => !ignored.test(line))
    .sort();
}
