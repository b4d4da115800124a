import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { chmodSync, closeSync, ftruncateSync, mkdirSync, openSync, writeFileSync, writeSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { culvertCommand } from "../support/binary.ts";
import {
  addTunnel,
  CONNECTORS,
  type ConnectorKind,
  cleanEnvironment,
  startConnector,
  startEdgeProcess,
} from "../support/lab.ts";
import { type LabOrigin, startOrigin } from "../support/origins.ts";
import { pollUntil } from "../support/poll-until.ts";
import { runProcess, startProcess } from "../support/processes.ts";
import { quoteWords } from "../support/shell.ts";
import { startTcpOrigin } from "../support/tcp-origin.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { startTerminal } from "../support/terminal.ts";
import { startTlsFront } from "../support/tls-front.ts";

const MIB = 1024 * 1024;
/** What is copied once over each transport, and what everywhere else. */
const BIG_BYTES = 1024 * MIB;
const COPY_BYTES = 64 * MIB;
const BIG_MS = 180_000;
const LONG_MS = 60_000;
/** Processes that must be killed. */
const HOOK_MS = 20_000;
const SSHD = Bun.which("sshd");
const MISSING = ["ssh", "sshd", "scp", "script"].filter((name) => Bun.which(name) === null);
const CLOUDFLARED = process.env["CLOUDFLARED_BIN"] ?? "";
/** The runtime takes it from the environment, where it may not be. */
const USER = execFileSync("id", ["-un"], { encoding: "utf8" }).trim();
const SSH_HOST = "ssh.lab.example";
const JUMP_HOST = "jump.lab.example";

/** The program in ssh's ProxyCommand. */
interface Client {
  readonly name: string;
  readonly ours: boolean;
}
const CULVERT: Client = { name: "culvert", ours: true };
const CLIENTS: readonly Client[] = [CULVERT, ...(CLOUDFLARED === "" ? [] : [{ name: "cloudflared", ours: false }])];

/** Our connector with both clients, cloudflared's with ours. */
const COMBINATIONS = CONNECTORS.filter((kind) => kind.missing === undefined).flatMap((kind) =>
  (kind.ours ? CLIENTS : [CULVERT]).map((client) => ({ kind, client })),
);

const shared = new AsyncDisposableStack();
const dir = shared.use(makeTempDir());
const at = (name: string): string => join(dir.path, name);
let sshPort = 0;
let web: LabOrigin;
let echoPort = 0;

beforeAll(async () => {
  if (MISSING.length > 0) return;
  web = shared.use(await startOrigin());
  echoPort = shared.use(await startTcpOrigin((socket) => void socket.pipe(socket))).port;
  sshPort = await freePort();
  for (const name of ["host", "user"])
    await runProcess(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", at(name)]);
  // The folder where sshd drops its privileges; packages make it at boot.
  if (process.getuid?.() === 0) mkdirSync("/run/sshd", { recursive: true });
  const config = [
    ...[`Port ${sshPort}`, "ListenAddress 127.0.0.1", `HostKey ${at("host")}`, `PidFile ${at("pid")}`],
    ...[`AuthorizedKeysFile ${at("user.pub")}`, "StrictModes no", "PasswordAuthentication no", "UsePAM no"],
    ...["PermitRootLogin yes", "KbdInteractiveAuthentication no", "Subsystem sftp internal-sftp"],
    ...["PrintMotd no", "PrintLastLog no", "MaxStartups 100"],
  ];
  writeFileSync(at("sshd_config"), config.join("\n"));
  chmodSync(dir.path, 0o711);
  await shared.use(startProcess([SSHD ?? "", "-D", "-e", "-f", at("sshd_config")])).errorLine(/Server listening/);
  makeFile(at("big"), BIG_BYTES);
  makeFile(at("copy"), COPY_BYTES);
}, HOOK_MS);
afterAll(() => shared.disposeAsync(), HOOK_MS);

async function freePort(): Promise<number> {
  const holder = await startTcpOrigin(() => {});
  await holder[Symbol.asyncDispose]();
  return holder.port;
}

/** Holes with random bytes between them: as large as it says, and made at once. */
function makeFile(path: string, bytes: number): void {
  const file = openSync(path, "w");
  ftruncateSync(file, bytes);
  const block = randomBytes(MIB);
  for (let position = 0; position < bytes; position += 4 * MIB) {
    block.writeUInt32BE(position / MIB, 0);
    writeSync(file, block, 0, block.length, position);
  }
  closeSync(file);
}

async function hashOf(path: string): Promise<string> {
  const { stdout } = await runProcess(["sha256sum", path], { deadlineMs: LONG_MS });
  return stdout.slice(0, 64);
}

/** An edge and a connector in front of the services of this file; how ssh gets there. */
interface SshLab extends AsyncDisposable {
  /** Options of ssh, scp and sftp, ProxyCommand among them. */
  readonly options: readonly string[];
  /** The same by way of the bastion, to the host and port that ssh is told. */
  readonly jumpOptions: readonly string[];
  /** Home of cloudflared's client; without what would steer either. */
  readonly env: Record<string, string>;
}

async function startSshLab(kind: ConnectorKind, client: Client): Promise<SshLab> {
  await using stack = new AsyncDisposableStack();
  const own = stack.use(makeTempDir());
  const stateDir = join(own.path, "state");
  const file = join(own.path, "config.yml");
  writeFileSync(
    file,
    [
      "ingress:",
      `  - {hostname: ${SSH_HOST}, service: "ssh://localhost:${sshPort}"}`,
      `  - hostname: ${JUMP_HOST}`,
      "    service: bastion",
      `    originRequest: {ipRules: [{prefix: 127.0.0.0/8, ports: [${sshPort}], allow: true}]}`,
      "  - {service: http_status:404}",
    ].join("\n"),
  );
  const edge = await startEdgeProcess(stateDir);
  stack.use(edge.process);
  const token = await addTunnel(stateDir, "lab", [SSH_HOST, JUMP_HOST]);
  const { tunnelPort, caPath, publicPort } = edge;
  const flags = ["--config", file];
  const connector = stack.use(startConnector(kind, { token, tunnelPort, caPath, gracePeriod: "1s", flags }));
  await connector.errorLine(/Registered tunnel connection/);
  const toEdge = ["--connect-to", `127.0.0.1:${publicPort}`];
  const front = stack.use(await startTlsFront(publicPort, [SSH_HOST, JUMP_HOST]));
  const program = (host: string, ...more: readonly string[]): string =>
    client.ours
      ? quoteWords([...culvertCommand(), "access", "ssh", "--hostname", `http://${host}`, ...toEdge, ...more])
      : quoteWords([
          CLOUDFLARED,
          "access",
          "ssh",
          "--hostname",
          host,
          "--connect-to",
          `${host}:${front.port}:127.0.0.1`,
          ...more,
        ]);
  const common = [
    ...["-F", "none", "-i", at("user"), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"],
    ...["-o", "StrictHostKeyChecking=accept-new", "-o", `UserKnownHostsFile=${join(own.path, "known")}`],
  ];
  const owned = stack.move();
  return {
    // ssh puts the name in the place of %h; cloudflared needs it for --connect-to as well.
    options: [...common, "-o", `ProxyCommand=${program(client.ours ? "%h" : SSH_HOST)}`],
    jumpOptions: [...common, "-o", `ProxyCommand=${program(JUMP_HOST, "--destination", "%h:%p")}`],
    env: { ...cleanEnvironment(), HOME: own.path },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Sends bytes to an echo and compares what comes back. */
async function echoes(port: number, bytes: number): Promise<void> {
  const sent = randomBytes(bytes);
  const hash = createHash("sha256");
  let received = 0;
  const socket = connect({ host: "127.0.0.1", port });
  await new Promise<void>((resolve, reject) => {
    socket.on("data", (chunk) => {
      hash.update(chunk);
      received += chunk.length;
      if (received >= bytes) resolve();
    });
    socket.on("error", reject);
    socket.on("close", () => reject(new Error(`Closed after ${received} of ${bytes} bytes`)));
    socket.write(sent);
  });
  socket.destroy();
  expect(hash.digest("hex")).toBe(createHash("sha256").update(sent).digest("hex"));
}

for (const { kind, client } of COMBINATIONS) {
  describe.skipIf(MISSING.length > 0)(`ssh by way of ${client.name} access ssh, ${kind.name}`, () => {
    const stack = new AsyncDisposableStack();
    let lab: SshLab;
    const target = `${USER}@${SSH_HOST}`;
    const run = (argv: readonly string[], deadlineMs = LONG_MS) => runProcess(argv, { env: lab.env, deadlineMs });
    const ok = { code: 0, stderr: "" } as const;

    beforeAll(async () => {
      lab = stack.use(await startSshLab(kind, client));
    }, HOOK_MS);
    afterAll(() => stack.disposeAsync(), HOOK_MS);

    test(
      "commands: output, exit codes, input to its end",
      async () => {
        const ssh = (...remote: readonly string[]) => run(["ssh", ...lab.options, target, ...remote]);
        expect(await ssh("echo", "from afar")).toEqual({ ...ok, stdout: "from afar\n" });
        expect((await ssh("exit", "7")).code).toBe(7);
        const piped = quoteWords(["ssh", ...lab.options, target, "sha256sum"]);
        const hashed = await run(["sh", "-c", `${piped} <'${at("copy")}'`]);
        expect(hashed).toEqual({ ...ok, stdout: `${await hashOf(at("copy"))}  -\n` });
      },
      LONG_MS,
    );

    test(
      "a shell on a terminal: prompt, echo, window, interrupt, exit code",
      async () => {
        const shell = "PS1='lab> ' PS2='' ENV='' exec sh -i";
        const command = ["ssh", ...lab.options, "-tt", target, shell];
        await using terminal = await startTerminal(command, { rows: 33, columns: 101 }, { env: lab.env });
        await terminal.say("", /lab> /);
        await terminal.say("echo one-$((20+22))\r", /echo one-\$\(\(20\+22\)\)\r\n(?:.*\r)?one-42\r\n.*lab> /s);
        await terminal.say("stty size\r", /\n33 101\r\n/);
        await terminal.resize(44, 120);
        await pollUntil(
          async () => await terminal.say("stty size\r", /\n(44 120|33 101)\r\n/).then(([, size]) => size === "44 120"),
          {
            what: "the window's new size",
            everyMs: 50,
          },
        );
        // Interrupted any sooner, the shell itself would hear it and start the program afterwards.
        await terminal.say("sh -c 'echo u''p; exec sleep 100'\r", /\nup\r\n/);
        await terminal.say("\x03", /\^C\s*.*lab> /s);
        terminal.type("exit 5\r");
        expect(await terminal.process.exitCode(10_000)).toBe(5);
      },
      LONG_MS,
    );

    const big = kind.ours && client.ours;
    test(
      `scp copies ${big ? "1 GiB" : "64 MiB"} there, and 64 MiB back`,
      async () => {
        using folder = makeTempDir();
        chmodSync(folder.path, 0o755);
        const source = at(big ? "big" : "copy");
        const there = join(folder.path, "there");
        const back = join(folder.path, "back");
        expect(await run(["scp", "-q", ...lab.options, source, `${target}:${there}`], BIG_MS)).toMatchObject(ok);
        expect(await hashOf(there)).toBe(await hashOf(source));
        expect(await run(["scp", "-q", ...lab.options, `${target}:${at("copy")}`, back])).toMatchObject(ok);
        expect(await hashOf(back)).toBe(await hashOf(at("copy")));
      },
      BIG_MS,
    );

    test.skipIf(Bun.which("rsync") === null)(
      "rsync copies a folder, and afterwards only what changed",
      async () => {
        using folder = makeTempDir();
        const [from, to, back] = ["from", "to", "back"].map((name) => join(folder.path, name)) as [
          string,
          string,
          string,
        ];
        mkdirSync(join(from, "deep", "er"), { recursive: true });
        for (let i = 0; i < 200; i += 1) writeFileSync(join(from, "deep", `${i}`), randomBytes(1 + i * 37));
        makeFile(join(from, "deep", "er", "large"), 16 * MIB);
        // What rsync takes for it is split at blanks.
        const shell = join(folder.path, "ssh.sh");
        writeFileSync(shell, `#!/bin/sh\nexec ${quoteWords(["ssh", ...lab.options])} "$@"\n`, {
          mode: 0o755,
        });
        const rsync = (...args: readonly string[]) => run(["rsync", "-a", "--stats", "-e", shell, ...args]);
        expect(await rsync(`${from}/`, `${target}:${to}/`)).toMatchObject(ok);
        expect(await run(["diff", "-r", from, to])).toEqual({ ...ok, stdout: "" });
        writeFileSync(join(from, "deep", "7"), "changed");
        const again = await rsync(`${from}/`, `${target}:${to}/`);
        expect(again).toMatchObject(ok);
        expect(again.stdout).toMatch(/Number of regular files transferred: 1\n/);
        expect(await rsync(`${target}:${to}/`, `${back}/`)).toMatchObject(ok);
        expect(await run(["diff", "-r", from, back])).toEqual({ ...ok, stdout: "" });
      },
      LONG_MS,
    );

    test(
      "forwards ports: -L, -R and -D",
      async () => {
        const [local, dynamic] = [await freePort(), await freePort()];
        const forwards = [
          ...["-L", `127.0.0.1:${local}:127.0.0.1:${echoPort}`, "-D", `127.0.0.1:${dynamic}`],
          ...["-R", `127.0.0.1:0:127.0.0.1:${echoPort}`],
        ];
        const more = ["-N", "-o", "ExitOnForwardFailure=yes", "-o", "ServerAliveInterval=15", "-o", "LogLevel=INFO"];
        await using ssh = startProcess(["ssh", ...more, ...lab.options, ...forwards, target], { env: lab.env });
        const [, remote] = await ssh.errorLine(/Allocated port (\d+) for remote forward/);
        for (const port of [local, Number(remote)]) {
          await echoes(port, 8 * MIB);
          await Promise.all(Array.from({ length: 20 }, (_, i) => echoes(port, 50_000 + i)));
        }
        const url = `http://localhost:${web.port}/hello`;
        const curl = await run(["curl", "-sS", "--max-time", "10", "--proxy", `socks5h://127.0.0.1:${dynamic}`, url]);
        expect(curl).toMatchObject(ok);
        expect(curl.stdout.length).toBeGreaterThan(0);
        ssh.signal("SIGTERM");
        await ssh.ended;
      },
      LONG_MS,
    );

    test(
      "by way of a bastion, to where --destination says and its rules allow",
      async () => {
        const jump = (port: number) =>
          run(["ssh", ...lab.jumpOptions, "-p", `${port}`, `${USER}@localhost`, "echo", "beyond"]);
        expect(await jump(sshPort)).toEqual({ ...ok, stdout: "beyond\n" });
        // cloudflared lets a bastion's visitors go anywhere.
        if (!kind.ours) return;
        const refused = await jump(echoPort);
        expect(refused.code).toBe(255);
        if (client.ours) expect(refused.stderr).toContain("answered 403");
      },
      LONG_MS,
    );
  });
}
