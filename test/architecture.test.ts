import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, sep } from "node:path";
import { checkArchitecture, formatViolations, type Violation } from "./support/architecture.ts";
import { findImports } from "./support/imports.ts";
import { LAYERS } from "./support/layers.ts";
import { tokenize } from "./support/tokens.ts";

function readSources(): Map<string, string> {
  const root = join(import.meta.dirname, "..", "src");
  const files = new Map<string, string>();
  for (const path of readdirSync(root, { recursive: true, encoding: "utf8" })) {
    if (path.endsWith(".ts")) files.set(path.split(sep).join("/"), readFileSync(join(root, path), "utf8"));
  }
  return files;
}

test("src keeps its layers, its pure parts, its file sizes", () => {
  const files = readSources();
  expect(files.size).toBeGreaterThan(20);
  const { violations, warnings } = checkArchitecture(files);
  for (const warning of warnings) console.warn(`warning: src/${warning}`);
  expect(formatViolations(violations)).toBe("");
});

test("every file that src/ARCHITECTURE.md names exists", () => {
  const root = join(import.meta.dirname, "..");
  const page = readFileSync(join(root, "src", "ARCHITECTURE.md"), "utf8");
  const named = [...page.matchAll(/`([\w./-]+(?:\.ts|\/))`/g)].map((match) => match[1] ?? "");
  expect(named.length).toBeGreaterThan(20);
  const missing = named.filter((path) => !existsSync(join(root, "src", path)) && !existsSync(join(root, path)));
  // Folders inside edge are named without their parent.
  expect(missing.filter((path) => !existsSync(join(root, "src", "edge", path)))).toEqual([]);
});

/** The rules that a set of files breaks, given as source by path. */
function rulesBroken(files: Record<string, string>): Violation["rule"][] {
  return checkArchitecture(new Map(Object.entries(files))).violations.map(({ rule }) => rule);
}

const EMPTY = "export {};\n";

describe("the check itself", () => {
  test.each([
    { name: "core imports wire", from: "core/a.ts", to: "wire/b.ts", broken: ["direction"] },
    { name: "wire imports core", from: "wire/a.ts", to: "core/b.ts", broken: [] },
    { name: "net imports transport", from: "net/a.ts", to: "transport/b.ts", broken: ["direction"] },
    { name: "origin imports ingress", from: "origin/a.ts", to: "ingress/b.ts", broken: [] },
    { name: "connector imports config", from: "connector/a.ts", to: "config/b.ts", broken: ["direction"] },
    { name: "connector imports edge", from: "connector/a.ts", to: "edge/b.ts", broken: ["strangers"] },
    { name: "edge imports connector", from: "edge/a.ts", to: "connector/b.ts", broken: ["strangers"] },
    {
      name: "edge policy imports the dispatcher",
      from: "edge/policy/a.ts",
      to: "edge/dispatcher/b.ts",
      broken: ["direction"],
    },
    {
      name: "edge listener imports the dispatcher",
      from: "edge/listener/a.ts",
      to: "edge/dispatcher/b.ts",
      broken: [],
    },
    { name: "main imports cli", from: "main.ts", to: "cli/b.ts", broken: [] },
    { name: "cli imports main", from: "cli/a.ts", to: "main.ts", broken: ["direction"] },
  ])("$name: $broken", ({ from, to, broken }) => {
    const up = "../".repeat(from.split("/").length - 1) || "./";
    for (const statement of [
      `import { x } from "${up}${to}";`,
      `import type { X } from "${up}${to}";`,
      `export { x } from "${up}${to}";`,
      `const x = await import("${up}${to}");`,
    ]) {
      expect({ statement, broken: rulesBroken({ [from]: statement, [to]: EMPTY }) }).toEqual({
        statement,
        broken: [...broken],
      });
    }
  });

  test("every layer below another says why it may not look up", () => {
    for (const { name, why } of LAYERS.slice(0, -1))
      expect({ name, reason: why.length > 20 }).toEqual({ name, reason: true });
  });

  test("the failure names the place and the reason", () => {
    const { violations } = checkArchitecture(
      new Map([
        ["core/a.ts", `\nimport { x } from "../wire/b.ts";`],
        ["wire/b.ts", EMPTY],
      ]),
    );
    const text = formatViolations(violations);
    expect(text).toContain("src/core/a.ts:2 [direction] core imports wire");
    expect(text).toContain("why: core has no domain");
  });

  test.each([
    { source: `import { x } from "node:fs";`, broken: ["purity"] },
    { source: `import type { X } from "node:fs";`, broken: ["purity"] },
    { source: "setTimeout(f, 1);", broken: ["purity"] },
    { source: "const t = Date.now();", broken: ["purity"] },
    { source: "const t = new Date();", broken: ["purity"] },
    { source: "const t = Math.random();", broken: ["purity"] },
    { source: "const t = globalThis.Buffer.from(x);", broken: ["purity"] },
    { source: `const t = \`\${process.pid}\`;`, broken: ["purity"] },
    { source: "const t = { ...process };", broken: ["purity"] },
    { source: "const t = a / Bun / b;", broken: ["purity"] },
    { source: "const t = Math.max(1, 2);", broken: [] },
    { source: "const t = message.process; // Date.now()", broken: [] },
    { source: 'const t = { process: 1, text: "Bun.serve" };', broken: [] },
    { source: "const t = /Buffer['\"`/]process/.test(x);", broken: [] },
    { source: `const t = \`Date.now() \${x.Bun} process\`;`, broken: [] },
  ])("a pure file with $source breaks $broken", ({ source, broken }) => {
    expect(rulesBroken({ "wire/a.ts": source })).toEqual([...broken]);
  });

  test("a pure file may take types, not values, from an impure one, even through a third", () => {
    const impure = {
      "core/clock.ts": "export const now = () => Date.now();",
      "core/via.ts": `export * from "./clock.ts";`,
    };
    expect(rulesBroken({ ...impure, "wire/a.ts": `import type { N } from "../core/via.ts";` })).toEqual([]);
    expect(rulesBroken({ ...impure, "wire/a.ts": `import { now } from "../core/via.ts";` })).toEqual(["purity"]);
  });

  test("supervisor/plan.ts is pure, its runner is not", () => {
    const source = "export const t = () => performance.now();";
    expect(rulesBroken({ "supervisor/plan.ts": source, "supervisor/runner.ts": source })).toEqual(["purity"]);
  });

  test("Bun's own API stays in net and transport", () => {
    const source = `import { Database } from "bun:sqlite"; Bun.listen({});`;
    expect(rulesBroken({ "net/a.ts": source, "transport/a.ts": source })).toEqual([]);
    expect(rulesBroken({ "cli/a.ts": source })).toEqual(["bun-only-in-net", "bun-only-in-net"]);
  });

  test("only main.ts ends the process", () => {
    expect(rulesBroken({ "main.ts": "process.exit(0);", "cli/a.ts": "process.exit(1);" })).toEqual([
      "exit-only-in-main",
    ]);
  });

  test("a cycle is found, through type imports too, and told once", () => {
    expect(
      rulesBroken({
        "core/a.ts": `import { b } from "./b.ts";`,
        "core/b.ts": `import type { C } from "./c.ts";`,
        "core/c.ts": `import { a } from "./a.ts";`,
      }),
    ).toEqual(["cycle"]);
  });

  test("length: 500 lines pass, 501 warn, 801 fail", () => {
    const lines = (count: number) => new Map([["core/a.ts", "export {};\n".repeat(count)]]);
    expect(checkArchitecture(lines(500))).toEqual({ violations: [], warnings: [] });
    expect(checkArchitecture(lines(501)).warnings).toHaveLength(1);
    expect(checkArchitecture(lines(801)).violations.map(({ rule }) => rule)).toEqual(["length"]);
  });

  test.each(["export default 1;", "const a = 1;\nexport { a as default };"])(
    "a default export is refused: %s",
    (source) => {
      expect(rulesBroken({ "core/a.ts": source })).toEqual(["default-export"]);
    },
  );

  test("unknown folders, missing files and paths without ending are refused", () => {
    expect(rulesBroken({ "helpers/a.ts": EMPTY })).toEqual(["unplaced"]);
    expect(rulesBroken({ "core/a.ts": `import { x } from "./gone.ts";` })).toEqual(["unresolved"]);
    expect(rulesBroken({ "core/a.ts": `import { x } from "./b";`, "core/b.ts": EMPTY })).toEqual(["unresolved"]);
    expect(rulesBroken({ "core/a.ts": `import { x } from "../../test/b.ts";` })).toEqual(["unresolved"]);
  });
});

describe("findImports", () => {
  test.each([
    { source: `import "a";`, want: [["a", false]] },
    { source: `import type from "a";`, want: [["a", false]] },
    { source: `import type, { x } from "a";`, want: [["a", false]] },
    { source: `import type X from "a";`, want: [["a", true]] },
    { source: `import {\n  type X,\n  y as from,\n} from "a";`, want: [["a", false]] },
    { source: `import * as x from "a" with { type: "json" };`, want: [["a", false]] },
    {
      source: `export * from "a"; export type { X } from "b";`,
      want: [
        ["a", false],
        ["b", true],
      ],
    },
    { source: `export { x };\nconst from = 1; f("a");`, want: [] },
    { source: `export const x = { from: "a" };`, want: [] },
    { source: `// import "a";\n/* import "b" */ const s = 'import "c"';`, want: [] },
    { source: `import.meta.dirname; object.import("a");`, want: [] },
  ])("$source", ({ source, want }) => {
    const found = findImports(tokenize(source)).map(({ specifier, typeOnly }) => [specifier, typeOnly]);
    expect(found).toEqual(want.map((pair) => [...pair]));
  });
});
