import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { culvertCommand } from "../support/binary.ts";
import { addTunnel, cleanEnvironment, HOST } from "../support/lab.ts";
import { netlabMissing } from "../support/netlab/commands.ts";
import { Namespaces } from "../support/netlab/namespaces.ts";
import { pollUntil } from "../support/poll-until.ts";
import { type OwnedProcess, runProcess, startProcess } from "../support/processes.ts";
import { makeTempDir } from "../support/temp-dir.ts";

setDefaultTimeout(40_000);
const missing = netlabMissing();

describe.skipIf(missing !== undefined)(
  `machines without 127.0.0.1${missing === undefined ? "" : ` (${missing})`}`,
  () => {
    const stack = new AsyncDisposableStack();
    let namespaces: Namespaces;
    let dir: string;
    let options: { readonly cwd: string; readonly env: Record<string, string> };

    beforeAll(() => {
      dir = stack.use(makeTempDir()).path;
      options = { cwd: dir, env: cleanEnvironment() };
      namespaces = stack.use(new Namespaces());
      namespaces.add("six");
      namespaces.run("six", "ip", "address", "del", "127.0.0.1/8", "dev", "lo");
      namespaces.add("none");
      namespaces.run("none", "ip", "address", "flush", "dev", "lo");
    });
    afterAll(() => stack.disposeAsync());

    const argv = (where: string, ...args: readonly string[]) =>
      namespaces.inside(where, [...culvertCommand(), ...args]);
    const runIn = (where: string, ...args: readonly string[]) => runProcess(argv(where, ...args), options);
    const startIn = (where: string, ...args: readonly string[]): OwnedProcess =>
      stack.use(startProcess(argv(where, ...args), options));

    test("up serves on ::1, HTTPS and its pages of requests too", async () => {
      const more = ["--tls-internal", "--inspect", "--state-dir", join(dir, "up")];
      const { code, stdout, stderr } = await runIn("six", "up", "--once", ...more);
      expect([code, stderr]).toEqual([0, expect.stringMatching(/GET http:\S+ answered 200/)]);
      expect(stderr).toMatch(/Requests are shown at http:\/\/\[::1\]:\d+\//);
      expect(stdout).toMatch(/^http:\/\/hello\.localhost:\d+\nhttps:\/\/hello\.localhost:\d+\n$/);
    });

    test("an edge tells what it does, and a connector's metrics are found", async () => {
      const stateDir = join(dir, "edge");
      const listen = ["--http-listen", "[::1]:0", "--tunnel-listen", "[::1]:0", "--api-listen", "off"];
      const edge = startIn("six", "edge", "run", "--state-dir", stateDir, ...listen);
      await edge.errorLine(/Edge is ready.* tunnel=\[::1\]:\d+/);
      const token = await addTunnel(stateDir, "web", [HOST], options);
      const connector = startIn("six", "tunnel", "run", "--token", token, "--hello-world");
      await connector.errorLine(/Starting metrics server on \[::1\]:20241\/metrics/);
      await connector.errorLine(/Registered tunnel connection/);

      expect((await runIn("six", "edge", "status", "--state-dir", stateDir)).stdout).toMatch(/Running: +yes/);
      await pollUntil(async () => (await runIn("six", "tunnel", "ready")).code === 0, { what: "tunnel ready" });
      const top = await runIn("six", "edge", "top", "--once", "--interval", "200ms", "--state-dir", stateDir);
      expect([top.code, top.stdout]).toEqual([0, expect.stringMatching(/^web +healthy +1\//m)]);
      expect(edge.stderr + connector.stderr).not.toMatch(/Cannot (?:listen|tell)/);
    });

    test("a connector goes on without metrics that nobody asked for, and not without those that somebody did", async () => {
      const stateDir = join(dir, "nowhere");
      const token = await addTunnel(stateDir, "web", [HOST], options);
      const run = ["run", "--token", token, "--hello-world"];
      const connector = startIn("none", "tunnel", "--edge", "[::1]:7844", ...run);
      await connector.errorLine(/WRN Metrics are not served .*Cannot listen on 127\.0\.0\.1:20241/);
      // It goes on to what this machine cannot do either.
      await connector.errorLine(/ERR .*\[::1\]:7844|ERR .*connect/i);
      const asked = await runIn("none", "tunnel", "--edge", "[::1]:7844", "--metrics", "127.0.0.1:20241", ...run);
      expect([asked.code, asked.stderr]).toEqual([1, expect.stringContaining("Cannot listen on 127.0.0.1:20241")]);
    });
  },
);
