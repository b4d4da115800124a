import { parseConfigFile } from "../../../src/config/file.ts";
import { buildRunConfig } from "../../../src/config/run-config.ts";
import { parseTunnelId } from "../../../src/core/ids.ts";
import { type ConfigIssue, formatIssue } from "../../../src/ingress/issue.ts";
import { createPathRewrite } from "../../../src/ingress/path-rewrite.ts";
import { formatToken } from "../../../src/wire/token.ts";
import { memoryHost } from "../../unit/config/memory-host.ts";
import { utf8 } from "../bytes.ts";
import { type Chance, must, mustEqual, type Target } from "../target.ts";
import { checkMatch } from "./rules.ts";

const PATH = "/etc/culvert/config.yml";
const tunnelId = parseTunnelId("01234567-89ab-cdef-0123-456789abcdef");
const TOKEN =
  tunnelId === undefined
    ? ""
    : formatToken({
        accountTag: "a",
        tunnelSecret: new Uint8Array(32),
        tunnelId,
        endpoint: "",
        edges: [],
        ca: undefined,
      });

const SEEDS = [
  "tunnel: 01234567-89ab-cdef-0123-456789abcdef\ningress:\n  - service: http://localhost:80\n",
  `ingress:
  - hostname: "*.example.com"
    path: ^/api/(v1|v2)
    service: https://[::1]:8443
    originRequest: {connectTimeout: 30s, noTLSVerify: true, httpHostHeader: a, pathPrefixStrip: /api}
  - hostname: b.example.com
    services: [http://a:1, {service: http://b:2, weight: 3}]
    balance: {stickyCookie: c, healthCheck: {path: /up, interval: 5s}}
  - service: http_status:404
originRequest:
  pathRewrite: {match: "^/a/(.*)", replace: "/$1"}
`,
  `x: &rule {service: tcp://localhost:22}
ingress:
  - <<: *rule
    hostname: ssh.example.com
    originRequest:
      ipRules: [{prefix: 10.0.0.0/8, ports: [22, 80], allow: true}]
      access: {required: true, teamName: team, audTag: [a]}
  - service: socks-proxy
    hostname: s.example.com
  - service: unix:/run/a.sock
loglevel: debug
protocol: quic
ha-connections: 2
grace-period: 30s
warp-routing: {enabled: true}
`,
  "? [a, b]\n: !!set {a, b}\n? |\n  c\n: >-\n  d\n",
  "a: &a [b]\nb: &b [*a, *a]\nc: [*b, *b]\n",
  // Found by this target: values that are objects and no maps.
  "!!binary YWJj\n",
  "!!omap [ingress: []]\n",
  '"\\u0061": "\\uD800"\n--- # second\n...\n',
];

const KEYS = [
  "ingress",
  "hostname",
  "path",
  "service",
  "originRequest",
  "tunnel",
  "loglevel",
  "a",
  "services",
  "balance",
];
const VALUES = [
  "http://localhost:80",
  "true",
  "5s",
  "~",
  "404",
  "*a",
  "&a b",
  "!!binary YQ==",
  "2001-01-01",
  ".inf",
  "0x1F",
  "''",
];

/** Nested maps, lists and scalars, in block or flow style. */
function yaml(chance: Chance, depth: number, indent: string): string {
  if (depth === 0 || chance.once(3)) return ` ${chance.pick(VALUES)}\n`;
  if (chance.once(5)) return ` {${chance.pick(KEYS)}: ${chance.pick(VALUES)}, b: [${chance.pick(VALUES)}]}\n`;
  const list = chance.once(2);
  const entries = Array.from({ length: 1 + chance.below(4) }, () => {
    const start = list ? "-" : `${chance.pick(KEYS)}:`;
    return `${indent}${start}${yaml(chance, depth - 1, `${indent}  `)}`;
  });
  return `\n${entries.join("")}`;
}

function checkIssue(issue: ConfigIssue, lines: number): void {
  must(issue.message !== "", "an issue says what is wrong");
  must(!/[\r\n]/.test(formatIssue(issue, "config.yml")), "an issue is one line");
  if (issue.line === undefined) return;
  must(issue.line >= 1 && issue.line <= lines, `line ${issue.line} is one of the file's ${lines}`);
  must((issue.column ?? 1) >= 1, "columns count from 1");
}

/** True for what JSON knows as well. */
function isPlain(value: unknown): boolean {
  if (Array.isArray(value)) return value.every(isPlain);
  if (typeof value !== "object" || value === null) return true;
  return Object.getPrototypeOf(value) === Object.prototype && Object.values(value).every(isPlain);
}

/** What the first messages are about, without what they quote. */
function gist(messages: readonly string[]): string {
  const starts = messages.map((text) =>
    text
      .replace(/"[^"]*"|[^A-Za-z ]/g, "")
      .trim()
      .split(/ +/)
      .slice(0, 4)
      .join(" "),
  );
  return [...new Set(starts)].slice(0, 2).join("; ");
}

export const config: Target = {
  name: "config",
  words: [
    ...SEEDS.join("\n").match(/[\w-]+: \S+|[\w-]+:|\S{3,}/g)!,
    "\n",
    "\n  - ",
    "  ",
    "\t",
    "- ",
    ": ",
    "? ",
    "<<: ",
    "*a",
    "&a ",
    "!!map",
    "!!str ",
    "%YAML 1.1\n---\n",
    "|2-\n",
    "[",
    "{",
    "}",
    "'",
    '"\\uD800"',
    "__proto__: ",
    "constructor",
    "constructor://a",
    "\u00e9",
    "\u2028",
    "1e999",
    "9223372036854775808",
  ].map((word) => utf8(word)),
  seeds: () => SEEDS.map(utf8),
  generate: (chance) => utf8(yaml(chance, 4, "").trimStart()),
  run(input) {
    const text = new TextDecoder().decode(input);
    const lines = text.split(/\r\n?|\n/).length;
    const loaded = parseConfigFile(PATH, text);
    must(loaded.kind !== "none", "a text is a file");
    const issues = loaded.kind === "failed" ? loaded.issues : loaded.warnings;
    for (const issue of issues) checkIssue(issue, lines);
    must(loaded.kind === "loaded" || issues.length > 0, "a refusal has a reason");
    if (loaded.kind === "failed") return `failed ${gist(issues.map(({ message }) => message))}`;
    must(isPlain(loaded.file.top), "what a file says is maps, lists and scalars");
    const args = new Map([
      ["token", [TOKEN]],
      ["config", [PATH]],
    ]);
    const build = () => buildRunConfig(memoryHost({ [PATH]: text }), args, []);
    const built = build();
    const warnings = built.warnings.map((warning) => warning.text);
    for (const line of [...warnings, ...(built.kind === "failed" ? built.errors : [])]) {
      must(!/[\r\n]/.test(line), "a problem is one line");
    }
    const again = build();
    if (built.kind === "failed") {
      must(built.errors.length > 0, "a refusal has a reason");
      mustEqual(again, built, "a file says the same each time");
      return `refused ${gist(built.errors.map((line) => line.replace(/^.*?:\d+:\d+: /, "")))}`;
    }
    const { rules } = built.config;
    for (const { settings } of rules.rules)
      createPathRewrite(settings.pathPrefixStrip, settings.pathRewrite)?.("/a/b%2f?c");
    checkMatch(rules, "a.example.com", "/api/v1/../x?y");
    const kinds = new Set(
      rules.rules.map(({ service, host, path }) => `${service.kind} ${host.kind} ${path !== undefined}`),
    );
    return `ok ${[...kinds].slice(0, 2).join(", ")}`;
  },
};
