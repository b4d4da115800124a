import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { unzipSync } from "fflate";
import { culvertCommand } from "../support/binary.ts";
import { cleanEnvironment, culvertConnector, metricsPort, readyConnections, startConnector } from "../support/lab.ts";
import { shareBareLab } from "../support/lab-suite.ts";
import { pollUntil } from "../support/poll-until.ts";
import { runProcess } from "../support/processes.ts";
import { makeTempDir } from "../support/temp-dir.ts";

setDefaultTimeout(60_000);

const lab = shareBareLab();

const culvert = (cwd: string, ...args: readonly string[]) =>
  runProcess([...culvertCommand(), ...args], { env: { ...cleanEnvironment(), HOME: cwd }, cwd, deadlineMs: 50_000 });

const zips = (folder: string): readonly string[] => readdirSync(folder).filter((file) => file.endsWith(".zip"));

test("tunnel diag: a zip with everything but secrets", async () => {
  using cwd = makeTempDir();
  const logfile = join(cwd.path, "connector.log");
  const { edge, token } = lab();
  const { tunnelPort, caPath } = edge;
  await using connector = startConnector(culvertConnector("http2"), {
    ...{ token, tunnelPort, caPath, url: "http://127.0.0.1:9" },
    // As seen from where the connector runs; diag runs elsewhere.
    flags: ["--logfile", relative(process.cwd(), logfile), "--loglevel", "debug"],
    env: { TUNNEL_METRICS_AUTH: "operator:correct-horse" },
  });
  await connector.errorLine(/Registered tunnel connection/);
  const port = await metricsPort(connector);
  // What somebody's own log may hold.
  writeFileSync(logfile, `culvert tunnel run --token ${token}\nproxy http://someone:hunter22@proxy:3128\n`, {
    flag: "a",
  });

  const { code, stdout, stderr } = await culvert(
    cwd.path,
    ...["tunnel", "--metrics", `127.0.0.1:${port}`, "--metrics-auth", "operator:correct-horse", "diag"],
  );
  expect([code, stderr]).toEqual([0, ""]);
  const name = zips(cwd.path)[0] ?? "";
  expect(name).toMatch(/^culvert-diag-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.zip$/);
  expect(stdout).toContain(`Diagnostic file written: ${name}`);
  const path = join(cwd.path, name);
  expect(statSync(path).mode & 0o777).toBe(0o600);

  const files = unzipSync(readFileSync(path));
  const expected = [
    "cli-configuration.json",
    "configuration.json",
    "cpu.cpuprofile",
    "culvert_logs.txt",
    "metrics.txt",
  ];
  // Without traceroute there is no way to look at.
  const isNetwork = (file: string): boolean => file === "raw-network.txt" || file === "network.json";
  const names = Object.keys(files).filter((file) => !isNetwork(file));
  expect(names.sort()).toEqual([...expected, "systeminformation.json", "task-result.json", "tunnelstate.json"]);
  const texts = new Map(Object.entries(files).map(([file, bytes]) => [file, new TextDecoder().decode(bytes)]));
  const json = (file: string): Record<string, unknown> => JSON.parse(texts.get(file) ?? "") as Record<string, unknown>;
  expect((json("tunnelstate.json")["connections"] as unknown[]).length).toBeGreaterThan(0);
  expect(texts.get("metrics.txt")).toContain("cloudflared_tunnel_ha_connections");
  expect(json("cpu.cpuprofile")["nodes"]).toBeArray();
  expect(texts.get("culvert_logs.txt")).toContain("Registered tunnel connection");
  const results = JSON.parse(texts.get("task-result.json") ?? "") as { file: string; error?: string }[];
  const failed = results.filter(({ error }) => error !== undefined).map(({ file }) => file);
  expect(failed.filter((file) => !isNetwork(file))).toEqual([]);
  if (texts.has("network.json")) expect(Object.keys(json("network.json"))).toEqual(["127.0.0.1"]);

  const { s: secret } = JSON.parse(atob(token)) as { s: string };
  for (const [file, text] of texts) {
    for (const hidden of [token, secret, "hunter22", "correct-horse"]) {
      expect(`${file}: ${text.includes(hidden) ? hidden : "clean"}`).toBe(`${file}: clean`);
    }
  }

  const few = ["logs", "metrics", "system", "runtime", "network"].map((part) => `--no-diag-${part}`);
  const auth = ["--metrics-auth", "operator:correct-horse"];
  using second = makeTempDir();
  await culvert(second.path, "tunnel", "--metrics", `127.0.0.1:${port}`, ...auth, "diag", ...few);
  const small = unzipSync(readFileSync(join(second.path, zips(second.path)[0] ?? "")));
  const kept = ["cli-configuration.json", "configuration.json", "task-result.json", "tunnelstate.json"];
  expect(Object.keys(small).sort()).toEqual(kept);

  // As root, only a folder that is none of a disk takes no file.
  const nowhere = await culvert("/proc", "tunnel", "--metrics", `127.0.0.1:${port}`, ...auth, "diag", ...few);
  expect([nowhere.code, nowhere.stdout]).toEqual([1, ""]);
  expect(nowhere.stderr).toMatch(
    /^culvert: Cannot write culvert-diag-\S+\.zip into this folder \([A-Z]+\): change into one where you may write\n$/,
  );

  using tight = makeTempDir();
  const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=8k", "tmpfs", tight.path]);
  if (mounted.status === 0) {
    try {
      writeFileSync(join(tight.path, "full"), new Uint8Array(8_192));
      const full = await culvert(tight.path, "tunnel", "--metrics", `127.0.0.1:${port}`, ...auth, "diag", ...few);
      expect([full.code, full.stderr]).toEqual([
        1,
        expect.stringMatching(/\(ENOSPC\): there is no space left: [^\n]*\n$/),
      ]);
      expect(zips(tight.path)).toEqual([]);
    } finally {
      spawnSync("umount", [tight.path]);
    }
  } else console.warn("Not tested: only root can mount a small file system");

  // Without the password nothing is told but that there is a connector.
  using third = makeTempDir();
  for (const [given, hint] of [
    [[], "asks for a password: give it with --metrics-auth USER:PASSWORD"],
    [["--metrics-auth", "operator:wrong"], "correct --metrics-auth"],
  ] as const) {
    const denied = await culvert(third.path, "tunnel", "--metrics", `127.0.0.1:${port}`, ...given, "diag", ...few);
    expect([denied.code, denied.stdout, denied.stderr]).toEqual([1, "", expect.stringContaining(hint)]);
  }
  expect(zips(third.path)).toEqual([]);
});

test("tunnel diag sends a password to an address that was named, and to no other", async () => {
  using cwd = makeTempDir();
  const [command, secret] = [[...culvertCommand(), "tunnel", "diag"], "operator:correct-horse"];
  const diag = (args: readonly string[], env: Readonly<Record<string, string>>) =>
    runProcess([...command, ...args], { env: { ...cleanEnvironment(), HOME: cwd.path, ...env }, cwd: cwd.path });
  for (const [from, args, env] of [
    ["--metrics-auth", ["--metrics-auth", secret], {}],
    ["--metrics-auth", ["--metrics-auth", secret, "--metrics", "localhost:0"], {}],
    ["$TUNNEL_METRICS_AUTH", [], { TUNNEL_METRICS_AUTH: secret }],
  ] as const) {
    const { code, stdout, stderr } = await diag(args, env);
    expect([code, stdout]).toEqual([255, ""]);
    expect(stderr).toStartWith(`culvert: ${from} needs --metrics HOST:PORT, `);
    expect(stderr).not.toContain("correct-horse");
  }
});

test("tunnel diag without a connector: says so, and is no failure", async () => {
  using cwd = makeTempDir();
  const { code, stdout } = await culvert(cwd.path, "tunnel", "--metrics", "127.0.0.1:9", "diag");
  expect([code, stdout]).toEqual([0, expect.stringContaining("No instances found")]);
  expect(zips(cwd.path)).toEqual([]);
});

test("tunnel ready: the exit code says whether there is a connection", async () => {
  const { dir, edge, token } = lab();
  const ready = (at: string) => culvert(dir, "tunnel", "--metrics", at, "ready");
  const run = { token, tunnelPort: edge.tunnelPort, caPath: edge.caPath, url: "http://127.0.0.1:9" };
  await using connector = startConnector(culvertConnector("http2"), run);
  const port = await metricsPort(connector);
  await pollUntil(async () => (await readyConnections(port)) > 0, { what: "a connection", deadlineMs: 10_000 });
  expect(await ready(`127.0.0.1:${port}`)).toEqual({ code: 0, stdout: "", stderr: "" });

  const socket = join(dir, "metrics.sock");
  await using lost = startConnector(culvertConnector("http2"), {
    ...{ ...run, edges: ["127.0.0.1:9"] },
    flags: ["--metrics", `unix:${socket}`],
  });
  await pollUntil(async () => (await ready(`unix:${socket}`)).stderr.includes("503"), {
    what: "a connector that is not ready",
    deadlineMs: 15_000,
  });
  const no = await ready(`unix:${socket}`);
  expect([no.code, no.stderr]).toEqual([1, "culvert: The connector answers 503: it has 0 connections to the edge\n"]);
  expect(lost.end).toBeUndefined();
  const nobody = await ready("127.0.0.1:9");
  expect([nobody.code, nobody.stderr]).toEqual([1, expect.stringContaining("No connector answers at 127.0.0.1:9")]);
});
