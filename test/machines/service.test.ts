import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { unzipSync } from "fflate";
import { parseToken } from "../../src/wire/token.ts";
import { builtBinary } from "../support/binary.ts";
import { BootedMachine, bootedMachineMissing } from "../support/booted-machine.ts";
import { pollUntil } from "../support/poll-until.ts";

const BINARY = builtBinary();
const MISSING = BINARY === undefined ? "needs dist/culvert: ./scripts/build" : bootedMachineMissing("systemd");
const PROGRAM = "/usr/local/bin/culvert";
const CONFIG = "/etc/culvert/config.yml";
const STATE = "/var/lib/culvert";
const HOST = "app.example.com";
/** The issue's bound on `systemd-analyze security`. */
const MAX_EXPOSURE = 1.5;
const CLOUDFLARED = process.env["CLOUDFLARED_BIN"] || undefined;

/** Programs for inside, run by the runtime that our own binary is. */
const ORIGIN = `
import { createServer } from "node:http";
createServer((request, response) => {
  response.statusCode = 201;
  if (request.url !== "/slow") return response.end("ok");
  response.write("begun\\n");
  setTimeout(() => response.end("ended\\n"), 3000);
}).listen(8080, "127.0.0.1");
`;
const LOAD = `
const [host, seconds] = process.argv.slice(2);
const end = Date.now() + seconds * 1000;
const lost = [];
let answered = 0;
console.log("begun");
await Promise.all(Array.from({ length: 8 }, async () => {
  while (Date.now() < end) {
    try {
      const response = await fetch("http://127.0.0.1/", { headers: { host } });
      const text = await response.text();
      if (response.status === 201 && text === "ok") answered++;
      else lost.push(String(response.status));
    } catch (error) { lost.push(String(error)); }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}));
console.log(JSON.stringify({ answered, lost: lost.length, first: lost.slice(0, 5) }));
`;

interface Status {
  readonly installed: boolean;
  readonly active: string;
  readonly pid?: number;
  readonly connected?: boolean;
  readonly connections?: number;
  readonly outdated: boolean;
  readonly unit: string;
  readonly restarts?: number;
}

(MISSING === undefined ? describe : describe.skip)(
  `services of a machine with systemd${MISSING === undefined ? "" : ` (${MISSING})`}`,
  () => {
    let machine: BootedMachine;
    let token = "";
    let untouched = "";

    beforeAll(async () => {
      machine = await BootedMachine.boot("systemd", { [PROGRAM]: BINARY ?? "" });
      writeFileSync(join(machine.root, "opt/origin.mjs"), ORIGIN);
      writeFileSync(join(machine.root, "opt/load.mjs"), LOAD);
      untouched = await files();
    }, 120_000);
    afterAll(async () => await machine?.[Symbol.asyncDispose](), 60_000);

    async function culvert(...args: string[]) {
      return await machine.run([PROGRAM, ...args]);
    }
    async function status(...args: string[]): Promise<Status> {
      return JSON.parse((await culvert("service", "status", "--json", ...args)).stdout) as Status;
    }
    async function connected(...args: string[]): Promise<Status> {
      const what = `it is connected: ${args.join(" ")}`;
      return await pollUntil(
        async () => {
          const now = await status(...args);
          return now.connected === true ? now : undefined;
        },
        { what, deadlineMs: 30_000, everyMs: 100 },
      );
    }
    async function visit(host = HOST): Promise<string> {
      return (
        await machine.run([
          "curl",
          "-s",
          "-o",
          "/dev/null",
          "-w",
          "%{http_code}",
          "-H",
          `Host: ${host}`,
          "http://127.0.0.1/",
        ])
      ).stdout;
    }
    async function served(code: string, host = HOST): Promise<void> {
      await pollUntil(async () => (await visit(host)) === code, {
        what: `${host} answers ${code}`,
        deadlineMs: 20_000,
        everyMs: 50,
      });
    }
    /** Everything that an installation could leave behind, with modes. */
    async function files(): Promise<string> {
      const folders = [
        "/etc",
        "/usr/local",
        "/var/lib",
        "/var/log",
        "/run/culvert",
        "/run/systemd/system",
        "/root",
        "/home",
      ];
      const ignored = "^/var/log/(journal|wtmp|btmp|lastlog)|^/etc/(\\.updated|resolv|machine-id)|^/var/lib/systemd";
      return await machine.ask(
        "sh",
        "-c",
        `find ${folders.join(" ")} -printf '%p %m %U\\n' 2>/dev/null | grep -Ev '${ignored}' | sort`,
      );
    }
    function configure(text: string): void {
      writeFileSync(join(machine.root, CONFIG), text);
    }

    test("--dry-run changes nothing", async () => {
      const { code, stdout } = await culvert("service", "install", "--edge", "--dry-run");
      expect(code).toBe(0);
      expect(stdout).toContain("write /etc/systemd/system/culvert-edge.service (0644)");
      expect(await files()).toBe(untouched);
    });

    test("an edge and a tunnel are installed, and serve", async () => {
      const edge = await culvert(
        "service",
        "install",
        "--edge",
        "--http-listen",
        "127.0.0.1:80",
        "--tunnel-listen",
        "127.0.0.1:7844",
      );
      expect(edge).toEqual({ code: 0, stdout: "culvert-edge.service is installed and running\n", stderr: "" });
      token = await machine.ask(PROGRAM, "edge", "tunnel", "add", "web", HOST, "--state-dir", STATE);
      const tunnel = await culvert("service", "install", token);
      expect(tunnel).toEqual({ code: 0, stdout: "culvert.service is installed and running\nconnected\n", stderr: "" });
      configure("ingress:\n  - service: hello_world\n");
      await served("200");
      expect((await machine.ask("journalctl", "-u", "culvert", "-o", "cat")).toString()).toContain("protocol=quic");
    }, 60_000);

    test("the token is on no command line, and only root can read it", async () => {
      const { pid } = await connected();
      expect(await machine.ask("sh", "-c", `tr '\\0' ' ' </proc/${pid}/cmdline`)).not.toContain(token.slice(0, 40));
      expect(await machine.ask("sh", "-c", `tr '\\0' ' ' </proc/${pid}/environ`)).not.toContain(token.slice(0, 40));
      expect(await machine.ask("stat", "-c", "%a %U", "/etc/culvert/token")).toBe("600 root");
    });

    test.each(["culvert.service", "culvert-edge.service"])("%s is hardened, and runs as nobody else", async (unit) => {
      const said = await machine.ask("systemd-analyze", "security", unit, "--no-pager");
      const exposure = Number(/Overall exposure level for \S+: ([0-9.]+)/.exec(said)?.[1]);
      console.info(`${unit}: systemd-analyze security says ${exposure}`);
      expect(exposure).toBeLessThan(MAX_EXPOSURE);
      const pid = await machine.ask("systemctl", "show", "-P", "MainPID", unit);
      expect(Number(await machine.ask("stat", "-c", "%u", `/proc/${pid}`))).toBeGreaterThan(60_000);
    });

    test("systemd finds nothing wrong with the units", async () => {
      const units = ["culvert.service", "culvert-edge.service"].map((unit) => `/etc/systemd/system/${unit}`);
      expect(await machine.run(["systemd-analyze", "verify", ...units])).toEqual({ code: 0, stdout: "", stderr: "" });
    });

    test("killed, it is there again", async () => {
      const { pid } = await connected();
      await machine.ask("kill", "-9", `${pid}`);
      const after = await pollUntil(
        async () => {
          const now = await connected();
          return now.pid === pid ? undefined : now;
        },
        { what: "another process is connected", deadlineMs: 30_000, everyMs: 100 },
      );
      expect(after.restarts).toBe(1);
      await served("200");
    }, 60_000);

    test("hanging, it is killed by the watchdog and there again", async () => {
      await machine.ask(
        "sh",
        "-c",
        "mkdir -p /run/systemd/system/culvert.service.d && printf '[Service]\\nWatchdogSec=2s\\n' >/run/systemd/system/culvert.service.d/test.conf && systemctl daemon-reload && systemctl restart culvert",
      );
      const { pid } = await connected();
      await machine.ask("kill", "-STOP", `${pid}`);
      await pollUntil(async () => (await connected()).pid !== pid, {
        what: "another process is connected",
        deadlineMs: 40_000,
        everyMs: 200,
      });
      expect(await machine.ask("journalctl", "-u", "culvert", "-o", "cat")).toContain("Watchdog timeout");
      await machine.ask(
        "sh",
        "-c",
        "rm -r /run/systemd/system/culvert.service.d && systemctl daemon-reload && systemctl restart culvert",
      );
      // Over several intervals of that watchdog, it had not been killed for nothing.
      expect((await connected()).active).toBe("running");
    }, 90_000);

    test("an outage of the edge ends with both connected", async () => {
      const { pid } = await connected();
      await machine.ask("systemctl", "stop", "culvert-edge");
      await pollUntil(async () => (await status()).connections === 0, {
        what: "it says so",
        deadlineMs: 20_000,
        everyMs: 100,
      });
      expect((await status()).active).toBe("running");
      await machine.ask("systemctl", "start", "culvert-edge");
      expect((await connected()).pid).toBe(pid ?? 0);
      await served("200");
    }, 60_000);

    test("reload puts a changed configuration into force without a new process", async () => {
      const { pid } = await connected();
      configure("ingress:\n  - service: http_status:418\n");
      await machine.ask("systemctl", "reload", "culvert");
      await served("418");
      expect((await status()).pid).toBe(pid ?? 0);
      configure("ingress:\n  - service: hello_world\n");
      await machine.ask("systemctl", "reload", "culvert");
      await served("200");
    }, 60_000);

    test("an edge can be asked to reload too, and goes on as it is", async () => {
      const { pid } = await status("--edge");
      await machine.ask("systemctl", "reload", "culvert-edge");
      expect(await status("--edge")).toMatchObject({ active: "running", pid, restarts: 0 });
      expect(await machine.ask("journalctl", "-u", "culvert-edge", "-o", "cat")).toContain("Reloaded");
      await served("200");
    });

    test("it is reloading until the new configuration is read", async () => {
      const state = async (): Promise<string> => await machine.ask("systemctl", "show", "-P", "ActiveState", "culvert");
      const { pid } = await connected();
      // A pipe holds the reader up until somebody writes.
      await machine.ask("sh", "-c", `cd /etc/culvert && mv config.yml /run/kept.yml && mkfifo -m 644 config.yml`);
      await machine.ask("kill", "-HUP", `${pid}`);
      await pollUntil(async () => (await state()) === "reloading", { what: "it says so", deadlineMs: 10_000 });
      await machine.ask("sh", "-c", "timeout 10 cat /run/kept.yml >/etc/culvert/config.yml");
      await pollUntil(async () => (await state()) === "active", { what: "it has read it", deadlineMs: 10_000 });
      await machine.ask("sh", "-c", "cd /etc/culvert && rm config.yml && mv /run/kept.yml config.yml");
      await served("200");
      expect((await status()).pid).toBe(pid ?? 0);
    }, 60_000);

    test("told to stop, it says so and ends the requests that it has", async () => {
      await machine.ask("systemd-run", "--unit=origin", "--setenv=BUN_BE_BUN=1", PROGRAM, "/opt/origin.mjs");
      configure("ingress:\n  - service: http://127.0.0.1:8080\n");
      await served("201");
      await using slow = machine.start(["curl", "-sN", "-H", `Host: ${HOST}`, "http://127.0.0.1/slow"]);
      await slow.outputLine(/begun/);
      await machine.ask("systemctl", "stop", "--no-block", "culvert");
      await pollUntil(
        async () => (await machine.ask("systemctl", "show", "-P", "StatusText", "culvert")) === "Stopping",
        {
          what: "it says so",
          deadlineMs: 5_000,
          everyMs: 50,
        },
      );
      expect(await machine.ask("systemctl", "show", "-P", "ActiveState", "culvert")).toBe("deactivating");
      expect(await slow.exitCode(10_000)).toBe(0);
      expect(slow.stdout).toBe("begun\nended\n");
      const stopped = await culvert("service", "status");
      expect(stopped.code).toBe(3);
      expect(stopped.stdout).toContain("culvert.service (systemd) is stopped, starts by itself");
      await machine.ask("systemctl", "start", "culvert");
      await connected();
    }, 60_000);

    test("restarted under load, no request is lost", async () => {
      await using load = machine.start(["env", "BUN_BE_BUN=1", PROGRAM, "/opt/load.mjs", HOST, "6"]);
      await load.outputLine(/begun/);
      expect(await culvert("service", "restart")).toEqual({
        code: 0,
        stdout: "culvert.service is running\n",
        stderr: "",
      });
      expect(await load.exitCode(30_000)).toBe(0);
      const counted = JSON.parse(load.stdout.split("\n")[1] ?? "") as {
        readonly answered: number;
        readonly lost: number;
        readonly first: readonly string[];
      };
      console.info(`restarted under load: ${JSON.stringify(counted)}`);
      expect(counted).toMatchObject({ lost: 0, first: [] });
      expect(counted.answered).toBeGreaterThan(50);
      configure("ingress:\n  - service: hello_world\n");
      await machine.ask("systemctl", "stop", "origin");
      await served("200");
    }, 60_000);

    test("status and logs tell people what is going on", async () => {
      const { pid } = await connected();
      const { code, stdout } = await culvert("service", "status");
      expect(code).toBe(0);
      expect(stdout).toContain("culvert.service (systemd) is running, starts by itself\nConnected: 4 connections\n");
      expect(stdout).toContain(`\nprocess ${pid} since `);
      expect(await status()).toMatchObject({ installed: true, enabled: true, active: "running", connections: 4 });
      const logs = await culvert("service", "logs", "--lines", "3");
      expect(logs.code).toBe(0);
      expect(logs.stdout.trimEnd().split("\n")).toHaveLength(3);
    });

    test("installed twice, it goes on undisturbed", async () => {
      const { pid } = await connected();
      for (const args of [[token], []]) {
        const { code, stdout } = await culvert("service", "install", ...args);
        expect({ code, stdout }).toEqual({
          code: 0,
          stdout: "culvert.service is installed and running: nothing to do\nconnected\n",
        });
      }
      expect((await status()).pid).toBe(pid ?? 0);
    });

    test("another tunnel's token is refused, and taken under a name of its own", async () => {
      const second = await machine.ask(
        PROGRAM,
        "edge",
        "tunnel",
        "add",
        "two",
        "two.example.com",
        "--state-dir",
        STATE,
      );
      const refused = await culvert("service", "install", second);
      expect(refused.code).toBe(1);
      expect(refused.stderr).toContain("give --name NAME to install a second tunnel beside it, or --replace");
      writeFileSync(join(machine.root, "root/two.yml"), "ingress:\n  - service: http_status:202\n");
      writeFileSync(join(machine.root, "root/two.token"), second);
      const named = await culvert(
        "service",
        "install",
        "--name",
        "two",
        "--token-file",
        "/root/two.token",
        "--config",
        "/root/two.yml",
      );
      expect(named).toEqual({
        code: 0,
        stdout: "culvert@two.service is installed and running\nconnected\n",
        stderr: "",
      });
      await served("202", "two.example.com");
      await served("200");
      // Whoever looks for what is wrong sees it beside the other one: what systemd says of it, and its journal.
      const serviceSeen = async () => {
        const { checks } = JSON.parse((await culvert("doctor", "--json")).stdout) as {
          readonly checks: readonly { readonly id: string; readonly summary: string }[];
        };
        return checks.find(({ id }) => id === "service")?.summary;
      };
      expect(await serviceSeen()).toContain("culvert@two.service is active");
      await machine.ask("systemctl", "stop", "culvert.service");
      await machine.ask("sh", "-c", `cd /root && ${PROGRAM} tunnel diag --no-diag-runtime --no-diag-network`);
      await machine.ask("systemctl", "start", "culvert.service");
      const [zip = ""] = readdirSync(join(machine.root, "root")).filter((name) => name.endsWith(".zip"));
      const { "culvert_logs.txt": log } = unzipSync(readFileSync(join(machine.root, "root", zip)));
      expect(new TextDecoder().decode(log)).toContain("Started culvert@two.service");
      await machine.ask("rm", `/root/${zip}`);
      await served("200");
      const gone = await culvert("service", "uninstall", "--name", "two", "--purge");
      expect(gone).toEqual({ code: 0, stdout: "culvert@two.service is removed\n", stderr: "" });
      expect(await files()).not.toContain("tunnels");
      expect((await status()).active).toBe("running");
      await machine.ask("rm", "/root/two.yml", "/root/two.token");
    }, 90_000);

    test("after another version was put in its place, status says so and install starts that", async () => {
      const { pid } = await connected();
      await machine.ask("sh", "-c", `cp ${PROGRAM} ${PROGRAM}.new && mv ${PROGRAM}.new ${PROGRAM}`);
      expect((await status()).outdated).toBe(true);
      expect((await culvert("service", "install")).stdout).toBe(
        "culvert.service runs another version of the program, which makes way for this one\nculvert.service is installed and running\nconnected\n",
      );
      // It became the other: systemd has seen no end of it.
      expect(await connected()).toMatchObject({ outdated: false, pid, restarts: 0 });
    }, 60_000);

    test("install mends what is broken: no unit, no token, a mask, wrong permissions", async () => {
      const unit = "/etc/systemd/system/culvert.service";
      for (const damage of [
        `rm ${unit}; systemctl daemon-reload`,
        `echo rubbish >${unit}; systemctl daemon-reload; systemctl kill -s KILL culvert`,
        "echo rubbish >/etc/culvert/token; systemctl restart culvert",
        `systemctl stop culvert; rm ${unit} /etc/culvert/token; systemctl mask culvert`,
        "systemctl disable culvert; chmod 666 /etc/culvert/token",
      ]) {
        await machine.run(["sh", "-c", damage]);
        const { code, stdout, stderr } = await culvert("service", "install", token);
        expect({ damage, code, stderr, connected: stdout.includes("connected") }).toEqual({
          damage,
          code: 0,
          stderr: "",
          connected: true,
        });
        expect(await machine.ask("stat", "-c", "%a %U", "/etc/culvert/token")).toBe("600 root");
        expect(await machine.ask("systemctl", "is-enabled", "culvert")).toBe("enabled");
      }
    }, 120_000);

    test("after a reboot all is there again", async () => {
      await machine.reboot();
      await connected();
      await served("200");
    }, 120_000);

    test("a boot without a way to the edge is not held up, and it connects once there is one", async () => {
      await machine.ask("systemctl", "disable", "culvert-edge");
      await machine.reboot();
      expect(await status()).toMatchObject({ active: "running", connections: 0 });
      await machine.ask("systemctl", "enable", "--now", "culvert-edge");
      await connected();
      await served("200");
    }, 120_000);

    test("cloudflared's service is taken over, and stopped only once ours is connected", async () => {
      await culvert("service", "uninstall", "--purge");
      const parsed = parseToken(token);
      if (!parsed.ok) throw new Error("the edge's token is not valid");
      const { accountTag, tunnelId, tunnelSecret, ca } = parsed.value;
      const credentials = {
        AccountTag: accountTag,
        TunnelID: tunnelId,
        TunnelSecret: Buffer.from(tunnelSecret).toString("base64"),
      };
      const write = (path: string, text: string): void => writeFileSync(join(machine.root, path), text);
      await machine.ask("mkdir", "-p", "/etc/cloudflared");
      write("etc/cloudflared/ca.pem", ca ?? "");
      write(`etc/cloudflared/${tunnelId}.json`, JSON.stringify(credentials));
      write(
        "etc/cloudflared/config.yml",
        [
          `tunnel: ${tunnelId}`,
          `credentials-file: /etc/cloudflared/${tunnelId}.json`,
          "metrics: 127.0.0.1:2000",
          "ingress:\n  - service: http_status:207\n",
        ].join("\n"),
      );
      // Where the real one is not there, a service of that name has to do.
      if (CLOUDFLARED === undefined) write("usr/local/bin/cloudflared", "#!/bin/sh\nexec sleep infinity\n");
      else await Bun.write(join(machine.root, "usr/local/bin/cloudflared"), Bun.file(CLOUDFLARED));
      const unit = [
        "[Unit]\nDescription=cloudflared\n[Service]\nRestart=always",
        "ExecStart=/usr/local/bin/cloudflared --no-autoupdate tunnel run --token replaced-by-the-drop-in",
        "[Install]\nWantedBy=multi-user.target\n",
      ];
      write("etc/systemd/system/cloudflared.service", unit.join("\n"));
      await machine.ask("mkdir", "-p", "/etc/systemd/system/cloudflared.service.d");
      const dropIn = [
        "[Service]\nExecStart=",
        "ExecStart=/usr/local/bin/cloudflared --no-autoupdate --config /etc/cloudflared/config.yml tunnel --grace-period 1s --edge 127.0.0.1:7844 --cacert /etc/cloudflared/ca.pem run\n",
      ];
      write("etc/systemd/system/cloudflared.service.d/override.conf", dropIn.join("\n"));
      await machine.ask(
        "sh",
        "-c",
        "chmod 755 /usr/local/bin/cloudflared; systemctl daemon-reload; systemctl enable --now cloudflared",
      );
      if (CLOUDFLARED !== undefined) await served("207");

      await machine.ask("systemctl", "stop", "culvert-edge");
      const early = await culvert("service", "install", "--migrate", "--wait", "2s");
      expect(early.code).toBe(1);
      expect(early.stderr).toContain("cloudflared was left running");
      expect(await machine.ask("systemctl", "is-active", "cloudflared")).toBe("active");
      await machine.ask("systemctl", "start", "culvert-edge");

      const { code, stdout, stderr } = await culvert("service", "install", "--migrate");
      expect({ code, stderr }).toEqual({ code: 0, stderr: expect.stringContaining("metrics address becomes ours") });
      expect(stdout).toContain("cloudflared is stopped and no longer starts at boot; its files are as they were");
      expect((await machine.run(["systemctl", "is-active", "cloudflared"])).stdout).toBe("inactive\n");
      expect((await machine.run(["systemctl", "is-enabled", "cloudflared"])).stdout).toBe("disabled\n");
      await served("207");
      const config = await machine.ask("cat", CONFIG);
      expect(config).toContain('edge: ["127.0.0.1:7844"]');
      expect(config).toContain("\nmetrics: 127.0.0.1:2000\n");
      expect((await culvert("service", "restart")).code).toBe(0);
      await connected();
      expect(await machine.ask("curl", "-s", "http://127.0.0.1:2000/ready")).toContain('"status":200');
      await machine.ask(
        "sh",
        "-c",
        "rm -r /etc/cloudflared /etc/systemd/system/cloudflared.service* /usr/local/bin/cloudflared; systemctl daemon-reload",
      );
    }, 120_000);

    test("an uninstall that was cut short is finished, and leaves what it says", async () => {
      await machine.ask("sh", "-c", "rm /etc/systemd/system/culvert.service; systemctl daemon-reload");
      const { pid } = await status();
      const { code, stdout } = await culvert("service", "uninstall");
      expect({ code, stdout }).toEqual({
        code: 0,
        stdout:
          "culvert.service is removed\nkept /etc/culvert/token: --purge removes it too\nkept /etc/culvert/config.yml: --purge removes it too\n",
      });
      expect(pid).toBeGreaterThan(0);
      expect((await machine.run(["test", "-e", `/proc/${pid}`])).code).toBe(1);
      expect(await status()).toMatchObject({ installed: false, active: "stopped" });
      expect((await culvert("service", "status")).code).toBe(4);
    }, 60_000);

    test("--user runs it as that account, which must exist", async () => {
      expect((await culvert("service", "uninstall", "--purge")).code).toBe(0);
      const before = await files();
      const refused = await culvert("service", "install", "--user", "nobody-here", token);
      expect({ code: refused.code, stderr: refused.stderr }).toEqual({
        code: 1,
        stderr: expect.stringContaining('There is no account "nobody-here" on this machine'),
      });
      expect(await files()).toBe(before);
      await machine.ask("useradd", "--create-home", "--uid", "1500", "tester");
      expect((await culvert("service", "install", "--user", "tester", token)).code).toBe(0);
      const { pid } = await connected();
      expect(await machine.ask("stat", "-c", "%U", `/proc/${pid}`)).toBe("tester");
      expect(await machine.ask("stat", "-c", "%a %U", "/etc/culvert/token")).toBe("600 tester");
      expect((await culvert("service", "uninstall")).code).toBe(0);
    }, 60_000);

    test("an account without root has a service of its own, which survives a kill and a reboot", async () => {
      const tester = { uid: 1500, env: { HOME: "/home/tester" } };
      const own = async (...args: string[]) => await machine.run([PROGRAM, "service", ...args], tester);
      const ownState = async (): Promise<Status> => JSON.parse((await own("status", "--json")).stdout) as Status;
      const ownConnected = async (not?: number): Promise<Status> =>
        await pollUntil(
          async () => {
            const now = await ownState();
            return now.connected === true && now.pid !== not ? now : undefined;
          },
          { what: "the account's service is connected", deadlineMs: 30_000, everyMs: 100 },
        );
      expect(await own("install", "--user", "root", token)).toMatchObject({ code: 255 });

      // No session, and nobody who lets it have services without one.
      await machine.ask("systemctl", "mask", "--now", "polkit");
      const early = await own("install", token);
      expect({ code: early.code, stderr: early.stderr }).toEqual({
        code: 1,
        stderr: expect.stringContaining("as root run: loginctl enable-linger tester"),
      });
      await machine.ask("systemctl", "start", "user@1500.service");
      const session = await own("install", token);
      expect({ code: session.code, stderr: session.stderr }).toEqual({
        code: 0,
        stderr: expect.stringContaining("does not start with the machine. For that, as root: loginctl enable-linger"),
      });
      await machine.ask("systemctl", "unmask", "polkit");
      expect(await own("install")).toEqual({
        code: 0,
        stdout: "culvert.service is installed and running: nothing to do\nconnected\n",
        stderr: "",
      });
      expect(await machine.ask("stat", "-c", "%a %U", "/home/tester/.config/culvert/token")).toBe("600 tester");
      writeFileSync(
        join(machine.root, "home/tester/.config/culvert/config.yml"),
        "ingress:\n  - service: http_status:203\n",
      );
      await served("203");

      const { pid } = await ownConnected();
      expect(await machine.ask("stat", "-c", "%U", `/proc/${pid}`)).toBe("tester");
      await machine.ask("kill", "-9", `${pid}`);
      await ownConnected(pid);
      await machine.reboot();
      await ownConnected();
      await served("203");

      const logs = await own("logs", "--lines", "1");
      expect(logs.stdout.trim().split("\n")).toHaveLength(1);
      const removed = await own("uninstall", "--purge");
      expect(removed).toEqual({ code: 0, stdout: "culvert.service is removed\n", stderr: "" });
      expect(await machine.ask("find", "/home/tester", "-name", "*culvert*")).toBe("");
      // What it switched on is off again.
      expect(await machine.ask("ls", "/var/lib/systemd/linger")).toBe("");
      await machine.run(["systemctl", "stop", "user@1500.service"]);
      await machine.ask("userdel", "--remove", "tester");
    }, 120_000);

    test("purged, nothing is left", async () => {
      for (const args of [[], ["--edge"], ["--edge"]]) {
        expect((await culvert("service", "uninstall", "--purge", ...args)).code).toBe(0);
      }
      await machine.ask(
        "rm",
        "-f",
        "/etc/subuid-",
        "/etc/subgid-",
        "/etc/passwd-",
        "/etc/group-",
        "/etc/shadow-",
        "/etc/gshadow-",
      );
      const known = new Set(untouched.split("\n"));
      expect((await files()).split("\n").filter((line) => !known.has(line))).toEqual([]);
      expect(
        await machine.ask("sh", "-c", "systemctl list-units --no-legend 'culvert*'; pgrep -a culvert || true"),
      ).toBe("");
    }, 60_000);
  },
);
