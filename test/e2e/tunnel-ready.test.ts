import { expect, test } from "bun:test";
import { culvertCommand } from "../support/binary.ts";
import { CULVERT, cleanEnvironment, metricsPort, startLab } from "../support/lab.ts";
import { runProcess } from "../support/processes.ts";

async function ready(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  return await runProcess([...culvertCommand(), "tunnel", ...args], { env: { ...cleanEnvironment(), ...env } });
}

test("tunnel ready says whether the connector of this machine is connected", async () => {
  await using lab = await startLab(CULVERT);
  const port = await metricsPort(lab.connector);
  const good = await ready(["--metrics", `localhost:${port}`, "ready"]);
  expect({ code: good.code, err: good.stderr }).toEqual({ code: 0, err: "" });
  expect(JSON.parse(good.stdout)).toMatchObject({ status: 200, readyConnections: 2 });
  // An address to listen on is no address to ask.
  expect((await ready(["ready"], { TUNNEL_METRICS: `0.0.0.0:${port}` })).code).toBe(0);

  await lab.edge.process.kill();
  const deadline = performance.now() + 15_000;
  let bad = good;
  while (bad.code === 0 && performance.now() < deadline) bad = await ready(["--metrics", `:${port}`, "ready"]);
  expect(bad.code).toBe(1);
  expect(bad.stderr).toContain("/ready answered 503");

  await lab.connector.kill();
  const gone = await ready(["--metrics", `127.0.0.1:${port}`, "ready"]);
  expect(gone.code).toBe(1);
  expect(gone.stderr).toContain("no connector answers on this machine");
}, 30_000);

test("tunnel ready refuses what is no address", async () => {
  const { code, stderr } = await ready(["--metrics", "nonsense", "ready"]);
  expect(code).toBe(255);
  expect(stderr).toContain('"nonsense" must be HOST:PORT');
});
