import { RE2JS } from "re2js";
import { explainMatch } from "../../../src/ingress/explain.ts";
import { parseHostPattern } from "../../../src/ingress/hostname.ts";
import { compilePath } from "../../../src/ingress/path-pattern.ts";
import { createPathRewrite } from "../../../src/ingress/path-rewrite.ts";
import { parseRemoteRules } from "../../../src/ingress/remote-rules.ts";
import { decodePath, firstMatch, type IngressRules, matchRule } from "../../../src/ingress/rules.ts";
import { formatService, parseService } from "../../../src/ingress/service.ts";
import { textOf, utf8 } from "../bytes.ts";
import { type Chance, must, mustEqual, type Target } from "../target.ts";

const KINDS: ReadonlySet<string> = new Set([
  ...["http", "https", "h2c", "unix", "unix+tls", "http_status"],
  ...["hello_world", "bastion", "socks-proxy", "tcp", "balanced"],
]);

/** What holds for any rules and any request. */
export function checkMatch(rules: IngressRules, host: string, target: string): string {
  const match = matchRule(rules, host, target);
  mustEqual(explainMatch(rules, host, target).match.kind, match.kind, "what is explained is what is done");
  if (match.kind === "ambiguous-path") return match.kind;
  must(match.rule === rules.rules[match.index], "a match is one of the rules");
  const same = (otherHost: string, promise: string): void => {
    const other = matchRule(rules, otherHost, target);
    must(other.kind === "rule" && other.index === match.index, promise);
  };
  if (/^[\w.-]+$/.test(host)) {
    same(host.toUpperCase(), "hosts match in any case");
    same(`${host}:8080`, "a port says nothing about the rule");
    if (!host.endsWith(".")) same(`${host}.`, "a dot behind a host says nothing about the rule");
  }
  const raw = target.split("?", 1)[0] ?? "";
  // A server that resolves dot segments as browsers do must not find itself behind another rule.
  if (/^\/(?![/\\])[\x21-\x22\x24-\x7e]*$/.test(raw)) {
    const resolved = URL.parse(raw, "http://a.example")?.pathname ?? raw;
    const explained = explainMatch(rules, host, target);
    const index = firstMatch(rules, explained.hostname, decodePath(resolved));
    must(
      index === match.index || !/(?:^|[/\\])(?:\.|%2e){1,2}(?=$|[/\\;])/i.test(raw),
      `"${resolved}" has the rule of "${raw}"`,
    );
  }
  return `rule ${match.index}`;
}

function checkService(text: string): string {
  const spec = parseService(text);
  if ("error" in spec) return "none";
  must(KINDS.has(spec.kind), `"${String(spec.kind)}" is a kind of service`);
  if ("port" in spec) must(Number.isInteger(spec.port) && spec.port > 0 && spec.port < 65_536, "a port is one");
  mustEqual(parseService(formatService(spec)), spec, "a service that is shown is read the same");
  return spec.kind;
}

function checkPattern(source: string, path: string): string {
  const pattern = compilePath(source);
  let engine: RE2JS | undefined;
  try {
    engine = RE2JS.compile(source);
  } catch {
    must("error" in pattern || !/[\\^$.|?*+()[\]{}]/.test(source), "what is no expression is refused");
    return "none";
  }
  must(!("error" in pattern), "what is an expression is taken");
  if ("error" in pattern) return "none";
  must(pattern.test(path) === engine.test(path), "texts are compared as expressions are");
  return String(pattern.test(path));
}

/** The input's parts, a zero byte between them: JSON of the rules, Host, target, and one text to try by itself. */
function split(input: Uint8Array): { json: string; host: string; target: string; alone: string } {
  const parts: Uint8Array[] = [];
  let from = 0;
  for (let i = 0; i <= input.length && parts.length < 4; i += 1) {
    if (i < input.length && (input[i] !== 0 || parts.length === 3)) continue;
    parts.push(input.subarray(from, i));
    from = i + 1;
  }
  const decoder = new TextDecoder();
  const [json, host, target, alone] = parts;
  return {
    json: decoder.decode(json),
    host: textOf(host ?? new Uint8Array(0)),
    target: textOf(target ?? new Uint8Array(0)),
    alone: decoder.decode(alone),
  };
}

function encodeInput(config: unknown, host: string, target: string, alone: string): Uint8Array {
  return utf8([JSON.stringify(config), host, target, alone].join("\0"));
}

const HOSTS = [
  "a.example.com",
  "*.example.com",
  "EXAMPLE.com",
  "b.example.com.",
  "[::1]",
  "münchen.example",
  "*",
  "",
  "x.y.z",
];
const SERVICES = [
  "http://localhost:80",
  "tcp://a:1",
  "http_status:404",
  "unix:/a",
  "hello_world",
  "constructor://a",
  "ssh://[::1]",
];
const PATHS = [
  "^/api",
  "/admin",
  "\\.(jpg|png)$",
  "a{2,3}",
  "(?i)x",
  "^/a/b$",
  "",
  "[",
  "(?=a)",
  "^/\\p{L}+",
  "secret",
  "//",
];
const TARGETS = [
  "/",
  "/api/../admin",
  "/api/%2e%2e/admin",
  "/a/..;/admin?x",
  "/%61pi",
  "//admin",
  "/api\\..\\admin",
  "*",
  "/admin/.%2f",
];
const SETTINGS = [
  { pathPrefixStrip: "/api" },
  { pathRewrite: { match: "^/a(.*)", replace: "/$1" } },
  { connectTimeout: 5, noTLSVerify: true },
  { ipRules: [{ prefix: "10.0.0.0/8", ports: [80], allow: true }] },
  { bastionMode: true },
  { pathPrefixStrip: "/\ud800" },
];

function rule(chance: Chance): unknown {
  const path = chance.pick(PATHS);
  return {
    hostname: chance.pick(HOSTS),
    ...(path === "" ? {} : { path }),
    service: chance.pick(SERVICES),
    ...(chance.once(3) ? { originRequest: chance.pick(SETTINGS) } : {}),
  };
}

const catchAll = { service: "http_status:404" };

export const rules: Target = {
  name: "rules",
  words: [
    ...[...HOSTS, ...SERVICES, ...PATHS, ...TARGETS].map((word) => utf8(word)),
    ...[
      '"path":',
      '"hostname":',
      '"service":',
      '"originRequest":{}',
      '"ingress":[]',
      "null",
      "/..",
      "/.",
      "%2e",
      "%5c",
      "..;",
    ],
    ...["\0", "(", "*", "{1000}", "|", "\\", "//", "%", "\\ud800", "__proto__", "constructor"],
  ],
  seeds: () => [
    encodeInput(
      { ingress: [{ hostname: "a.example.com", path: "^/api", service: "http://a:1" }, catchAll] },
      "a.example.com",
      "/api/x",
      "^/api",
    ),
    encodeInput({ ingress: [{ path: "/admin", service: "tcp://a:1" }, catchAll] }, "x", "/a/..%2fadmin", "(a|b)*c"),
    encodeInput(
      { ingress: [catchAll], originRequest: { pathRewrite: { match: "a", replace: "b" } } },
      "",
      "*",
      "https://[::1]:443",
    ),
    // Found by this target: a scheme that every object knows, and half a surrogate pair.
    encodeInput({ ingress: [{ hostname: "a", service: "constructor://a" }, catchAll] }, "a", "/", "constructor://a"),
    encodeInput({ ingress: [catchAll], originRequest: { pathPrefixStrip: "/\ud800" } }, "a", "/", ""),
    encodeInput({ ingress: [] }, "[::1]:80", "/", "*.example.com"),
  ],
  generate: (chance) => {
    const ingress = [...chance.some(4, () => rule(chance)), catchAll];
    const originRequest = chance.once(4) ? chance.pick(SETTINGS) : undefined;
    const alone = chance.pick([...PATHS, ...SERVICES, ...HOSTS]);
    return encodeInput({ ingress, originRequest }, chance.pick(HOSTS).replace("*", "w"), chance.pick(TARGETS), alone);
  },
  run(input) {
    const { json, host, target, alone } = split(input);
    const outcomes = [checkService(alone), checkPattern(alone, target)];
    const pattern = parseHostPattern(alone);
    outcomes.push("error" in pattern ? "none" : pattern.kind);
    const parsed = parseRemoteRules(json);
    if ("errors" in parsed) {
      must(parsed.errors.length > 0, "a refusal has a reason");
      must(
        parsed.errors.every((line) => !/[\r\n]/.test(line)),
        "a problem is one line",
      );
      return `${outcomes.join(" ")} refused ${parsed.errors[0]?.replace(/"[^"]*"|[0-9]+/g, "#").slice(0, 50)}`;
    }
    outcomes.push(checkMatch(parsed.rules, host, target));
    for (const { settings, service, path } of parsed.rules.rules) {
      must(KINDS.has(service.kind), "a rule has a kind of service");
      if (path !== undefined) mustEqual(path.test(target), path.test(target), "an expression has no memory");
      const rewrite = createPathRewrite(settings.pathPrefixStrip, settings.pathRewrite);
      if (rewrite === undefined) continue;
      const rewritten = rewrite(target).target;
      // A request's target, as the readers of requests let it through, is one afterwards.
      if (/^\/[\x21-\x7e]*$/.test(target)) must(/^\/[\x21-\x7e]*$/.test(rewritten), `"${rewritten}" can be sent`);
    }
    return outcomes.join(" ");
  },
};
