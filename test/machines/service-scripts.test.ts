import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { builtBinary } from "../support/binary.ts";
import { BootedMachine, bootedMachineMissing, type MachineInit } from "../support/booted-machine.ts";
import { pollUntil } from "../support/poll-until.ts";

const BINARY = builtBinary();
const INITS: readonly MachineInit[] = ["openrc", "sysv"];
const MISSING = BINARY === undefined ? "needs dist/culvert: ./scripts/build" : bootedMachineMissing(...INITS);
const PROGRAM = "/usr/local/bin/culvert";
const STATE = "/var/lib/culvert";
const HOST = "app.example.com";
const FOLDERS = ["/etc", "/usr/local", "/var/lib", "/var/log", "/run", "/root", "/home"];
/** Files that the machine itself writes while it runs. */
const IGNORED =
  "^/var/log/(wtmp|btmp|lastlog|boot|dmesg)|^/run/(host|user|openrc|utmp|initctl|lock|mount|shm)|^/etc/(resolv|mtab)|^/run ";

interface Status {
  readonly installed: boolean;
  readonly enabled: boolean;
  readonly active: string;
  readonly pid?: number;
  readonly connected?: boolean;
}

/** Alpine's and Gentoo's init, and the one of Debian before systemd and of its derivatives without. */
for (const init of INITS) {
  (MISSING === undefined ? describe : describe.skip)(
    `services of a machine with ${init}${MISSING === undefined ? "" : ` (${MISSING})`}`,
    () => {
      let machine: BootedMachine;
      let untouched = "";
      let token = "";

      beforeAll(async () => {
        machine = await BootedMachine.boot(init, { [PROGRAM]: BINARY ?? "" });
        untouched = await files();
      }, 180_000);
      afterAll(async () => await machine?.[Symbol.asyncDispose](), 60_000);

      async function culvert(...args: string[]) {
        return await machine.run([PROGRAM, ...args], { deadlineMs: 100_000 });
      }
      async function status(...args: string[]): Promise<Status> {
        return JSON.parse((await culvert("service", "status", "--json", ...args)).stdout) as Status;
      }
      async function connected(but?: number): Promise<Status> {
        return await pollUntil(
          async () => {
            const now = await status();
            return now.connected === true && now.pid !== but ? now : undefined;
          },
          { what: `another process than ${but} is connected`, deadlineMs: 30_000, everyMs: 100 },
        );
      }
      async function served(code: string, host = HOST): Promise<void> {
        const visit = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", `Host: ${host}`];
        await pollUntil(async () => (await machine.run([...visit, "http://127.0.0.1/"])).stdout === code, {
          what: `${host} answers ${code}`,
          deadlineMs: 30_000,
          everyMs: 100,
        });
      }
      async function files(): Promise<string> {
        const found = `find ${FOLDERS.join(" ")} -printf '%p %m %U\n' 2>/dev/null | grep -Ev '${IGNORED}' | sort`;
        return await machine.ask("sh", "-c", found);
      }

      test("an edge and a tunnel are installed, and serve on port 80 without being root", async () => {
        const listen = ["--http-listen", "127.0.0.1:80", "--tunnel-listen", "127.0.0.1:7844"];
        const edge = await culvert("service", "install", "--edge", ...listen);
        expect(edge).toEqual({ code: 0, stdout: "culvert-edge is installed and running\n", stderr: "" });
        // It says so only once the edge serves, so it is there to be asked.
        token = await machine.ask(PROGRAM, "edge", "tunnel", "add", "web", HOST, "--state-dir", STATE);
        const tunnel = await culvert("service", "install", token);
        expect(tunnel).toEqual({ code: 0, stdout: "culvert is installed and running\nconnected\n", stderr: "" });
        writeFileSync(join(machine.root, "etc/culvert/config.yml"), "ingress:\n  - service: hello_world\n");
        await served("200");

        const { pid } = await connected();
        expect(await machine.ask("stat", "-c", "%U", `/proc/${pid}`)).toBe("culvert");
        const edgePid = await machine.ask("pgrep", "-n", "-u", "culvert-edge", "culvert");
        // CAP_NET_BIND_SERVICE and no more.
        expect(await machine.ask("grep", "CapEff", `/proc/${edgePid}/status`)).toBe("CapEff:\t0000000000000400");
        expect(await machine.ask("grep", "CapEff", `/proc/${pid}/status`)).toBe("CapEff:\t0000000000000000");
        expect(await machine.ask("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")).not.toContain(
          token.slice(0, 40),
        );
        expect(await machine.ask("stat", "-c", "%a %U", "/etc/culvert/token")).toBe("600 culvert");
      }, 120_000);

      test("killed, each is there again", async () => {
        const { pid } = await connected();
        await machine.ask("kill", "-9", `${pid}`);
        await connected(pid);
        const edgePid = await machine.ask("pgrep", "-n", "-u", "culvert-edge", "culvert");
        await machine.ask("kill", "-9", edgePid);
        await pollUntil(async () => (await status("--edge")).active === "running", {
          what: "the edge serves again",
          deadlineMs: 30_000,
          everyMs: 100,
        });
        await served("200");
      }, 90_000);

      test("an outage of the edge ends with both connected", async () => {
        const { pid } = await connected();
        await machine.ask("/etc/init.d/culvert-edge", "stop");
        expect((await culvert("service", "status", "--edge")).code).toBe(3);
        await machine.ask("/etc/init.d/culvert-edge", "start");
        await served("200");
        expect((await connected()).pid).toBe(pid ?? 0);
      }, 90_000);

      test("reload and restart", async () => {
        const { pid } = await connected();
        writeFileSync(join(machine.root, "etc/culvert/config.yml"), "ingress:\n  - service: http_status:418\n");
        await machine.ask("/etc/init.d/culvert", "reload");
        await served("418");
        expect((await status()).pid).toBe(pid ?? 0);
        expect(await machine.ask(PROGRAM, "service", "logs", "--lines", "20")).toContain("Configuration reloaded");
        const edgePid = await machine.ask("pgrep", "-n", "-u", "culvert-edge", "culvert");
        await machine.ask("/etc/init.d/culvert-edge", "reload");
        await served("418");
        expect(await machine.ask("pgrep", "-n", "-u", "culvert-edge", "culvert")).toBe(edgePid);
        expect(await culvert("service", "restart")).toMatchObject({ code: 0, stdout: "culvert is running\n" });
        await connected(pid);
      }, 90_000);

      test("an edge, whose process nobody names, is restarted for a new program only", async () => {
        const edgePid = () => machine.ask("pgrep", "-n", "-u", "culvert-edge", "culvert");
        const before = await edgePid();
        expect(await culvert("service", "install", "--edge")).toMatchObject({
          code: 0,
          stdout: "culvert-edge is installed and running: nothing to do\n",
        });
        expect(await edgePid()).toBe(before);
        await machine.ask("sh", "-c", `cp ${PROGRAM} ${PROGRAM}.new && mv ${PROGRAM}.new ${PROGRAM}`);
        expect(await culvert("service", "install", "--edge")).toMatchObject({
          code: 0,
          stdout: "culvert-edge is installed and running\n",
        });
        expect(await edgePid()).not.toBe(before);
        const { pid } = await connected();
        expect(await culvert("service", "install", token)).toMatchObject({ code: 0 });
        await connected(pid);
        await served("418");
      }, 90_000);

      test("installed twice, over damage, and beside a second tunnel", async () => {
        const { pid } = await connected();
        expect(await culvert("service", "install", token)).toEqual({
          code: 0,
          stdout: "culvert is installed and running: nothing to do\nconnected\n",
          stderr: "",
        });
        expect((await status()).pid).toBe(pid ?? 0);
        await machine.ask("sh", "-c", "echo rubbish >/etc/culvert/token; echo 'exit 1' >/etc/init.d/culvert");
        expect(await culvert("service", "install", token)).toMatchObject({ code: 0, stderr: "" });
        await connected();

        const two = "two.example.com";
        const second = await machine.ask(PROGRAM, "edge", "tunnel", "add", "two", two, "--state-dir", STATE);
        expect((await culvert("service", "install", second)).stderr).toContain("give --name NAME");
        const named = await culvert("service", "install", "--name", "two", second);
        expect(named).toMatchObject({ code: 0, stdout: "culvert-two is installed and running\nconnected\n" });
        const config = "etc/culvert/tunnels/two/config.yml";
        writeFileSync(join(machine.root, config), "ingress:\n  - service: http_status:202\n");
        await served("202", two);
        expect(await culvert("service", "uninstall", "--name", "two", "--purge")).toMatchObject({ code: 0 });
        expect(await files()).not.toMatch(/culvert-two|tunnels/);
        await served("418");
      }, 120_000);

      test("after a reboot all is there again", async () => {
        await machine.reboot();
        await connected();
        await served("418");
        expect(await status()).toMatchObject({ installed: true, enabled: true });
      }, 120_000);

      test("purged, nothing is left", async () => {
        for (const args of [[], ["--edge"], ["--edge"]]) {
          expect(await culvert("service", "uninstall", "--purge", ...args)).toMatchObject({ code: 0, stderr: "" });
        }
        await machine.run(["sh", "-c", "rm -f /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- /etc/sub?id-"]);
        const known = new Set(untouched.split("\n"));
        expect((await files()).split("\n").filter((line) => !known.has(line))).toEqual([]);
        expect((await machine.run(["pgrep", "-a", "culvert"])).stdout).toBe("");
        expect((await machine.run(["grep", "culvert", "/etc/passwd", "/etc/group"])).stdout).toBe("");
      }, 60_000);
    },
  );
}
