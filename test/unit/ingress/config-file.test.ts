import { describe, expect, test } from "bun:test";
import { parseConfigFile } from "../../../src/config/file.ts";
import { formatIssue } from "../../../src/ingress/issue.ts";
import { INGRESS_KEYS } from "../../../src/ingress/keys.ts";
import type { OriginSettings } from "../../../src/ingress/origin-request.ts";
import { parseIngress } from "../../../src/ingress/rules.ts";

const LAST = "  - service: http_status:404\n";

/** Everything that is said about a file, in order. */
function problemsOf(text: string): string[] {
  const loaded = parseConfigFile("c.yml", text);
  if (loaded.kind === "failed") return loaded.issues.map((issue) => formatIssue(issue, loaded.path));
  if (loaded.kind === "none") throw new Error("A text is a file");
  const { issues } = parseIngress(loaded.file.top, { locate: loaded.file.locate });
  return [...loaded.warnings, ...issues].map((issue) => formatIssue(issue, "c.yml"));
}

/** Settings of the first rule of a file that nothing is to be said about. */
function settingsOf(text: string): OriginSettings | undefined {
  const loaded = parseConfigFile("c.yml", text);
  if (loaded.kind !== "loaded") throw new Error(problemsOf(text).join("\n"));
  const { rules, issues } = parseIngress(loaded.file.top, { locate: loaded.file.locate });
  expect(issues).toEqual([]);
  return rules?.rules[0]?.settings;
}

describe("values have the type of their key, as in cloudflared's files", () => {
  test.each(["y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "true", "True", "TRUE", "'yes'"])(
    "%s is true",
    (text) => {
      expect(
        settingsOf(`ingress:\n  - service: https://h\n    originRequest: {noTLSVerify: ${text}}\n`)?.noTLSVerify,
      ).toBe(true);
    },
  );

  test.each(["n", "N", "no", "No", "NO", "off", "Off", "OFF", "false", "False", "FALSE"])("%s is false", (text) => {
    const yaml = `originRequest: {noTLSVerify: true}\ningress:\n  - service: https://h\n    originRequest: {noTLSVerify: ${text}}\n`;
    expect(settingsOf(yaml)?.noTLSVerify).toBe(false);
  });

  test.each([
    { yaml: "8080", want: "8080" },
    { yaml: "1.50", want: "1.50" },
    { yaml: "0x1F", want: "0x1F" },
    { yaml: "true", want: "true" },
    { yaml: "yes", want: "yes" },
    { yaml: "1e3", want: "1e3" },
    { yaml: "~", want: "" },
    { yaml: "'8080'", want: "8080" },
  ])("$yaml is the text $want", ({ yaml, want }) => {
    expect(
      settingsOf(`ingress:\n  - service: http://h\n    originRequest: {httpHostHeader: ${yaml}}\n`)?.httpHostHeader,
    ).toBe(want);
  });

  test("in rules, access and ipRules too", () => {
    const text = `ingress:
  - hostname: 1.50
    path: 80
    service: socks-proxy
    originRequest:
      access: {required: on, teamName: 77, audTag: [12, 3e4]}
      ipRules: [{prefix: 10.0.0.0/8, allow: yes}]
${LAST}`;
    const loaded = parseConfigFile("c.yml", text);
    if (loaded.kind !== "loaded") throw new Error("must load");
    const { rules } = parseIngress(loaded.file.top);
    expect(rules?.rules[0]).toMatchObject({
      ...{ hostname: "1.50", path: { source: "80" } },
      settings: {
        access: { required: true, teamName: "77", audTag: ["12", "3e4"] },
        ipRules: [{ prefix: "10.0.0.0/8", allow: true }],
      },
    });
  });

  test("but not at the top level, where flags are strict", () => {
    const loaded = parseConfigFile("c.yml", `no-autoupdate: yes\nurl: 5\n`);
    expect(loaded).toMatchObject({ file: { top: { "no-autoupdate": "yes", url: 5 } } });
  });
});

describe("the nearest known key", () => {
  test.each(Object.entries(INGRESS_KEYS).flatMap(([map, keys]) => keys.map((key) => ({ map, key }))))(
    "$map: $key without its third char",
    ({ map, key }) => {
      const wrong = key.slice(0, 2) + key.slice(3);
      const inside: Record<string, string> = {
        ingress: `  - ${wrong}: x\n    service: http://h\n`,
        originRequest: `  - service: http://h\n    originRequest:\n      ${wrong}: x\n`,
        access: `  - service: http://h\n    originRequest: {access: {${wrong}: x}}\n`,
        ipRules: `  - service: bastion\n    originRequest: {ipRules: [{prefix: 10.0.0.0/8, ${wrong}: x}]}\n`,
        pathRewrite: `  - service: http://h\n    originRequest: {pathRewrite: {match: a, replace: b, ${wrong}: x}}\n`,
        services: `  - services: [{service: http://h, ${wrong}: x}]\n`,
        balance: `  - services: [http://h]\n    balance: {${wrong}: x}\n`,
        healthCheck: `  - services: [http://h]\n    balance: {healthCheck: {${wrong}: x}}\n`,
      };
      const text = map === "warp-routing" ? `warp-routing: {${wrong}: x}\n` : `ingress:\n${inside[map]}`;
      const line = text.split("\n").findIndex((each) => each.includes(`${wrong}: x`)) + 1;
      const column = (text.split("\n")[line - 1]?.indexOf(`${wrong}: x`) ?? 0) + 1;
      expect(problemsOf(text)).toEqual([`c.yml:${line}:${column}: Unknown key "${wrong}": did you mean "${key}"?`]);
    },
  );

  test.each([
    { text: `ingres:\n${LAST}`, want: 'c.yml:1:1: Unknown key "ingres": did you mean "ingress"?' },
    { text: "originrequest: {}\n", want: 'c.yml:1:1: Unknown key "originrequest": did you mean "originRequest"?' },
    {
      text: "credential-file: x\n",
      want: 'c.yml:1:1: Unknown key "credential-file": did you mean "credentials-file"?',
    },
  ])("at the top: $want", ({ text, want }) => {
    expect(problemsOf(text)).toEqual([want]);
  });

  test("is no help for a setting in the wrong map: its right one is", () => {
    expect(problemsOf(`noTLSVerify: true\ningress:\n  - service: http://h\n    connectTimeout: 1s\n`)).toEqual([
      'c.yml:1:1: Unknown key "noTLSVerify": put it below "originRequest"',
      'c.yml:4:5: Unknown key "connectTimeout": put it below "originRequest"',
    ]);
  });
});

describe("aliases and merges", () => {
  const BASE = "ingress:\n  - &base\n    hostname: a.test\n    service: http://h\n    originRequest: &own\n";

  test("what is wrong behind them is told once, where it stands", () => {
    const text = `${BASE}      conectTimeout: 1s
      tlsTimeout: 5
  - <<: *base
    hostname: b.test
  - hostname: c.test
    service: http://h
    originRequest: *own
${LAST}`;
    expect(problemsOf(text)).toEqual([
      'c.yml:6:7: Unknown key "conectTimeout": did you mean "connectTimeout"?',
      'c.yml:7:7: "tlsTimeout" must be a duration such as 30s, not "5"',
    ]);
  });

  test("what is wrong in a merged value has the place of that value", () => {
    const text = `x: &x\n  service: nonsense\ningress:\n  - <<: [*x]\n    hostname: a.test\n${LAST}`;
    expect(problemsOf(text)).toContainEqual(expect.stringMatching(/^c\.yml:2:3: Rule #1: Service "nonsense"/));
  });

  test("thousands of rules may share their settings", () => {
    const rules = Array.from(
      { length: 3_000 },
      (_, i) => `  - {hostname: a${i}.test, service: http://h, originRequest: *own}\n`,
    );
    expect(problemsOf(`${BASE}      noTLSVerify: on\n${rules.join("")}${LAST}`)).toEqual([]);
  });

  test.each([
    { what: "no anchors", text: "ingress:\n  - service: *a\n    originRequest: *b\n", want: ["2:14", "3:20"] },
    { what: "an anchor behind", text: "x: *a\ny: &a 1\n", want: ["1:4"] },
    { what: "a map that merges itself", text: "ingress:\n  - &a\n    service: http://h\n    <<: *a\n", want: ["4:9"] },
    { what: "a list that holds itself", text: "ingress: &a [*a]\n", want: ["1:14"] },
    { what: "a map far inside of itself", text: "x: &a\n  b: [{c: &d {e: *a}}]\n", want: ["2:18"] },
    { what: "a merge of no map", text: "ingress:\n  - <<: 5\n    service: http://h\n", want: ["2:5"] },
  ])("$what: an error at $want", ({ text, want }) => {
    expect(problemsOf(text).map((line) => line.split(": ", 1)[0])).toEqual(want.map((place) => `c.yml:${place}`));
  });

  test("an anchor's name may be used again inside of what it named", () => {
    expect(problemsOf(`x: &a {b: &a 1, c: *a}\ningress:\n${LAST}`)).toEqual(['c.yml:1:1: Unknown key "x"']);
  });
});

describe("a file of bytes that are no config", () => {
  test.each([
    {
      what: "Latin-1",
      bytes: Buffer.from("# caf\xe9\ningress: []\n", "latin1"),
      want: "c.yml:1:6: This is not UTF-8: save the file as UTF-8",
    },
    {
      what: "UTF-16",
      bytes: Buffer.from("\ufeffingress: []\n", "utf16le"),
      want: "c.yml:1:1: This is not UTF-8: save the file as UTF-8",
    },
    {
      what: "a NUL",
      bytes: Buffer.from("a: 1\r\nb: \0\n"),
      want: "c.yml:2:4: Control character U+0000 has no place in a config file",
    },
    {
      what: "an escape",
      bytes: Buffer.from("a: 1\rb: \x1b[1m\n"),
      want: "c.yml:2:4: Control character U+001B has no place in a config file",
    },
    {
      what: "two documents",
      bytes: Buffer.from("tunnel: a\n---\ntunnel: b\n"),
      want: "c.yml:2:1: A second document begins here, and a config file is one",
    },
    {
      what: "a tab",
      bytes: Buffer.from("ingress:\n\t- service: x\n"),
      want: "c.yml:2:1: Tabs are not allowed as indentation",
    },
  ])("$what", ({ bytes, want }) => {
    expect(problemsOf(bytes.toString("utf8"))).toEqual([want]);
  });

  test.each([
    { what: "a byte order mark", text: `\ufeffingress:\n${LAST}` },
    { what: "CR LF", text: `ingress:\n${LAST}`.replaceAll("\n", "\r\n") },
    { what: "CR", text: `ingress:\n${LAST}`.replaceAll("\n", "\r") },
    { what: "the marks of a document", text: `%YAML 1.2\n---\ningress:\n${LAST}...\n` },
  ])("$what is fine", ({ text }) => {
    expect(problemsOf(text)).toEqual([]);
  });

  test.each(["\r\n", "\r"])("lines that end in %j are counted", (end) => {
    const text = `ingress:\n  - service: http://h/x\n`.replaceAll("\n", end);
    expect(problemsOf(text)[0]).toStartWith("c.yml:2:5: ");
  });

  test.each(["[", "{a: "])("%j too many times is told in one line", (open) => {
    const problems = problemsOf(`a: ${open.repeat(20_000)}`);
    expect(problems).toHaveLength(1);
  });
});
