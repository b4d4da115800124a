import { describe, expect, test } from "bun:test";
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type ConfigLab, startConfigLab } from "../support/config-lab.ts";
import { culvertConnector, HOST, PROTOCOLS, served } from "../support/lab.ts";
import { LabLoad } from "../support/lab-load.ts";
import { pollUntil } from "../support/poll-until.ts";
import { startProcess } from "../support/processes.ts";
import { startPushingEdge } from "../support/pushing-edge.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { openVisit, openWebSocket, serverSentEvents, visit } from "../support/visitors.ts";

/** Reloads under load; the long run has 10 000. */
const RELOADS = Number(process.env["CULVERT_RELOADS"] ?? 500);
const WARM_UP_RELOADS = Math.ceil(RELOADS * 0.4);
/** Memory after the last reload, against that after the first ones: the heap grows to its size for some thousands. */
const MAX_GROWTH = 1.25;
const MEBIBYTE = 1024 * 1024;
/** Within this the connector must have seen a changed file, in ms. */
const SEEN_MS = 3_000;

const APPLIED = 'culvert_config_reloads_total{result="applied"}';
const REFUSED = 'culvert_config_reloads_total{result="refused"}';

/** As editors and careful scripts do: a temporary file beside it, then a rename. */
function replaceFile(file: string, text: string): void {
  writeFileSync(`${file}.tmp~`, text);
  renameSync(`${file}.tmp~`, file);
}

function descriptors(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

describe.each(PROTOCOLS.map((protocol) => ({ protocol })))("reloads over $protocol", ({ protocol }) => {
  test(
    `${RELOADS} under load: no request fails, streams go on, nothing is left over`,
    async () => {
      await using lab = await startConfigLab(protocol);
      await served(lab.port);
      // Each time a setting of the service changes too, so that it is another service, not only another table.
      const reload = async (number: number): Promise<void> => {
        replaceFile(
          lab.file,
          lab.rules(`mark${number}`, `originRequest:\n  keepAliveTimeout: ${60 + (number % 30)}s\n`),
        );
        lab.connector.signal("SIGHUP");
        await lab.live(`mark${number}`);
      };
      await using ws = await openWebSocket(lab.port, { host: HOST, target: "/ws" });
      const sse = await openVisit(lab.port, { host: HOST, target: "/sse?gate=after-reloads" });
      await using _sse = sse.socket;
      // Both say nothing for as long as the reloads take.
      for (const { socket } of [ws.socket, sse.socket]) socket.setTimeout(0);
      const events = serverSentEvents(sse.chunks);
      expect((await events.next()).value).toBe("first");
      await using load = new LabLoad(lab.port, ["GET", "POST"]);
      await load.more(50);
      for (let number = 1; number <= WARM_UP_RELOADS; number += 1) await reload(number);
      const settled = { bytes: lab.connector.residentBytes(), descriptors: descriptors(lab.connector.pid) };
      for (let number = WARM_UP_RELOADS + 1; number <= RELOADS; number += 1) await reload(number);
      await load.more(50);
      await load.stop();
      expect(load.failed).toEqual([]);
      expect(load.requests.length).toBeGreaterThan(100);
      await ws.sendText("still here");
      expect((await ws.receive())?.payload.toString()).toBe("still here");
      lab.origin.open("after-reloads");
      expect((await events.next()).value).toBe("second");
      expect((await events.next()).done).toBe(true);
      // Where the watch saw a file before the signal came, it was read for both.
      const applied = await lab.metric(APPLIED);
      expect(applied).toBeGreaterThanOrEqual(RELOADS);
      expect(applied).toBeLessThan(RELOADS * 1.1);
      expect(await lab.metric(REFUSED)).toBe(0);
      expect(lab.connector.stderr).not.toMatch(/ (ERR|WRN) /);
      await pollUntil(() => descriptors(lab.connector.pid) <= settled.descriptors + 10, {
        what: `no more descriptors than ${settled.descriptors} (${descriptors(lab.connector.pid)} are open)`,
      });
      const bytes = lab.connector.residentBytes();
      expect(bytes / MEBIBYTE).toBeLessThan(
        Math.max(settled.bytes * MAX_GROWTH, settled.bytes + 32 * MEBIBYTE) / MEBIBYTE,
      );
    },
    RELOADS * 200 + 60_000,
  );
});

describe("a changed config file is seen", () => {
  test("written in place, renamed onto, deleted and created; other files beside it do not matter", async () => {
    await using lab = await startConfigLab("http2");
    const { file } = lab;
    writeFileSync(file, lab.rules("written"));
    await lab.live("written", SEEN_MS);
    replaceFile(file, lab.rules("renamed"));
    await lab.live("renamed", SEEN_MS);
    rmSync(file);
    writeFileSync(`${file}.swp`, "ingress: [nonsense");
    writeFileSync(file, lab.rules("created"));
    await lab.live("created", SEEN_MS);
    rmSync(file);
    await lab.connector.errorLine(/WRN Config file .* is gone/);
    await served(lab.port);
    writeFileSync(file, lab.rules("again"));
    await lab.live("again", SEEN_MS);
    expect(await lab.metric(APPLIED)).toBe(4);
    expect(await lab.metric(REFUSED)).toBe(0);
  }, 60_000);

  test("swapped by its folder's symbolic link, as Kubernetes does it", async () => {
    const version = (dir: string, name: string, rules: string): void => {
      mkdirSync(join(dir, "config", name), { recursive: true });
      writeFileSync(join(dir, "config", name, "config.yml"), rules);
      symlinkSync(name, join(dir, "config", "..data_tmp"));
      renameSync(join(dir, "config", "..data_tmp"), join(dir, "config", "..data"));
    };
    await using lab = await startConfigLab("http2", (dir, rules) => {
      version(dir, "..v1", rules);
      symlinkSync(join("..data", "config.yml"), join(dir, "config", "config.yml"));
      return join(dir, "config", "config.yml");
    });
    for (let number = 2; number <= 4; number += 1) {
      version(lab.dir, `..v${number}`, lab.rules(`swap${number}`));
      rmSync(join(lab.dir, "config", `..v${number - 1}`), { recursive: true });
      await lab.live(`swap${number}`, SEEN_MS);
    }
    expect(await lab.metric(APPLIED)).toBe(3);
  }, 60_000);

  test("touched, or with other comments only: nothing happens", async () => {
    await using lab = await startConfigLab("http2");
    writeFileSync(lab.file, `# a comment\n${lab.rules("first")}`);
    writeFileSync(`${lab.file}.marker`, "");
    // A later change shows that the watch has gone past this one.
    await new Promise((resolve) => setTimeout(resolve, 1_200));
    writeFileSync(lab.file, lab.rules("second"));
    await lab.live("second", SEEN_MS);
    expect(await lab.metric(APPLIED)).toBe(1);
  }, 60_000);
});

test("SIGHUP reloads in a terminal too, but a terminal that closes ends the connector", async () => {
  await using edge = await startPushingEdge({ remotelyManaged: false });
  using dir = makeTempDir();
  const [file, pidFile] = [join(dir.path, "config.yml"), join(dir.path, "pid")];
  writeFileSync(file, "ingress:\n  - service: http_status:201\n");
  const { token, tunnelPort, caPath } = edge;
  const flags = ["--config", file, "--pidfile", pidFile];
  const command = culvertConnector("http2").argv({ token, tunnelPort, caPath, flags });
  await using terminal = startProcess(["script", "-qfc", command.join(" "), "/dev/null"]);
  const pid = await pollUntil(() => Number(readFileSync(pidFile, "utf8")), {
    what: "the pid file",
    deadlineMs: 15_000,
  });
  try {
    writeFileSync(file, "ingress:\n  - service: http_status:202\n");
    process.kill(pid, "SIGHUP");
    await terminal.outputLine(/INF Configuration reloaded from/);
    await terminal.kill();
    await pollUntil(() => !isAlive(pid), { what: "the connector ends with its terminal" });
  } finally {
    if (isAlive(pid)) process.kill(pid, "SIGKILL");
  }
}, 60_000);

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

describe("a config file that cannot be used", () => {
  /** Writes, waits for so many refusals, and gives what the log says from then on. */
  async function refused(lab: ConfigLab, text: string, count: number): Promise<string> {
    const before = lab.connector.stderr.length;
    replaceFile(lab.file, text);
    lab.connector.signal("SIGHUP");
    await pollUntil(async () => (await lab.metric(REFUSED)) >= count, { what: `${count} refusals` });
    return lab.connector.stderr.slice(before);
  }

  test("is refused with all its errors and their places, and the old rules go on", async () => {
    await using lab = await startConfigLab("http2");
    const wrong = `ingress:
  - hostname: a.example:80
    service: http://localhost:1
  - path: "["
    service: nonsense
  - service: http://localhost:1
    originRequest:
      connectTimeout: soon
      noTLSVerify: 3
  - hostname: last.example
    service: http_status:99
`;
    const log = await refused(lab, wrong, 1);
    const places = [...log.matchAll(/ERR The new configuration is refused.* error="?.*config\.yml:(\d+:\d+): /g)];
    expect(places.map(([, place]) => place).sort()).toEqual(["10:5", "11:5", "2:5", "4:5", "5:5", "6:5", "8:7", "9:7"]);
    await lab.live("first");
    await served(lab.port);

    const emptied = await refused(lab, "ingres: []\n", 2);
    expect(emptied).toMatch(/ERR The new configuration is refused.*There are no ingress rules/);
    // The old rules answer; what may have been meant by the file is said all the same.
    expect(emptied).not.toMatch(/answers 503/);
    expect(emptied).toMatch(/WRN .*config\.yml:1:1: .*"ingres"/);
    expect(await refused(lab, "ingress: [", 3)).toMatch(/config\.yml:1:\d+/);
    const unreadable = `ingress:\n  - service: https://localhost:1\n    originRequest:\n      caPool: /no/such/file\n`;
    expect(await refused(lab, unreadable, 4)).toMatch(/config\.yml:2:5: Rule #1: .*\/no\/such\/file/);
    await served(lab.port);
    expect(await lab.metric(APPLIED)).toBe(0);

    replaceFile(lab.file, lab.rules("mended"));
    await lab.live("mended", SEEN_MS);
    expect((await visit(lab.port, { host: HOST, target: "/hello" })).status).toBe(200);
  }, 60_000);

  test("keys that need a restart are named in one warning; the log level does not", async () => {
    await using lab = await startConfigLab("http2");
    expect(lab.connector.stderr).not.toContain(" DBG ");
    replaceFile(lab.file, lab.rules("next", "loglevel: debug\nretries: 9\ngrace-period: 9s\n"));
    await lab.live("next", SEEN_MS);
    // The grace period was given on the command line, which goes before the file in any case.
    await lab.connector.errorLine(/WRN Changed, but in force only after a restart: retries$/m);
    const left = await openVisit(lab.port, { host: HOST, target: "/slow" });
    await left.socket[Symbol.asyncDispose]();
    await lab.connector.errorLine(/ DBG Request ended by the other side/);
  }, 60_000);
});
