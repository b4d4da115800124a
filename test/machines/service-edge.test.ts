import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { builtBinary } from "../support/binary.ts";
import { BootedMachine, bootedMachineMissing } from "../support/booted-machine.ts";
import { makeTestCertificate } from "../support/certificate.ts";
import { makeMinisignKey } from "../support/minisign-key.ts";
import { pollUntil } from "../support/poll-until.ts";
import { publishVersion } from "../support/releases.ts";

const BINARY = builtBinary();
const MISSING = BINARY === undefined ? "needs dist/culvert: ./scripts/build" : bootedMachineMissing("systemd");
const PROGRAM = "/usr/local/bin/culvert";
const WEBHOOK = "https://hooks.example.test/s3cr3t?a=1";

(MISSING === undefined ? describe : describe.skip)(
  `an edge's service with systemd${MISSING === undefined ? "" : ` (${MISSING})`}`,
  () => {
    let machine: BootedMachine;

    beforeAll(async () => {
      machine = await BootedMachine.boot("systemd", { [PROGRAM]: BINARY ?? "" });
    }, 120_000);
    afterAll(async () => await machine?.[Symbol.asyncDispose](), 60_000);

    const culvert = async (...args: readonly string[]) => await machine.run([PROGRAM, ...args]);
    const installed = { code: 0, stdout: "culvert-edge.service is installed and running\n" };
    const pid = async () => await machine.ask("systemctl", "show", "-P", "MainPID", "culvert-edge");

    test("goes on with the edge that root has made, and root's commands work on the same one", async () => {
      expect(await culvert("edge", "init", "--domain", "edge.example.test")).toMatchObject({ code: 0 });
      expect(await culvert("edge", "tunnel", "add", "web", "app.example.test")).toMatchObject({ code: 0 });
      const ca = await machine.ask("cat", "/var/lib/culvert/ca.pem");
      const flags = ["--http-listen", "127.0.0.1:80", "--tunnel-listen", "127.0.0.1:7844", "--alert-webhook", WEBHOOK];
      expect(await culvert("service", "install", "--edge", ...flags)).toEqual({ ...installed, stderr: "" });
      expect(await machine.ask("cat", "/var/lib/culvert/ca.pem")).toBe(ca);
      expect(await culvert("edge", "tunnel", "list")).toMatchObject({
        code: 0,
        stdout: expect.stringContaining("web"),
      });
      expect(await machine.ask("stat", "-L", "-c", "%a", "/var/lib/culvert")).toBe("700");
      // Routed, without a connector.
      const status = ["-o", "/dev/null", "-w", "%{http_code}", "-H", "Host: app.example.test", "http://127.0.0.1/"];
      expect(await machine.ask("curl", "-s", "--max-time", "10", ...status)).toBe("530");
    }, 60_000);

    test("has its secrets as they are, where root alone reads them", async () => {
      expect(await machine.ask("cat", "/etc/culvert/edge.env")).toContain(`CULVERT_ALERT_WEBHOOK='${WEBHOOK}'`);
      expect(await machine.ask("stat", "-c", "%a %U", "/etc/culvert/edge.env")).toBe("600 root");
      const seen = await machine.ask("sh", "-c", `tr '\\0' '\\n' </proc/${await pid()}/environ | grep WEBHOOK`);
      expect(seen).toBe(`CULVERT_ALERT_WEBHOOK=${WEBHOOK}`);
      expect((await culvert("service", "install", "--edge", "--dry-run")).stdout).not.toContain("s3cr3t");
    });

    test("starts again after root has written to its state, and restored it", async () => {
      expect(await culvert("edge", "init", "--domain", "other.example.test", "--force")).toMatchObject({ code: 0 });
      await machine.ask("systemctl", "restart", "culvert-edge");
      expect(await culvert("edge", "backup", "/root/edge.backup")).toMatchObject({ code: 0 });
      await machine.ask("systemctl", "stop", "culvert-edge");
      expect(await culvert("edge", "restore", "/root/edge.backup")).toMatchObject({ code: 0 });
      expect(await culvert("edge", "tunnel", "add", "mail", "mail.example.test")).toMatchObject({ code: 0 });
      await machine.ask("systemctl", "start", "culvert-edge");
      expect(await machine.ask("systemctl", "is-active", "culvert-edge")).toBe("active");
      const listed = await culvert("edge", "tunnel", "list");
      expect(listed.stdout).toMatch(/web[\s\S]*mail|mail[\s\S]*web/);
    }, 60_000);

    test("root follows no link that the service's account has put there", async () => {
      await machine.ask("systemctl", "stop", "culvert-edge");
      const folder = "/var/lib/private/culvert";
      const lines = [
        "echo roots >/etc/victim",
        `owner=$(stat -c %u:%g ${folder})`,
        `ln -s /etc/victim ${folder}/edge.json.new; rm -f ${folder}/edge.lock; ln -s /etc/ghost ${folder}/edge.lock`,
        `chown -h "$owner" ${folder}/edge.json.new ${folder}/edge.lock`,
        `for pid in $(seq $$ $(($$ + 1000))); do ln -s /etc/victim ${folder}/edge.pid.$pid.tmp; done`,
      ];
      await machine.ask("sh", "-ec", lines.join("\n"));
      const refused = await culvert("edge", "restore", "/root/edge.backup");
      expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining("Cannot lock state directory") });
      await machine.ask("rm", `${folder}/edge.lock`);
      expect(await culvert("edge", "restore", "/root/edge.backup")).toMatchObject({ code: 0 });
      expect(await machine.ask("sh", "-c", "cat /etc/victim; stat -c %u:%g /etc/victim; [ ! -e /etc/ghost ]")).toBe(
        "roots\n0:0",
      );
      await machine.ask("sh", "-c", `rm -rf /etc/victim ${folder}/before-*`);
      await machine.ask("systemctl", "start", "culvert-edge");
      expect(await machine.ask("systemctl", "is-active", "culvert-edge")).toBe("active");
      expect((await culvert("edge", "tunnel", "list")).stdout).toContain("web");
    }, 120_000);

    test("a new version that does not start is taken back, and the timer does not take it again", async () => {
      const { key, publicFile } = makeMinisignKey();
      const program = '#!/bin/sh\n[ "$1" = version ] && echo 99.0.0 && exit\nexit 7\n';
      publishVersion(join(machine.root, "srv/releases"), "99.0.0", Buffer.from(program), key);
      writeFileSync(join(machine.root, "srv/release.pub"), publicFile);
      const [before, old] = [await pid(), await machine.ask("sha256sum", PROGRAM)];
      const update = async (...args: readonly string[]) =>
        await culvert("update", "--from", "/srv/releases", "--update-key", "/srv/release.pub", ...args);
      const { code, stdout, stderr } = await update("--services");
      expect({ code, stdout, said: stderr.replace(/^Downloaded .*\n/gm, "").split("\n") }).toEqual({
        ...{ code: 10, stdout: "culvert-edge.service takes over the new version\n" },
        said: [
          "culvert-edge.service goes back to the version before",
          expect.stringMatching(/^culvert: Version 99\.0\.0 does not work here: .*culvert-edge/),
          expect.stringMatching(/ is culvert \S+ again, and no update takes 99\.0\.0 by itself$/),
          "",
        ],
      });
      expect(await machine.ask("sha256sum", PROGRAM)).toBe(old);
      const back = await pid();
      expect(back).not.toBe(before);
      expect(await machine.ask("readlink", `/proc/${back}/exe`)).toBe(PROGRAM);
      expect((await culvert("edge", "tunnel", "list")).stdout).toContain("web");
      expect(await update("--services")).toMatchObject({ code: 0, stdout: expect.stringContaining("taken back here") });
      expect(await pid()).toBe(back);
    }, 120_000);

    test("certbot's certificates: a note, and a group that lets it in", async () => {
      const { cert, key } = await makeTestCertificate(["app.example.test"]);
      const at = (path: string): string => join(machine.root, "etc/letsencrypt", path);
      for (const folder of ["archive/app", "live/app"]) mkdirSync(at(folder), { recursive: true });
      writeFileSync(at("archive/app/fullchain1.pem"), cert);
      writeFileSync(at("archive/app/privkey1.pem"), key, { mode: 0o600 });
      await machine.ask(
        "sh",
        "-ec",
        `cd /etc/letsencrypt; chmod 700 live archive
for name in fullchain privkey; do ln -s ../../archive/app/"$name"1.pem live/app/$name.pem; done
groupadd --system culvert-tls
chgrp -R culvert-tls live archive
mkdir -p /etc/systemd/system/culvert-edge.service.d
printf '[Service]\\nSupplementaryGroups=culvert-tls\\n' >/etc/systemd/system/culvert-edge.service.d/tls.conf`,
      );
      const flags = ["--tls-dir", "/etc/letsencrypt/live", "--https-listen", "127.0.0.1:443"];
      const dry = await culvert("service", "install", "--edge", "--dry-run", ...flags);
      expect(dry.stderr).toContain("/etc/letsencrypt/live is closed to the service's account");
      await machine.ask("sh", "-c", "chmod -R g+rX /etc/letsencrypt/live /etc/letsencrypt/archive");
      expect(await culvert("service", "install", "--edge", ...flags)).toMatchObject(installed);
      const ask = ["curl", "-sk", "--resolve", "app.example.test:443:127.0.0.1", "-o", "/dev/null", "-w"];
      const served = await pollUntil(
        async () => {
          const { stdout } = await machine.run([...ask, "%{http_code}", "https://app.example.test/"]);
          return stdout.trim() === "530" ? stdout : undefined;
        },
        { what: "HTTPS is served", deadlineMs: 20_000, everyMs: 200 },
      );
      expect(served.trim()).toBe("530");
      for (const path of ["/root/certs", "/tmp/certs"]) {
        const refused = await culvert("service", "install", "--edge", "--tls-dir", path);
        expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining("the service does not see") });
      }
    }, 60_000);

    test("an edge in another folder is kept by name, not left aside, and purged with its service", async () => {
      const other = "/var/lib/culvert-two";
      expect(await culvert("service", "install", "--edge", "--state-dir", other)).toMatchObject({
        ...{ code: 1, stderr: expect.stringContaining("give --state-dir /var/lib/culvert") },
      });
      expect(await culvert("service", "uninstall", "--edge")).toMatchObject({ code: 0 });
      expect(await culvert("service", "install", "--edge", "--state-dir", other)).toMatchObject(installed);
      expect(await culvert("edge", "status", "--state-dir", other)).toMatchObject({ code: 0 });
      expect(await culvert("service", "install", "--edge")).toMatchObject({
        ...{ code: 0, stdout: expect.stringContaining("nothing to do") },
      });
      expect(await machine.ask("cat", "/etc/systemd/system/culvert-edge.service")).toContain(
        "\nStateDirectory=culvert-two\n",
      );
      expect(await culvert("service", "uninstall", "--edge", "--purge")).toMatchObject({ code: 0 });
      expect(await machine.ask("sh", "-c", "ls -d /var/lib/culvert* /var/lib/private/*")).toBe(
        "/var/lib/culvert\n/var/lib/private/culvert",
      );
    }, 60_000);
  },
);
