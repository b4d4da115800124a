import { describe, expect, test } from "bun:test";
import { formatIssue } from "../../../src/ingress/issue.ts";
import {
  DEFAULT_ORIGIN_SETTINGS,
  type DurationStyle,
  type OriginSettings,
} from "../../../src/ingress/origin-request.ts";
import { parseIngress } from "../../../src/ingress/rules.ts";

/** Settings of the first rule. */
function settingsOf(global: unknown, own: unknown): OriginSettings {
  const parsed = parseIngress({
    originRequest: global,
    ingress: [{ service: "socks-proxy", originRequest: own }],
  });
  expect(parsed.issues).toEqual([]);
  return parsed.rules?.rules[0]?.settings as OriginSettings;
}

function issuesOf(originRequest: unknown, options: { durations?: DurationStyle } = {}): string[] {
  const parsed = parseIngress(
    { originRequest, ingress: [{ service: "http_status:404" }] },
    { durations: options.durations ?? "text" },
  );
  return parsed.issues.map((issue) => `${issue.severity} ${issue.path}: ${formatIssue(issue, undefined)}`);
}

/** Every key, each with a value that is not the default. */
const ALL_TEXT = {
  connectTimeout: "1s",
  tlsTimeout: "2s",
  tcpKeepAlive: "3s",
  noHappyEyeballs: true,
  keepAliveConnections: 4,
  keepAliveTimeout: "1m5s",
  httpHostHeader: "host.example",
  originServerName: "name.example",
  matchSNItoHost: true,
  caPool: "/etc/ca.pem",
  noTLSVerify: true,
  http2Origin: true,
  disableChunkedEncoding: true,
  bastionMode: true,
  proxyAddress: "10.0.0.1",
  proxyPort: 1080,
  proxyType: "socks",
  ipRules: [{ prefix: "10.0.0.0/8", ports: [22, 443], allow: true }, { prefix: "::/0" }],
  access: { required: true, teamName: "team", audTag: ["a", "b"], environment: "fed", certsUrl: "https://a.example/c" },
  clientCert: "/cert.pem",
  clientKey: "/key.pem",
  proxyProtocol: "v2",
  maxConnections: 7,
  responseHeaderTimeout: "1m",
  pathPrefixStrip: "/app/",
  pathRewrite: { match: "^/a(.*)", replace: "/b$1" },
};
const ALL_PARSED: OriginSettings = {
  ...ALL_TEXT,
  connectTimeout: 1_000,
  tlsTimeout: 2_000,
  tcpKeepAlive: 3_000,
  keepAliveTimeout: 65_000,
  proxyProtocol: "v2",
  responseHeaderTimeout: 60_000,
  pathPrefixStrip: "/app",
  ipRules: [
    { prefix: "10.0.0.0/8", ports: [22, 443], allow: true },
    { prefix: "::/0", ports: [], allow: false },
  ],
};

describe("settings", () => {
  test("are the defaults when nothing is said", () => {
    expect(settingsOf(undefined, undefined)).toEqual(DEFAULT_ORIGIN_SETTINGS);
    expect(settingsOf({}, null)).toEqual(DEFAULT_ORIGIN_SETTINGS);
  });

  test("are read under every key", () => {
    expect(Object.keys(ALL_TEXT).sort()).toEqual(Object.keys(DEFAULT_ORIGIN_SETTINGS).sort());
    expect(settingsOf(undefined, ALL_TEXT)).toEqual(ALL_PARSED);
  });

  test("of the whole file hold for a rule, access and ipRules too", () => {
    expect(settingsOf(ALL_TEXT, undefined)).toEqual(ALL_PARSED);
  });

  test("of a rule go before those of the file, key by key", () => {
    const settings = settingsOf(ALL_TEXT, { connectTimeout: "9s", caPool: "", noTLSVerify: false, access: {} });
    expect(settings).toEqual({
      ...ALL_PARSED,
      connectTimeout: 9_000,
      caPool: "",
      noTLSVerify: false,
      access: DEFAULT_ORIGIN_SETTINGS.access,
    });
  });

  test("of a rule are not those of the next", () => {
    const { rules } = parseIngress({
      ingress: [
        { hostname: "a.example", service: "http://a", originRequest: { noTLSVerify: true } },
        { service: "http://b" },
      ],
    });
    expect(rules?.rules.map((rule) => rule.settings.noTLSVerify)).toEqual([true, false]);
  });

  test("that are null are not set", () => {
    expect(settingsOf({ caPool: "x" }, { caPool: null, connectTimeout: null }).caPool).toBe("x");
  });

  test("name HTTP/2 in clear text", () => {
    expect(settingsOf({ http2Origin: true }, { http2Origin: "h2c" }).http2Origin).toBe("h2c");
    expect(settingsOf({ http2Origin: "h2c" }, { http2Origin: false }).http2Origin).toBe(false);
  });

  test("have durations in whole seconds in JSON", () => {
    const parsed = parseIngress({ originRequest: { connectTimeout: 10 } }, { durations: "seconds" });
    expect(parsed.issues).toEqual([]);
    expect(issuesOf({ connectTimeout: "10s", tlsTimeout: 1.5 }, { durations: "seconds" })).toEqual([
      'error originRequest.connectTimeout: "connectTimeout" must be a whole number of seconds, not "10s"',
      'error originRequest.tlsTimeout: "tlsTimeout" must be a whole number of seconds, not "1.5"',
    ]);
  });
});

test.each(["app.example", "app.example:8080", "my_service", "[::1]:80", "10.0.0.1", ""])("%s may be a Host", (host) => {
  expect(settingsOf(undefined, { httpHostHeader: host }).httpHostHeader).toBe(host);
});

const WRONG: { raw: unknown; want: string[] }[] = [
  { raw: "x", want: ["error originRequest: Must be a map of settings"] },
  { raw: [], want: ["error originRequest: Must be a map of settings"] },
  {
    raw: { connectTimeout: 30, tlsTimeout: "soon", keepAliveTimeout: "-1s", tcpKeepAlive: ["1s"] },
    want: [
      'error originRequest.connectTimeout: "connectTimeout" must be a duration such as 30s, not "30"',
      'error originRequest.tlsTimeout: "tlsTimeout" must be a duration such as 30s, not "soon"',
      'error originRequest.keepAliveTimeout: "keepAliveTimeout" must be a duration such as 30s, not "-1s"',
      'error originRequest.tcpKeepAlive: "tcpKeepAlive" must be a duration such as 30s, not a list',
    ],
  },
  {
    raw: { noTLSVerify: "yes", httpHostHeader: 5, keepAliveConnections: 1.5, proxyPort: 65_536, proxyType: "http" },
    want: [
      'error originRequest.noTLSVerify: "noTLSVerify" must be true or false, not "yes"',
      'error originRequest.httpHostHeader: "httpHostHeader" must be a text, not "5"',
      'error originRequest.keepAliveConnections: "keepAliveConnections" must be a whole number from 0 to 2147483647, not "1.5"',
      'error originRequest.proxyPort: "proxyPort" must be a whole number from 0 to 65535, not "65536"',
      'warning originRequest.proxyType: "proxyType" "http" is not known, and does nothing: only socks does something',
    ],
  },
  {
    raw: { keepAliveConnections: Number.NaN, proxyPort: -1 },
    want: [
      'error originRequest.keepAliveConnections: "keepAliveConnections" must be a whole number from 0 to 2147483647, not "NaN"',
      'error originRequest.proxyPort: "proxyPort" must be a whole number from 0 to 65535, not "-1"',
    ],
  },
  {
    raw: { httpHostHeader: "a\r\nX-Inj: y" },
    want: [
      String.raw`error originRequest.httpHostHeader: "httpHostHeader" must be a host such as app.example.com or localhost:8080, not "a\r\nX-Inj: y"`,
    ],
  },
  {
    raw: { httpHostHeader: "app.example/path" },
    want: [
      'error originRequest.httpHostHeader: "httpHostHeader" must be a host such as app.example.com or localhost:8080, not "app.example/path"',
    ],
  },
  {
    raw: { proxyType: 5 },
    want: ['error originRequest.proxyType: "proxyType" must be empty or socks, not "5"'],
  },
  {
    raw: { http2Origin: "yes" },
    want: ['error originRequest.http2Origin: "http2Origin" must be true, false or h2c, not "yes"'],
  },
  {
    raw: { http2Origin: [] },
    want: ['error originRequest.http2Origin: "http2Origin" must be true, false or h2c, not a list'],
  },
  {
    raw: { noTlsVerify: true, constructor: true },
    want: [
      'warning originRequest.noTlsVerify: Unknown key "noTlsVerify": did you mean "noTLSVerify"?',
      'warning originRequest.constructor: Unknown key "constructor"',
    ],
  },
  {
    raw: { ipRules: [{}, "x", { prefix: "10.0.0.0/33" }, { prefix: "::/0", ports: [0], allow: 1, port: 1 }] },
    want: [
      "error originRequest.ipRules[0]: An ipRules entry needs a prefix such as 10.0.0.0/8",
      "error originRequest.ipRules[1]: An ipRules entry must be a map with a prefix",
      'error originRequest.ipRules[2].prefix: Prefix "10.0.0.0/33" is not a block such as 10.0.0.0/8',
      'warning originRequest.ipRules[3].port: Unknown key "port": did you mean "ports"?',
      'error originRequest.ipRules[3].ports: "ports" must be a list of numbers from 1 to 65535',
      'error originRequest.ipRules[3].allow: "allow" must be true or false',
    ],
  },
  {
    raw: { proxyProtocol: "v3" },
    want: ['error originRequest.proxyProtocol: "proxyProtocol" must be v1, v2 or empty, not "v3"'],
  },
  {
    raw: { maxConnections: -1 },
    want: ['error originRequest.maxConnections: "maxConnections" must be a whole number from 0 to 65535, not "-1"'],
  },
  {
    raw: { pathPrefixStrip: "app" },
    want: ['error originRequest.pathPrefixStrip: "pathPrefixStrip" must be a path such as /app'],
  },
  {
    raw: { pathRewrite: { match: "(?=a)", replace: "", replce: 1 } },
    want: [
      'warning originRequest.pathRewrite.replce: Unknown key "replce": did you mean "replace"?',
      'error originRequest.pathRewrite: "pathRewrite" cannot be used: error parsing regexp: invalid or unsupported Perl syntax: `(?=`',
    ],
  },
  {
    raw: { pathRewrite: { match: "^/a", replace: "/$1" } },
    want: ['error originRequest.pathRewrite: "pathRewrite" cannot be used: n > number of groups: 1'],
  },
  {
    raw: { pathRewrite: "a" },
    want: ['error originRequest.pathRewrite: "pathRewrite" must be a map with match and replace'],
  },
  { raw: { ipRules: {} }, want: ['error originRequest.ipRules: "ipRules" must be a list'] },
  { raw: { access: true }, want: ['error originRequest.access: "access" must be a map of settings'] },
  {
    raw: { access: { required: "yes", teamName: 5, audTag: "a", audtag: 1 } },
    want: [
      'warning originRequest.access.audtag: Unknown key "audtag": did you mean "audTag"?',
      'error originRequest.access.required: "required" must be true or false',
      'error originRequest.access.audTag: "audTag" must be a list of texts',
      'error originRequest.access.teamName: "teamName" must be a text',
    ],
  },
  {
    raw: { access: { required: true, audTag: ["a"] } },
    want: ['error originRequest.access: "access" is required and has an audTag, so it needs a teamName too'],
  },
];
test.each(WRONG.map(({ raw, want }) => ({ json: JSON.stringify(raw), raw, want })))(
  "originRequest $json",
  ({ raw, want }) => {
    expect(issuesOf(raw)).toEqual(want);
  },
);

describe("ipRules of a rule", () => {
  const rule = (service: string) =>
    parseIngress({ ingress: [{ service, originRequest: { ipRules: [{ prefix: "10.0.0.0/8" }] } }] }).issues.map(
      ({ severity, path, message }) => `${severity} ${path}: ${message}`,
    );

  test.each(["bastion", "socks-proxy"])("are for %s", (service) => {
    expect(rule(service)).toEqual([]);
  });

  test.each(["http://localhost:1", "http_status:404", "tcp://localhost:1"])("mean nothing to %s", (service) => {
    expect(rule(service)).toEqual([
      'warning ingress[0].originRequest.ipRules: Rule #1: "ipRules" say what bastion and socks-proxy may reach, and mean nothing to this service',
    ]);
  });

  test("of the whole file are for those that they mean something to", () => {
    const ingress = [{ service: "http_status:404" }];
    expect(parseIngress({ ingress, originRequest: { ipRules: [{ prefix: "10.0.0.0/8" }] } }).issues).toEqual([]);
  });
});
