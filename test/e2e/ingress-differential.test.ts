import { describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import type { Run } from "../../src/cli/command.ts";
import { rule, validate } from "../../src/cli/tunnel-ingress.ts";
import type { Random } from "../../src/core/clock.ts";
import { culvertCommand } from "../support/binary.ts";
import { commandContext } from "../support/command-context.ts";
import { runProcess } from "../support/processes.ts";
import { seededRandom } from "../support/seeded-random.ts";
import { makeTempDir } from "../support/temp-dir.ts";

// cloudflared and ours are asked the same about the same config files: is it valid, and which rule takes a URL.

const CLOUDFLARED = process.env["CLOUDFLARED_BIN"] ?? "";
/** Random URLs to compare, five to a config file; more of them find more. */
const RANDOM_URLS = Number(process.env["INGRESS_DIFFERENTIAL_URLS"] ?? "100");
const SEED = Number(process.env["INGRESS_DIFFERENTIAL_SEED"] ?? "1");
const TIMEOUT_MS = 30_000 + RANDOM_URLS * 100;
const LAST = "  - service: http_status:404\n";

type Answer = { readonly valid: boolean; readonly said: string };

async function ask(command: readonly string[], config: string | Uint8Array, ...question: string[]): Promise<Answer> {
  using dir = makeTempDir();
  const file = join(dir.path, "config.yml");
  writeFileSync(file, config);
  const env = { PATH: process.env["PATH"] ?? "", HOME: dir.path };
  const done = await runProcess([...command, "tunnel", "--config", file, "ingress", ...question], { env });
  return { valid: done.code === 0, said: `${done.stdout}${done.stderr}`.replaceAll(file, "FILE") };
}

const theirs = (config: string | Uint8Array, ...question: string[]) => ask([CLOUDFLARED], config, ...question);
const ours = (config: string | Uint8Array, ...question: string[]) => ask(culvertCommand(), config, ...question);

/** What our command does, without a process for each. */
async function call(command: Run, config: string | Uint8Array, ...positionals: string[]): Promise<Answer> {
  const said: string[] = [];
  const code = await command(
    commandContext({
      args: new Map([["config", ["FILE"]]]),
      positionals,
      host: {
        env: {},
        homeDir: "/",
        platform: "linux",
        exists: () => true,
        readFile: () => (typeof config === "string" ? config : Buffer.from(config).toString("utf8")),
      },
      print: (line) => said.push(line),
      note: (line) => said.push(line),
    }),
  );
  return { valid: code === 0, said: said.join("\n") };
}

/** What both print of the rule that matched; services are written in forms of their own. */
function matched(said: string): string {
  if (said.includes("the path's dot segments")) return "refused";
  return /^Matched rule #.*(?:\n\t(?:hostname|path): .*)*/m.exec(said)?.[0] ?? `nothing: ${said}`;
}

/** A config file with one rule in front of the last one. */
function withRule(text: string): string {
  return `ingress:\n  - hostname: a.example\n    ${text}\n${LAST}`;
}

interface Case {
  readonly what: string;
  readonly config: string | Uint8Array;
}

const service = (text: string): Case => ({ what: `service: ${text}`, config: withRule(`service: ${text}`) });
const hostname = (text: string): Case => ({
  what: `hostname: ${text}`,
  config: `ingress:\n  - hostname: ${text}\n    service: http://h:1\n${LAST}`,
});
const path = (text: string): Case => ({
  what: `path: ${text}`,
  config: withRule(`service: http://h:1\n    path: ${text}`),
});
const setting = (text: string, kind = "http://h:1"): Case => ({
  what: `${kind} with ${text}`,
  config: withRule(`service: ${kind}\n    originRequest: {${text}}`),
});
const file = (what: string, config: string | Uint8Array): Case => ({ what, config });

/** One case for each text. */
const each = (make: (text: string) => Case, ...texts: string[]): Case[] => texts.map((text) => make(text));
const socks = (text: string): Case => setting(text, "socks-proxy");

const AGREED: readonly Case[] = [
  ...each(
    service,
    "http://h",
    "https://h:8443",
    "HTTP://H:80",
    "ws://h",
    "wss://h:1",
    "http://[::1]",
    "http://[::1]:80",
  ),
  ...each(service, "http://h?x=1", "http://u:p@h", "http://h#f", "http://h:", "http://[fe80::1%25eth0]:80"),
  ...each(service, "http://*:80", "http://h_x:80", "http://h:abc", "http://::1", "http://h:80:80", "http://h:-1"),
  ...each(
    service,
    "http://h:+80",
    "http://:80",
    "tcp://:80",
    "http://h/",
    "http://h:80/x",
    "'http://a b'",
    "'http://h /'",
  ),
  ...each(service, "http://h%41:80", "'http://h\\x'", "http:///x", "localhost:80", "//h:80", "http:h", "''", "1", "~"),
  ...each(service, "ssh://h", "rdp://h", "smb://h", "tcp://h", "tcp://h:5432", "ftp://h:21", "ssh://user@h"),
  ...each(service, "unix:/run/a.sock", "unix://run/a.sock", "'unix:a b'", "unix+tls:/run/a.sock"),
  ...each(service, "http_status:100", "http_status:999", "http_status:099", "http_status:1000", "'http_status: 404'"),
  ...each(service, "hello_world", "hello-world", "Hello_World", "bastion", "socks-proxy", "warp-routing", "'null'"),
  ...each(hostname, "'*'", "'*.a.example'", "'*.*.a'", "'**.a'", "'a.*'", "a.example.", "a.example:80", "'a.example:'"),
  ...each(hostname, "'[::1]'", "'::1'", "'[::1]:80'", "A.Example", "ä.example", "'*.ä.example'", "'-a.b'", "a_b.c"),
  ...each(hostname, "~", "5", "yes"),
  ...each(
    path,
    "/",
    "''",
    "'*/x'",
    "'('",
    "'(?i)x'",
    "'(?P<n>x)'",
    "'(?<n>x)'",
    "'\\pL'",
    "'\\C'",
    "'(?=x)'",
    "'(?<!x)y'",
  ),
  ...each(path, "'a{1001}'", "'a{1000}'", "'(a{100}){100}'", "'[[:alpha:]]'", "'\\Qa\\E'", "'x++'", "'\\1'", "80"),
  ...each(path, "'[z-a]'", "'\\z'", "'\\Z'", "'(?s).'", "'\\bx\\B'", "'[^\\d]'", "'\\x{10FFFF}'", "'(?U)a+'"),
  ...each(setting, "connectTimeout: 30", "connectTimeout: 30s", "connectTimeout: 1h2m3.5s", "connectTimeout: 1d"),
  ...each(setting, "connectTimeout: ''", "connectTimeout: ~", "tlsTimeout: 0", "tlsTimeout: '0'"),
  ...each(setting, "noTLSVerify: true", "noTLSVerify: yes", "noTLSVerify: Off", "noTLSVerify: 'true'"),
  ...each(setting, "noTLSVerify: 1", "noTLSVerify: ~", "noTLSVerify: 'yes'", "noTLSVerify: maybe"),
  ...each(setting, "httpHostHeader: 80", "httpHostHeader: [a]", "originServerName: 1.50", "caPool: ~"),
  ...each(setting, "keepAliveConnections: 100000", "keepAliveConnections: '5'", "keepAliveConnections: many"),
  ...each(setting, "proxyPort: -1", "proxyType: socks", "proxyType: ''", "proxyType: [socks]", "ipRules: []"),
  ...each(setting, "access: {required: true}", "access: {required: true, audTag: [a]}", "access: []"),
  ...each(setting, "access: {required: false, audTag: [a]}", "access: {required: true, teamName: t, audTag: a}"),
  ...each(setting, "access: {required: yes, teamName: 5, audTag: [5]}"),
  ...each(socks, "ipRules: [{prefix: 10.0.0.0/8, ports: [22, 443], allow: yes}]", "ipRules: [{prefix: 10.0.0.0/99}]"),
  ...each(socks, "ipRules: [{ports: [1]}]", "ipRules: [{prefix: '', allow: true}]", "ipRules: {}", "ipRules: ~"),
  ...each(socks, "ipRules: [{prefix: 10.0.0.1/8, ports: ['80']}]", "ipRules: [{prefix: '::/0', ports: [0]}]"),
  file("no file at all to speak of", ""),
  file("only a comment", "# nothing\n"),
  file("null", "~\n"),
  file("a list", "- a\n"),
  file("a text", "hello\n"),
  file("no ingress", "tunnel: x\n"),
  file("ingress: null", "ingress:\n"),
  file("ingress: []", "ingress: []\n"),
  file("ingress is a map", "ingress: {a: b}\n"),
  file("ingress is a text", "ingress: x\n"),
  file("a rule is null", "ingress:\n  -\n"),
  file("a rule is a text", "ingress: [x]\n"),
  file("keys in capitals", `Ingress:\n${LAST}`),
  file("settings are a text", `originRequest: x\ningress:\n${LAST}`),
  file("begin and end of a document", `---\ningress:\n${LAST}...\n`),
  file("a key twice", `ingress:\n${LAST}ingress:\n${LAST}`),
  file("a key of a rule twice", `ingress:\n${LAST}    service: http_status:404\n`),
  file("a tab", "ingress:\n\t- service: http_status:404\n"),
  file("a byte order mark", `\ufeffingress:\n${LAST}`),
  file("CR LF", `ingress:\n${LAST}`.replaceAll("\n", "\r\n")),
  file("CR", `ingress:\n${LAST}`.replaceAll("\n", "\r")),
  file("Latin-1", Buffer.from(`# caf\xe9\ningress:\n${LAST}`, "latin1")),
  file("a NUL", `# \0\ningress:\n${LAST}`),
  file("an alias of nothing", "ingress:\n  - service: *x\n"),
  file(
    "merge keys",
    `ingress:\n  - &b\n    hostname: a.example\n    service: http://h:1\n  - <<: *b\n    hostname: b.example\n${LAST}`,
  ),
  file(
    "an alias as settings",
    `ingress:\n  - hostname: a.example\n    service: http://h:1\n    originRequest: &s {noTLSVerify: on}\n  - hostname: b.example\n    service: http://h:1\n    originRequest: *s\n${LAST}`,
  ),
  file("the last rule has a path", "ingress:\n  - path: /a\n    service: http://h:1\n"),
  file("the last rule has a hostname", "ingress:\n  - hostname: a.b\n    service: http://h:1\n"),
  file("two rules for everything", `ingress:\n${LAST}${LAST}`),
  file("no service", `ingress:\n  - hostname: a.example\n${LAST}`),
  file(
    "bastionMode without a service",
    `ingress:\n  - hostname: a.example\n    originRequest: {bastionMode: true}\n${LAST}`,
  ),
  file(
    "bastionMode makes a bastion of anything",
    `originRequest: {bastionMode: true}\n${withRule("service: anything")}`,
  ),
];

describe.skipIf(CLOUDFLARED === "")("ingress validate says what cloudflared's says", () => {
  test.concurrent.each(AGREED.map((one) => ({ ...one })))(
    "$what",
    async ({ config }) => {
      const [they, we] = await Promise.all([theirs(config, "validate"), call(validate, config)]);
      expect({ valid: we.valid, said: we.said }).toEqual({ valid: they.valid, said: we.said });
    },
    TIMEOUT_MS,
  );
});

/** Where ours differs, on purpose. */
const DIFFERENT: readonly (Case & { readonly valid: boolean; readonly reason: string })[] = [
  { ...service("http://h:0"), valid: false, reason: "nothing can be reached there" },
  { ...service("http://h:99999"), valid: false, reason: "nothing can be reached there" },
  {
    ...service("ftp://h"),
    valid: false,
    reason: "without a port every connection fails; better said once, at the start",
  },
  { ...service("http_status:0404"), valid: false, reason: "a status has three digits" },
  { ...service("http_status:+404"), valid: false, reason: "a status has three digits" },
  { ...service("'unix:'"), valid: false, reason: "no socket has no name" },
  {
    ...hostname("'*a.example'"),
    valid: false,
    reason: "to cloudflared the star is an ordinary char: it never matches",
  },
  { ...hostname("'a b'"), valid: false, reason: "no request has this host" },
  { ...hostname("a..b"), valid: false, reason: "no request has this host" },
  { ...hostname("'.a'"), valid: false, reason: "no request has this host" },
  { ...hostname("'a/b'"), valid: false, reason: "no request has this host" },
  { ...hostname("'*.'"), valid: false, reason: "no request has this host" },
  { ...hostname("'a@b'"), valid: false, reason: "no request has this host" },
  { ...hostname("'a%b'"), valid: false, reason: "no request has this host" },
  { ...hostname("xn--a"), valid: false, reason: "no name has this punycode" },
  { ...setting("connectTimeout: -1s"), valid: false, reason: "no connection is made before it is begun" },
  { ...setting("keepAliveConnections: 1.5"), valid: false, reason: "there are no halves; cloudflared rounds down" },
  { ...setting("keepAliveConnections: -1"), valid: false, reason: "there are no fewer connections than none" },
  { ...setting("proxyPort: 70000"), valid: false, reason: "there is no such port" },
  { ...setting("proxyType: socks5"), valid: false, reason: "does nothing; a run takes it, with a warning" },
  {
    ...setting("ipRules: [{prefix: 10.0.0.0/8}]"),
    valid: false,
    reason: "does nothing; a run takes it, with a warning",
  },
  { ...setting("ipRules: [{prefix: bad}]"), valid: false, reason: "is wrong wherever it stands" },
  { ...setting("access: {required: true, teamName: a b, audTag: [a]}"), valid: false, reason: "nobody could pass" },
  {
    ...setting("ipRules: [{prefix: 10.0.0.1}]", "socks-proxy"),
    valid: true,
    reason: "an address is the block of itself",
  },
  { ...setting("http2Origin: h2c"), valid: true, reason: "ours: HTTP/2 without TLS" },
  { ...setting("proxyProtocol: v2"), valid: true, reason: "ours: cloudflared warns of the key" },
  {
    ...setting("bogus: 1"),
    valid: false,
    reason: "an unknown key is a typing error; cloudflared warns, and ends with 0",
  },
  { ...file("unknown key of a rule", `ingress:\n${LAST}    bogus: 1\n`), valid: false, reason: "the same" },
  {
    ...file("unknown key at the top", `bogus: 1\ningress:\n${LAST}`),
    valid: false,
    reason: "cloudflared says nothing",
  },
  {
    ...file("unknown key of warp-routing", `warp-routing: {bogus: 1}\ningress:\n${LAST}`),
    valid: false,
    reason: "the same",
  },
  {
    ...file("global ipRules", `originRequest: {ipRules: [{prefix: bad}]}\ningress:\n${LAST}`),
    valid: false,
    reason: "are in force here",
  },
  {
    ...file("global access", `originRequest: {access: {required: true, audTag: [a]}}\ningress:\n${LAST}`),
    valid: false,
    reason: "is in force here",
  },
  {
    ...file("two documents", `ingress:\n${LAST}---\ntunnel: x\n`),
    valid: false,
    reason: "cloudflared reads one, and drops the rest in silence",
  },
  {
    ...file("UTF-16", Buffer.from(`\ufeffingress:\n${LAST}`, "utf16le")),
    valid: false,
    reason: "config files are UTF-8; it is said so",
  },
];

describe.skipIf(CLOUDFLARED === "")("ingress validate differs on purpose", () => {
  test.concurrent.each(DIFFERENT.map((one) => ({ ...one })))(
    "$what: $reason",
    async ({ config, valid }) => {
      const [they, we] = await Promise.all([theirs(config, "validate"), call(validate, config)]);
      expect({ ours: we.valid, said: we.said }).toEqual({ ours: valid, said: we.said });
      // What both take is no difference, except where cloudflared only warns of a key.
      if (they.valid === valid) expect(they.said).toContain("unused keys");
    },
    TIMEOUT_MS,
  );
});

const RULES = `ingress:
  - hostname: app.example.com
    path: ^/admin
    service: http://admin:1
  - hostname: app.example.com
    service: http://app:1
  - hostname: "*.example.com"
    path: \\.(jpg|png|css|js)$
    service: http://static:1
  - hostname: "*.example.com"
    service: http://any:1
  - hostname: bücher.example
    service: http://books:1
  - path: ^/ä
    service: http://umlaut:1
  - service: http_status:404
`;

describe.skipIf(CLOUDFLARED === "")("ingress rule chooses what cloudflared's chooses", () => {
  test.concurrent.each([
    "https://app.example.com",
    "https://app.example.com/admin/x",
    "https://app.example.com/%61dmin",
    "https://app.example.com/x/admin",
    "https://app.example.com/?/admin",
    "https://app.example.com/#/admin",
    "https://app.example.com:8443/admin",
    "https://user:secret@app.example.com/admin",
    "https://a.b.example.com/x.png",
    "https://a.b.example.com/x.png?y",
    "https://a.example.com/x.png/",
    "https://example.com/x.png",
    "https://xapp.example.com.evil.example",
    "https://bücher.example/",
    "https://xn--bcher-kva.example/",
    "https://a.bücher.example/",
    "https://other.example/%C3%A4",
    "https://other.example/ä",
    "https://[::1]:80/x",
    "https://127.0.0.1/x",
    "ws://app.example.com/admin",
  ])(
    "%s",
    async (url) => {
      const [they, we] = await Promise.all([theirs(RULES, "rule", url), ours(RULES, "rule", url)]);
      expect(matched(we.said)).toBe(matched(they.said));
    },
    TIMEOUT_MS,
  );

  test.concurrent.each([
    { url: "https://APP.example.com/", want: "#1", cf: "#3", reason: "hosts have no case (RFC 9110 section 4.2.3)" },
    { url: "https://BÜCHER.example/", want: "#4", cf: "#6", reason: "hosts have no case, in Unicode neither" },
    { url: "https://app.example.com./", want: "#1", cf: "#6", reason: "the dot at the end is the root" },
    { url: "https://.example.com/", want: "#6", cf: "#3", reason: "a star stands for a name, and there is none" },
    {
      url: "https://app.example.com/x/../admin",
      want: "refused",
      cf: "#1",
      reason: "the service may resolve the dots",
    },
    {
      url: "https://app.example.com/x/%2e%2e/admin",
      want: "refused",
      cf: "#1",
      reason: "the service may resolve the dots",
    },
    { url: "app.example.com/admin", want: "#0", cf: "nothing", reason: "nobody means anything else by it" },
    { url: "https://app.example.com/admin/%zz", want: "#0", cf: "nothing", reason: "visitors send such paths" },
  ])(
    "except for $url: $reason",
    async ({ url, want, cf }) => {
      const [they, we] = await Promise.all([theirs(RULES, "rule", url), ours(RULES, "rule", url)]);
      expect(matched(we.said)).toContain(want);
      expect(matched(they.said)).toContain(cf);
    },
    TIMEOUT_MS,
  );
});

/** Makes rule sets and URLs that are about each other. */
class Generator {
  readonly #random: Random;

  constructor(seed: number) {
    this.#random = seededRandom(seed);
  }

  pick<T>(...from: readonly [T, ...T[]]): T {
    return from[Math.floor(this.#random() * from.length)] as T;
  }

  chance(share: number): boolean {
    return this.#random() < share;
  }

  #list<T>(max: number, make: () => T): T[] {
    return Array.from({ length: Math.floor(this.#random() * (max + 1)) }, make);
  }

  #label(): string {
    return this.pick("a", "b", "app", "APP", "App", "a-b", "a_b", "x1", "bücher", "Bücher", "xn--bcher-kva", "日本");
  }

  #domain(): string {
    return this.pick("example.com", "example.com", "Example.COM", "a.example.org", "straße.example", "münchen.example");
  }

  #name(): string {
    return [...this.#list(2, () => this.#label()), this.#domain()].join(".") + (this.chance(0.1) ? "." : "");
  }

  rules(): readonly { readonly hostname: string; readonly path: string }[] {
    const rules = this.#list(6, () => {
      const hostname = this.chance(0.15) ? this.pick("", "*") : (this.chance(0.35) ? "*." : "") + this.#name();
      const path = this.chance(hostname.length > 1 ? 0.4 : 1) ? this.#path() : "";
      return { hostname, path };
    });
    return [...rules, { hostname: this.pick("", "*"), path: "" }];
  }

  #path(): string {
    const simple = this.pick("/", "^/", "/api", "^/api", "^/api/", "api$", "login", "^/ä", "^/a b$", "^/a%20b");
    const patterns = this.pick(
      "\\.(jpg|png)$",
      "(?i)/ADMIN",
      "[0-9]+",
      "^/[^/]+/x$",
      "(?s)^/.+$",
      "\\pL\\d",
      "^/(api|x)\\b",
    );
    const odd = this.pick("^$", "//", "\\?", "^/\\x61pi", "(?:a|b){2,3}", "[[:upper:]]", "\\Q.\\E", "é|ä", "^/.{3}$");
    return this.pick(simple, simple, patterns, odd);
  }

  url(rules: readonly { readonly hostname: string }[]): string {
    const known = rules.map(({ hostname }) => hostname).filter((hostname) => hostname.length > 1);
    const near = known[Math.floor(this.#random() * known.length)];
    const host =
      near === undefined || this.chance(0.2)
        ? this.pick(this.#name(), this.#name(), "[::1]", "127.0.0.1")
        : near.replace(/^\*\./, () => (this.chance(0.15) ? "" : `${this.#label()}.`));
    const cased = this.chance(0.1) ? host.toUpperCase() : host;
    const port = this.chance(0.2) ? this.pick(":80", ":8443", ":") : "";
    const user = this.chance(0.05) ? "user:p%40ss@" : "";
    const slash = () => this.pick("/", "/", "/", "/", "//");
    const path = this.#list(3, () => slash() + this.#segment()).join("") + this.pick("", "", "/");
    const query = this.chance(0.2) ? this.pick("?", "?/api", "?x=../api", "?a.png") : "";
    return `${this.pick("http", "https", "ws")}://${user}${cased}${port}${path}${query}${this.chance(0.05) ? "#/api" : ""}`;
  }

  #segment(): string {
    const plain = this.pick("api", "API", "admin", "login", "x", "a%20b", "%61pi", "ä", "%C3%A4", "12", "x.png", "...");
    return this.chance(0.08) ? this.pick("..", ".", "%2e%2e", "..%2f", "%2F", "%5c") : plain;
  }
}

/** The first line: the rule's number. */
function numberOf({ said }: Answer): string {
  return matched(said).split("\n", 1)[0] ?? "";
}

type Rules = ReturnType<Generator["rules"]>;

function toYaml(rules: Rules): string {
  const line = (key: string, value: string) => (value === "" ? "" : `    ${key}: ${JSON.stringify(value)}\n`);
  const one = ({ hostname, path }: Rules[number], i: number) =>
    `  - service: http://service-${i}:80\n${line("hostname", hostname)}${line("path", path)}`;
  return `ingress:\n${rules.map(one).join("")}`;
}

/**
 * Case and the dot at the end mean nothing in a host, to us: cloudflared is asked without them. And no request has an
 * empty path.
 */
function plainHost(host: string): string {
  return host.toLowerCase().replace(/\.(?=$|:)/, "");
}

function plainUrl(url: string): string {
  const [, front = "", host = "", rest = ""] = /^([a-z]+:\/\/(?:[^/?#]*@)?)([^/?#]*)(.*)$/.exec(url) ?? [];
  return front + plainHost(host) + (rest.startsWith("/") ? rest : `/${rest}`);
}

test.skipIf(CLOUDFLARED === "")(
  `random rules and URLs: the same rule as cloudflared (seed ${SEED})`,
  async () => {
    const generator = new Generator(SEED);
    const cases = Array.from({ length: Math.ceil(RANDOM_URLS / 5) }, () => {
      const rules = generator.rules();
      return Array.from({ length: 5 }, () => ({ rules, url: generator.url(rules) }));
    }).flat();
    const wrong: unknown[] = [];
    let refused = 0;
    const next = cases.values();
    const worker = async (): Promise<void> => {
      for (const { rules, url } of next) {
        const plain = rules.map(({ hostname, path }) => ({ hostname: plainHost(hostname), path }));
        const they = numberOf(await theirs(toYaml(plain), "rule", plainUrl(url)));
        const we = numberOf(await call(rule, toYaml(rules), url));
        // The one other difference: dot segments that lead to another rule are refused.
        const dots = /(?:^|[/\\])\.\.?(?:$|[/\\])|\\/.test(decodeURIComponent(url.replace(/[?#].*$/, "")));
        if (we === "refused" && dots) refused += 1;
        else if (we !== they) wrong.push({ rules, url, they, we });
      }
    };
    await Promise.all(Array.from({ length: availableParallelism() }, worker));
    expect(wrong).toEqual([]);
    expect(refused).toBeLessThan(cases.length / 5);
  },
  TIMEOUT_MS,
);
