import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { addTunnel, CONNECTORS, cleanEnvironment, startConnector, startEdgeProcess } from "../support/lab.ts";
import { type LabOrigin, startOrigin } from "../support/origins.ts";
import { pollUntil } from "../support/poll-until.ts";
import { runProcess, startProcess } from "../support/processes.ts";
import { startTcpOrigin } from "../support/tcp-origin.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { startTlsFront } from "../support/tls-front.ts";
import { openStream, StreamConversation, startStreamPort } from "../support/tunnel-client.ts";

const MIB = 1024 * 1024;
/** The runtime takes it from the environment, where it may not be. */
const USER = execFileSync("id", ["-un"], { encoding: "utf8" }).trim();
const COPY_BYTES = 100 * MIB;
const LONG_MS = 120_000;
/** Two processes that must be killed. */
const HOOK_MS = 15_000;
const SSHD = Bun.which("sshd");
const HAS_SSH = SSHD !== null && Bun.which("scp") !== null;
const HAS_REDIS = Bun.which("redis-server") !== null && Bun.which("redis-benchmark") !== null;
const CLOUDFLARED = process.env["CLOUDFLARED_BIN"] ?? "";

async function freePort(): Promise<number> {
  const holder = await startTcpOrigin(() => {});
  await holder[Symbol.asyncDispose]();
  return holder.port;
}

/** The services behind the tunnels of this file, started once. */
const services = new AsyncDisposableStack();
const dir = services.use(makeTempDir());
const at = (name: string): string => join(dir.path, name);
const ports = { redis: 0, ssh: 0, echo: 0, gone: 0 };
let web: LabOrigin;

beforeAll(async () => {
  web = services.use(await startOrigin());
  ports.gone = await freePort();
  ports.echo = services.use(await startTcpOrigin((socket) => void socket.pipe(socket))).port;
  if (HAS_REDIS) {
    ports.redis = await freePort();
    const redis = ["redis-server", "--port", `${ports.redis}`, "--bind", "127.0.0.1", "--save", "", "--dir", dir.path];
    await services.use(startProcess(redis)).outputLine(/Ready to accept connections/);
  }
  if (HAS_SSH) {
    ports.ssh = await freePort();
    for (const name of ["host", "user"]) {
      await runProcess(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", at(name)]);
    }
    // The folder where sshd drops its privileges; packages make it at boot.
    if (process.getuid?.() === 0) mkdirSync("/run/sshd", { recursive: true });
    const config = [
      ...[`Port ${ports.ssh}`, "ListenAddress 127.0.0.1", `HostKey ${at("host")}`, `PidFile ${at("pid")}`],
      ...[`AuthorizedKeysFile ${at("user.pub")}`, "StrictModes no", "PasswordAuthentication no", "UsePAM no"],
      ...["PermitRootLogin yes", "KbdInteractiveAuthentication no", "Subsystem sftp internal-sftp"],
    ];
    writeFileSync(at("sshd_config"), config.join("\n"));
    chmodSync(dir.path, 0o711);
    await services.use(startProcess([SSHD ?? "", "-D", "-e", "-f", at("sshd_config")])).errorLine(/Server listening/);
  }
});
afterAll(() => services.disposeAsync(), HOOK_MS);

function ingress(): string {
  const allowed = `ipRules: [{prefix: 127.0.0.0/8, ports: [${web.port}, ${ports.gone}], allow: true}]`;
  return [
    "ingress:",
    `  - {hostname: redis.lab.example, service: "tcp://127.0.0.1:${ports.redis}"}`,
    `  - {hostname: ssh.lab.example, service: "ssh://localhost:${ports.ssh}"}`,
    `  - {hostname: echo.lab.example, service: "tcp://127.0.0.1:${ports.echo}"}`,
    `  - {hostname: socks.lab.example, service: socks-proxy, originRequest: {${allowed}}}`,
    `  - {hostname: jump.lab.example, service: bastion, originRequest: {${allowed}}}`,
    "  - {service: http_status:404}",
  ].join("\n");
}
const HOSTS = ["redis", "ssh", "echo", "socks", "jump"].map((name) => `${name}.lab.example`);

for (const kind of CONNECTORS) {
  const suite = kind.missing === undefined ? describe : describe.skip;
  suite(`stream services, ${kind.name}${kind.missing === undefined ? "" : ` (${kind.missing})`}`, () => {
    const stack = new AsyncDisposableStack();
    let publicPort = 0;

    beforeAll(async () => {
      const own = stack.use(makeTempDir());
      const stateDir = join(own.path, "state");
      const file = join(own.path, "config.yml");
      writeFileSync(file, ingress());
      const edge = await startEdgeProcess(stateDir);
      stack.use(edge.process);
      publicPort = edge.publicPort;
      const token = await addTunnel(stateDir, "lab", HOSTS);
      const { tunnelPort, caPath } = edge;
      const connector = stack.use(
        startConnector(kind, { token, tunnelPort, caPath, gracePeriod: "1s", flags: ["--config", file] }),
      );
      await connector.errorLine(/Registered tunnel connection/);
    });
    afterAll(() => stack.disposeAsync(), HOOK_MS);
    const port = (name: string) => startStreamPort({ port: publicPort, host: `${name}.lab.example` });

    test.skipIf(!HAS_REDIS)(
      "redis answers pipelines of 20 clients",
      async () => {
        await using forward = await port("redis");
        const at = ["-h", "127.0.0.1", "-p", `${forward.port}`];
        const load = ["-n", "20000", "-c", "20", "-P", "16", "-d", "1000", "-r", "500", "-t", "set,get", "--csv"];
        const bench = await runProcess(["redis-benchmark", ...at, ...load], { deadlineMs: 60_000 });
        expect(bench.stderr).toBe("");
        expect([...bench.stdout.matchAll(/^"(SET|GET)","([\d.]+)"/gm)].map(([, name]) => name)).toEqual(["SET", "GET"]);
        const size = await runProcess(["redis-cli", ...at, "dbsize"]);
        expect(size.stdout).toBe("500\n");
      },
      LONG_MS,
    );

    test.skipIf(!HAS_SSH)(
      "scp copies 100 MiB there and back",
      async () => {
        await using forward = await port("ssh");
        const bytes = randomBytes(COPY_BYTES);
        writeFileSync(at("bytes"), bytes);
        const scp = [
          ...["scp", "-q", "-F", "none", "-i", at("user"), "-P", `${forward.port}`, "-o", "BatchMode=yes"],
          ...["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"],
        ];
        const remote = (name: string): string => `${USER}@127.0.0.1:${at(name)}`;
        const options = { env: cleanEnvironment(), deadlineMs: LONG_MS / 2 };
        expect(await runProcess([...scp, at("bytes"), remote("there")], options)).toMatchObject({
          code: 0,
          stderr: "",
        });
        expect(await runProcess([...scp, remote("there"), at("back")], options)).toMatchObject({ code: 0, stderr: "" });
        const sha = (data: Uint8Array): string => createHash("sha256").update(data).digest("hex");
        expect(sha(readFileSync(at("back")))).toBe(sha(bytes));
      },
      LONG_MS,
    );

    test("curl goes through the SOCKS proxy by name and by address, as far as the rules allow", async () => {
      await using forward = await port("socks");
      const curl = (scheme: string, url: string) =>
        runProcess(["curl", "-sS", "--max-time", "10", "--proxy", `${scheme}://127.0.0.1:${forward.port}`, url], {
          env: cleanEnvironment(),
        });
      for (const [scheme, host] of [
        ["socks5h", "localhost"],
        ["socks5h", "127.0.0.1"],
        ["socks5", "127.0.0.1"],
      ] as const) {
        expect(await curl(scheme, `http://${host}:${web.port}/hello`)).toMatchObject({ code: 0, stderr: "" });
      }
      // 97: the proxy said no; curl prints its reply code.
      const denied = await curl("socks5h", `http://127.0.0.1:${ports.echo}/`);
      expect([denied.code, denied.stderr]).toEqual([97, expect.stringContaining("(2)")]);
      const refused = await curl("socks5h", `http://127.0.0.1:${ports.gone}/`);
      expect([refused.code, refused.stderr]).toEqual([97, expect.stringContaining("(5)")]);
      const unknown = await curl("socks5h", "http://nowhere.invalid/");
      expect(unknown.code).toBe(97);
      if (kind.ours) expect(unknown.stderr).toContain("(4)");
    });

    test("a SOCKS command other than CONNECT is answered with 7, authentication with 255", async () => {
      const open = async () =>
        new StreamConversation(await openStream({ port: publicPort, host: "socks.lab.example" }));
      const bind = await open();
      await bind.write(Uint8Array.of(5, 1, 0));
      await pollUntil(() => bind.bytes === 2, { what: "the method" });
      await bind.write(Uint8Array.of(5, 2, 0, 1, 127, 0, 0, 1, 0, 80));
      await pollUntil(() => bind.bytes >= 4, { what: "the reply" });
      expect([...bind.received.subarray(0, 4)]).toEqual([5, 0, 5, 7]);
      const password = await open();
      await password.write(Uint8Array.of(5, 1, 2));
      await pollUntil(() => password.bytes >= 2, { what: "the method" });
      expect([...password.received.subarray(0, 2)]).toEqual([5, 255]);
      for (const { channel } of [bind, password]) channel.end();
    });

    test("a bastion takes the visitor where the header says", async () => {
      const fields = [["Cf-Access-Jump-Destination", `tcp://127.0.0.1:${web.port}`]] as const;
      const stream = new StreamConversation(await openStream({ port: publicPort, host: "jump.lab.example", fields }));
      await stream.write("GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
      await pollUntil(() => stream.received.includes("HTTP/1.1 200"), { what: "the answer" });
      stream.channel.end();
    });

    test.skipIf(CLOUDFLARED === "")(
      "the unmodified cloudflared access tcp: 32 MiB there and back, 20 connections",
      async () => {
        await using front = await startTlsFront(publicPort, ["echo.lab.example"]);
        const url = `127.0.0.1:${await freePort()}`;
        const argv = [CLOUDFLARED, "access", "tcp", "--hostname", "echo.lab.example", "--url", url];
        const env = { ...cleanEnvironment(), HOME: dir.path };
        await using client = startProcess([...argv, "--connect-to", `echo.lab.example:${front.port}:127.0.0.1`], {
          env,
        });
        const target = Number(url.split(":")[1]);
        await client.errorLine(/Start Websocket listener/);
        const sizes = [32 * MIB, ...Array.from({ length: 20 }, (_, i) => 10_000 + i)];
        await Promise.all(sizes.map((size) => echoes(target, size)));
      },
      LONG_MS,
    );
  });
}

async function echoes(port: number, size: number): Promise<void> {
  const sent = randomBytes(size);
  const hash = createHash("sha256");
  let received = 0;
  const socket = connect({ host: "127.0.0.1", port });
  await new Promise<void>((resolve, reject) => {
    socket.on("data", (chunk) => {
      hash.update(chunk);
      received += chunk.length;
      if (received >= size) resolve();
    });
    socket.on("error", reject);
    socket.on("close", () => reject(new Error(`Closed after ${received} of ${size} bytes`)));
    socket.write(sent);
  });
  socket.destroy();
  expect(hash.digest("hex")).toBe(createHash("sha256").update(sent).digest("hex"));
}
