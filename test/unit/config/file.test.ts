import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { configFolders, loadConfigFile, parseConfigFile } from "../../../src/config/file.ts";
import { formatIssue } from "../../../src/ingress/issue.ts";
import { parseIngress } from "../../../src/ingress/rules.ts";
import { memoryHost } from "./memory-host.ts";

/** Every issue of a file's text as it is printed. */
function problemsOf(text: string): string[] {
  const loaded = parseConfigFile("c.yml", text);
  if (loaded.kind === "failed") return loaded.issues.map((issue) => formatIssue(issue, loaded.path));
  if (loaded.kind === "none") throw new Error("A text is a file");
  const { issues } = parseIngress(loaded.file.top, { locate: loaded.file.locate });
  return [...loaded.warnings, ...issues].map((issue) => formatIssue(issue, "c.yml"));
}

describe("the usual places", () => {
  test("are looked in from our own to cloudflared's, home before system", () => {
    expect(configFolders(memoryHost())).toEqual([
      "/home/me/.culvert",
      "/home/me/.cloudflared",
      "/home/me/.cloudflare-warp",
      "/home/me/cloudflare-warp",
      "/etc/culvert",
      "/etc/cloudflared",
      "/usr/local/etc/cloudflared",
    ]);
    expect(configFolders(memoryHost({}, {}, "win32"))).toHaveLength(4);
  });

  test.each([
    {
      files: ["/home/me/.cloudflared/config.yml", "/etc/culvert/config.yml"],
      want: "/home/me/.cloudflared/config.yml",
    },
    {
      files: ["/home/me/.culvert/config.yaml", "/home/me/.cloudflared/config.yml"],
      want: "/home/me/.culvert/config.yaml",
    },
    { files: ["/etc/cloudflared/config.yaml", "/etc/cloudflared/config.yml"], want: "/etc/cloudflared/config.yml" },
  ])("$want is found", ({ files, want }) => {
    const loaded = loadConfigFile(memoryHost(Object.fromEntries(files.map((path) => [path, "a: 1"]))), undefined);
    expect(loaded).toMatchObject({ kind: "loaded", file: { path: want } });
  });

  test("may hold nothing: that is no error", () => {
    expect(loadConfigFile(memoryHost(), undefined)).toEqual({ kind: "none" });
  });
});

test.each([
  { text: undefined, why: "there is no such file" },
  { text: "!EACCES", why: "permission denied" },
  { text: "!EISDIR", why: "it is a directory" },
  { text: "!EIO", why: "it cannot be read" },
])("a file that was asked for cannot be read: $why", ({ text, why }) => {
  const loaded = loadConfigFile(memoryHost(text === undefined ? {} : { "/c.yml": text }), "/c.yml");
  expect(loaded).toMatchObject({ kind: "failed", issues: [{ message: `Cannot read config file "/c.yml": ${why}` }] });
});

test("~ in front of a path is the home directory", () => {
  expect(loadConfigFile(memoryHost({ "/home/me/c.yml": "tunnel: a" }), "~/c.yml").kind).toBe("loaded");
});

describe("a file's problems have their line and column", () => {
  test.each([
    { name: "duplicate key", text: "url: a\nurl: b", want: ["c.yml:2:1: This key stands here for the second time"] },
    {
      name: "duplicate key inside",
      text: "a:\n  b: 1\n  b: 2",
      want: ["c.yml:3:3: This key stands here for the second time"],
    },
    { name: "no map", text: "- a", want: ["c.yml:1:1: Must be a map of settings"] },
    { name: "a text", text: "hello", want: ["c.yml:1:1: Must be a map of settings"] },
    { name: "empty", text: "", want: ['Config file "c.yml" is empty'] },
    { name: "only a comment", text: "# nothing\n", want: ['Config file "c.yml" is empty'] },
    {
      name: "unknown keys",
      text: "tunnel: x\ningres: []\nzzzzzzzzzz: 1",
      want: ['c.yml:2:1: Unknown key "ingres": did you mean "ingress"?', 'c.yml:3:1: Unknown key "zzzzzzzzzz"'],
    },
    {
      name: "a flag that a file cannot set",
      text: "output: json",
      want: [
        'c.yml:1:1: "output" has no effect in a file: it can be set on the command line and in the environment only',
      ],
    },
    {
      name: "missing catch-all",
      text: "ingress:\n  - hostname: a.example\n    service: http://localhost:1\n",
      want: ["c.yml:2:5: The last rule must match everything: add a rule with only a service, such as http_status:404"],
    },
    {
      name: "catch-all too early",
      text: "ingress:\n  - service: http_status:404\n  - service: http_status:404\n",
      want: ["c.yml:2:5: Rule #1 matches everything, so the rules behind it can never match"],
    },
    { name: "no rules", text: "ingress: []", want: ["c.yml:1:1: Must be a list with at least one rule"] },
    { name: "no service", text: "ingress:\n  - originRequest: {}\n", want: ["c.yml:2:5: Rule #1 needs a service"] },
    {
      name: "several rules wrong in several ways",
      text: [
        "ingress:",
        "  - hostname: a.example:80",
        "    path: '(?=x)'",
        "    service: http://localhost:1/x",
        "  - hostname: 'b.*'",
        "    service: http_status:20",
        "    pth: x",
        "  - service: http_status:404",
      ].join("\n"),
      want: [
        'c.yml:2:5: Rule #1: Hostname "a.example:80" cannot contain a port',
        'c.yml:3:5: Rule #1 has an invalid regex "(?=x)": look-around is not part of RE2 syntax',
        'c.yml:4:5: Rule #1: Service "http://localhost:1/x" may not have a path: requests keep their own',
        'c.yml:7:5: Unknown key "pth": did you mean "path"?',
        'c.yml:5:5: Rule #2: Hostname "b.*" may have its wildcard only in front, as "*.example.com"',
        'c.yml:6:5: Rule #2: Service "http_status:20" needs a status from 100 to 999',
      ],
    },
    {
      name: "originRequest, of the file and of a rule",
      text: [
        "originRequest:",
        "  connectTimeout: 30",
        "ingress:",
        "  - service: http_status:404",
        "    originRequest:",
        "      noTLSVerify: yes please",
        "      noTlsVerify: true",
        "      access:",
        "        required: true",
        "        audTag: [a]",
        "      ipRules:",
        "        - prefix: 10.0.0.0/8",
        "          ports: [0]",
      ].join("\n"),
      want: [
        'c.yml:2:3: "connectTimeout" must be a duration such as 30s, not "30"',
        'c.yml:6:7: "noTLSVerify" must be true or false, not "yes please"',
        'c.yml:7:7: Unknown key "noTlsVerify": did you mean "noTLSVerify"?',
        'c.yml:8:7: "access" is required and has an audTag, so it needs a teamName too',
        'c.yml:13:11: "ports" must be a list of numbers from 1 to 65535',
      ],
    },
  ])("$name", ({ text, want }) => {
    expect(problemsOf(text)).toEqual([...want]);
  });

  test.each([
    { name: "an open list", text: "tunnel: x\ningress: [", place: "c.yml:2:" },
    { name: "a tab", text: "ingress:\n\t- service: x", place: "c.yml:2:" },
    { name: "an open quote", text: "a: 'x\nb: 1\n", place: "c.yml:" },
    { name: "two documents", text: "a: 1\n---\nb: 2", place: "c.yml:2:" },
  ])("broken YAML: $name", ({ text, place }) => {
    const loaded = parseConfigFile("c.yml", text);
    expect(loaded.kind).toBe("failed");
    expect(problemsOf(text)[0]).toStartWith(place);
    expect(problemsOf(text)[0]).not.toContain("\n");
  });

  test.each([
    { name: "an alias of nothing", text: "a: *nope" },
    {
      name: "aliases that unfold without end",
      text: `a: &a [x,x,x,x,x,x,x,x,x,x]\n${["b", "c", "d", "e"].map((key, i) => `${key}: &${key} [${Array(10).fill(`*${"abcd"[i]}`).join()}]`).join("\n")}`,
    },
  ])("$name", ({ text }) => {
    expect(parseConfigFile("c.yml", text).kind).toBe("failed");
  });
});

test("merge keys work, as in cloudflared's files", () => {
  const text = [
    "ingress:",
    "  - &base",
    "    hostname: a.example",
    "    service: http://localhost:1",
    "  - <<: *base",
    "    hostname: b.example",
    "  - service: http_status:404",
  ].join("\n");
  const loaded = parseConfigFile("c.yml", text);
  if (loaded.kind !== "loaded") throw new Error("must load");
  const { rules, issues } = parseIngress(loaded.file.top, { locate: loaded.file.locate });
  expect(issues).toEqual([]);
  expect(rules?.rules.map((rule) => rule.hostname)).toEqual(["a.example", "b.example", ""]);
});

test("a file that is too large is not read", () => {
  expect(problemsOf(`# ${"x".repeat(4 * 1024 * 1024)}`)).toEqual(['Config file "c.yml" is too large']);
});

test("no text makes the reader throw", () => {
  const yaml = fc.string({ unit: fc.constantFrom(..."ab:-[]{}&*!|>'\"#%?,\n\t <") });
  fc.assert(
    fc.property(yaml, (text) => void parseConfigFile("c.yml", text)),
    { numRuns: 1_000 },
  );
});
