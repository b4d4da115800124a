import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { BootedMachine, bootedMachineMissing } from "../support/booted-machine.ts";
import {
  addTunnel,
  type ConnectorKind,
  culvertConnector,
  HOST,
  metricsPort,
  served,
  startConnector,
  startEdgeProcess,
} from "../support/lab.ts";
import { LabLoad } from "../support/lab-load.ts";
import { makeMinisignKey } from "../support/minisign-key.ts";
import { startOrigin } from "../support/origins.ts";
import { pollUntil } from "../support/poll-until.ts";
import type { OwnedProcess } from "../support/processes.ts";
import { buildVersion, publishVersion } from "../support/releases.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { openVisit } from "../support/visitors.ts";

const OLD = "1.0.0";
const NEW = "1.1.0";
const DEADLINE_MS = 60_000;
const LINUX = process.platform === "linux";

const { key } = makeMinisignKey();
const built = makeTempDir();
const good = join(built.path, "good");
let oldBinary = "";

beforeAll(() => {
  oldBinary = buildVersion(OLD, built.path, key);
  publishVersion(good, NEW, buildVersion(NEW, built.path, key), key);
}, DEADLINE_MS);
afterAll(() => built[Symbol.dispose]());

function versionOf(path: string): string {
  return spawnSync(path, ["version", "--short"], { encoding: "utf8" }).stdout.trim();
}

/** Children of a process, those included that have ended and that nobody took note of. */
function childrenOf(pid: number): readonly number[] {
  return spawnSync("pgrep", ["-P", `${pid}`], { encoding: "utf8" })
    .stdout.trim()
    .split("\n")
    .filter(Boolean)
    .map(Number);
}

/** An edge, an origin, and the old version as a connector, run from a file of its own. */
async function startOldTunnel(flags: readonly string[] = [], gracePeriod = "20s") {
  await using stack = new AsyncDisposableStack();
  const dir = stack.use(makeTempDir());
  const bin = join(dir.path, "bin");
  mkdirSync(bin);
  const path = join(bin, "culvert");
  copyFileSync(oldBinary, path);
  chmodSync(path, 0o755);
  const stateDir = join(dir.path, "state");
  const origin = stack.use(await startOrigin());
  const edge = await startEdgeProcess(stateDir);
  stack.use(edge.process);
  const token = await addTunnel(stateDir, "lab", [HOST]);
  const kind: ConnectorKind = culvertConnector("quic");
  const pidFile = join(dir.path, "pid");
  const run = { token, ...edge, url: `http://127.0.0.1:${origin.port}`, gracePeriod };
  const argv = (given: typeof run) => [
    path,
    ...kind.argv({ ...given, flags: ["--pidfile", pidFile, ...flags] }).slice(kind.argv(given).indexOf("tunnel")),
  ];
  const connector = stack.use(startConnector({ ...kind, argv: () => argv(run) }, run));
  await connector.errorLine(/Registered tunnel connection/);
  await served(edge.publicPort);
  const owned = stack.move();
  return { path, bin, edge, origin, connector, pidFile, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

async function alone(connector: OwnedProcess): Promise<void> {
  await pollUntil(() => childrenOf(connector.pid).length === 0, { what: "the bridge has gone", deadlineMs: 30_000 });
}

describe.skipIf(!LINUX)("a running tunnel", () => {
  test(
    "updates itself where that was asked for: no request fails, a running one ends well, the process stays the same",
    async () => {
      await using at = await startOldTunnel(["--autoupdate-from", good, "--autoupdate-freq", "1s"]);
      const { connector, edge, origin } = at;
      const { socket, chunks } = await openVisit(edge.publicPort, { host: HOST, target: "/sse?gate=long" });
      await using _socket = socket;
      let answer = (await chunks.next()).value?.toString() ?? "";
      await using load = new LabLoad(edge.publicPort, ["GET", "POST"]);
      await connector.errorLine(/Version 1\.1\.0 is installed, and takes over from 1\.0\.0/, 30_000);
      await connector.errorLine(/Process \d+ is registered: draining this one/, 30_000);
      await load.more(50);
      origin.open("long");
      for await (const chunk of chunks) answer += chunk.toString();
      expect(answer).toEndWith("data: first\n\ndata: second\n\n");
      await connector.errorLine(/Version 1\.1\.0 has taken over/, 30_000);
      await alone(connector);
      await load.more(50);
      await load.stop();
      expect(load.failed).toEqual([]);
      expect(load.requests.length).toBeGreaterThan(100);
      expect(connector.end).toBeUndefined();
      expect(versionOf(at.path)).toBe(NEW);
      expect(readFileSync(at.pidFile, "utf8")).toBe(`${connector.pid}`);
      // The new program serves metrics as the old one did, and says who it is.
      const port = /.*Starting metrics server on 127\.0\.0\.1:(\d+)/s.exec(connector.stderr)?.[1];
      expect(await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()).toContain(`version="${NEW}"`);
      expect(readdirSync(at.bin).sort()).toEqual(["culvert", "culvert.previous"]);
    },
    DEADLINE_MS * 2,
  );

  test(
    "goes back to the old version when the new one does not serve, and does not try it again",
    async () => {
      using dir = makeTempDir();
      const script = `#!/bin/sh\n[ "$1" = version ] && echo ${NEW} && exit\necho "I only know my version" >&2\nexit 7\n`;
      publishVersion(dir.path, NEW, Buffer.from(script), key);
      await using at = await startOldTunnel(["--autoupdate-from", dir.path, "--autoupdate-freq", "300ms"]);
      await using load = new LabLoad(at.edge.publicPort, ["GET"]);
      await at.connector.errorLine(/Version 1\.1\.0 does not work here, and 1\.0\.0 goes on.*it ended with 7/, 30_000);
      expect(versionOf(at.path)).toBe(OLD);
      // Several periods.
      await load.more(300, 20_000);
      expect(at.connector.stderr.match(/is installed, and takes over/g)).toHaveLength(1);
      expect(load.failed).toEqual([]);
      expect(childrenOf(at.connector.pid)).toEqual([]);
    },
    DEADLINE_MS,
  );

  test(
    "does not update itself unless a place is named, nor where it cannot",
    async () => {
      await using quiet = await startOldTunnel(["--autoupdate-freq", "100ms"]);
      await using off = await startOldTunnel([
        "--autoupdate-from",
        good,
        "--autoupdate-freq",
        "100ms",
        "--no-autoupdate",
      ]);
      await using wrong = await startOldTunnel(["--autoupdate-from", good, "--autoupdate-window", "late"]);
      expect((await wrong.connector.errorLine(/does not update itself.*/))[0]).toContain(
        "autoupdate-window is not HH:MM",
      );
      await using strange = await startOldTunnel(["--autoupdate-from", good, "--autoupdate-cacert", "/none.pem"]);
      expect((await strange.connector.errorLine(/does not update itself.*/))[0]).toContain("Cannot read CA file");
      for (const { connector } of [quiet, off]) {
        await metricsPort(connector);
        expect(connector.stderr).not.toMatch(/takes over|does not update/);
      }
      expect([versionOf(quiet.path), versionOf(off.path)]).toEqual([OLD, OLD]);
    },
    DEADLINE_MS,
  );

  test(
    "makes way for whatever the file is now at SIGUSR2, over and over, and ends at SIGTERM",
    async () => {
      await using at = await startOldTunnel();
      await using load = new LabLoad(at.edge.publicPort, ["GET"]);
      const update = (...args: string[]): number | null => spawnSync(at.path, ["update", ...args]).status;
      expect(update("--from", good)).toBe(11);
      const turns = (): number => at.connector.stderr.match(/Version \S+ has taken over/g)?.length ?? 0;
      for (const [turn, version] of [NEW, OLD, NEW].entries()) {
        if (turn > 0) expect(update("--rollback")).toBe(11);
        at.connector.signal("SIGUSR2");
        await pollUntil(() => turns() === turn + 1, { what: `${version} has taken over`, deadlineMs: 20_000 });
        expect(at.connector.stderr).toContain(`Version ${version} has taken over`);
        await alone(at.connector);
      }
      await load.stop();
      expect(load.failed).toEqual([]);
      at.connector.signal("SIGTERM");
      expect(await at.connector.exitCode(10_000)).toBe(0);
    },
    DEADLINE_MS * 2,
  );

  test(
    "killed in the middle of it, leaves its place to the new version until its supervisor is back",
    async () => {
      await using at = await startOldTunnel();
      const { socket, chunks } = await openVisit(at.edge.publicPort, { host: HOST, target: "/sse?gate=held" });
      await using _socket = socket;
      await chunks.next();
      at.connector.signal("SIGUSR2");
      const [, bridge] = await at.connector.errorLine(/Process (\d+) is registered/, 20_000);
      // It still drains: the answer above is not over.
      await at.connector.kill();
      try {
        await served(at.edge.publicPort);
        expect(existsSync(`/proc/${bridge}`)).toBe(true);
      } finally {
        process.kill(Number(bridge), "SIGKILL");
      }
    },
    DEADLINE_MS,
  );
});

const MISSING = bootedMachineMissing("systemd");
(MISSING === undefined ? describe : describe.skip)(
  `under systemd${MISSING === undefined ? "" : ` (${MISSING})`}`,
  () => {
    const PROGRAM = "/usr/local/bin/culvert";
    const UPDATE = [PROGRAM, "update", "--services", "--from", "/release"] as const;
    const STATE = ["--state-dir", "/srv/edge"] as const;
    const FIXED = "1.2.1";
    const LAST = "1.2.2";
    let machine: BootedMachine;
    let edges = 0;
    beforeAll(async () => {
      machine = await BootedMachine.boot("systemd", { [PROGRAM]: oldBinary, "/srv/program": oldBinary });
    }, 120_000);
    afterAll(async () => await machine?.[Symbol.asyncDispose](), DEADLINE_MS);

    /** Of its own, and no service: those of an edge restart, and end the connections of visitors. */
    async function startEdge(): Promise<void> {
      const listen = ["--http-listen", "127.0.0.1:80", "--tunnel-listen", "127.0.0.1:7844"];
      await machine.ask("systemd-run", `--unit=edge-${++edges}`, "/srv/program", "edge", "run", ...STATE, ...listen);
      await pollUntil(async () => (await machine.run(["curl", "-s", "http://127.0.0.1/"])).code === 0, {
        ...{ what: "the edge listens", deadlineMs: 20_000 },
      });
    }

    /** Where the machine looks for releases. */
    function publish(version: string): void {
      publishVersion(join(machine.root, "release"), version, buildVersion(version, built.path, key), key);
    }

    async function show(...names: string[]): Promise<Readonly<Record<string, string>>> {
      const text = await machine.ask("systemctl", "show", "culvert.service", `--property=${names.join(",")}`);
      return Object.fromEntries(text.split("\n").map((line) => line.split("=", 2)));
    }

    test(
      "a hardened service takes a new version, which a timer of the machine got, as the same main process",
      async () => {
        await startEdge();
        const token = await machine.ask(PROGRAM, "edge", "tunnel", "add", "web", "app.example.com", ...STATE);
        await machine.ask(PROGRAM, "service", "install", token);
        writeFileSync(join(machine.root, "etc/culvert/config.yml"), "ingress:\n  - service: hello_world\n");
        const ask = `curl -s -o /dev/null -w '%{http_code}\\n' -H 'Host: app.example.com' http://127.0.0.1/`;
        await pollUntil(async () => (await machine.ask("sh", "-c", ask)) === "200", {
          ...{ what: "the tunnel serves", deadlineMs: 20_000 },
        });
        const before = await show("MainPID", "NRestarts");
        mkdirSync(join(machine.root, "release"));
        for (const name of readdirSync(good)) copyFileSync(join(good, name), join(machine.root, "release", name));
        const units = join(import.meta.dirname, "..", "..", "packaging", "systemd");
        for (const name of readdirSync(units)) {
          copyFileSync(join(units, name), join(machine.root, "etc/systemd/system", name));
        }
        writeFileSync(join(machine.root, "etc/culvert/update.env"), "CULVERT_UPDATE_FROM=/release\n");
        await machine.ask("systemctl", "daemon-reload");
        await machine.ask("systemctl", "start", "culvert-update.timer");
        const loop = `: >/srv/codes; while [ ! -e /srv/stop ]; do ${ask} >>/srv/codes; done`;
        const load = machine.run(["sh", "-c", loop]);
        await machine.ask("systemctl", "start", "culvert-update.service");
        expect(await machine.ask(PROGRAM, "version", "--short")).toBe(NEW);
        const log = (): Promise<string> => machine.ask("journalctl", "-u", "culvert", "-o", "cat");
        await pollUntil(async () => (await log()).includes(`Version ${NEW} has taken over`), {
          ...{ what: "the new version has taken over", deadlineMs: 40_000 },
        });
        await pollUntil(async () => (await show("TasksCurrent", "StatusText"))["StatusText"]?.startsWith("Connected"), {
          ...{ what: "systemd is told", deadlineMs: 20_000 },
        });
        const codes = (): readonly string[] => readFileSync(join(machine.root, "srv/codes"), "utf8").trim().split("\n");
        await pollUntil(() => codes().length > 50, { what: "more requests", deadlineMs: 20_000 });
        writeFileSync(join(machine.root, "srv/stop"), "");
        await load;
        expect([...new Set(codes())]).toEqual(["200"]);
        // The first look at the new configuration may be a reload, for a moment.
        await pollUntil(async () => (await show("ActiveState"))["ActiveState"] === "active", {
          ...{ what: "the service is active", deadlineMs: 20_000 },
        });
        expect(await show("MainPID", "NRestarts", "Result")).toEqual({ ...before, Result: "success" });
      },
      DEADLINE_MS * 2,
    );

    test(
      "a version that does not connect is taken back, the tunnel never stops, and the timer does not take it again",
      async () => {
        const LATER = "1.2.0";
        const release = join(machine.root, "release");
        const script = `#!/bin/sh\n[ "$1" = version ] && echo ${LATER} && exit\nexit 7\n`;
        publishVersion(release, LATER, Buffer.from(script), key);
        const before = await show("MainPID", "NRestarts");
        // The old program is given a minute by itself.
        await machine.ask("systemctl", "start", "--no-block", "culvert-update.service");
        const result = (): Promise<string> => machine.ask("systemctl", "is-failed", "culvert-update.service");
        await pollUntil(async () => (await result()).trim() === "failed", { what: "it ends", deadlineMs: 120_000 });
        const log = await machine.ask("journalctl", "-u", "culvert-update", "-o", "cat");
        expect(log).toContain(`Version ${LATER} does not work here: culvert.service did not hand over`);
        expect(await machine.ask(PROGRAM, "version", "--short")).toBe(NEW);
        expect(await show("MainPID", "NRestarts", "ActiveState")).toEqual({ ...before, ActiveState: "active" });
        const ask = `curl -s -o /dev/null -w '%{http_code}' -H 'Host: app.example.com' http://127.0.0.1/`;
        expect(await machine.ask("sh", "-c", ask)).toBe("200");
        const check = await machine.ask(PROGRAM, "update", "--check", "--from", "/release");
        expect(check).toContain(`culvert ${LATER} was taken back here at `);
        await machine.ask("systemctl", "start", "culvert-update.service");
        expect(await machine.ask(PROGRAM, "version", "--short")).toBe(NEW);
      },
      DEADLINE_MS * 3,
    );

    test(
      "a service that was broken before does not judge a version, and the timer takes one that the others run",
      async () => {
        const broken = "culvert@broken.service";
        const template = "/etc/systemd/system/culvert@.service";
        await machine.ask("cp", "/etc/systemd/system/culvert.service", template);
        await machine.ask("mkdir", "-p", `/etc/systemd/system/${broken}.d`);
        const dropIn =
          "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStartPre=/bin/false\nRestart=always\nRestartSec=1\n";
        writeFileSync(join(machine.root, `etc/systemd/system/${broken}.d/broken.conf`), dropIn);
        await machine.ask("systemctl", "daemon-reload");
        await machine.ask("systemctl", "start", "--no-block", broken);
        const state = (): Promise<string> => machine.ask("systemctl", "show", "--property=ActiveState", broken);
        await pollUntil(async () => (await state()).trim() === "ActiveState=activating", {
          ...{ what: "it is started over and over", deadlineMs: 20_000 },
        });
        publish(FIXED);
        const result = await machine.run([...UPDATE]);
        expect(result.stdout).toContain(`${broken} was not running`);
        expect(result.stdout).toContain(`is now culvert ${FIXED}, before ${NEW}, and its services run it`);
        expect(result.code).toBe(11);
        expect(await machine.ask(PROGRAM, "version", "--short")).toBe(FIXED);
        await machine.ask("systemctl", "stop", broken);
        await machine.ask("rm", "-r", template, `/etc/systemd/system/${broken}.d`);
        await machine.ask("systemctl", "daemon-reload");
      },
      DEADLINE_MS * 3,
    );

    test(
      "an edge that is away during the trial has no version rejected: it is waited for, though not for ever",
      async () => {
        publish(LAST);
        const before = (await machine.ask(PROGRAM, "version", "--short")).trim();
        const lose = async (): Promise<void> => {
          const pid = await machine.ask("systemctl", "show", "--property=MainPID", "--value", `edge-${edges}.service`);
          writeFileSync(join(machine.root, "srv/said"), "");
          await machine.ask("sh", "-c", `(${UPDATE.join(" ")}; echo "code $?") >/srv/said 2>&1 </dev/null &`);
          await pollUntil(() => said().includes("culvert.service takes over"), {
            what: "it begins",
            deadlineMs: 30_000,
          });
          await machine.ask("kill", "-KILL", pid.trim());
        };
        const said = (): string => readFileSync(join(machine.root, "srv/said"), "utf8");
        const end = (): Promise<unknown> =>
          pollUntil(() => /code \d+/.test(said()), { what: "it ends", deadlineMs: 200_000, everyMs: 100 });
        const connected = (): Promise<unknown> =>
          pollUntil(async () => (await show("StatusText"))["StatusText"]?.startsWith("Connected"), {
            ...{ what: "the tunnel is connected", deadlineMs: 90_000, everyMs: 100 },
          });
        await lose();
        await end();
        expect(said()).toContain(`is culvert ${before} again, and the next one tries ${LAST} again`);
        expect(said()).toEndWith("code 10\n");
        await startEdge();
        await connected();
        await lose();
        // Longer than the new program is given.
        const heldMs = performance.now() + 75_000;
        await pollUntil(() => performance.now() > heldMs, { what: "the time is over", deadlineMs: 80_000 });
        await startEdge();
        await end();
        expect(said()).toContain(`is now culvert ${LAST}, before ${before}, and its services run it`);
        expect(said()).toEndWith("code 11\n");
        await connected();
      },
      DEADLINE_MS * 8,
    );
  },
);
