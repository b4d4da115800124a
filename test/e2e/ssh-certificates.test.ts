import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ACCESS_HOSTS, AccessServer, APP_HOST, AUDIENCE } from "../support/access-server.ts";
import { culvertCommand } from "../support/binary.ts";
import { makeTestCertificate, type TestCertificate } from "../support/certificate.ts";
import { cleanEnvironment, startEdgeProcess } from "../support/lab.ts";
import { type ProcessOptions, runProcess, startProcess } from "../support/processes.ts";
import { startTcpOrigin } from "../support/tcp-origin.ts";
import { makeTempDir } from "../support/temp-dir.ts";

const SSHD = Bun.which("sshd");
const USER = execFileSync("id", ["-un"], { encoding: "utf8" }).trim();
const TOKEN_NAME = `-.example.test-${AUDIENCE}-token`;

let certificate: TestCertificate;
beforeAll(async () => {
  certificate = await makeTestCertificate(ACCESS_HOSTS);
});

/** Access that signs SSH keys with an authority of OpenSSH's own tools, and a user who has logged in to it. */
class Organisation implements AsyncDisposable {
  readonly #dir = makeTempDir();
  readonly server = new AccessServer(certificate);

  async start(): Promise<this> {
    chmodSync(this.#dir.path, 0o711);
    writeFileSync(this.at("ca.pem"), certificate.cert);
    for (const name of ["authority", "host"]) {
      await runProcess(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", this.at(name)]);
    }
    this.server.certify = (publicKey) => this.sign(publicKey);
    mkdirSync(this.at(".cloudflared"));
    this.storeToken(this.server.issue("app"));
    return this;
  }

  at(name: string): string {
    return join(this.#dir.path, name);
  }

  /** Where the command keeps what it gets. */
  kept(ending: string): string {
    return this.at(join(".cloudflared", `${APP_HOST}-cf_key${ending}`));
  }

  storeToken(token: string): void {
    writeFileSync(this.at(join(".cloudflared", TOKEN_NAME)), token);
  }

  async sign(publicKey: string): Promise<string> {
    writeFileSync(this.at("asked.pub"), publicKey);
    const what = ["-I", "me@example.test", "-n", USER, "-V", "+5m", this.at("asked.pub")];
    const { code, stderr } = await runProcess(["ssh-keygen", "-q", "-s", this.at("authority"), ...what]);
    if (code !== 0) throw new Error(stderr);
    return readFileSync(this.at("asked-cert.pub"), "utf8");
  }

  get environment(): Required<Pick<ProcessOptions, "env">> {
    return { env: { ...cleanEnvironment(), HOME: this.#dir.path } };
  }

  get command(): readonly string[] {
    const { port } = this.server;
    const here = ["--ca-file", this.at("ca.pem"), "--connect-to", `127.0.0.1:${port}`];
    return [...culvertCommand(), "access", "ssh-gen", "--hostname", `https://${APP_HOST}:${port}`, ...here];
  }

  generate(): ReturnType<typeof runProcess> {
    return runProcess(this.command, this.environment);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server[Symbol.asyncDispose]();
    this.#dir[Symbol.dispose]();
  }
}

const SILENT = { code: 0, stdout: "", stderr: "" } as const;

describe.skipIf(Bun.which("ssh-keygen") === null)("access ssh-gen", () => {
  test.skipIf(SSHD === null)(
    "gets a certificate that a server of the organisation takes, for the same key each time",
    async () => {
      await using organisation = await new Organisation().start();
      expect(await organisation.generate()).toEqual(SILENT);
      for (const ending of ["", ".pub", "-cert.pub"]) {
        expect(statSync(organisation.kept(ending)).mode & 0o777).toBe(0o600);
      }
      const shown = await runProcess(["ssh-keygen", "-L", "-f", organisation.kept("-cert.pub")]);
      expect(shown.stdout).toContain("ecdsa-sha2-nistp256-cert-v01@openssh.com user certificate");
      expect(readFileSync(organisation.kept(""), "utf8")).toStartWith("-----BEGIN EC PRIVATE KEY-----\n");
      // OpenSSH makes the same public key of the private one.
      const derived = await runProcess(["ssh-keygen", "-y", "-f", organisation.kept("")]);
      expect(derived.stdout).toBe(readFileSync(organisation.kept(".pub"), "utf8"));

      const holder = await startTcpOrigin(() => {});
      await holder[Symbol.asyncDispose]();
      if (process.getuid?.() === 0) mkdirSync("/run/sshd", { recursive: true });
      const config = [
        ...[`Port ${holder.port}`, "ListenAddress 127.0.0.1", `HostKey ${organisation.at("host")}`, "PidFile none"],
        ...["AuthorizedKeysFile none", `TrustedUserCAKeys ${organisation.at("authority.pub")}`, "StrictModes no"],
        ...["PasswordAuthentication no", "KbdInteractiveAuthentication no", "UsePAM no", "PermitRootLogin yes"],
      ];
      writeFileSync(organisation.at("sshd_config"), config.join("\n"));
      await using sshd = startProcess([SSHD ?? "", "-D", "-e", "-f", organisation.at("sshd_config")]);
      await sshd.errorLine(/Server listening/);
      const ssh = (...identity: readonly string[]) =>
        runProcess(
          [
            ...["ssh", "-F", "none", "-p", `${holder.port}`, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"],
            ...["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"],
            ...[...identity, `${USER}@127.0.0.1`, "echo", "certified"],
          ],
          organisation.environment,
        );
      // The files where the lines of ssh-config have ssh look.
      const files = ["-i", organisation.kept(""), "-o", `CertificateFile=${organisation.kept("-cert.pub")}`];
      expect(await ssh(...files)).toEqual({ ...SILENT, stdout: "certified\n" });
      const before = readFileSync(organisation.kept(".pub"), "utf8");
      const first = readFileSync(organisation.kept("-cert.pub"), "utf8");
      expect(await organisation.generate()).toEqual(SILENT);
      expect(readFileSync(organisation.kept(".pub"), "utf8")).toBe(before);
      expect(readFileSync(organisation.kept("-cert.pub"), "utf8")).not.toBe(first);
      expect(await ssh(...files)).toMatchObject({ code: 0 });
      expect(readdirSync(organisation.at(".cloudflared")).some((name) => /lock|tmp/.test(name))).toBe(false);
    },
  );

  test("two at once end with a certificate for the key that is kept", async () => {
    await using organisation = await new Organisation().start();
    expect(await Promise.all([organisation.generate(), organisation.generate()])).toEqual([SILENT, SILENT]);
    const signed = readFileSync(organisation.at("asked.pub"), "utf8");
    expect(readFileSync(organisation.kept(".pub"), "utf8")).toBe(signed);
  }, 15_000);

  test("a token that the organisation does not take any more is replaced by a login", async () => {
    await using organisation = await new Organisation().start();
    organisation.server.revokeAll();
    await using child = startProcess(organisation.command, organisation.environment);
    const [page] = await child.errorLine(/https:\/\/\S+\/cdn-cgi\/access\/cli\?\S+/);
    organisation.server.logIn(page);
    expect(await child.exitCode(10_000)).toBe(0);
    expect(statSync(organisation.kept("-cert.pub")).size).toBeGreaterThan(0);
  });

  test("what is not for its key, not from its organisation, or no certificate is refused", async () => {
    await using organisation = await new Organisation().start();
    await runProcess(["ssh-keygen", "-q", "-t", "ecdsa", "-b", "256", "-N", "", "-f", organisation.at("other")]);
    const other = readFileSync(organisation.at("other.pub"), "utf8");
    for (const certify of [
      () => organisation.sign(other),
      () => Promise.resolve("none"),
      () => Promise.resolve(other),
    ]) {
      organisation.server.certify = certify;
      const { code, stderr } = await organisation.generate();
      expect([code, stderr]).toEqual([1, expect.stringContaining("no certificate for this key")]);
    }
    organisation.server.certify = undefined;
    expect((await organisation.generate()).stderr).toMatch(
      /gave no certificate \(status 500, "no\\u001b\[31m authority"\)/,
    );
    const asked = organisation.server.seen.length;
    organisation.storeToken(organisation.server.issue("app", { iss: "https://other.cloudflareaccess.com" }));
    const { code, stderr } = await organisation.generate();
    expect([code, stderr]).toEqual([
      1,
      expect.stringContaining("The token is not of https://team.cloudflareaccess.com"),
    ]);
    expect(organisation.server.seen.slice(asked).every(({ path }) => !path.includes("cert_sign"))).toBe(true);
    expect(readdirSync(organisation.at(".cloudflared"))).not.toContain(`${APP_HOST}-cf_key-cert.pub`);
  });

  test("a file that is no key of its own is left alone", async () => {
    await using organisation = await new Organisation().start();
    const dear = readFileSync(organisation.at("host"));
    writeFileSync(organisation.kept(""), dear);
    const { code, stderr } = await organisation.generate();
    expect([code, stderr]).toEqual([1, expect.stringContaining("is not a P-256 key in PEM: remove it")]);
    expect(readFileSync(organisation.kept("")).equals(dear)).toBe(true);
  });
});

describe("access ssh-gen without Access", () => {
  const stack = new AsyncDisposableStack();
  afterAll(() => stack.disposeAsync(), 15_000);

  test("an edge of one's own has no organisation: it says so, and what works instead", async () => {
    const dir = stack.use(makeTempDir());
    const stateDir = join(dir.path, "state");
    const edge = await startEdgeProcess(stateDir);
    stack.use(edge.process);
    const env = { ...cleanEnvironment(), HOME: dir.path };
    const run = (...args: readonly string[]) =>
      runProcess([...culvertCommand(), "access", "ssh-gen", ...args], { env });
    const toEdge = ["--connect-to", `127.0.0.1:${edge.publicPort}`];
    const { code, stdout, stderr } = await run("--hostname", "http://ssh.example", ...toEdge);
    expect([code, stdout]).toEqual([1, ""]);
    expect(stderr).toContain("http://ssh.example is not an application behind Access (status 404)");
    expect(stderr).toContain("keys of your own work: see 'culvert access ssh-config'");
    const wrong = await run();
    expect([wrong.code, wrong.stderr]).toEqual([255, expect.stringContaining("--hostname is missing")]);
  });
});
