import { expect, test } from "bun:test";
import { buildRunConfig } from "../../../src/config/run-config.ts";
import { newTunnelId } from "../../../src/core/ids.ts";
import { checkConfig } from "../../../src/doctor/config-checks.ts";
import { formatToken } from "../../../src/wire/token.ts";
import { memoryHost } from "../config/memory-host.ts";

const TOKEN = formatToken({
  ...{ accountTag: "a", tunnelId: newTunnelId(), tunnelSecret: new Uint8Array(32), endpoint: "", edges: [] },
  ca: undefined,
});

/** What the doctor says to do about what was read, as it was read. */
function remedies(yaml: string | undefined, flags: Readonly<Record<string, string>> = {}, file = "/c.yml") {
  const args = new Map(Object.entries({ token: TOKEN, ...flags }).map(([name, value]) => [name, [value]]));
  if (yaml !== undefined) args.set("config", [file]);
  const built = buildRunConfig(memoryHost(yaml === undefined ? {} : { [file]: yaml }), args, []);
  if (built.kind !== "ok") throw new Error(built.errors.join("; "));
  const { config, warnings } = built;
  const { findings } = checkConfig({
    ...{ rules: config.rules, from: config.rulesFrom, configured: config.rulesFrom !== "default" },
    ...{ file: config.file?.path, warnings, connections: 4, gracePeriodMs: 30_000 },
  });
  return findings.map(({ code, todo }) => [code, todo]);
}

const LINE = ["C-402", "Correct or remove that line"];
const SETTING = ["C-402", "Correct or remove that setting"];
const FILE = ["C-402", "Write into it what the connector shall do, or remove the file"];
const GIVEN = { url: "http://localhost:1" };

test("what a configuration says without effect: the next step fits it", () => {
  expect(remedies("ingres: []", GIVEN)).toEqual([LINE]);
  expect(remedies("lb-pool: l", GIVEN)).toEqual([LINE]);
  expect(remedies("", GIVEN)).toEqual([FILE]);
  expect(remedies("ingress:\n  - service: http_status:404", GIVEN)).toEqual([SETTING]);
  expect(remedies(undefined, { ...GIVEN, "lb-pool": "l" })).toEqual([SETTING]);
});

test("whatever names and values look like", () => {
  const path = "/a:1:2: b is empty";
  expect(remedies("ingress:\n  - service: http_status:404", GIVEN, path)).toEqual([SETTING]);
  expect(remedies("", GIVEN, path)).toEqual([FILE]);
  expect(remedies(undefined, { url: "http://localhost:1/a:1:2: b" })).toEqual([SETTING]);
});

test("that there are no rules is said once", () => {
  expect(remedies(undefined).map(([code]) => code)).toEqual(["C-403"]);
  expect(remedies("loglevel: info").map(([code]) => code)).toEqual(["C-403"]);
});
