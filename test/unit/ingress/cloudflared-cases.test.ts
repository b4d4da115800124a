import { describe, expect, test } from "bun:test";
import { parseConfigFile } from "../../../src/config/file.ts";
import { readSingleOrigin } from "../../../src/config/single-origin.ts";
import { ALL_RUN_FLAGS } from "../../../src/config/tunnel-flags.ts";
import { Values } from "../../../src/config/values.ts";
import { describeConfiguration } from "../../../src/connector/describe-rules.ts";
import { type AccessSettings, NO_ACCESS } from "../../../src/ingress/access-settings.ts";
import { formatIssue } from "../../../src/ingress/issue.ts";
import { DEFAULT_ORIGIN_SETTINGS, type OriginSettings } from "../../../src/ingress/origin-request.ts";
import { parseRemoteRules } from "../../../src/ingress/remote-rules.ts";
import { type IngressRules, matchRule, parseIngress } from "../../../src/ingress/rules.ts";
import type { ServiceSpec } from "../../../src/ingress/service.ts";

// What the public tests of cloudflared 2026.8.2 (ingress and config) say about rules, as cases of our own.

function read(yaml: string): { rules: IngressRules | undefined; problems: string[] } {
  const loaded = parseConfigFile("c.yml", yaml);
  if (loaded.kind !== "loaded") {
    const problems = loaded.kind === "failed" ? loaded.issues.map((issue) => formatIssue(issue, "c.yml")) : [];
    return { rules: undefined, problems };
  }
  const { rules, issues } = parseIngress(loaded.file.top, { locate: loaded.file.locate });
  return { rules, problems: [...loaded.warnings, ...issues].map((issue) => formatIssue(issue, "c.yml")) };
}

function rulesOf(yaml: string): IngressRules {
  const { rules, problems } = read(yaml);
  if (rules === undefined) throw new Error(problems.join("\n"));
  return rules;
}

function indexOf(rules: IngressRules, host: string, target: string): number | "refused" {
  const match = matchRule(rules, host, target);
  return match.kind === "rule" ? match.index : "refused";
}

describe("one rule takes a request, or leaves it to the last one", () => {
  test.each<{ hostname: string; path?: string; host: string; target?: string; takes: boolean }>([
    { hostname: "shop.test", host: "shop.test", takes: true },
    { hostname: "shop.test", host: "shop.other", takes: false },
    { hostname: "tëä.shop.test", host: "tëä.shop.test", takes: true },
    { hostname: "tëä.shop.test", host: "xn--t-0fau.shop.test", takes: true },
    { hostname: "*", path: "/", host: "whatever.test", takes: true },
    { hostname: "*.shop.test", host: "eu.shop.test", takes: true },
    { hostname: "*.shop.test", host: "eu.west.shop.test", takes: true },
    { hostname: "*.shop.test", host: "eu.test", takes: false },
    { hostname: "*.eu.shop.test", host: "not-eu.shop.test", takes: false },
    {
      hostname: "*.shop.test",
      path: "/assets/.*\\.css",
      host: "eu.shop.test",
      target: "/assets/main.css",
      takes: true,
    },
    { hostname: "*.shop.test", path: "/assets/.*\\.css", host: "eu.shop.test", target: "/main.css", takes: false },
    { hostname: "shop.test", path: "", host: "shop.test", target: "/", takes: true },
  ])("$hostname $path: $host$target is taken: $takes", ({ hostname, path, host, target, takes }) => {
    const rule = { hostname, ...(path === undefined ? {} : { path }), service: "http://one:80" };
    const { rules } = parseIngress({ ingress: [rule, { service: "http_status:404" }] });
    expect(indexOf(rules as IngressRules, host, target ?? "/")).toBe(takes ? 0 : 1);
  });

  test("a star without a dot takes nothing there; here it is an error", () => {
    const ingress = [{ hostname: "*shop.test", service: "http://one:80" }, { service: "http_status:404" }];
    expect(parseIngress({ ingress }).issues).toHaveLength(1);
  });

  const rules = rulesOf(`
ingress:
  - hostname: one.shop.test
    service: http://one:80
  - hostname: two.shop.test
    path: /live
    service: http://two:80
  - hostname: "*"
    service: http://rest:80
`);
  test.each([
    { host: "one.shop.test", target: "/", want: 0 },
    { host: "one.shop.test", target: "/any/where", want: 0 },
    { host: "one.shop.test:443", target: "/any/where", want: 0 },
    { host: "two.shop.test", target: "/live", want: 1 },
    { host: "two.shop.test", target: "/start.html", want: 2 },
    { host: "three.shop.test", target: "/", want: 2 },
  ])("$host$target: rule $want", ({ host, target, want }) => {
    expect(indexOf(rules, host, target)).toBe(want);
  });
});

interface WantedRule {
  readonly hostname?: string;
  readonly path?: string;
  readonly service: ServiceSpec;
  /** Where it is not the default. */
  readonly settings?: Partial<OriginSettings>;
}

const NOT_FOUND: WantedRule = { service: { kind: "http_status", status: 404 } };
const SECURE = { kind: "https", host: "localhost", port: 9443 } as const;

describe("a file is read as", () => {
  test.each<{ what: string; yaml: string; want: WantedRule[] }>([
    {
      what: "several rules",
      yaml: "ingress:\n  - hostname: t1.shop.test\n    service: https://localhost:9443\n  - hostname: '*'\n    service: https://localhost:9444\n",
      want: [
        { hostname: "t1.shop.test", service: SECURE },
        { hostname: "*", service: { ...SECURE, port: 9444 } },
      ],
    },
    {
      what: "a rule without a hostname",
      yaml: "ingress:\n  - service: https://localhost:9443\n",
      want: [{ service: SECURE }],
    },
    {
      what: "a WebSocket service",
      yaml: "ingress:\n  - hostname: '*'\n    service: wss://localhost:9443\n",
      want: [{ hostname: "*", service: SECURE }],
    },
    {
      what: "a name in Unicode",
      yaml: "ingress:\n  - hostname: tëä.shop.test\n    service: https://localhost:9443\n  - service: http_status:404\n",
      want: [{ hostname: "tëä.shop.test", service: SECURE }, NOT_FOUND],
    },
    { what: "a fixed status", yaml: "ingress:\n  - service: http_status:404\n", want: [NOT_FOUND] },
    {
      what: "the page of our own",
      yaml: "ingress:\n  - service: hello_world\n",
      want: [{ service: { kind: "hello_world" } }],
    },
    {
      what: "a socket",
      yaml: "ingress:\n  - service: unix:/run/echo\n",
      want: [{ service: { kind: "unix", path: "/run/echo" } }],
    },
    {
      what: "a socket with TLS",
      yaml: "ingress:\n  - service: unix+tls:/run/echo\n",
      want: [{ service: { kind: "unix+tls", path: "/run/echo" } }],
    },
    {
      what: "TCP with the port and without one",
      yaml: "ingress:\n  - hostname: a.shop.test\n    service: tcp://127.0.0.1\n  - hostname: b.shop.test\n    service: tcp://localhost:9000\n  - service: http_status:404\n",
      want: [
        { hostname: "a.shop.test", service: { kind: "tcp", scheme: "tcp", host: "127.0.0.1", port: 7864 } },
        { hostname: "b.shop.test", service: { kind: "tcp", scheme: "tcp", host: "localhost", port: 9000 } },
        NOT_FOUND,
      ],
    },
    ...(
      [
        ["ssh", 22],
        ["rdp", 3389],
        ["smb", 445],
      ] as const
    ).map(([scheme, port]) => ({
      what: `${scheme} with its own port`,
      yaml: `ingress:\n  - service: ${scheme}://127.0.0.1\n`,
      want: [{ service: { kind: "tcp" as const, scheme, host: "127.0.0.1", port } }],
    })),
    {
      what: "any other scheme, with a port",
      yaml: "ingress:\n  - service: ftp://127.0.0.1:21\n",
      want: [{ service: { kind: "tcp", scheme: "ftp", host: "127.0.0.1", port: 21 } }],
    },
    {
      what: "a SOCKS proxy and what it may reach",
      yaml: `
ingress:
  - hostname: socks.shop.test
    service: socks-proxy
    originRequest:
      ipRules:
        - {prefix: 192.0.2.0/24, ports: [80, 443], allow: true}
        - {prefix: 0.0.0.0/0, allow: false}
  - service: http_status:404
`,
      want: [
        {
          hostname: "socks.shop.test",
          service: { kind: "socks-proxy" },
          settings: {
            ipRules: [
              { prefix: "192.0.2.0/24", ports: [80, 443], allow: true },
              { prefix: "0.0.0.0/0", ports: [], allow: false },
            ],
          },
        },
        NOT_FOUND,
      ],
    },
    {
      what: "a bastion by its name",
      yaml: "ingress:\n  - hostname: jump.shop.test\n    service: bastion\n  - service: http_status:404\n",
      want: [{ hostname: "jump.shop.test", service: { kind: "bastion" } }, NOT_FOUND],
    },
    {
      what: "a bastion by its setting, without a service",
      yaml: "ingress:\n  - hostname: jump.shop.test\n    originRequest: {bastionMode: true}\n  - service: http_status:404\n",
      want: [{ hostname: "jump.shop.test", service: { kind: "bastion" }, settings: { bastionMode: true } }, NOT_FOUND],
    },
  ])("$what", ({ yaml, want }) => {
    const { rules, problems } = read(yaml);
    expect(problems).toEqual([]);
    expect(
      rules?.rules.map(({ hostname, path, service, settings }) => ({
        hostname,
        path: path?.source,
        service,
        settings,
      })),
    ).toEqual(
      want.map(({ hostname = "", path, service, settings }) => ({
        hostname,
        path,
        service,
        settings: { ...DEFAULT_ORIGIN_SETTINGS, ...settings },
      })),
    );
  });

  test("itself when it has a key too many", () => {
    const { rules, problems } = read("ingress:\n  - service: https://localhost:9443\nsurplus: 1\n");
    expect(rules?.rules).toHaveLength(1);
    expect(problems).toEqual(['c.yml:3:1: Unknown key "surplus"']);
  });
});

describe("a file is refused for", () => {
  const before = (rule: string): string =>
    `ingress:\n  - ${rule.replaceAll("\n", "\n    ")}\n  - service: http_status:404\n`;
  test.each([
    { what: "no rules", yaml: "ingress: []\n", want: "c.yml:1:1: Must be a list" },
    {
      what: "a space in the service",
      yaml: before("hostname: a.test\nservice: https://local host:1"),
      want: "c.yml:3:5: ",
    },
    { what: "no scheme", yaml: before("hostname: a.test\nservice: localhost:9443"), want: "c.yml:3:5: " },
    { what: "a path in the service", yaml: before("hostname: a.test\nservice: https://h/dir/"), want: "c.yml:3:5: " },
    {
      what: "a status that is a word",
      yaml: before("hostname: a.test\nservice: http_status:gone"),
      want: "c.yml:3:5: ",
    },
    {
      what: "a status of four digits",
      yaml: before("hostname: a.test\nservice: http_status:4040"),
      want: "c.yml:3:5: ",
    },
    { what: "a star in the middle", yaml: before('hostname: "a.*.test"\nservice: https://h'), want: "c.yml:2:5: " },
    { what: "a port in the hostname", yaml: before('hostname: "a.test:443"\nservice: https://h'), want: "c.yml:2:5: " },
    {
      what: "a wrong expression",
      yaml: before('hostname: a.test\nservice: https://h\npath: "*/x"'),
      want: "c.yml:4:5: ",
    },
    { what: "a catch-all first", yaml: before("service: https://h"), want: "c.yml:2:5: Rule #1 matches everything" },
    {
      what: "a last rule with a hostname",
      yaml: "ingress:\n  - hostname: a.test\n    service: https://h\n",
      want: "c.yml:2:5: The last rule must match everything",
    },
    {
      what: "a last rule with a path",
      yaml: "ingress:\n  - service: https://h\n    path: /a/(.*)/b\n",
      want: "c.yml:2:5: The last rule must match everything",
    },
    {
      what: "a name that is no text",
      yaml: "ingress:\n  - hostname: \ufffd.test\n    service: https://h\n",
      want: "c.yml:2:15: ",
    },
    {
      what: "a scheme that has no port",
      yaml: before("hostname: a.test\nservice: ftp://127.0.0.1"),
      want: "c.yml:3:5: ",
    },
  ])("$what", ({ yaml, want }) => {
    const { rules, problems } = read(yaml);
    expect(rules).toBeUndefined();
    expect(problems).toHaveLength(1);
    expect(problems[0]).toStartWith(want);
  });

  test("an empty file has no rules, and every request gets 503", () => {
    expect(read("")).toMatchObject({
      rules: { rules: [{ service: { kind: "http_status", status: 503 } }] },
      problems: ['Config file "c.yml" is empty'],
    });
  });
});

describe("access", () => {
  test.each<{ access: Partial<AccessSettings>; good: boolean }>([
    { access: { required: false }, good: true },
    { access: { required: true }, good: true },
    { access: { required: true, teamName: "staff" }, good: true },
    { access: { required: true, teamName: "staff", audTag: ["t"] }, good: true },
    { access: { required: true, audTag: ["t"] }, good: false },
    { access: { required: false, audTag: ["t"] }, good: true },
  ])("$access is good: $good", ({ access, good }) => {
    const { rules, issues } = parseIngress({ ingress: [{ service: "http://h", originRequest: { access } }] });
    expect(issues).toHaveLength(good ? 0 : 1);
    expect(rules?.rules[0]?.settings.access).toEqual(good ? { ...NO_ACCESS, ...access } : undefined);
  });
});

/** Every setting with two values besides the default, as YAML, as JSON, and as it is read. */
const SETTINGS: readonly {
  readonly key: string;
  readonly yaml: readonly [string, string];
  readonly json: readonly [unknown, unknown];
  readonly read?: readonly [unknown, unknown];
}[] = [
  { key: "connectTimeout", yaml: ["1m30s", "2m"], json: [90, 120], read: [90_000, 120_000] },
  { key: "tlsTimeout", yaml: ["3s", "4s"], json: [3, 4], read: [3_000, 4_000] },
  { key: "tcpKeepAlive", yaml: ["5s", "6s"], json: [5, 6], read: [5_000, 6_000] },
  { key: "keepAliveTimeout", yaml: ["7s", "8s"], json: [7, 8], read: [7_000, 8_000] },
  { key: "keepAliveConnections", yaml: ["1", "2"], json: [1, 2] },
  { key: "noHappyEyeballs", yaml: ["true", "false"], json: [true, false] },
  { key: "httpHostHeader", yaml: ["first.test", "second.test"], json: ["first.test", "second.test"] },
  { key: "originServerName", yaml: ["c1", "c2"], json: ["c1", "c2"] },
  { key: "matchSNItoHost", yaml: ["True", "FALSE"], json: [true, false] },
  { key: "caPool", yaml: ["/etc/one.pem", "/etc/two.pem"], json: ["/etc/one.pem", "/etc/two.pem"] },
  { key: "noTLSVerify", yaml: ["yes", "no"], json: [true, false] },
  { key: "http2Origin", yaml: ["on", "off"], json: [true, false] },
  { key: "disableChunkedEncoding", yaml: ["true", "false"], json: [true, false] },
  { key: "proxyAddress", yaml: ["127.9.9.9", "lo"], json: ["127.9.9.9", "lo"] },
  { key: "proxyPort", yaml: ["1080", "1081"], json: [1080, 1081] },
  { key: "proxyType", yaml: ["socks", '""'], json: ["socks", ""] },
  {
    key: "ipRules",
    yaml: [
      "[{prefix: 10.0.0.0/8, ports: [80, 8080], allow: false}, {prefix: 'fc00::/7', ports: [443, 4443], allow: true}]",
      "[{prefix: 10.1.0.0/16, ports: [3000], allow: true}]",
    ],
    json: [
      [
        { prefix: "10.0.0.0/8", ports: [80, 8080], allow: false },
        { prefix: "fc00::/7", ports: [443, 4443], allow: true },
      ],
      [{ prefix: "10.1.0.0/16", ports: [3000], allow: true }],
    ],
  },
];

function settingsAt(which: 0 | 1): OriginSettings {
  const changed = SETTINGS.map(({ key, json, read: parsed = json }) => [key, parsed[which]]);
  return { ...DEFAULT_ORIGIN_SETTINGS, ...Object.fromEntries(changed) };
}

const yamlAt = (which: 0 | 1, indent: string): string =>
  SETTINGS.map(({ key, yaml }) => `${indent}${key}: ${yaml[which]}\n`).join("");
const jsonAt = (which: 0 | 1) => Object.fromEntries(SETTINGS.map(({ key, json }) => [key, json[which]]));

/** Two rules; the second says everything itself. */
function twoRules(form: "YAML" | "JSON", global: boolean): readonly (OriginSettings | undefined)[] {
  const socks = "socks-proxy";
  if (form === "YAML") {
    const { rules } = rulesOf(
      `${global ? `originRequest:\n${yamlAt(0, "  ")}` : ""}ingress:\n  - hostname: a.test\n    service: ${socks}\n  - service: ${socks}\n    originRequest:\n${yamlAt(1, "      ")}`,
    );
    return rules.map((rule) => rule.settings);
  }
  const text = JSON.stringify({
    ...(global ? { originRequest: jsonAt(0) } : {}),
    ingress: [
      { hostname: "a.test", service: socks },
      { service: socks, originRequest: jsonAt(1) },
    ],
    "warp-routing": { enabled: true },
  });
  const parsed = parseRemoteRules(text);
  return "rules" in parsed ? parsed.rules.rules.map((rule) => rule.settings) : [];
}

describe.each(["YAML", "JSON"] as const)("originRequest in %s", (form) => {
  test("of the whole file holds for a rule that says nothing, and gives way to one that does", () => {
    expect(twoRules(form, true)).toEqual([settingsAt(0), settingsAt(1)]);
  });

  test("of one rule leaves the others with the defaults", () => {
    expect(twoRules(form, false)).toEqual([DEFAULT_ORIGIN_SETTINGS, settingsAt(1)]);
  });
});

test("the defaults", () => {
  expect(DEFAULT_ORIGIN_SETTINGS).toMatchObject({
    connectTimeout: 30_000,
    tlsTimeout: 10_000,
    tcpKeepAlive: 30_000,
    keepAliveConnections: 100,
    keepAliveTimeout: 90_000,
    proxyAddress: "127.0.0.1",
    proxyPort: 0,
  });
  const rest: readonly (keyof OriginSettings)[] = [
    ...(["noHappyEyeballs", "matchSNItoHost", "noTLSVerify", "http2Origin", "disableChunkedEncoding"] as const),
    ...(["bastionMode", "httpHostHeader", "originServerName", "caPool", "proxyType"] as const),
  ];
  for (const key of rest) expect(DEFAULT_ORIGIN_SETTINGS[key] || undefined).toBeUndefined();
});

describe("what an edge pushes", () => {
  test("has the settings of the file and of the rule", () => {
    const parsed = parseRemoteRules(
      JSON.stringify({
        originRequest: { connectTimeout: 45, noHappyEyeballs: true },
        ingress: [
          {
            hostname: "wiki.test",
            service: "http://192.0.2.7:80",
            originRequest: { noTLSVerify: true, connectTimeout: 5 },
          },
          { service: "http_status:404" },
        ],
        "warp-routing": { enabled: true },
      }),
    );
    if (!("rules" in parsed)) throw new Error(parsed.errors.join());
    const { rules, defaults } = parsed.rules;
    expect(rules[0]?.settings).toMatchObject({ noTLSVerify: true, connectTimeout: 5_000, noHappyEyeballs: true });
    expect(rules[1]?.settings).toMatchObject({ noTLSVerify: false, connectTimeout: 45_000, noHappyEyeballs: true });
    expect(defaults).toMatchObject({ noHappyEyeballs: true, connectTimeout: 45_000 });
  });

  test.each(["5s", "5", 1.5, true])("has no durations such as %j", (connectTimeout) => {
    const parsed = parseRemoteRules(
      JSON.stringify({ ingress: [{ service: "http://h", originRequest: { connectTimeout } }] }),
    );
    expect(parsed).toMatchObject({ errors: [expect.stringContaining("must be a whole number of seconds")] });
  });

  test("has texts where texts belong, unlike a file", () => {
    const parsed = parseRemoteRules(
      JSON.stringify({ ingress: [{ service: "http://h", originRequest: { caPool: 5 } }] }),
    );
    expect(parsed).toMatchObject({ errors: [expect.stringContaining('"caPool" must be a text')] });
  });

  test("is shown with every setting, times in seconds, and null for no path", () => {
    const { rules } = parseIngress({
      ingress: [
        { hostname: "a.test", path: "/echo", service: "https://localhost:9443" },
        { service: "https://localhost:9443" },
      ],
    });
    const shown = JSON.parse(describeConfiguration(rules as IngressRules, 3));
    const originRequest = {
      ...{ connectTimeout: 30, tlsTimeout: 10, tcpKeepAlive: 30, noHappyEyeballs: false, keepAliveTimeout: 90 },
      ...{ keepAliveConnections: 100, httpHostHeader: "", originServerName: "", matchSNItoHost: false, caPool: "" },
      ...{ noTLSVerify: false, disableChunkedEncoding: false, bastionMode: false, proxyAddress: "127.0.0.1" },
      ...{ proxyPort: 0, proxyType: "", http2Origin: false },
    };
    expect(shown).toMatchObject({
      version: 3,
      config: {
        ingress: [
          { hostname: "a.test", path: "/echo", service: "https://localhost:9443", originRequest },
          { hostname: "", path: null, service: "https://localhost:9443", originRequest },
        ],
      },
    });
  });
});

/** What flags, as `name=value`, make of a run without rules. */
function single(...flags: string[]) {
  const args = new Map(flags.map((flag) => [flag.split("=", 1)[0] ?? "", [flag.slice(flag.indexOf("=") + 1)]]));
  return readSingleOrigin(new Values(ALL_RUN_FLAGS, { args, env: {} }), DEFAULT_ORIGIN_SETTINGS);
}

describe("one service by flags", () => {
  test.each<{ flags: string[]; want: ServiceSpec }>([
    { flags: ["hello-world=true"], want: { kind: "hello_world" } },
    { flags: ["bastion=true"], want: { kind: "bastion" } },
    { flags: ["unix-socket=/run/one"], want: { kind: "unix", path: "/run/one" } },
    { flags: ["url=http://localhost:9080"], want: { kind: "http", host: "localhost", port: 9080 } },
    { flags: ["url=https://localhost:9443"], want: { kind: "https", host: "localhost", port: 9443 } },
    ...["ssh", "rdp", "smb", "tcp"].map((scheme) => ({
      flags: [`url=${scheme}://localhost:9022`],
      want: { kind: "tcp" as const, scheme, host: "localhost", port: 9022 },
    })),
    { flags: ["hello-world=true", "url=http://localhost:9080"], want: { kind: "hello_world" } },
  ])("$flags", ({ flags, want }) => {
    const origin = single(...flags);
    expect(origin.kind === "rules" ? origin.rules.rules : origin).toMatchObject([{ service: want, hostname: "" }]);
  });

  test("there is none without a flag", () => {
    expect(single()).toEqual({ kind: "none" });
  });

  test("has its settings by flags too, and the defaults without", () => {
    const bare = single("hello-world=true");
    expect(bare.kind === "rules" ? bare.rules.rules[0]?.settings : bare).toEqual(DEFAULT_ORIGIN_SETTINGS);
    const origin = single(
      ...["hello-world=true", "proxy-connect-timeout=2s", "proxy-tls-timeout=3s", "proxy-tcp-keepalive=4s"],
      ...["proxy-no-happy-eyeballs=true", "proxy-keepalive-connections=7", "proxy-keepalive-timeout=5s"],
      ...["http-host-header=shop.test:81", "origin-server-name=shop.test", "origin-ca-pool=/etc/ca.pem"],
      ...["no-tls-verify=true", "no-chunked-encoding=true", "http2-origin=true", "socks5=true"],
    );
    expect(origin.kind === "rules" ? origin.rules.rules[0]?.settings : origin).toEqual({
      ...DEFAULT_ORIGIN_SETTINGS,
      ...{ connectTimeout: 2_000, tlsTimeout: 3_000, tcpKeepAlive: 4_000, noHappyEyeballs: true },
      ...{ keepAliveConnections: 7, keepAliveTimeout: 5_000, httpHostHeader: "shop.test:81" },
      ...{ originServerName: "shop.test", caPool: "/etc/ca.pem", noTLSVerify: true, disableChunkedEncoding: true },
      ...{ http2Origin: true, proxyType: "socks" },
    });
  });
});

test("rules, settings and flags share a file", () => {
  const loaded = parseConfigFile(
    "c.yml",
    `
tunnel: shop
originRequest:
  ipRules: [{prefix: 10.0.0.0/8, ports: [80], allow: false}]
ingress:
  - hostname: a.shop.test
    path: /id
    service: https://localhost:9443
  - hostname: "*"
    service: https://localhost:9444
warp-routing: {enabled: true, connectTimeout: 2s, tcpKeepAlive: 10s}
retries: 6
grace-period: 20s
hostname: shop.test
tag: [test=1, place=central-1]
share: 3.14
`,
  );
  if (loaded.kind !== "loaded") throw new Error("must load");
  const { file, warnings } = loaded;
  expect(warnings.map((issue) => formatIssue(issue, "c.yml"))).toEqual([
    expect.stringMatching(/^c\.yml:16:1: Unknown key "share"/),
  ]);
  const values = new Values(ALL_RUN_FLAGS, { args: new Map(), env: {}, file });
  expect(values.issues).toEqual([]);
  expect([values.number("retries"), values.number("grace-period")]).toEqual([6, 20_000]);
  expect([values.string("hostname"), values.list("tag")]).toEqual(["shop.test", ["test=1", "place=central-1"]]);
  const { rules, issues } = parseIngress(file.top);
  expect(issues).toEqual([]);
  expect(rules?.rules.map(({ hostname, path }) => [hostname, path?.source])).toEqual([
    ["a.shop.test", "/id"],
    ["*", undefined],
  ]);
  expect(rules?.rules[0]?.settings.ipRules).toEqual([{ prefix: "10.0.0.0/8", ports: [80], allow: false }]);
});
