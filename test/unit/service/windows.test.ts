import { expect, test } from "bun:test";
import type { ScmState } from "../../../src/net/windows-scm.ts";
import type { ServiceSpec } from "../../../src/service/layout.ts";
import { describeStep } from "../../../src/service/steps.ts";
import { createWindows, definition, quoteArgument, type ServiceManager } from "../../../src/service/windows.ts";

const TUNNEL: ServiceSpec = {
  role: "connector",
  name: "web",
  scope: { kind: "system" },
  program: ["C:\\Program Files\\culvert\\culvert.exe"],
  user: undefined,
};

/** Answers one state, and takes no orders: the real one is spoken to where there is a Windows. */
function manager(state: ScmState | undefined): ServiceManager {
  const never = () => Promise.reject(new Error("not asked for"));
  return { define: never, start: never, stop: never, remove: never, query: () => Promise.resolve(state) };
}

test("the service has a quoted command, an account of its own, and is started again", () => {
  expect(definition(TUNNEL)).toEqual({
    name: "culvert-web",
    displayName: "Culvert tunnel web",
    description: "Carries requests from an edge to services of this machine",
    command: '"C:\\Program Files\\culvert\\culvert.exe" service run --name web',
    account: "NT SERVICE\\culvert-web",
    restartAfterMs: [1_000, 5_000, 30_000],
    stopMs: 200_000,
  });
  expect(definition({ ...TUNNEL, role: "edge", name: undefined, user: "HOST\\ann" })).toMatchObject({
    name: "culvert-edge",
    command: '"C:\\Program Files\\culvert\\culvert.exe" service run --edge',
    account: "HOST\\ann",
  });
});

test("the folder is closed to others before anything is written to it", () => {
  const data = "C:\\ProgramData\\culvert";
  expect(createWindows(manager(undefined)).prepare(TUNNEL).map(describeStep)).toEqual([
    `make folder ${data} (0755)`,
    `make folder ${data}\\run (0755)`,
    'define the service culvert-web: "C:\\Program Files\\culvert\\culvert.exe" service run --name web, as NT SERVICE\\culvert-web, with the machine',
    `run icacls '${data}' /inheritance:r /grant:r '*S-1-5-18:(OI)(CI)F' '*S-1-5-32-544:(OI)(CI)F' /Q`,
    `run icacls '${data}' /grant 'NT SERVICE\\culvert-web:(OI)(CI)RX' /Q`,
    `run icacls '${data}\\run' /grant 'NT SERVICE\\culvert-web:(OI)(CI)M' /Q`,
  ]);
});

test.each([
  [undefined, { installed: false, enabled: false, active: "stopped" }],
  [
    { state: "running", pid: 7, autoStart: true, exitCode: 0 },
    { installed: true, enabled: true, active: "running", pid: 7 },
  ],
  [
    { state: "stopped", pid: 0, autoStart: false, exitCode: 255 },
    { installed: true, enabled: false, active: "failed", detail: "exit code 255" },
  ],
] as const)("the manager's answer %j", async (found, shown) => {
  const init = createWindows(manager(found));
  expect("query" in init.state && (await init.state.query(TUNNEL))).toEqual(shown as never);
});

test.each([
  ["C:\\culvert.exe", "C:\\culvert.exe"],
  ["a b", '"a b"'],
  ["a b\\", '"a b\\\\"'],
  ['a "b"', '"a \\"b\\""'],
])("%s is written %s", (word, written) => {
  expect(quoteArgument(word)).toBe(written);
});
