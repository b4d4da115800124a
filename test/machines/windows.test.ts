import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { binaryName } from "../../scripts/release/targets.ts";
import { type LabOrigin, startOrigin } from "../support/origins.ts";
import { pollUntil } from "../support/poll-until.ts";
import { RELEASE_TESTS_OFF } from "../support/release-tests.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { openVisit, visit } from "../support/visitors.ts";
import { WineMachine, wineMissing } from "../support/wine.ts";

const ROOT = join(import.meta.dirname, "..", "..");
const { version: VERSION }: { version: string } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
const BUILD_DEADLINE_MS = 300_000;
const TEST_MS = 120_000;
const HOST = "app.edge.test";
const OTHER_HOST = "other.edge.test";
const STATE = "C:\\ProgramData\\culvert\\run\\culvert-edge";

interface Status {
  readonly installed: boolean;
  readonly enabled: boolean;
  readonly active: string;
  readonly pid?: number;
  readonly connected?: boolean;
}

const built = makeTempDir();
const EXE = join(built.path, binaryName(VERSION, "windows-x64"));
const MISSING = RELEASE_TESTS_OFF ?? wineMissing() ?? buildProblem();

/** The runtime for Windows comes from the npm registry. */
function buildProblem(): string | undefined {
  const args = ["--target", "windows-x64", "--out", built.path];
  const { status, stderr } = spawnSync(join(ROOT, "scripts", "build"), args, {
    encoding: "utf8",
    timeout: BUILD_DEADLINE_MS,
  });
  if (status === 0 && existsSync(EXE)) return undefined;
  return `the Windows binary could not be built: ${stderr.slice(-300)}`;
}

// Where everything is skipped, nothing that comes after is called.
if (MISSING !== undefined) built[Symbol.dispose]();
afterAll(() => built[Symbol.dispose]());

(MISSING === undefined ? describe : describe.skip)(
  `the Windows binary under wine${MISSING === undefined ? "" : ` (${MISSING})`}`,
  () => {
    let machine: WineMachine;
    let origin: LabOrigin;
    let token = "";
    let publicPort = 0;
    /** Where the edge keeps its tunnels, and what it tells them to dial. */
    let place: readonly string[] = [];

    beforeAll(async () => {
      machine = await WineMachine.boot(EXE);
      origin = await startOrigin();
    }, 180_000);
    afterAll(async () => {
      await origin?.[Symbol.asyncDispose]();
      await machine?.[Symbol.asyncDispose]();
    }, 60_000);

    const data = (...parts: string[]): string => join(machine.drive, "ProgramData", "culvert", ...parts);
    const hasEventSource = async (name: string): Promise<boolean> => {
      const key = `HKLM\\SYSTEM\\CurrentControlSet\\Services\\EventLog\\Application\\${name}`;
      return (await machine.windows("reg", "query", key, "/v", "EventMessageFile")).stdout.includes("EventCreate.exe");
    };

    async function status(...args: string[]): Promise<Status> {
      return JSON.parse((await machine.culvert("service", "status", "--json", ...args)).stdout) as Status;
    }
    /** What Windows' own tool tells of a service: its state, checkpoint and the time it promised. */
    async function scm(name: string): Promise<{ state: string; checkpoint: number; hintMs: number } | undefined> {
      const { stdout } = await machine.windows("sc", "query", name);
      const found = /STATE\s*: \d\s+(\w+)[\s\S]*CHECKPOINT\s*: 0x([0-9a-f]+)[\s\S]*WAIT_HINT\s*: 0x([0-9a-f]+)/i.exec(
        stdout,
      );
      if (found === null) return undefined;
      const [, state = "", checkpoint = "", hint = ""] = found;
      return { state, checkpoint: Number.parseInt(checkpoint, 16), hintMs: Number.parseInt(hint, 16) };
    }
    async function reached(state: string): Promise<void> {
      const what = `the service manager says ${state}`;
      await pollUntil(async () => (await scm("culvert"))?.state === state, { what, deadlineMs: 30_000, everyMs: 50 });
    }
    async function served(host = HOST): Promise<void> {
      await pollUntil(async () => (await visit(publicPort, { host, target: "/hello" })).status === 200, {
        what: `${host} is served`,
        deadlineMs: 30_000,
        everyMs: 50,
      });
    }
    function configure(path: string): void {
      writeFileSync(path, `ingress:\n  - service: http://127.0.0.1:${origin.port}\n`);
    }

    test("says its version", async () => {
      const { code, stdout } = await machine.culvert("--version");
      expect(code).toBe(0);
      expect(stdout).toStartWith(`culvert version ${VERSION} (built `);
    });

    test(
      "`culvert up` serves a request",
      async () => {
        await using up = machine.start("up", "--url", `http://127.0.0.1:${origin.port}`);
        const [, host = "", port = ""] = await up.outputLine(/^http:\/\/(\S+):(\d+)/m, 60_000);
        const answer = await visit(Number(port), { host: `${host}:${port}`, target: "/hello" });
        expect(answer.status).toBe(200);
        expect(origin.seenAt("/hello")?.outcome).toBe("done");
      },
      TEST_MS,
    );

    test(
      "a control handler answers 0 to the thread that calls it",
      async () => {
        const answer = await machine.script(join(ROOT, "test", "support", "windows-callback.ts"));
        expect(JSON.parse(answer)).toEqual({ seen: [7, 7, 7, 7, 7], answers: [0, 0, 0, 0, 0] });
      },
      TEST_MS,
    );

    test(
      "`service run` by hand says that it is not for hands, and a service that is not there is not there",
      async () => {
        const { code, stderr } = await machine.culvert("service", "run");
        expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining("Nobody started this") });
        expect((await machine.culvert("service", "status")).code).toBe(4);
        expect(await machine.culvert("service", "restart")).toMatchObject({ code: 1 });
      },
      TEST_MS,
    );

    test(
      "--dry-run changes nothing",
      async () => {
        const { code, stdout } = await machine.culvert("service", "install", "--edge", "--dry-run");
        expect(code).toBe(0);
        expect(stdout).toContain("define the service culvert-edge");
        expect(existsSync(data())).toBe(false);
        expect(await scm("culvert-edge")).toBeUndefined();
      },
      TEST_MS,
    );

    test(
      "an edge and a tunnel are installed as services, and serve",
      async () => {
        const listen = ["--http-listen", "127.0.0.1:0", "--tunnel-listen", "127.0.0.1:0"];
        const edge = await machine.culvert("service", "install", "--edge", "--domain", "edge.test", ...listen);
        expect(edge).toEqual({ code: 0, stdout: "culvert-edge is installed and running\n", stderr: "" });
        const [, port, tunnelPort] = await pollUntil(
          () =>
            /ready .*public=http:\/\/127\.0\.0\.1:(\d+) .*tunnel=127\.0\.0\.1:(\d+)/.exec(
              readFileSync(data("run", "culvert-edge.log"), "utf8"),
            ),
          { what: "the edge says where it listens", deadlineMs: 20_000 },
        );
        publicPort = Number(port);
        place = ["--state-dir", STATE, "--advertise", `127.0.0.1:${tunnelPort}`];
        const added = await machine.culvert("edge", "tunnel", "add", "web", HOST, ...place);
        expect(added.code).toBe(0);
        token = added.stdout.trim();
        const tunnel = await machine.culvert("service", "install", token);
        expect(tunnel).toEqual({ code: 0, stdout: "culvert is installed and running\nconnected\n", stderr: "" });
        configure(data("config.yml"));
        await served();
        expect(await status()).toMatchObject({ installed: true, enabled: true, active: "running", connected: true });
        expect(await scm("culvert")).toEqual({ state: "RUNNING", checkpoint: 0, hintMs: 0 });
      },
      TEST_MS,
    );

    test(
      "the token is in one file, and in no command line",
      async () => {
        expect(readFileSync(data("token"), "utf8").trim()).toBe(token);
        const processes = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
        const lines = processes.map((pid) => {
          try {
            return readFileSync(`/proc/${pid}/cmdline`, "utf8");
          } catch {
            return "";
          }
        });
        const services = lines.filter((line) => /culvert\.exe"?\0?.*service.*run/.test(line));
        expect(services.length).toBeGreaterThanOrEqual(2);
        for (const line of lines) expect(line.includes(token.slice(0, 40))).toBe(false);
      },
      TEST_MS,
    );

    test(
      "installed again, with the token through a pipe as install.ps1 gives it: nothing to do",
      async () => {
        const { pid } = await status();
        const again = machine.reading(`${token}\r\n`, "service", "install", "--token-file", "-");
        expect(again).toEqual({
          code: 0,
          stdout: "culvert is installed and running: nothing to do\nconnected\n",
          stderr: "",
        });
        expect((await status()).pid).toBe(pid as number);
      },
      TEST_MS,
    );

    test(
      "a second tunnel has a service, a folder and a program line of its own",
      async () => {
        const added = await machine.culvert("edge", "tunnel", "add", "two", OTHER_HOST, ...place);
        expect(added.code).toBe(0);
        const second = await machine.culvert("service", "install", "--name", "two", added.stdout.trim());
        expect(second).toEqual({ code: 0, stdout: "culvert-two is installed and running\nconnected\n", stderr: "" });
        configure(data("tunnels", "two", "config.yml"));
        await served(OTHER_HOST);
        const removed = await machine.culvert("service", "uninstall", "--name", "two", "--purge");
        expect(removed).toEqual({ code: 0, stdout: "culvert-two is removed\n", stderr: "" });
        expect(existsSync(data("tunnels"))).toBe(false);
        expect((await visit(publicPort, { host: HOST, target: "/hello" })).status).toBe(200);
      },
      TEST_MS,
    );

    test(
      "the service manager stops it while a request runs: it says so, again and again, and lets the request finish",
      async () => {
        const running = openVisit(publicPort, { host: HOST, target: "/slow?gate=windows" });
        await pollUntil(() => origin.seenAt("/slow?gate=windows"), { what: "the origin has the request" });
        await machine.windows("sc", "stop", "culvert");
        const first = await pollUntil(
          async () => {
            const now = await scm("culvert");
            return now?.state === "STOP_PENDING" && now.checkpoint > 0 ? now : undefined;
          },
          { what: "it is stopping", deadlineMs: 10_000, everyMs: 50 },
        );
        expect(first.hintMs).toBe(15_000);
        await pollUntil(async () => ((await scm("culvert"))?.checkpoint ?? 0) > first.checkpoint, {
          what: "the next checkpoint",
          deadlineMs: 10_000,
          everyMs: 100,
        });
        origin.open("windows");
        const { socket, head } = await running;
        expect(head.status).toBe(200);
        await socket[Symbol.asyncDispose]();
        await reached("STOPPED");
        expect((await visit(publicPort, { host: HOST, target: "/hello" })).status).not.toBe(200);
        expect(await status()).toMatchObject({ installed: true, active: "stopped" });
      },
      TEST_MS,
    );

    test(
      "the service manager starts it, and `service restart` gives it a new process",
      async () => {
        await machine.windows("net", "start", "culvert");
        await reached("RUNNING");
        await served();
        const { pid } = await status();
        const restarted = await machine.culvert("service", "restart");
        expect(restarted).toEqual({ code: 0, stdout: "culvert is running\n", stderr: "" });
        await served();
        const now = await status();
        expect(now).toMatchObject({ active: "running", connected: true });
        expect(now.pid).not.toBe(pid as number);
      },
      TEST_MS,
    );

    test(
      "a token that no edge takes: the service runs, and is not called connected",
      async () => {
        const wrong = { ...(JSON.parse(atob(token)) as Record<string, unknown>), s: btoa("0".repeat(32)) };
        const args = ["--name", "wrong", "--wait", "3s", btoa(JSON.stringify(wrong))];
        const { code, stderr } = await machine.culvert("service", "install", ...args);
        expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining("'culvert service logs'") });
        await machine.culvert("service", "uninstall", "--name", "wrong", "--purge");
      },
      TEST_MS,
    );

    test(
      "uninstall leaves token and configuration, and with --purge nothing",
      async () => {
        expect(await hasEventSource("culvert")).toBe(true);
        const first = await machine.culvert("service", "uninstall");
        const kept = ["token", "config.yml"].map(
          (name) => `kept C:\\ProgramData\\culvert\\${name}: --purge removes it too`,
        );
        expect(first).toEqual({ code: 0, stdout: `${["culvert is removed", ...kept].join("\n")}\n`, stderr: "" });
        expect(await scm("culvert")).toBeUndefined();
        expect(await hasEventSource("culvert")).toBe(false);
        expect(readdirSync(data()).toSorted()).toEqual(["config.yml", "edge.env", "run", "token"]);
        const second = await machine.culvert("service", "uninstall", "--purge");
        expect(second).toEqual({ code: 0, stdout: "culvert is removed\n", stderr: "" });
        expect(readdirSync(data()).toSorted()).toEqual(["edge.env", "run"]);
        const edge = await machine.culvert("service", "uninstall", "--edge");
        expect(edge.code).toBe(0);
        expect(await scm("culvert-edge")).toBeUndefined();
        expect(readdirSync(data("run"))).toEqual(["culvert-edge"]);
      },
      TEST_MS,
    );
  },
);
