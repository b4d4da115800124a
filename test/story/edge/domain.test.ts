import { expect, test } from "bun:test";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { culvertCommand } from "../../support/binary.ts";
import { cleanEnvironment, startEdgeProcess } from "../../support/lab.ts";
import { runProcess } from "../../support/processes.ts";
import { makeTempDir } from "../../support/temp-dir.ts";
import { visit } from "../../support/visitors.ts";

const ANYWHERE = ["--http-listen", "127.0.0.1:0", "--tunnel-listen", "127.0.0.1:0", "--api-listen", "off"];

function culvert(home: string, ...args: readonly string[]) {
  return runProcess([...culvertCommand(), "edge", ...args], { env: { ...cleanEnvironment(), HOME: home }, cwd: home });
}

test("edge run takes the domain in whatever case, and says what is wrong with one", async () => {
  using dir = makeTempDir();
  const state = join(dir.path, "state");
  const flags = ["--api-listen", "off", "--domain", "EDGE.Example.test."];
  const edge = await startEdgeProcess(state, {}, { flags });
  await using _process = edge.process;
  const answer = await visit(edge.publicPort, { host: "edge.example.test" });
  expect([answer.status, answer.body.toString()]).toEqual([200, "This is a Culvert edge.\n"]);
  const other = join(dir.path, "other");
  for (const domain of ["https://edge.example.test", "*.example.test", "192.0.2.1", "edge.example.test:443"]) {
    const { code, stderr } = await culvert(dir.path, "run", "--state-dir", other, ...ANYWHERE, "--domain", domain);
    expect([code, stderr]).toEqual([255, expect.stringContaining(`--domain "${domain}" must be a hostname`)]);
  }
  expect(existsSync(other)).toBe(false);
}, 30_000);

test("edge init remembers the domain as routes have it, and edge run refuses a settings file that somebody broke", async () => {
  using dir = makeTempDir();
  const state = join(dir.path, "state");
  const settings = join(state, "edge.json");
  const init = (domain: string) => culvert(dir.path, "init", "--state-dir", state, "--domain", domain);
  expect(await init("edge.example.test/x")).toMatchObject({ code: 255 });
  expect(existsSync(state)).toBe(false);
  expect(await init("Bücher.Example.TEST.")).toMatchObject({ code: 0 });
  expect(JSON.parse(readFileSync(settings, "utf8"))).toEqual({ domain: "xn--bcher-kva.example.test" });
  writeFileSync(settings, JSON.stringify({ domain: "http://edge.example.test" }));
  const { code, stderr } = await culvert(dir.path, "run", "--state-dir", state, ...ANYWHERE);
  expect([code, stderr]).toEqual([1, expect.stringContaining(`Cannot read "${settings}"`)]);
}, 30_000);
