import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { culvertCommand } from "../support/binary.ts";
import { cleanEnvironment, type EdgeProcess, metricsPort, startEdgeProcess } from "../support/lab.ts";
import { type LabOrigin, startOrigin } from "../support/origins.ts";
import { pollUntil } from "../support/poll-until.ts";
import { type OwnedProcess, runProcess, startProcess } from "../support/processes.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { visit } from "../support/visitors.ts";

const DOMAIN = "edge.example.test";
const CLOUDFLARED = process.env["CLOUDFLARED_BIN"] || undefined;

const stack = new AsyncDisposableStack();
let edge: EdgeProcess;
let origin: LabOrigin;
let home: string;
let api: string;
let stateDir: string;

beforeAll(async () => {
  const dir = stack.use(makeTempDir()).path;
  home = join(dir, "home");
  mkdirSync(home);
  origin = stack.use(await startOrigin());
  const flags = ["--domain", DOMAIN, "--advertise", "127.0.0.1:1", "--quick-tunnels", "--api-listen", "127.0.0.1:0"];
  stateDir = join(dir, "state");
  const first = await startEdgeProcess(stateDir, {}, { flags });
  await first.process[Symbol.asyncDispose]();
  // Tokens name the port that the edge has, which is known only now.
  const { tunnelPort, publicPort } = first;
  edge = await startEdgeProcess(
    stateDir,
    { tunnelPort, publicPort },
    { flags: flags.map((flag) => (flag === "127.0.0.1:1" ? `127.0.0.1:${tunnelPort}` : flag)) },
  );
  stack.use(edge.process);
  api = (await edge.process.errorLine(/ api=(http:\/\/127\.0\.0\.1:\d+)/))[1] ?? "";
});
afterAll(() => stack.disposeAsync());

const url = (): string => `http://127.0.0.1:${origin.port}`;
const environment = (): Record<string, string> => ({ ...cleanEnvironment(), HOME: home });

/** The hostname in the frame, as tools find it. */
async function hostnameOf(connector: OwnedProcess): Promise<string> {
  const found = await connector.errorLine(/https:\/\/([a-z0-9-]+\.edge\.example\.test)\b/, 20_000);
  return found[1] ?? "";
}

async function served(host: string): Promise<void> {
  await pollUntil(async () => (await visit(edge.publicPort, { host, target: "/echo" })).status === 200, {
    what: `${host} is served`,
    deadlineMs: 15_000,
  });
}

describe("culvert tunnel --url", () => {
  test("shows a service under a random hostname, with one connection, and no account", async () => {
    const argv = [...culvertCommand(), "tunnel", "--url", url(), "--quick-service", api];
    await using connector = startProcess(argv, { env: environment() });
    const host = await hostnameOf(connector);
    await served(host);
    // Where tools that start a quick tunnel read its hostname.
    const metrics = `http://127.0.0.1:${await metricsPort(connector)}`;
    expect(await (await fetch(`${metrics}/quicktunnel`)).json()).toEqual({ hostname: host });
    expect(await (await fetch(`${metrics}/metrics`)).text()).toContain(
      `cloudflared_tunnel_user_hostnames_counts{userHostname="https://${host}"} 1`,
    );
    expect(connector.stderr.match(/Registered tunnel connection/g)).toHaveLength(1);
    expect(connector.stderr).toContain("token:*****");
    connector.signal("SIGTERM");
    expect(await connector.exitCode()).toBe(0);
  });

  test("takes the service from the environment, and the quick service at the edge's own name", async () => {
    // Through the public side, where the name would lead.
    const config = join(home, "config.yml");
    writeFileSync(config, `quick-service: http://${DOMAIN}:${edge.publicPort}\n`);
    const env = { ...environment(), TUNNEL_URL: url() };
    const { code, stderr } = await runProcess([...culvertCommand(), "tunnel", "--config", config], { env });
    // The name is not in this machine's DNS: what it says names the place that it asked.
    expect(code).toBe(1);
    expect(stderr).toContain(`Requesting new quick Tunnel on ${DOMAIN}:${edge.publicPort}`);
    const answer = await visit(edge.publicPort, { host: DOMAIN, target: "/tunnel", method: "POST" });
    expect(JSON.parse(answer.body.toString())).toMatchObject({ success: true });
  });

  test.each([
    { argv: ["tunnel"], says: /Say what to do: culvert tunnel run/, code: 255 },
    { argv: ["tunnel", "--hostname", "app.example.test"], says: /Classic tunnels/, code: 255 },
    { argv: ["tunnel", "nonsense"], says: /Unknown command "culvert tunnel nonsense"/, code: 255 },
    ...[
      ["--url", "3000"],
      ["--hello-world", "--metrics-auth", ""],
      ["--name", "web", "--url", "http://h:1", "--edge", "127.0.0.1:0"],
    ].map((flags) => ({
      argv: ["tunnel", "--quick-service", "http://127.0.0.1:9", ...flags],
      // Before anybody is asked for a tunnel.
      says: /^culvert: (--url "3000" names no host: did|--metrics-auth must not be empty:|Edge address "127.0.0.1:0")/,
      code: 255,
    })),
    {
      argv: ["tunnel", "--url", "http://h:1", "--quick-service", "http://127.0.0.1:9"],
      says: /Cannot reach the API at http:\/\/127\.0\.0\.1:9/,
      code: 1,
    },
  ])("$argv ends with $code and says why", async ({ argv, says, code }) => {
    const told = await runProcess([...culvertCommand(), ...argv], { env: environment() });
    expect(told.stderr).toMatch(says);
    expect(told.code).toBe(code);
    expect(told.stderr).not.toContain("    at ");
  });
});

describe("the edge's operator", () => {
  const tunnel = (...args: readonly string[]) =>
    runProcess([...culvertCommand(), "edge", "tunnel", ...args, "--state-dir", stateDir], { env: environment() });

  test("sees quick tunnels when all are asked for, and ends one at once", async () => {
    const argv = [...culvertCommand(), "tunnel", "--url", url(), "--quick-service", api];
    await using connector = startProcess(argv, { env: environment() });
    const host = await hostnameOf(connector);
    await served(host);
    const [name = ""] = host.split(".");

    expect((await tunnel("list")).stdout).not.toContain(name);
    const { stdout } = await tunnel("list", "--all");
    const [title = "", ...rows] = stdout.split("\n");
    expect(title).toMatch(/^ID +NAME +CREATED +ENDS +CONNECTIONS +HOSTNAMES$/);
    expect(rows.find((row) => row.includes(name))).toMatch(new RegExp(` 20\\S+Z +20\\S+Z +1xLAB +${host}$`));
    const listed: unknown[] = JSON.parse((await tunnel("list", "--all", "--json")).stdout);
    expect(listed).toContainEqual(
      expect.objectContaining({ name, hostnames: [host], expiresAt: expect.stringMatching(/^20.*Z$/) }),
    );
    expect((await tunnel("info", name)).stdout).toStartWith(`NAME:     ${name}\n`);

    const refused = await tunnel("delete", name);
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining("it is connected")]);
    await served(host);
    expect(await tunnel("delete", "nonsense", name, "--force")).toMatchObject({ code: 1 });
    await served(host);
    const { code, stderr } = await tunnel("delete", name, name, "--force");
    expect([code, stderr]).toEqual([0, expect.stringMatching(new RegExp(`^Deleted tunnel ${name} \\(\\S+\\)\n$`))]);
    await pollUntil(async () => (await visit(edge.publicPort, { host, target: "/echo" })).status === 404, {
      what: "the hostname is gone",
    });
    expect((await tunnel("list", "--all")).stdout).not.toContain(name);
    // Its connections end as well; what comes back is refused.
    await connector.errorLine(/Invalid tunnel secret|unauthorized/i);
  });

  test("deletes tunnels of the edge's own, by id and by name", async () => {
    for (const name of ["first", "second"]) expect((await tunnel("add", name, `${name}.example.test`)).code).toBe(0);
    const tunnels: { id: string; name: string }[] = JSON.parse((await tunnel("list", "--json")).stdout);
    const id = tunnels.find(({ name }) => name === "first")?.id ?? "";
    expect(await tunnel("delete")).toMatchObject({ code: 255 });
    expect(await tunnel("delete", id.toUpperCase(), "second")).toMatchObject({ code: 0 });
    expect(JSON.parse((await tunnel("list", "--json")).stdout)).toEqual([]);
    expect(await tunnel("delete", id)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("There is no tunnel"),
    });
  });
});

describe.skipIf(CLOUDFLARED === undefined)("unmodified cloudflared tunnel --quick-service", () => {
  test("gets a hostname of this edge, and serves it", async () => {
    const argv = [
      ...[CLOUDFLARED ?? "", "tunnel", "--no-autoupdate", "--protocol", "http2", "--url", url()],
      ...["--quick-service", api, "--edge", `127.0.0.1:${edge.tunnelPort}`, "--cacert", edge.caPath],
    ];
    await using connector = startProcess(argv, { env: { ...environment(), TUNNEL_NO_PRECHECKS: "true" } });
    await served(await hostnameOf(connector));
  });
});
