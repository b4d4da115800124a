import { expect, test } from "bun:test";
import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { VERSION } from "../../src/core/version.ts";
import { culvertCommand } from "../support/binary.ts";
import {
  addTunnel,
  cleanEnvironment,
  culvertConnector,
  metricsPort,
  readyConnections,
  startConnector,
  startEdgeProcess,
  startLab,
} from "../support/lab.ts";
import { pollUntil } from "../support/poll-until.ts";
import { runProcess } from "../support/processes.ts";

/** `culvert edge tunnel …`, with a proxy in the environment that must not see the token. */
async function tunnel(stateDir: string, ...args: readonly string[]) {
  return await runProcess([...culvertCommand(), "edge", "tunnel", ...args, "--state-dir", stateDir], {
    env: { ...cleanEnvironment(), HTTP_PROXY: "http://127.0.0.1:9", http_proxy: "http://127.0.0.1:9" },
  });
}

test("shows connectors over both transports; and says when the edge is not there to ask", async () => {
  await using lab = await startLab(culvertConnector("http2"));
  const { stateDir } = lab;
  const control = join(stateDir, "control.json");
  expect(statSync(control).mode & 0o777).toBe(0o600);
  await addTunnel(stateDir, "lonely", ["lonely.example"]);
  await using second = startConnector(culvertConnector("quic"), lab.run);
  for (const connector of [lab.connector, second]) {
    const port = await metricsPort(connector);
    await pollUntil(async () => (await readyConnections(port)) === 4, { what: "four connections", deadlineMs: 15_000 });
  }

  const json = await tunnel(stateDir, "info", "lab", "--json");
  expect([json.code, json.stderr]).toEqual([0, ""]);
  const info = JSON.parse(json.stdout) as {
    name: string;
    id: string;
    createdAt: string;
    conns: { id: string; conns: { conn_index: number; protocol: string; colo_name: string }[] }[];
  };
  const { conns } = info;
  expect([info.name, new Date(info.createdAt).toISOString()]).toEqual(["lab", info.createdAt]);
  const shown = conns.map((one) => one.conns.map((conn) => `${conn.conn_index} ${conn.protocol} ${conn.colo_name}`));
  expect(shown).toEqual(["http2", "quic"].map((name) => [0, 1, 2, 3].map((index) => `${index} ${name} LAB`)));

  for (const name of ["lab", info.id, info.id.toUpperCase()]) {
    const { code, stdout, stderr } = await tunnel(stateDir, "info", name);
    expect([code, stderr]).toEqual([0, ""]);
    const [, , , , title = "", ...rows] = stdout.trimEnd().split("\n");
    expect(stdout).toStartWith(`NAME:     lab\nID:       ${info.id}\nCREATED:  20`);
    expect(title).toMatch(/^CONNECTOR ID +CREATED +ARCHITECTURE +VERSION +ORIGIN IP +EDGE +$/);
    expect(rows.map((row) => row.trim().split(/ +/))).toEqual(
      conns.map(({ id }) => [
        id,
        expect.stringMatching(/^20.*Z$/),
        expect.stringMatching(/^[a-z]+_[a-z0-9]+$/),
        VERSION,
        "127.0.0.1",
        "4xLAB",
      ]),
    );
  }

  const lonely = await tunnel(stateDir, "info", "lonely");
  expect(lonely.code).toBe(0);
  expect(lonely.stdout).toMatch(/^Your tunnel [0-9a-f-]{36} does not have any active connection\.\n$/);
  const unknown = await tunnel(stateDir, "info", "nobody");
  expect([unknown.code, unknown.stdout]).toEqual([1, ""]);
  expect(unknown.stderr).toStartWith('culvert: There is no tunnel "nobody": ');
  const nameless = await tunnel(stateDir, "info");
  expect(nameless.code).toBe(255);
  expect(nameless.stderr).toStartWith("culvert: Give one tunnel, by name or id\n");

  const listed = async (): Promise<(string | undefined)[][]> => {
    const { code, stdout, stderr } = await tunnel(stateDir, "list");
    expect([code, stderr]).toEqual([0, ""]);
    const [title = "", ...rows] = stdout.trimEnd().split("\n");
    const at = [title.indexOf("NAME"), title.indexOf("CREATED"), title.indexOf("CONNECTIONS"), title.indexOf("HOST")];
    return rows.map((row) => [row.slice(at[0], at[1]), row.slice(at[2], at[3])].map((cell) => cell.trim()));
  };
  expect(await listed()).toEqual([
    ["lab", "8xLAB"],
    ["lonely", ""],
  ]);

  const nobody = async (): Promise<void> => {
    for (const flags of [[], ["--json"]]) {
      const { code, stdout, stderr } = await tunnel(stateDir, "info", "lab", ...flags);
      expect([code, stdout]).toEqual([1, ""]);
      expect(stderr).toStartWith("culvert: The edge is not running, ");
      expect(stderr).toContain(`start it with culvert edge run --state-dir ${stateDir}`);
    }
    expect(await listed()).toEqual([
      ["lab", ""],
      ["lonely", ""],
    ]);
  };
  const left = readFileSync(control, "utf8");
  await lab.edge.process.kill();
  expect(readFileSync(control, "utf8")).toBe(left);
  await nobody();

  const { publicPort, tunnelPort } = lab.edge;
  await using again = await startEdgeProcess(stateDir, { publicPort, tunnelPort }).then(({ process }) => process);
  expect(readFileSync(control, "utf8")).not.toBe(left);
  expect((await tunnel(stateDir, "info", "lonely")).code).toBe(0);
  again.signal("SIGTERM");
  expect(await again.exitCode(40_000)).toBe(0);
  expect(existsSync(control)).toBe(false);
  await nobody();
}, 60_000);

test("a directory without an edge stays as it is", async () => {
  const dir = "/nonexistent/culvert-state";
  const { code, stderr } = await tunnel(dir, "info", "web");
  expect([code, stderr]).toEqual([
    1,
    `culvert: There is no edge in "${dir}": start one with culvert edge run --state-dir ${dir}\n`,
  ]);
});
