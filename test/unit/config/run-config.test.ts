import { describe, expect, test } from "bun:test";
import { buildRunConfig, parseHostPort, type RunConfig } from "../../../src/config/run-config.ts";
import { parseTunnelId } from "../../../src/core/ids.ts";
import { formatCredentials } from "../../../src/wire/credentials.ts";
import { formatToken, type TunnelToken } from "../../../src/wire/token.ts";
import { memoryHost } from "./memory-host.ts";

const ID = "01234567-89ab-cdef-0123-456789abcdef";
const CA = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
const PLAIN: TunnelToken = {
  accountTag: "account",
  tunnelSecret: Uint8Array.from({ length: 32 }, (_, i) => i),
  tunnelId: parseTunnelId(ID)!,
  endpoint: "",
  edges: [],
  ca: undefined,
};
const TOKEN = formatToken(PLAIN);
const OWN_TOKEN = formatToken({
  ...PLAIN,
  edges: [
    { addr: "a.example:7844", region: 0 },
    { addr: "[2001:db8::1]:7844", region: 1 },
  ],
  ca: CA,
});
const CREDENTIALS = formatCredentials(PLAIN);

interface Given {
  /** `name=value`, as behind `--`. */
  readonly flags?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly files?: Readonly<Record<string, string>>;
  readonly positionals?: readonly string[];
}

function build(given: Given) {
  const args = new Map<string, string[]>();
  for (const flag of given.flags ?? []) {
    const [name = "", ...value] = flag.split("=");
    args.set(name, [...(args.get(name) ?? []), value.join("=")]);
  }
  return buildRunConfig(memoryHost(given.files, given.env), args, given.positionals ?? []);
}

function configOf(given: Given): RunConfig {
  const built = build(given);
  if (built.kind === "failed") throw new Error(built.errors.join("; "));
  return built.config;
}

/** What is the least that runs, and what a case adds. */
function ready(...flags: string[]): Given {
  return { flags: [`token=${OWN_TOKEN}`, "hello-world=true", ...flags] };
}

test("a token of an edge of one's own is all it takes; the rest is cloudflared's default", () => {
  const config = configOf(ready());
  expect(config).toMatchObject({
    tunnelId: ID,
    accountTag: "account",
    tunnelSecret: PLAIN.tunnelSecret,
    ca: CA,
    haConnections: 4,
    retries: 5,
    gracePeriodMs: 30_000,
    rpcTimeoutMs: 5_000,
    metrics: undefined,
    logLevel: "info",
    logFormat: "default",
    pidFile: undefined,
    tags: [],
    rulesFrom: "--hello-world",
  });
  expect(config.edge).toEqual({
    kind: "static",
    edges: [
      { host: "a.example", port: 7844, region: "region1" },
      { host: "2001:db8::1", port: 7844, region: "region2" },
      { host: "a.example", port: 7844, region: "region1" },
      { host: "2001:db8::1", port: 7844, region: "region2" },
    ],
  });
  expect(Object.isFrozen(config)).toBe(true);
});

describe("identity", () => {
  const edge = ["edge=e.example:7844", "hello-world=true"];
  test.each([
    { name: "--token", given: { flags: [...edge, `token=${TOKEN}`] } },
    { name: "$TUNNEL_TOKEN", given: { flags: edge, env: { TUNNEL_TOKEN: TOKEN } } },
    { name: "token of the file", given: { flags: [...edge, "config=/c.yml"], files: { "/c.yml": `token: ${TOKEN}` } } },
    { name: "--token-file", given: { flags: [...edge, "token-file=/t"], files: { "/t": ` ${TOKEN}\n` } } },
    {
      name: "--credentials-file",
      given: { flags: [...edge, "credentials-file=/c.json"], files: { "/c.json": CREDENTIALS } },
    },
    { name: "~", given: { flags: [...edge, "credentials-file=~/c.json"], files: { "/home/me/c.json": CREDENTIALS } } },
    { name: "$TUNNEL_CRED_CONTENTS", given: { flags: edge, env: { TUNNEL_CRED_CONTENTS: CREDENTIALS } } },
    {
      name: "credentials-contents before credentials-file",
      given: { flags: [...edge, "credentials-file=/none"], env: { TUNNEL_CRED_CONTENTS: CREDENTIALS } },
    },
    {
      name: "tunnel: of the file, credentials in a usual place",
      given: {
        flags: edge,
        files: { "/etc/cloudflared/config.yml": `tunnel: ${ID}`, [`/home/me/.cloudflared/${ID}.json`]: CREDENTIALS },
      },
    },
    {
      name: "the argument, credentials in a usual place",
      given: { flags: edge, positionals: [ID], files: { [`/home/me/.culvert/${ID}.json`]: CREDENTIALS } },
    },
    {
      name: "a token before credentials",
      given: { flags: [...edge, `token=${TOKEN}`, "credentials-file=/none"] },
    },
  ] as { name: string; given: Given }[])("$name", ({ given }) => {
    expect(configOf(given)).toMatchObject({ tunnelId: ID, accountTag: "account", ca: undefined });
  });
});

describe("a run that cannot be is refused in one line that says what to do", () => {
  const PEM = "-----BEGIN PRIVATE KEY-----\n";
  const refused: { name: string; given: Given; usage: boolean; want: string | RegExp }[] = [
    {
      name: "nothing names a tunnel",
      given: {},
      usage: true,
      want: "Nothing says which tunnel to run: give --token, --token-file or --credentials-file",
    },
    {
      name: "wrong token",
      given: { flags: ["token=hello"] },
      usage: true,
      want: /^Provided tunnel token is not valid: Token .*check that it was copied whole$/,
    },
    {
      name: "token file is not there",
      given: { flags: ["token-file=/t"] },
      usage: true,
      want: 'Cannot read token file "/t": there is no such file',
    },
    {
      name: "token file is not ours to read",
      given: { flags: ["token-file=/t"], files: { "/t": "!EACCES" } },
      usage: true,
      want: 'Cannot read token file "/t": permission denied',
    },
    {
      name: "credentials are nowhere",
      given: { positionals: ["web"] },
      usage: false,
      want: 'Cannot find credentials of tunnel "web": give --credentials-file or --token',
    },
    {
      name: "credentials are a certificate",
      given: { flags: ["credentials-file=/cert.pem"], files: { "/cert.pem": PEM } },
      usage: false,
      want: /^Cannot use credentials file "\/cert.pem": it is an account certificate/,
    },
    {
      name: "credentials are no JSON",
      given: { flags: ["credentials-file=/c.json"], files: { "/c.json": "{" } },
      usage: false,
      want: 'Cannot use credentials file "/c.json": Credentials are not a JSON object',
    },
    {
      name: "credentials without an id",
      given: {
        flags: ["credentials-file=/c.json"],
        files: { "/c.json": formatCredentials({ ...PLAIN, tunnelId: undefined }) },
      },
      usage: false,
      want: /^Cannot use credentials file "\/c.json": it does not name its tunnel/,
    },
    {
      name: "two tunnels",
      given: { ...ready(), positionals: ["a", "b"] },
      usage: true,
      want: "Give one tunnel at most: its name or its id",
    },
    {
      name: "tunnel: is a number",
      given: { flags: ["config=/c.yml"], files: { "/c.yml": "tunnel: 5" } },
      usage: false,
      want: '/c.yml:1:1: "tunnel" must be a text: put it in quotes',
    },
    {
      name: "edge without a port",
      given: ready("edge=e.example"),
      usage: true,
      want: 'Edge address "e.example" must be HOST:PORT, such as edge.example.com:7844',
    },
    {
      name: "CA file is not there",
      given: ready("cacert=/ca.pem"),
      usage: false,
      want: 'Cannot read CA file "/ca.pem": there is no such file',
    },
    {
      name: "CA file is no certificate",
      given: { ...ready("cacert=/ca.pem"), files: { "/ca.pem": "hello" } },
      usage: false,
      want: 'Cannot use CA file "/ca.pem": it holds no certificate in PEM',
    },
    {
      name: "unknown protocol",
      given: ready("protocol=spdy"),
      usage: true,
      want: 'Unknown protocol "spdy": use auto, quic or http2',
    },
    {
      name: "post-quantum",
      given: ready("post-quantum=true"),
      usage: false,
      want: /^post-quantum is not part of this release/,
    },
    { name: "long grace", given: ready("grace-period=3m1s"), usage: true, want: "grace-period must be from 0s to 3m" },
    {
      name: "negative grace",
      given: ready("grace-period=-1s"),
      usage: true,
      want: "grace-period must be from 0s to 3m",
    },
    {
      name: "no connection",
      given: ready("ha-connections=0"),
      usage: true,
      want: "ha-connections must be from 1 to 100",
    },
    {
      name: "too many",
      given: ready("ha-connections=999999999"),
      usage: true,
      want: "ha-connections must be from 1 to 100",
    },
    { name: "no RPC time", given: ready("rpc-timeout=0s"), usage: true, want: "rpc-timeout must be longer than 0s" },
    {
      name: "IP version",
      given: ready("edge-ip-version=5"),
      usage: true,
      want: 'edge-ip-version must be one of auto, 4, 6, not "5"',
    },
    {
      name: "region twice",
      given: {
        flags: [`token=${formatToken({ ...PLAIN, endpoint: "fed" })}`, "edge=e:1", "region=us", "url=http://x"],
      },
      usage: true,
      want: 'region cannot be given too: the token or the credentials name "fed"',
    },
    {
      name: "an edge without a port",
      given: ready("edge=127.0.0.1:0"),
      usage: true,
      want: 'Edge address "127.0.0.1:0" must be HOST:PORT, such as edge.example.com:7844',
    },
    { name: "negative retries", given: ready("retries=-1"), usage: true, want: "retries must be 0 or more" },
    {
      name: "a port for a URL",
      given: { flags: [`token=${OWN_TOKEN}`, "url=3000"] },
      usage: true,
      want: '--url "3000" names no host: did you mean http://localhost:3000?',
    },
    {
      name: "two lines for a host",
      given: ready("http-host-header=a\r\nX-Inj: y"),
      usage: true,
      want: String.raw`--http-host-header "a\r\nX-Inj: y" must be a host such as app.example.com or localhost:8080`,
    },
    {
      name: "two words for a host",
      given: ready("http-host-header=bad host"),
      usage: true,
      want: '--http-host-header "bad host" must be a host such as app.example.com or localhost:8080',
    },
    {
      name: "a file with two words for a host",
      given: { ...ready(), files: { "/etc/cloudflared/config.yml": "originRequest:\n  httpHostHeader: bad host\n" } },
      usage: false,
      want: /^\/etc\/cloudflared\/config.yml:2:3: "httpHostHeader" must be a host such as .*, not "bad host"$/,
    },
    {
      name: "a password of nothing",
      given: ready("metrics-auth="),
      usage: true,
      want: "--metrics-auth must not be empty: leave it out, or give it a value",
    },
    {
      name: "a variable that is there and has no password",
      given: { ...ready(), env: { TUNNEL_METRICS_AUTH: "" } },
      usage: true,
      want: "$TUNNEL_METRICS_AUTH must not be empty: leave it out, or give it a value",
    },
    {
      name: "a file with a password of nothing",
      given: { ...ready("config=/c.yml"), files: { "/c.yml": 'url: http://a\nmetrics-auth: ""\n' } },
      usage: false,
      want: '/c.yml:2:1: "metrics-auth" must not be empty: leave it out, or give it a value',
    },
    {
      name: "a file with a password that its template left out",
      given: { ...ready("config=/c.yml"), files: { "/c.yml": "url: http://a\nmetrics-auth:\n" } },
      usage: false,
      want: '/c.yml:2:1: "metrics-auth" must not be empty: leave it out, or give it a value',
    },
    {
      name: "a file with a token that its template left out, beside credentials",
      given: {
        flags: ["config=/c.yml"],
        files: { "/c.yml": "url: http://a\ntoken: null\ncredentials-file: /c.json\n", "/c.json": CREDENTIALS },
      },
      usage: false,
      want: '/c.yml:2:1: "token" must not be empty: leave it out, or give it a value',
    },
    {
      name: "a token of nothing, beside credentials",
      given: { flags: ["token=", "credentials-file=/c.json", "url=http://a"], files: { "/c.json": CREDENTIALS } },
      usage: true,
      want: "--token must not be empty: leave it out, or give it a value",
    },
    {
      name: "metrics on a socket without a path",
      given: ready("metrics=unix:"),
      usage: true,
      want: 'Metrics address "unix:" must be HOST:PORT, such as localhost:2000, or unix:PATH',
    },
    {
      name: "metrics",
      given: ready("metrics=2000"),
      usage: true,
      want: 'Metrics address "2000" must be HOST:PORT, such as localhost:2000, or unix:PATH',
    },
    {
      name: "log level",
      given: ready("loglevel=loud"),
      usage: true,
      want: 'loglevel must be one of debug, info, warn, error, fatal, not "loud"',
    },
    { name: "output", given: ready("output=xml"), usage: true, want: 'output must be one of default, json, not "xml"' },
    { name: "tag", given: ready("tag=a b=c"), usage: true, want: 'Tag "a b=c" must be KEY=VALUE in printable ASCII' },
    {
      name: "flag's type",
      given: ready("retries=many"),
      usage: true,
      want: '--retries must be a whole number, not "many"',
    },
    {
      name: "variable's type",
      given: { ...ready(), env: { TUNNEL_RETRIES: "x" } },
      usage: true,
      want: '$TUNNEL_RETRIES must be a whole number, not "x"',
    },
    {
      name: "file's type",
      given: { ...ready("config=/c.yml"), files: { "/c.yml": "\nretries: x" } },
      usage: false,
      want: '/c.yml:2:1: "retries" must be a whole number',
    },
    {
      name: "config file is not there",
      given: ready("config=/c.yml"),
      usage: false,
      want: 'Cannot read config file "/c.yml": there is no such file',
    },
    {
      name: "rule",
      given: { ...ready("config=/c.yml"), files: { "/c.yml": "ingress:\n  - service: x" } },
      usage: false,
      want: /^\/c\.yml:2:5: Rule #1: Service "x" is not a URL/,
    },
    {
      name: "protection that is wrong, for a service of a flag",
      given: {
        ...ready("config=/c.yml"),
        files: { "/c.yml": "originRequest:\n  access: {required: true, audTag: [a]}" },
      },
      usage: false,
      want: /^\/c\.yml:2:3: "access" is required and has an audTag/,
    },
    {
      name: "url and socket",
      given: ready("url=http://x", "unix-socket=/s"),
      usage: true,
      want: "Give either --url or --unix-socket, not both",
    },
    {
      name: "scheme of url",
      given: { flags: [`token=${OWN_TOKEN}`, "url=ftp://x"] },
      usage: true,
      want: '--url "ftp://x" must start with one of http, https, h2c, rdp, ssh, smb, tcp; rules in a file take others too',
    },
    {
      name: "url without a host",
      given: { flags: [`token=${OWN_TOKEN}`, "url=http://"] },
      usage: true,
      want: '--url "http://" must name a host and a port, such as http://localhost:8080',
    },
  ];
  test.each(refused)("$name", ({ given, usage, want }) => {
    const built = build(given);
    if (built.kind !== "failed") throw new Error("must fail");
    expect(built.errors).toHaveLength(1);
    if (typeof want === "string") expect(built.errors[0]).toBe(want);
    else expect(built.errors[0]).toMatch(want);
    expect(built.errors[0]).not.toContain("\n");
    expect(built.usage).toBe(usage);
  });

  test("several at once", () => {
    const built = build(ready("grace-period=1h", "tag=x", "output=xml"));
    expect(built.kind === "failed" && built.errors.length).toBe(3);
  });
});

describe("edges", () => {
  test.each([
    { name: "repeated", flags: ["edge=a:1", "edge=b:2"] },
    { name: "in a list", flags: ["edge=a:1,b:2"] },
  ])("$name go before the token's and stay as they are", ({ flags }) => {
    expect(configOf(ready(...flags)).edge).toEqual({
      kind: "static",
      edges: [
        { host: "a", port: 1 },
        { host: "b", port: 2 },
      ],
    });
  });

  test("are Cloudflare's when nothing names one, in the region asked for", () => {
    const credentials = { ...PLAIN, endpoint: "" };
    const token = formatToken({ ...credentials, edges: [], ca: undefined });
    const given = { flags: ["hello-world=true", `token=${token}`] };
    expect(configOf(given).edge).toEqual({ kind: "cloudflare", region: undefined, ipVersion: "auto" });
    const wanted = { flags: [...given.flags, "region=us", "edge-ip-version=6"] };
    expect(configOf(wanted).edge).toEqual({ kind: "cloudflare", region: "us", ipVersion: "6" });
  });

  test("of the environment", () => {
    expect(configOf({ ...ready(), env: { TUNNEL_EDGE: "a:1,b:2" } }).edge).toMatchObject({ edges: [{}, {}] });
  });

  test("--cacert goes before the token's authorities", () => {
    const own = CA.replace("AAAA", "BBBB");
    expect(configOf({ ...ready("cacert=/ca.pem"), files: { "/ca.pem": own } }).ca).toBe(own);
  });
});

describe("the service that flags name", () => {
  const run = (...flags: string[]): Given => ({ flags: [`token=${OWN_TOKEN}`, ...flags] });
  test.each([
    { flags: ["url=http://localhost:8080"], want: { kind: "http", host: "localhost", port: 8080 } },
    { flags: ["url=localhost:8080"], want: { kind: "http", host: "localhost", port: 8080 } },
    { flags: ["url=localhost"], want: { kind: "http", host: "localhost", port: 80 } },
    { flags: ["url=h2c://localhost:50051"], want: { kind: "h2c", host: "localhost", port: 50051 } },
    { flags: ["url=https://[::1]:8443/"], want: { kind: "https", host: "::1", port: 8443 } },
    { flags: ["url=ssh://host"], want: { kind: "tcp", scheme: "ssh", host: "host", port: 22 } },
    { flags: ["unix-socket=/run/a.sock"], want: { kind: "unix", path: "/run/a.sock" } },
    { flags: ["bastion=true"], want: { kind: "bastion" } },
    { flags: ["bastion=true", "url=http://x"], want: { kind: "bastion" } },
    { flags: ["hello-world=true", "bastion=true", "url=http://x"], want: { kind: "hello_world" } },
    { flags: [], want: { kind: "http_status", status: 503 } },
  ])("$flags", ({ flags, want }) => {
    expect(configOf(run(...flags)).rules.rules.map((rule) => rule.service)).toEqual([want as never]);
  });

  test("takes its settings from flags, else from the file's originRequest, else the defaults", () => {
    const files = {
      "/c.yml": "originRequest:\n  connectTimeout: 7s\n  caPool: /file.pem\n  httpHostHeader: file.example",
    };
    const given = run(
      "url=http://x",
      "config=/c.yml",
      "http-host-header=flag.example",
      "no-tls-verify=true",
      "proxy-tls-timeout=3s",
    );
    expect(configOf({ ...given, files }).rules.rules[0]?.settings).toMatchObject({
      connectTimeout: 7_000,
      tlsTimeout: 3_000,
      caPool: "/file.pem",
      httpHostHeader: "flag.example",
      noTLSVerify: true,
      keepAliveConnections: 100,
    });
  });

  test("gives way to rules", () => {
    const files = { "/c.yml": "ingress:\n  - service: http_status:404" };
    const built = build({ ...run("url=http://x", "config=/c.yml"), files });
    expect(built).toMatchObject({ kind: "ok", config: { rulesFrom: "/c.yml" } });
    expect(built.warnings).toEqual([
      { text: '--url has no effect: the rules of "/c.yml" go before it', about: "setting" },
    ]);
  });
});

describe("warnings", () => {
  test.each([
    { name: "h2mux", given: ready("protocol=h2mux"), want: "h2mux is gone since 2023; using http2" },
    { name: "flag for later", given: ready("lb-pool=l"), want: '"lb-pool" is not acted on by this release' },
    {
      name: "variable for later",
      given: { ...ready(), env: { TUNNEL_LB_POOL: "l" } },
      want: '"lb-pool" is not acted on by this release',
    },
    {
      name: "key for later",
      given: { ...ready("config=/c.yml"), files: { "/c.yml": "\nlb-pool: l" } },
      want: '/c.yml:2:1: "lb-pool" is not acted on by this release',
    },
    {
      name: "unknown key",
      given: { ...ready("config=/c.yml"), files: { "/c.yml": "ingres: []" } },
      want: '/c.yml:1:1: Unknown key "ingres": did you mean "ingress"?',
    },
    {
      name: "HTTP/2 without TLS",
      given: { flags: [`token=${OWN_TOKEN}`, "url=http://localhost:1", "http2-origin=true"] },
      want: '"http2Origin: true" needs a service with TLS: use "http2Origin: h2c" for one in clear text',
    },
    {
      name: "path of url",
      given: { flags: [`token=${OWN_TOKEN}`, "url=http://localhost:1/app"] },
      want: 'The path of --url "http://localhost:1/app" is not used: requests keep their own',
    },
    {
      name: "no service",
      given: { flags: [`token=${OWN_TOKEN}`] },
      want: "No ingress rules were defined and no service was given (--url), so culvert answers 503 to every request",
    },
  ] as { name: string; given: Given; want: string }[])("$name", ({ given, want }) => {
    const built = build(given);
    expect(built.kind).toBe("ok");
    expect(built.warnings.map(({ text }) => text)).toEqual([want]);
  });

  test.each([
    ready(),
    ready("no-autoupdate=true", "autoupdate-freq=1h", "heartbeat-count=9", "origincert=/cert.pem"),
    ready("stdin-control=false", "hostname="),
  ])("are not given for what does no harm (%#)", (given) => {
    expect(build(given).warnings).toEqual([]);
  });
});

describe("updates while it runs", () => {
  test.each([
    [ready()],
    [ready("autoupdate-freq=1h", "autoupdate-window=02:00-03:00")],
    [ready("autoupdate-from=/r", "no-autoupdate=true")],
    [ready("autoupdate-from=/r", "autoupdate-freq=0s")],
  ])("are off unless a place is named (%#)", (given) => {
    expect(configOf(given).autoUpdate).toBeUndefined();
  });

  test("come once a day from the place, at any time", () => {
    const given = { ...ready(), env: { CULVERT_AUTOUPDATE_FROM: "~/releases", CULVERT_UPDATE_KEY: "RWkey" } };
    expect(configOf(given).autoUpdate).toEqual({
      ...{ from: "/home/me/releases", keys: ["RWkey"], caPath: undefined, everyMs: 86_400_000, window: undefined },
    });
  });

  test("may be set in the file; a password in the address is not shown", () => {
    const file =
      "autoupdate-from: https://me:hunter2@example.com/r\nautoupdate-freq: 6h\nautoupdate-window: sat 02:00-03:00\nautoupdate-cacert: /ca.pem\n";
    const config = configOf({ flags: [...(ready().flags ?? []), "config=/c.yml"], files: { "/c.yml": file } });
    expect(config.autoUpdate).toMatchObject({ everyMs: 21_600_000, window: "sat 02:00-03:00", caPath: "/ca.pem" });
    expect(JSON.stringify(config.settings)).not.toContain("hunter2");
  });

  test("that are more often than never are refused", () => {
    expect(build(ready("autoupdate-freq=-1s")).kind).toBe("failed");
  });
});

test("settings are listed with their source; credentials are not among the texts", () => {
  const { settings } = configOf({ ...ready("metrics=:9"), env: { TUNNEL_RETRIES: "3" } });
  expect(settings).toContainEqual({ name: "retries", value: "3", source: "env" });
  expect(settings).toContainEqual({ name: "token", value: "*****", source: "flag", secret: true });
  expect(JSON.stringify(settings)).not.toContain(OWN_TOKEN);
});

test.each([
  { given: ready("metrics=localhost:2000"), want: { host: "localhost", port: 2000 } },
  { given: ready("metrics=:2000"), want: { host: "0.0.0.0", port: 2000 } },
  { given: { ...ready(), env: { TUNNEL_METRICS: "localhost:0" } }, want: undefined },
])("metrics address $want", ({ given, want }) => {
  expect(configOf(given).metrics).toEqual(want);
});

test("tags become pairs", () => {
  expect(configOf(ready("tag=env=prod,team=a=b")).tags).toEqual([
    ["env", "prod"],
    ["team", "a=b"],
  ]);
});

test.each([
  { text: "a.example:1", want: { host: "a.example", port: 1 } },
  { text: "[::1]:65535", want: { host: "::1", port: 65_535 } },
  { text: "a.example", want: undefined },
  { text: "a:65536", want: undefined },
  { text: "::1:80", want: undefined },
  { text: "a/b:1", want: undefined },
  { text: ":1", want: undefined },
  { text: "", want: undefined },
])('parseHostPort("$text")', ({ text, want }) => {
  expect(parseHostPort(text)).toEqual(want);
});
