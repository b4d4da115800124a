import { describe, expect, test } from "bun:test";
import { freebsd } from "../../../src/service/freebsd.ts";
import type { InitSystem } from "../../../src/service/init.ts";
import { createLaunchd } from "../../../src/service/launchd.ts";
import { layoutOf, type ServiceSpec } from "../../../src/service/layout.ts";
import { openrc } from "../../../src/service/openrc.ts";
import { createSystemd } from "../../../src/service/systemd.ts";
import { sysv } from "../../../src/service/sysv.ts";
import { createWindows, definition, type ServiceManager } from "../../../src/service/windows.ts";

const SYSTEMS: readonly InitSystem[] = [
  createSystemd(252),
  createSystemd(232),
  openrc,
  sysv,
  freebsd,
  createLaunchd(501),
];
const PLAIN = "/usr/local/bin/culvert";

function specOf(path: string, part: Partial<ServiceSpec>): ServiceSpec {
  return { role: "connector", name: undefined, scope: { kind: "system" }, program: [path], user: undefined, ...part };
}

/** What the installed file says, with the file as it is installed. */
function readBack(init: InitSystem, spec: ServiceSpec): string | undefined {
  return wordsBack(init, spec)[0];
}

function wordsBack(init: InitSystem, spec: ServiceSpec): readonly string[] {
  if ("query" in init.program) throw new Error("this system has no file");
  const path = init.program.file(spec);
  const step = init.install(spec).find((each) => each.kind === "file" && each.path === path);
  return step?.kind === "file" ? init.program.read(step.content) : [];
}

describe.each(SYSTEMS.map((init) => [init.kind, init] as const))("%s", (_, init) => {
  test("the program is read from what was installed, of tunnels and edges", () => {
    expect(readBack(init, specOf(PLAIN, {}))).toBe(PLAIN);
    expect(readBack(init, specOf(PLAIN, { name: "web", user: "ann" }))).toBe(PLAIN);
    expect(readBack(init, specOf(PLAIN, { role: "edge" }))).toBe(PLAIN);
    expect(readBack(init, specOf(PLAIN, { program: [PLAIN, "/srv/main.ts"] }))).toBe(PLAIN);
  });

  test("so is where an edge has its state", () => {
    const words = ["edge", "run", "--state-dir"];
    const usual = layoutOf(specOf(PLAIN, { role: "edge" }), init.family).stateDir;
    expect(wordsBack(init, specOf(PLAIN, { role: "edge" })).slice(0, 5)).toEqual([PLAIN, ...words, usual]);
    const named = wordsBack(init, specOf(PLAIN, { role: "edge", stateDir: "/var/lib/other" }));
    expect(named.slice(0, 5)).toEqual([PLAIN, ...words, "/var/lib/other"]);
  });

  test("a file that somebody else wrote names none", () => {
    if ("query" in init.program) throw new Error("this system has no file");
    expect(init.program.read("# nothing of ours\n")).toEqual([]);
  });
});

test("paths that had to be quoted are read as they were", () => {
  const home = "/home/ann $x 100% <'\"&>";
  const path = `${home}/culvert`;
  expect(readBack(createSystemd(252), specOf(path, { scope: { kind: "user", home } }))).toBe(path);
  for (const role of ["connector", "edge"] as const) {
    expect(readBack(createLaunchd(501), specOf(path, { role, scope: { kind: "user", home } }))).toBe(path);
  }
});

test("Windows' manager knows it", async () => {
  const never = () => Promise.reject(new Error("not asked for"));
  const path = "C:\\Program Files\\culvert\\culvert.exe";
  const ask = async (command: string | undefined): Promise<string | undefined> => {
    const manager: ServiceManager = {
      ...{ define: never, start: never, stop: never, remove: never, refuseForeignFolder: never },
      query: () =>
        Promise.resolve(
          command === undefined ? undefined : { state: "stopped", pid: 0, autoStart: true, exitCode: 0, command },
        ),
    };
    const { program } = createWindows(manager);
    return "query" in program ? await program.query(specOf(path, {})) : undefined;
  };
  expect(await ask(definition(specOf(path, {})).command)).toBe(path);
  expect(await ask("C:\\culvert.exe service run")).toBe("C:\\culvert.exe");
  expect(await ask("")).toBeUndefined();
  expect(await ask(undefined)).toBeUndefined();
});
