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
  return {
    ...{ define: never, start: never, stop: never, remove: never, refuseForeignFolder: never },
    query: () => Promise.resolve(state),
  };
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

const DATA = "C:\\ProgramData\\culvert";
const grant = (path: string, rights: string): string => `run icacls '${path}' /grant:r '${rights}' /Q`;
const closed = [
  `refuse a ${DATA} that a stranger made`,
  `make folder ${DATA} (0755)`,
  `run icacls '${DATA}' /inheritance:r /grant:r '*S-1-5-18:(OI)(CI)F' '*S-1-5-32-544:(OI)(CI)F' /Q`,
];
const program = '"C:\\Program Files\\culvert\\culvert.exe" service run';

test("the folder is closed to others before anything is written to it, and a tunnel reads its own", () => {
  const steps = (name: string | undefined) =>
    createWindows(manager(undefined))
      .prepare({ ...TUNNEL, name })
      .map(describeStep);
  expect(steps(undefined)).toEqual([
    ...closed,
    `make folder ${DATA}\\run (0755)`,
    `define the service culvert: ${program}, as NT SERVICE\\culvert, with the machine`,
    grant(DATA, "NT SERVICE\\culvert:(OI)(NP)RX"),
    grant(`${DATA}\\run`, "NT SERVICE\\culvert:(OI)(NP)M"),
  ]);
  expect(steps("web")).toEqual([
    ...closed,
    ...["tunnels", "tunnels\\web", "run"].map((name) => `make folder ${DATA}\\${name} (0755)`),
    `define the service culvert-web: ${program} --name web, as NT SERVICE\\culvert-web, with the machine`,
    grant(DATA, "NT SERVICE\\culvert-web:RX"),
    grant(`${DATA}\\tunnels\\web`, "NT SERVICE\\culvert-web:(OI)(CI)RX"),
    grant(`${DATA}\\run`, "NT SERVICE\\culvert-web:(OI)(NP)M"),
  ]);
});

test("an edge's keys are for its own account", () => {
  const init = createWindows(manager(undefined));
  const spec = { ...TUNNEL, role: "edge", name: undefined } as const;
  const account = "NT SERVICE\\culvert-edge";
  expect(init.prepare(spec).map(describeStep)).toEqual([
    ...closed,
    ...["run", "run\\culvert-edge"].map((name) => `make folder ${DATA}\\${name} (0755)`),
    `define the service culvert-edge: ${program} --edge, as ${account}, with the machine`,
    grant(DATA, `${account}:RX`),
    grant(`${DATA}\\run`, `${account}:(OI)(NP)M`),
    grant(`${DATA}\\run\\culvert-edge`, `${account}:(OI)(CI)M`),
  ]);
  expect(init.install(spec).map(describeStep)[0]).toBe(grant(`${DATA}\\edge.env`, `${account}:R`));
});

test.each([
  [undefined, { installed: false, enabled: false, active: "stopped" }],
  [
    { state: "running", pid: 7, autoStart: true, exitCode: 0, command: "C:\\culvert.exe service run" },
    { installed: true, enabled: true, active: "running", pid: 7 },
  ],
  [
    { state: "stopped", pid: 0, autoStart: false, exitCode: 255, command: "" },
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
