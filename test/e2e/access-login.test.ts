import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ACCESS_HOSTS, AccessServer, APP_HOST, AUDIENCE, AUTH_HOST } from "../support/access-server.ts";
import { culvertCommand } from "../support/binary.ts";
import { makeTestCertificate, type TestCertificate } from "../support/certificate.ts";
import { cleanEnvironment } from "../support/lab.ts";
import { canHaveOwnHosts, hostsFile, withHosts } from "../support/own-hosts.ts";
import { type OwnedProcess, type ProcessOptions, runProcess, startProcess } from "../support/processes.ts";
import { makeTempDir } from "../support/temp-dir.ts";

const APP_TOKEN = `-.example.test-${AUDIENCE}-token`;
const ORG_TOKEN = `${AUTH_HOST}-org-token`;
const CLOUDFLARED = process.env["CLOUDFLARED_BIN"] ?? "";

let certificate: TestCertificate;
let server: AccessServer;
let home: ReturnType<typeof makeTempDir>;

beforeAll(async () => {
  certificate = await makeTestCertificate(ACCESS_HOSTS);
});

beforeEach(() => {
  home?.[Symbol.dispose]();
  home = makeTempDir();
  writeFileSync(join(home.path, "ca.pem"), certificate.cert);
});

afterAll(() => home?.[Symbol.dispose]());

function startServer(): AccessServer {
  server = new AccessServer(certificate);
  return server;
}

/** Arguments that keep a command on this machine. */
function here(): readonly string[] {
  return ["--ca-file", join(home.path, "ca.pem"), "--connect-to", `127.0.0.1:${server.port}`];
}

function access(...args: readonly string[]): readonly string[] {
  return [...culvertCommand(), "access", ...args];
}

function environment(): Required<Pick<ProcessOptions, "env">> {
  return { env: { ...cleanEnvironment(), HOME: home.path } };
}

function tokenFile(name: string): string {
  return join(home.path, ".cloudflared", name);
}

/** Opens the page that a process asks for, as a person would. */
async function logIn(child: OwnedProcess): Promise<string> {
  const [page] = await child.errorLine(/https:\/\/\S+\/cdn-cgi\/access\/cli\?\S+/);
  server.logIn(page);
  return page;
}

const url = (): string => `https://${APP_HOST}:${server.port}/`;

describe("access login", () => {
  test("prints a page, waits for the person, keeps the tokens for itself and for others", async () => {
    await using _server = startServer();
    await using child = startProcess(access("login", "--no-verbose", ...here(), url()), environment());
    const page = new URL(await logIn(child));
    expect(await child.exitCode(10_000)).toBe(0);
    const token = readFileSync(tokenFile(APP_TOKEN), "utf8");
    expect(child.stdout).toBe(token);
    expect(page.host).toBe(`${APP_HOST}:${server.port}`);
    expect(Object.fromEntries(page.searchParams)).toMatchObject({
      aud: AUDIENCE,
      send_org_token: "true",
      edge_token_transfer: "true",
    });
    expect(page.searchParams.get("redirect_url")).toStartWith(url());
    // Tokens are for their owner; nothing is left of the lock.
    expect(readdirSync(join(home.path, ".cloudflared")).sort()).toEqual(
      [APP_TOKEN, `${AUTH_HOST}-jwks`, ORG_TOKEN].sort(),
    );
    for (const name of [APP_TOKEN, ORG_TOKEN]) expect(statSync(tokenFile(name)).mode & 0o777).toBe(0o600);

    const stored = await runProcess(access("token", ...here(), "--app", url()), environment());
    expect(stored).toEqual({ code: 0, stdout: token, stderr: "" });
    const again = await runProcess(access("login", ...here(), url()), environment());
    expect(again).toEqual({ code: 0, stdout: `Successfully fetched your token:\n\n${token}\n\n`, stderr: "" });
  });

  test("the organisation's token is enough for another application, and goes to its login alone", async () => {
    await using _server = startServer();
    mkdirSync(join(home.path, ".cloudflared"));
    const orgToken = server.issue("org");
    writeFileSync(tokenFile(ORG_TOKEN), orgToken);
    const { code, stdout, stderr } = await runProcess(access("login", "--no-verbose", ...here(), url()), environment());
    expect([code, stderr]).toEqual([0, ""]);
    expect(stdout).toBe(readFileSync(tokenFile(APP_TOKEN), "utf8"));
    const told = server.seen.filter(({ cookie }) => cookie?.includes(orgToken));
    expect(told.map(({ host }) => host)).toEqual([AUTH_HOST]);
  });

  test("a stream logs in where Access asks for it; a token that was revoked is replaced", async () => {
    await using _server = startServer();
    const stream = [
      "sh",
      "-c",
      '{ printf hello; sleep 20; } | "$0" "$@"',
      ...access("tcp", "--hostname", url(), ...here()),
    ];
    for (const _round of [1, 2]) {
      await using child = startProcess(stream, environment());
      await logIn(child);
      await child.outputLine(/^hello$/);
      expect(child.stdout).toBe("hello");
      server.revokeAll();
    }
  });

  test("two processes that need the same login have one of them, and the other shows its page", async () => {
    await using _server = startServer();
    const command = access("login", "--quiet", ...here(), url());
    await using first = startProcess(command, environment());
    const [page] = await first.errorLine(/https:\/\/\S+\/cdn-cgi\/access\/cli\?\S+/);
    await using second = startProcess(command, environment());
    const [, pid] = await second.errorLine(/Process (\d+) waits for the same login already/);
    expect(Number(pid)).toBe(first.pid);
    expect(second.stderr).toContain(page);
    server.logIn(page);
    expect([await first.exitCode(10_000), await second.exitCode(10_000)]).toEqual([0, 0]);
  });

  test("a lock of a process that is gone does not hold anybody up", async () => {
    await using _server = startServer();
    mkdirSync(join(home.path, ".cloudflared"));
    writeFileSync(`${tokenFile(APP_TOKEN)}.lock`, `${JSON.stringify({ pid: process.pid, start_time: 1 })}\n`);
    await using child = startProcess(access("login", "--quiet", ...here(), url()), environment());
    await logIn(child);
    expect(await child.exitCode(10_000)).toBe(0);
  });

  test.each([
    ["signed with another key", { forged: true }, /the signature is not valid/],
    ["about another hostname", { metadata: { hostname: "other.example.test" } }, /about another hostname/],
    ["of an organisation elsewhere", { metadata: { auth_domain: "evil.example.test" } }, /no organisation of Access/],
    ["of last week", { metadata: { iat: 1_700_000_000 } }, /not of today/],
  ])("what an application says is not believed when it is %s", async (_what, lie, why) => {
    await using _server = startServer();
    Object.assign(server, lie);
    const { code, stdout, stderr } = await runProcess(access("login", ...here(), url()), environment());
    expect([code, stdout]).toEqual([1, ""]);
    expect(stderr).toMatch(why);
    expect(server.seen.every(({ host }) => host !== "evil.example.test")).toBe(true);
  });

  test("tokens that have run out, or are for another application, are not used", async () => {
    await using _server = startServer();
    for (const differs of [{ exp: 1_700_000_000 }, { aud: ["other"] }]) {
      mkdirSync(join(home.path, ".cloudflared"), { recursive: true });
      writeFileSync(tokenFile(APP_TOKEN), server.issue("app", differs));
      const { code, stdout, stderr } = await runProcess(access("token", ...here(), "--app", url()), environment());
      expect([code, stdout]).toEqual([1, ""]);
      expect(stderr).toContain("Unable to find token");
      expect(existsSync(tokenFile(APP_TOKEN))).toBe(false);
    }
  });
});

test("access curl sends the token, and gives curl's exit code", async () => {
  await using _server = startServer();
  mkdirSync(join(home.path, ".cloudflared"));
  writeFileSync(tokenFile(APP_TOKEN), server.issue("app"));
  const own = ["--silent", "--cacert", join(home.path, "ca.pem"), "--resolve", `${APP_HOST}:${server.port}:127.0.0.1`];
  for (const between of [["--"], []]) {
    const run = (target: string) => runProcess(access("curl", ...here(), target, ...between, ...own), environment());
    expect(await run(`${url()}a?b=c`)).toEqual({ code: 0, stdout: "hello, /a?b=c\n", stderr: "" });
  }
  const other = access("curl", ...here(), "--allow-request", "https://127.0.0.1:1/", "--", "--silent");
  expect((await runProcess(other, environment())).code).toBe(7);
});

test("access curl passes on what stands behind the URL, to the letter", async () => {
  await using _server = startServer();
  mkdirSync(join(home.path, ".cloudflared"));
  const token = server.issue("app");
  writeFileSync(tokenFile(APP_TOKEN), token);
  // In curl's place, to see what curl is given and what is in the file that is named.
  const script =
    '#!/bin/sh\nfor word; do printf "<%s>" "$word"; done; for last; do :; done; cat "$(printf %s "$last" | tr -d @)"; exit 9\n';
  writeFileSync(join(home.path, "curl"), script, { mode: 0o755 });
  const { env } = environment();
  const run = (...args: readonly string[]) =>
    runProcess(access("curl", ...here(), ...args), { env: { ...env, PATH: `${home.path}:${env["PATH"]}` } });
  const given = [
    "-X",
    "POST",
    "--help",
    "-h",
    "",
    "-H",
    "X-A: b c",
    "--allow-request",
    "--",
    "-d",
    '{"a": "$HOME *"}',
    "--connect-to=x",
  ];
  for (const flag of ["--allow-request", "-ar"]) {
    for (const between of [[], ["--"]]) {
      const { code, stdout } = await run(flag, url(), ...between, ...given);
      expect(code).toBe(9);
      const [words = "", file] = stdout.split("<-H><@");
      expect(words).toBe([url(), ...given].map((word) => `<${word}>`).join(""));
      expect(file).toEndWith(`>Cf-Access-Token: ${token}\n`);
    }
  }
  // Without a token: nothing is added.
  rmSync(tokenFile(APP_TOKEN));
  expect((await run("--allow-request", url(), "--silent", "/dev/null")).stdout).toBe(`<${url()}><--silent></dev/null>`);
});

describe.skipIf(!existsSync(CLOUDFLARED) || !(await canHaveOwnHosts()))("cloudflared", () => {
  test("finds the token that culvert got, and believes the keys that culvert keeps", async () => {
    await using _server = startServer();
    await using child = startProcess(access("login", "--quiet", ...here(), url()), environment());
    await logIn(child);
    expect(await child.exitCode(10_000)).toBe(0);
    // It dials the application by name; of the other hosts it needs nothing, since the keys are in culvert's file.
    const hosts = hostsFile(home.path, APP_HOST, ["127.0.0.1"]);
    const command = withHosts(hosts, [CLOUDFLARED, "access", "token", "--app", url()]);
    const { env } = environment();
    const { code, stdout } = await runProcess(command, { env: { ...env, SSL_CERT_FILE: join(home.path, "ca.pem") } });
    expect([code, stdout]).toEqual([0, readFileSync(tokenFile(APP_TOKEN), "utf8")]);
  });
});
