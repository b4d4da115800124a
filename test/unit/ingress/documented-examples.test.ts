import { describe, expect, test } from "bun:test";
import { parseConfigFile } from "../../../src/config/file.ts";
import { buildRunConfig } from "../../../src/config/run-config.ts";
import { parseTunnelId } from "../../../src/core/ids.ts";
import { NO_ACCESS } from "../../../src/ingress/access-settings.ts";
import { formatIssue } from "../../../src/ingress/issue.ts";
import { DEFAULT_ORIGIN_SETTINGS, type OriginSettings } from "../../../src/ingress/origin-request.ts";
import { parseRemoteRules } from "../../../src/ingress/remote-rules.ts";
import { type IngressRule, matchRule, parseIngress } from "../../../src/ingress/rules.ts";
import type { ServiceSpec } from "../../../src/ingress/service.ts";
import { formatCredentials } from "../../../src/wire/credentials.ts";
import { memoryHost } from "../config/memory-host.ts";

// The configurations that Cloudflare's documentation shows (developers.cloudflare.com and cloudflare/argo-tunnel-examples,
// in September 2026), with the same keys and kinds of values and hostnames of our own, and what each of them means.

const ID = "0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0f9";
const CREDENTIALS_FILE = `/root/.cloudflared/${ID}.json`;
const HEAD = `tunnel: ${ID}\ncredentials-file: ${CREDENTIALS_FILE}\n`;

interface Meaning {
  readonly hostname?: string;
  readonly path?: string;
  readonly service: ServiceSpec;
  /** Where it is not the default. */
  readonly settings?: Partial<OriginSettings>;
}

const http = (port: number, host = "localhost"): ServiceSpec => ({ kind: "http", host, port });
const https = (port: number, host = "localhost"): ServiceSpec => ({ kind: "https", host, port });
const tcp = (scheme: string, port: number, host = "localhost"): ServiceSpec => ({ kind: "tcp", scheme, host, port });
const status = (code: number): ServiceSpec => ({ kind: "http_status", status: code });
const NOT_FOUND: Meaning = { service: status(404) };

const FILES: readonly { readonly page: string; readonly yaml: string; readonly means: readonly Meaning[] }[] = [
  {
    page: "configuration file: published applications; tutorial: GitLab",
    yaml: `${HEAD}
ingress:
  - hostname: git.acme.test
    service: http://localhost:80
  - hostname: git-ssh.acme.test
    service: ssh://localhost:22
  - service: http_status:404
`,
    means: [
      { hostname: "git.acme.test", service: http(80) },
      { hostname: "git-ssh.acme.test", service: tcp("ssh", 22) },
      NOT_FOUND,
    ],
  },
  {
    page: "configuration file: how traffic is matched",
    yaml: `${HEAD}
ingress:
  # By hostname
  - hostname: acme.test
    service: https://localhost:8000
  # By an expression
  - hostname: static.acme.test
    path: \\.(jpg|png|css|js)$
    service: https://localhost:8001
  # By a wildcard
  - hostname: "*.acme.test"
    service: https://localhost:8002
  # Everything else
  - service: https://localhost:8003
`,
    means: [
      { hostname: "acme.test", service: https(8000) },
      { hostname: "static.acme.test", path: "\\.(jpg|png|css|js)$", service: https(8001) },
      { hostname: "*.acme.test", service: https(8002) },
      { service: https(8003) },
    ],
  },
  {
    page: "configuration file: services",
    yaml: `${HEAD}
ingress:
  - hostname: acme.test
    service: tcp://localhost:8000
  - hostname: staging.acme.test
    service: unix:/srv/production/echo.sock
  - hostname: test.acme.test
    service: hello_world
  - service: http_status:404
`,
    means: [
      { hostname: "acme.test", service: tcp("tcp", 8000) },
      { hostname: "staging.acme.test", service: { kind: "unix", path: "/srv/production/echo.sock" } },
      { hostname: "test.acme.test", service: { kind: "hello_world" } },
      NOT_FOUND,
    ],
  },
  {
    // As the page means it: as it stands, without schemes and with a rule for everything in the middle, nobody takes it.
    page: "configuration file: origin configuration",
    yaml: `${HEAD}originRequest: # For every rule
  connectTimeout: 30s

ingress:
  - hostname: acme.test
    service: http://localhost:8000
  - hostname: acme2.test
    service: http://localhost:8001
  - hostname: acme3.test
    service: http://localhost:8002
    originRequest:
      connectTimeout: 10s
      disableChunkedEncoding: true
  - service: http_status:404
`,
    means: [
      { hostname: "acme.test", service: http(8000) },
      { hostname: "acme2.test", service: http(8001) },
      {
        hostname: "acme3.test",
        service: http(8002),
        settings: { connectTimeout: 10_000, disableChunkedEncoding: true },
      },
      NOT_FOUND,
    ],
  },
  {
    page: "troubleshooting: HTTPS origins; common errors: too many redirects",
    yaml: `${HEAD}
ingress:
  - hostname: app.acme.test
    service: https://localhost:443
    originRequest:
      originServerName: app.acme.test
  - service: http_status:404
`,
    means: [
      { hostname: "app.acme.test", service: https(443), settings: { originServerName: "app.acme.test" } },
      NOT_FOUND,
    ],
  },
  {
    page: "troubleshooting: HTTPS origins with an authority of one's own, or none",
    yaml: `${HEAD}
ingress:
  - hostname: app.acme.test
    service: https://localhost:443
    originRequest:
      originServerName: app.acme.test
      caPool: /path/to/ca.pem
  - hostname: old.acme.test
    service: https://localhost:8443
    originRequest:
      noTLSVerify: true
  - service: http_status:404
`,
    means: [
      {
        hostname: "app.acme.test",
        service: https(443),
        settings: { originServerName: "app.acme.test", caPool: "/path/to/ca.pem" },
      },
      { hostname: "old.acme.test", service: https(8443), settings: { noTLSVerify: true } },
      NOT_FOUND,
    ],
  },
  {
    page: "migrate legacy tunnels",
    yaml: "ingress:\n  - hostname: tunnel.acme.test\n    service: https://localhost:3000\n  - service: http_status:404\n# The last rule takes the rest.\n",
    means: [{ hostname: "tunnel.acme.test", service: https(3000) }, NOT_FOUND],
  },
  {
    page: "tutorial: kubectl",
    yaml: `${HEAD}
ingress:
  - hostname: cluster.acme.test
    service: tcp://kubernetes.internal:6443
    originRequest:
      proxyType: socks
  - service: http_status:404
`,
    means: [
      {
        hostname: "cluster.acme.test",
        service: tcp("tcp", 6443, "kubernetes.internal"),
        settings: { proxyType: "socks" },
      },
      NOT_FOUND,
    ],
  },
  {
    page: "tutorial: MongoDB over SSH",
    yaml: `${HEAD}metrics: :5000
protocol: http2
no-autoupdate: true
ingress:
- hostname: mongodb.acme.test
  originRequest:
    bastionMode: true
- service: http_status:404
`,
    means: [
      { hostname: "mongodb.acme.test", service: { kind: "bastion" }, settings: { bastionMode: true } },
      NOT_FOUND,
    ],
  },
  {
    page: "tutorial: VNC in the browser",
    yaml: "tunnel: desktop\ningress:\n- hostname: vnc.acme.test\n  service: tcp://localhost:5901\n- service: http_status:404\n",
    means: [{ hostname: "vnc.acme.test", service: tcp("tcp", 5901) }, NOT_FOUND],
  },
  {
    page: "use cases: RDP and SMB",
    yaml: `${HEAD}
ingress:
  - hostname: rdp.acme.test
    service: rdp://localhost:3389
  - hostname: smb.acme.test
    service: smb://localhost:445
  - service: http_status:404
`,
    means: [
      { hostname: "rdp.acme.test", service: tcp("rdp", 3389) },
      { hostname: "smb.acme.test", service: tcp("smb", 445) },
      NOT_FOUND,
    ],
  },
  {
    page: "examples: Kubernetes",
    yaml: `# The tunnel to run
tunnel: example-tunnel
credentials-file: /etc/cloudflared/creds/credentials.json
metrics: 0.0.0.0:2000
no-autoupdate: true
ingress:
- hostname: tunnel.acme.test
  service: http://web-service:80
- hostname: hello.acme.test
  service: hello_world
- service: http_status:404
`,
    means: [
      { hostname: "tunnel.acme.test", service: http(80, "web-service") },
      { hostname: "hello.acme.test", service: { kind: "hello_world" } },
      NOT_FOUND,
    ],
  },
  {
    page: "examples: SSH and HTTP on a virtual machine",
    yaml: `${HEAD}logfile: /var/log/cloudflared.log
loglevel: info

ingress:
  - hostname: web.acme.test
    service: http://localhost:8080
  - hostname: ssh.web.acme.test
    service: ssh://localhost:22
  - hostname: "*"
    path: "^/_healthcheck$"
    service: http_status:200
  - hostname: "*"
    service: hello-world
`,
    means: [
      { hostname: "web.acme.test", service: http(8080) },
      { hostname: "ssh.web.acme.test", service: tcp("ssh", 22) },
      { hostname: "*", path: "^/_healthcheck$", service: status(200) },
      { hostname: "*", service: { kind: "hello_world" } },
    ],
  },
  {
    page: "examples: a database behind a health check",
    yaml: `${HEAD}
ingress:
  - hostname: "*"
    path: "^/_healthcheck$"
    service: http_status:200
  - hostname: rest.acme.test
    service: http://localhost:3000
  - hostname: ssh.acme.test
    service: ssh://localhost:22
  - service: http_status:404
`,
    means: [
      { hostname: "*", path: "^/_healthcheck$", service: status(200) },
      { hostname: "rest.acme.test", service: http(3000) },
      { hostname: "ssh.acme.test", service: tcp("ssh", 22) },
      NOT_FOUND,
    ],
  },
  {
    page: "load balancing: a health check of the connector alone",
    yaml: "ingress:\n  - hostname: health.acme.test\n    service: http_status:200\n  - service: http_status:404\n",
    means: [{ hostname: "health.acme.test", service: status(200) }, NOT_FOUND],
  },
  {
    page: "help of the command",
    yaml: `
ingress:
  - hostname: www.acme.test
    service: https://localhost:8000
  - hostname: "*.acme.test"
    path: /[a-zA-Z]+.html
    service: https://localhost:8001
  - hostname: "*"
    service: https://localhost:8002
`,
    means: [
      { hostname: "www.acme.test", service: https(8000) },
      { hostname: "*.acme.test", path: "/[a-zA-Z]+.html", service: https(8001) },
      { hostname: "*", service: https(8002) },
    ],
  },
];

function shapeOf(rules: readonly IngressRule[] | undefined): unknown {
  return rules?.map(({ hostname, path, service, settings }) => ({ hostname, path: path?.source, service, settings }));
}

function expected(means: readonly Meaning[]): unknown {
  return means.map(({ hostname = "", path, service, settings }) => ({
    ...{ hostname, path, service },
    settings: { ...DEFAULT_ORIGIN_SETTINGS, ...settings },
  }));
}

/** The rules of a file that nothing is to be said about. */
function rulesOf(yaml: string) {
  const loaded = parseConfigFile("c.yml", yaml);
  if (loaded.kind !== "loaded") throw new Error("must load");
  const { rules, issues } = parseIngress(loaded.file.top, { locate: loaded.file.locate });
  expect([...loaded.warnings, ...issues].map((issue) => formatIssue(issue, "c.yml"))).toEqual([]);
  if (rules === undefined) throw new Error("must be valid");
  return rules;
}

/** A run of this file, with the credentials that it names. */
function runOf(yaml: string) {
  const tunnelId = parseTunnelId(ID);
  if (tunnelId === undefined) throw new Error("must be an id");
  const credentials = formatCredentials({
    ...{ accountTag: "account", tunnelSecret: new Uint8Array(32), tunnelId },
    ...{ endpoint: "", edges: [], ca: undefined },
  });
  const paths = [CREDENTIALS_FILE, "/etc/cloudflared/creds/credentials.json"];
  const files = { "/c.yml": yaml, ...Object.fromEntries(paths.map((path) => [path, credentials])) };
  const args = new Map([["config", ["/c.yml"]]]);
  if (!yaml.includes("credentials-file")) args.set("credentials-file", [CREDENTIALS_FILE]);
  return buildRunConfig(memoryHost(files), args, []);
}

function problemsOfRun(yaml: string): readonly string[] {
  const built = runOf(yaml);
  return built.kind === "failed" ? built.errors : [];
}

describe.each([...FILES])("$page", ({ yaml, means }) => {
  test("means what it says there", () => {
    expect(shapeOf(rulesOf(yaml).rules)).toEqual(expected(means));
  });

  test("runs as it is", () => {
    expect(problemsOfRun(yaml)).toEqual([]);
  });
});

test("as in the section about wildcards, what follows matches", () => {
  const yaml = FILES.find(({ page }) => page.endsWith("how traffic is matched"))?.yaml ?? "";
  const rules = rulesOf(yaml);
  const indexOf = (host: string, target: string): unknown => {
    const match = matchRule(rules, host, target);
    return match.kind === "rule" ? match.index : match.kind;
  };
  expect(indexOf("static.acme.test", "/data.js")).toBe(1);
  expect(indexOf("static.acme.test", "/images/photo.jpg")).toBe(1);
  expect([indexOf("alpha.acme.test", "/"), indexOf("beta.acme.test", "/")]).toEqual([2, 2]);
  expect(indexOf("static.acme.test", "/data.json")).toBe(2);
});

test("the example that cloudflared refuses too is refused, with all that is wrong in it", () => {
  const yaml = `ingress:
  - hostname: acme.test
    service: localhost:8000
  - service: localhost:8002
    originRequest:
      connectTimeout: 10s
  - service: http_status:404
`;
  const loaded = parseConfigFile("c.yml", yaml);
  if (loaded.kind !== "loaded") throw new Error("must load");
  const { issues } = parseIngress(loaded.file.top, { locate: loaded.file.locate });
  expect(issues.map((issue) => formatIssue(issue, "c.yml").split(" ", 1)[0])).toEqual([
    "c.yml:3:5:",
    "c.yml:4:5:",
    "c.yml:4:5:",
  ]);
});

describe("the one service of a file", () => {
  const AT_ALL = `url: http://localhost:8000\n${HEAD}`;
  const PRIVATE = `${HEAD}warp-routing:\n  enabled: true\n`;
  test.each([
    { page: "create a local tunnel: a published application", yaml: AT_ALL },
    { page: "create a local tunnel: a private network", yaml: PRIVATE },
  ])("$page", ({ yaml }) => {
    expect(rulesOf(yaml).rules.map(({ service }) => service)).toEqual([status(503)]);
    expect(problemsOfRun(yaml)).toEqual([]);
  });

  test("is what a run serves", () => {
    const built = runOf(AT_ALL);
    if (built.kind === "failed") throw new Error(built.errors.join("\n"));
    expect(built.config.rules.rules.map(({ service }) => service)).toEqual([http(8000)]);
  });
});

describe("protocols for published applications: every service", () => {
  test.each<{ text: string; means: ServiceSpec }>([
    { text: "http://localhost:8000", means: http(8000) },
    { text: "https://localhost:8000", means: https(8000) },
    { text: "unix:/srv/production/echo.sock", means: { kind: "unix", path: "/srv/production/echo.sock" } },
    { text: "unix+tls:/srv/production/echo.sock", means: { kind: "unix+tls", path: "/srv/production/echo.sock" } },
    { text: "tcp://localhost:2222", means: tcp("tcp", 2222) },
    { text: "ssh://localhost:22", means: tcp("ssh", 22) },
    { text: "rdp://localhost:3389", means: tcp("rdp", 3389) },
    { text: "smb://localhost:445", means: tcp("smb", 445) },
    { text: "http_status:404", means: status(404) },
    { text: "bastion", means: { kind: "bastion" } },
    { text: "hello_world", means: { kind: "hello_world" } },
  ])("$text", ({ text, means }) => {
    expect(rulesOf(`ingress:\n  - service: ${text}\n`).rules[0]?.service).toEqual(means);
  });
});

describe("origin parameters: every key, its default and a value", () => {
  const ACCESS = "{required: true, teamName: my-team, audTag: [4c1f, 9e02]}";
  test.each<{ key: keyof OriginSettings; standard: unknown; yaml: string; means: unknown }>([
    { key: "originServerName", standard: "", yaml: "app.acme.test", means: "app.acme.test" },
    { key: "matchSNItoHost", standard: false, yaml: "true", means: true },
    { key: "caPool", standard: "", yaml: "/root/certs/ca.pem", means: "/root/certs/ca.pem" },
    { key: "noTLSVerify", standard: false, yaml: "true", means: true },
    { key: "tlsTimeout", standard: 10_000, yaml: "10s", means: 10_000 },
    { key: "http2Origin", standard: false, yaml: "true", means: true },
    { key: "httpHostHeader", standard: "", yaml: "internal.acme.test", means: "internal.acme.test" },
    { key: "disableChunkedEncoding", standard: false, yaml: "true", means: true },
    { key: "connectTimeout", standard: 30_000, yaml: "30s", means: 30_000 },
    { key: "noHappyEyeballs", standard: false, yaml: "true", means: true },
    { key: "proxyType", standard: "", yaml: "socks", means: "socks" },
    { key: "proxyAddress", standard: "127.0.0.1", yaml: "127.0.0.1", means: "127.0.0.1" },
    { key: "proxyPort", standard: 0, yaml: "0", means: 0 },
    { key: "keepAliveTimeout", standard: 90_000, yaml: "1m30s", means: 90_000 },
    { key: "keepAliveConnections", standard: 100, yaml: "100", means: 100 },
    { key: "tcpKeepAlive", standard: 30_000, yaml: "30s", means: 30_000 },
    {
      key: "access",
      standard: NO_ACCESS,
      yaml: ACCESS,
      means: { ...NO_ACCESS, required: true, teamName: "my-team", audTag: ["4c1f", "9e02"] },
    },
  ])("$key: $yaml", ({ key, standard, yaml, means }) => {
    const text = `ingress:\n  - service: https://localhost:443\n    originRequest:\n      ${key}: ${yaml}\n`;
    expect(DEFAULT_ORIGIN_SETTINGS[key]).toEqual(standard as never);
    expect(rulesOf(text).rules[0]?.settings).toEqual({ ...DEFAULT_ORIGIN_SETTINGS, [key]: means });
  });
});

describe("what the API is given", () => {
  test.each<{ page: string; config: unknown; means: Meaning[] }>([
    {
      page: "create a tunnel (API); Terraform and Ansible",
      config: {
        ingress: [
          { hostname: "app.acme.test", service: "http://localhost:8001", originRequest: {} },
          { service: "http_status:404" },
        ],
      },
      means: [{ hostname: "app.acme.test", service: http(8001) }, NOT_FOUND],
    },
    {
      page: "reference of the API: everything",
      config: {
        ingress: [
          {
            hostname: "tunnel.acme.test",
            service: "https://localhost:8001",
            path: "subpath",
            originRequest: {
              access: { audTag: ["tag"], teamName: "my-team", required: false },
              ...{ caPool: "ca.pem", connectTimeout: 10, disableChunkedEncoding: true, http2Origin: true },
              ...{ httpHostHeader: "host", keepAliveConnections: 100, keepAliveTimeout: 90, matchSNItoHost: false },
              ...{ noHappyEyeballs: false, noTLSVerify: false, originServerName: "name", proxyType: "" },
              ...{ tcpKeepAlive: 30, tlsTimeout: 10 },
            },
          },
          { hostname: "", service: "http_status:404" },
        ],
        originRequest: { connectTimeout: 20 },
        "warp-routing": { enabled: true },
      },
      means: [
        {
          hostname: "tunnel.acme.test",
          path: "subpath",
          service: https(8001),
          settings: {
            access: { ...NO_ACCESS, audTag: ["tag"], teamName: "my-team" },
            ...{ caPool: "ca.pem", connectTimeout: 10_000, disableChunkedEncoding: true, http2Origin: true },
            ...{ httpHostHeader: "host", originServerName: "name" },
          },
        },
        { service: status(404), settings: { connectTimeout: 20_000 } },
      ],
    },
  ])("$page", ({ config, means }) => {
    const parsed = parseRemoteRules(JSON.stringify(config));
    if ("errors" in parsed) throw new Error(parsed.errors.join("\n"));
    expect(shapeOf(parsed.rules.rules)).toEqual(expected(means));
  });
});
