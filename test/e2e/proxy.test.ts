import { describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { dial } from "../../src/net/dial.ts";
import type { ProxySettings } from "../../src/net/proxy-settings.ts";
import { addTunnel, culvertConnector, HOST, served, startConnector, startEdgeProcess } from "../support/lab.ts";
import { startOrigin } from "../support/origins.ts";
import { pollUntil } from "../support/poll-until.ts";
import { OwnedProcess } from "../support/processes.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { startWholePath } from "../support/whole-path.ts";

const CREDENTIALS = { username: "culvert", password: "p4ss-word" };

interface ProxyKind {
  readonly name: string;
  readonly program: string;
  readonly kind: ProxySettings["kind"];
  start(port: number, dir: string): OwnedProcess;
}

const KINDS: readonly ProxyKind[] = [
  {
    name: "HTTP CONNECT with basic authentication (tinyproxy)",
    program: "tinyproxy",
    kind: "http",
    start: (port, dir) => {
      const file = join(dir, "tinyproxy.conf");
      const { username, password } = CREDENTIALS;
      writeFileSync(
        file,
        `Port ${port}\nListen 127.0.0.1\nMaxClients 50\nTimeout 600\nBasicAuth ${username} ${password}\n`,
      );
      return new OwnedProcess(["tinyproxy", "-d", "-c", file]);
    },
  },
  {
    name: "SOCKS5 with user and password (microsocks)",
    program: "microsocks",
    kind: "socks5",
    start: (port) =>
      new OwnedProcess([
        ...["microsocks", "-i", "127.0.0.1", "-p", String(port)],
        ...["-u", CREDENTIALS.username, "-P", CREDENTIALS.password],
      ]),
  },
];

for (const kind of KINDS) {
  const suite = Bun.which(kind.program) === null ? describe.skip : describe;
  suite(`behind a proxy: ${kind.name}`, () => {
    test("the tunnel comes up with --protocol auto, serves, and survives the proxy's restart", async () => {
      using dir = makeTempDir();
      const port = await freePort();
      const first = kind.start(port, dir.path);
      await using _first = first;
      await listening(port);
      await using origin = await startOrigin();
      const stateDir = join(dir.path, "state");
      const edge = await startEdgeProcess(stateDir);
      await using _edge = edge.process;
      const token = await addTunnel(stateDir, "proxied", [HOST]);
      const { username, password } = CREDENTIALS;
      await using connector = startConnector(culvertConnector("auto"), {
        ...{ token, tunnelPort: edge.tunnelPort, caPath: edge.caPath, url: `http://127.0.0.1:${origin.port}` },
        env: { TUNNEL_EDGE_PROXY: `${kind.kind}://${username}:${password}@127.0.0.1:${port}` },
      });
      await edge.process.errorLine(/Tunnel connection registered .*protocol=http2/);
      await served(edge.publicPort);

      await first.kill();
      await edge.process.errorLine(/Tunnel connection (lost|ended)/);
      await connector.errorLine(/Unable to establish connection/);
      await using _second = kind.start(port, dir.path);
      const registrations = (): number => connector.stderr.split("Registered tunnel connection").length - 1;
      await pollUntil(() => registrations() === 2, { what: "it has registered again", deadlineMs: 5_000 });
      await served(edge.publicPort);
      expect(connector.stderr.match(/QUIC/g)).toHaveLength(1);
      expect(connector.stderr).toMatch(/^\S+ INF .*through \w+ proxy 127\.0\.0\.1:\d+; QUIC is skipped/m);
      expect(connector.stderr).not.toContain(password);
    }, 30_000);

    test("a wrong password is said in one line, without the password", async () => {
      using dir = makeTempDir();
      const port = await freePort();
      await using _proxy = kind.start(port, dir.path);
      await listening(port);
      await using path = await startWholePath();
      const credentials = { username: CREDENTIALS.username, password: "wrong-secret" };
      await path.connect({ connections: 1, proxy: { kind: kind.kind, host: "127.0.0.1", port, credentials } });
      const line = await pollUntil(() => path.lines.find((text) => text.includes("Unable to establish connection")), {
        what: "the refusal in the log",
      });
      expect(line).toMatch(/The proxy (refused user and password|wants authentication|refused the connection)/);
      expect(path.lines.join("\n")).not.toContain("wrong-secret");
    });
  });
}

async function listening(port: number): Promise<void> {
  await pollUntil(
    async () => {
      const { channel } = await dial({ host: "127.0.0.1", port });
      channel.listen({ onData: () => {}, onEnd: () => channel.end(), onDrain: () => {}, onClose: () => {} });
      channel.end();
      return true;
    },
    { what: "the proxy listens" },
  );
}

async function freePort(): Promise<number> {
  const probe = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = probe;
  probe.stop(true);
  return await Promise.resolve(port);
}
