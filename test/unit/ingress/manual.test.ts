import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import { parseConfigFile } from "../../../src/config/file.ts";
import { formatDuration } from "../../../src/core/duration.ts";
import { NO_ACCESS } from "../../../src/ingress/access-settings.ts";
import { formatIssue } from "../../../src/ingress/issue.ts";
import { INGRESS_KEYS } from "../../../src/ingress/keys.ts";
import { DEFAULT_ORIGIN_SETTINGS } from "../../../src/ingress/origin-request.ts";
import { DEFAULT_PRIVATE_NETWORK } from "../../../src/ingress/private-network.ts";
import { parseIngress } from "../../../src/ingress/rules.ts";
import { parseService } from "../../../src/ingress/service.ts";

// docs/ingress.md says everything, and nothing that is not so.

const MANUAL = readFileSync(join(import.meta.dirname, "..", "..", "..", "docs", "ingress.md"), "utf8");

function problemsOf(yaml: string): string[] {
  const loaded = parseConfigFile("c.yml", yaml);
  if (loaded.kind !== "loaded")
    return loaded.kind === "failed" ? loaded.issues.map((one) => formatIssue(one, "c.yml")) : [];
  const { issues } = parseIngress(loaded.file.top, { locate: loaded.file.locate });
  return [...loaded.warnings, ...issues].map((issue) => formatIssue(issue, "c.yml"));
}

const BLOCKS = [...MANUAL.matchAll(/^```yaml\n([\s\S]*?)^```/gm)].map(([, text = ""], i) => ({ number: i + 1, text }));

describe("every block of YAML in the manual", () => {
  test.each(BLOCKS)("$number is valid", ({ text }) => {
    expect(problemsOf(text)).toEqual([]);
    expect(text).toContain("ingress:");
  });

  test("is found", () => {
    expect(BLOCKS.length).toBeGreaterThan(4);
  });
});

/** Text between one heading and the next of its level or above. */
function section(heading: string): string {
  const start = MANUAL.indexOf(`\n${heading}\n`);
  if (start < 0) throw new Error(`No section ${heading}`);
  const level = heading.indexOf(" ");
  const next = new RegExp(`^#{1,${level}} `, "m").exec(MANUAL.slice(start + heading.length + 2));
  return MANUAL.slice(start, next === null ? undefined : start + heading.length + 2 + next.index);
}

interface Row {
  readonly key: string;
  readonly standard: string;
  readonly example: string;
}

function rowsOf(text: string): Row[] {
  return [...text.matchAll(/^\| `(\w+)` \| ([^|]+) \| `([^|]+)` \| [^|]+ \|$/gm)].map(
    ([, key = "", standard = "", example = ""]) => ({ key, standard: standard.replaceAll("`", ""), example }),
  );
}

/** The tables with the keys of one map. */
function tableOf(map: string): Row[] {
  const several = section("## Several services for one rule");
  const part = (key: string): string =>
    several.split(/^(?=\| key of )/m).find((text) => text.startsWith(`| key of \`${key}\``)) ?? "";
  const own = section("## originRequest");
  const texts: Record<string, () => string> = {
    ingress: () => section("## Which rule takes a request"),
    originRequest: () => own.slice(0, own.indexOf("\n### ")),
    access: () => section("### access"),
    ipRules: () => section("### ipRules"),
    pathRewrite: () => section("### pathRewrite"),
    services: () => part("services"),
    balance: () => part("balance"),
    healthCheck: () => part("healthCheck"),
    "warp-routing": () => section("## warp-routing"),
  };
  const text = texts[map];
  if (text === undefined) throw new Error(`The manual has no place for ${map}`);
  return rowsOf(text());
}

const LAST = "  - service: http_status:404\n";

/** A config file in which a key of a map has this value. */
function example(map: string, key: string, value: string): string {
  const pair = `${key}: ${value}`;
  const both = key.startsWith("client") ? "clientCert: /c, clientKey: /k" : pair;
  const settings = (text: string, service = "https://h") =>
    `ingress:\n  - hostname: a.test\n    service: ${service}\n    originRequest: {${text}}\n${LAST}`;
  const needed = (needs: Record<string, string>): string =>
    Object.entries({ ...needs, [key]: value })
      .map(([name, text]) => `${name}: ${text}`)
      .join(", ");
  switch (map) {
    case "ingress":
      return `ingress:\n  - {${needed(key === "services" ? {} : key === "balance" ? { services: "[http://h]" } : { service: "http://h" })}}\n${LAST}`.replace(
        "- {",
        key === "hostname" || key === "path" ? "- {" : "- {hostname: a.test, ",
      );
    case "originRequest":
      return settings(both, key === "ipRules" ? "socks-proxy" : "https://h");
    case "access":
      return settings(`access: {${pair}}`);
    case "ipRules":
      return settings(`ipRules: [{${needed({ prefix: "10.0.0.0/8" })}}]`, "bastion");
    case "pathRewrite":
      return settings(`pathRewrite: {${needed({ match: "^/v1/(.*)", replace: "/$1" })}}`);
    case "services":
      return `ingress:\n  - services: [{${needed({ service: "http://h" })}}]\n`;
    case "balance":
      return `ingress:\n  - services: [http://h]\n    balance: {${pair}}\n`;
    case "healthCheck":
      return `ingress:\n  - services: [http://h]\n    balance: {healthCheck: {${pair}}}\n`;
    default:
      return `${map}: {${pair}}\ningress:\n${LAST}`;
  }
}

describe.each(Object.entries(INGRESS_KEYS).map(([map, keys]) => ({ map, keys })))("keys of $map", ({ map, keys }) => {
  test("are in the manual, each of them once", () => {
    expect(
      tableOf(map)
        .map(({ key }) => key)
        .sort(),
    ).toEqual([...keys].sort());
  });

  test("have examples that are valid", () => {
    for (const { key, example: value } of tableOf(map)) {
      const yaml = example(map, key, value);
      expect({ yaml, problems: problemsOf(yaml) }).toEqual({ yaml, problems: [] });
    }
  });
});

/** A default as the manual writes it. */
function written(key: string, value: unknown): string {
  if (key === "access" || value === undefined) return "{}";
  if (typeof value === "number" && /Timeout$|KeepAlive$/.test(key)) return formatDuration(value);
  return typeof value === "string" && value !== "" ? value : JSON.stringify(value);
}

test.each([
  { map: "originRequest", defaults: { ...DEFAULT_ORIGIN_SETTINGS } },
  { map: "access", defaults: { ...NO_ACCESS } },
  { map: "warp-routing", defaults: { enabled: false, ...DEFAULT_PRIVATE_NETWORK } },
])("the defaults of $map are what the manual says", ({ map, defaults }) => {
  const told = Object.fromEntries(tableOf(map).map(({ key, standard }) => [key, standard]));
  const are = Object.fromEntries(Object.entries(defaults).map(([key, value]) => [key, written(key, value)]));
  expect(told).toEqual(are);
});

test("the defaults of balance and healthCheck are what the manual says", () => {
  const told = (map: string) =>
    Object.fromEntries(
      tableOf(map)
        .filter(({ standard }) => standard !== "none")
        .map(({ key, standard }) => [key, standard]),
    );
  const yaml = `ingress:\n  - services: [http://h]\n    balance: ${JSON.stringify({
    ...numbers(told("balance")),
    healthCheck: numbers(told("healthCheck")),
  })}\n`;
  const bare = "ingress:\n  - services: [http://h]\n    balance: {healthCheck: {}}\n";
  expect(serviceOf(yaml)).toEqual(serviceOf(bare));
  expect(serviceOf(bare)).toMatchObject({ kind: "balanced" });
});

/** Values as YAML reads them. */
function numbers(texts: Record<string, string>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(texts).map(([key, text]) => [key, parse(text)]));
}

function serviceOf(yaml: string): unknown {
  const loaded = parseConfigFile("c.yml", yaml);
  return loaded.kind === "loaded" ? parseIngress(loaded.file.top).rules?.rules[0]?.service : undefined;
}

test("every service form in the manual is one", () => {
  const forms = [...section("## Services").matchAll(/^\| (.*?) \|/gm)].flatMap(([, cell = ""]) =>
    [...cell.matchAll(/`([^`]+)`/g)].map(([, form = ""]) => form),
  );
  expect(forms.length).toBeGreaterThan(14);
  for (const form of forms) {
    const text = form.replace(":port", ":81");
    expect({ text, service: parseService(text) }).not.toMatchObject({ service: { error: expect.anything() } });
  }
  const kinds = forms
    .map((form) => parseService(form.replace(":port", ":81")))
    .map((spec) => ("kind" in spec ? spec.kind : ""));
  const every = [
    "http",
    "https",
    "h2c",
    "unix",
    "unix+tls",
    "http_status",
    "hello_world",
    "bastion",
    "socks-proxy",
    "tcp",
  ];
  expect([...new Set<string>(kinds)].sort()).toEqual(every.sort());
});
