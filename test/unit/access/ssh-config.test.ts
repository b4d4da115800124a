import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { renderSshConfig } from "../../../src/access/ssh-config.ts";
import { runProcess } from "../../support/processes.ts";

const options = {
  hostname: "ssh.example.com",
  shortLivedCert: false,
  homeDir: "/home/me",
  program: "/usr/bin/culvert",
};

test("a stanza", () => {
  expect(renderSshConfig(options)).toBe(
    "\nAdd to your /home/me/.ssh/config:\nHost ssh.example.com\n  ProxyCommand /usr/bin/culvert access ssh --hostname %h\n",
  );
});

test("a program with blanks and % in its path", () => {
  expect(renderSshConfig({ ...options, program: "/opt/100% it/culvert" })).toContain(
    "ProxyCommand '/opt/100%% it/culvert' access ssh --hostname %h",
  );
});

const cloudflared = process.env["CLOUDFLARED_BIN"] ?? "";
test.skipIf(!existsSync(cloudflared)).each([
  ["with a hostname", ["--hostname", "ssh.example.com"], {}],
  ["without one", [], { hostname: undefined }],
  ["with certificates", ["--hostname", "ssh.example.com", "--short-lived-cert"], { shortLivedCert: true }],
] as const)("cloudflared prints the same, %s", async (_what, flags, differs) => {
  const { stdout } = await runProcess([cloudflared, "access", "ssh-config", ...flags], { env: { HOME: "/home/me" } });
  expect(`${renderSshConfig({ ...options, ...differs, program: cloudflared })}\n`).toBe(stdout);
});
