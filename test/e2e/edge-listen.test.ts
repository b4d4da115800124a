import { expect, test } from "bun:test";
import { join } from "node:path";
import { culvertCommand } from "../support/binary.ts";
import { addTunnel, cleanEnvironment, startEdgeProcess } from "../support/lab.ts";
import { canHaveOwnHosts, hostsFile, withHosts } from "../support/own-hosts.ts";
import { startProcess } from "../support/processes.ts";
import { makeTempDir } from "../support/temp-dir.ts";

const env = cleanEnvironment();
const ownHosts = await canHaveOwnHosts();

/** Where the edge says that its API is. */
async function apiAt(host: string, command: readonly string[] = culvertCommand()): Promise<string | undefined> {
  using dir = makeTempDir();
  const { process } = await startEdgeProcess(dir.path, {}, { env, command, flags: ["--api-listen", `${host}:0`] });
  await using edge = process;
  return / api=(\S+):\d+/.exec(edge.stderr)?.[1];
}

test.each(["127.1", "0x7f.1", "localhost"])(
  "the API speaks HTTP on %s, which is loopback",
  async (host) => {
    expect(await apiAt(host)).toBe(`http://${host}`);
  },
  20_000,
);

test.skipIf(!ownHosts)(
  "the API speaks TLS on a name below localhost: the resolver says where that is",
  async () => {
    using dir = makeTempDir();
    const hosts = hostsFile(dir.path, "lan.localhost", ["127.0.0.9"]);
    expect(await apiAt("lan.localhost", withHosts(hosts, culvertCommand()))).toBe("https://lan.localhost");
  },
  20_000,
);

test("requests are shown on a short form of a loopback address", async () => {
  using dir = makeTempDir();
  await addTunnel(dir.path, "web", ["app.example.test"]);
  const flags = ["--api-listen", "off", "--inspect", "web", "--inspect-listen", "127.1:0"];
  const { process } = await startEdgeProcess(dir.path, {}, { env, flags });
  await using edge = process;
  expect(edge.stderr).toMatch(/http:\/\/127\.1:\d+/);
}, 20_000);

test.each(["lan.localhost", "128.1"])(
  "requests are not shown on %s",
  async (host) => {
    using dir = makeTempDir();
    const argv = ["edge", "run", "--state-dir", join(dir.path, "edge"), "--inspect", "web"];
    await using edge = startProcess([...culvertCommand(), ...argv, "--inspect-listen", `${host}:0`], { env });
    expect(await edge.exitCode(10_000)).toBe(255);
    expect(edge.stderr).toContain("--inspect-listen must be on loopback");
  },
  20_000,
);
