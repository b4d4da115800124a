import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { type ConfigIssue, formatIssue } from "../../../src/ingress/issue.ts";
import { type IngressRules, matchRule, NO_RULES, parseIngress, singleRule } from "../../../src/ingress/rules.ts";

const LAST = { service: "http_status:404" };

function rulesOf(...rules: Record<string, unknown>[]): IngressRules {
  const parsed = parseIngress({ ingress: [...rules, LAST] });
  if (parsed.rules === undefined) throw new Error(parsed.issues.map((issue) => issue.message).join("; "));
  return parsed.rules;
}

/** Index of the rule that matched, or "ambiguous". */
function matched(rules: IngressRules, host: string, target: string): number | "ambiguous" {
  const match = matchRule(rules, host, target);
  return match.kind === "rule" ? match.index : "ambiguous";
}

describe("the first rule that fits takes the request", () => {
  const rules = rulesOf(
    { hostname: "app.example.com", path: "^/api", service: "http://api" },
    { hostname: "app.example.com", service: "http://app" },
    { hostname: "*.example.com", path: "login", service: "http://login" },
    { path: "^/ä", service: "http://umlaut" },
  );
  test.each([
    { host: "app.example.com", target: "/api/x", want: 0 },
    { host: "APP.example.com:8080", target: "/api", want: 0 },
    { host: "app.example.com", target: "/?/api", want: 1 },
    { host: "app.example.com", target: "/%61pi", want: 0 },
    { host: "app.example.com", target: "/x/api", want: 1 },
    { host: "a.b.example.com", target: "/x/login/y", want: 2 },
    { host: "a.example.com", target: "/x?login", want: 4 },
    { host: "example.com", target: "/login", want: 4 },
    { host: "other.example", target: "/%C3%A4", want: 3 },
    // No UTF-8: what can be decoded is.
    { host: "app.example.com", target: "/%61pi/%FF", want: 0 },
    { host: "app.example.com", target: "/%", want: 1 },
    { host: "app.example.com", target: "*", want: 1 },
    { host: "", target: "/", want: 4 },
  ])("$host $target: rule $want", ({ host, target, want }) => {
    expect(matched(rules, host, target)).toBe(want);
  });
});

describe("dot segments that could reach another rule", () => {
  const rules = rulesOf({ path: "^/public", service: "http://open" }, { path: "^/admin", service: "http://guarded" });
  test.each([
    { target: "/public/../admin" },
    { target: "/public/%2e%2e/admin" },
    { target: "/public/%2E./admin" },
    { target: "/public/.%2e/admin?x" },
    { target: "/public/..%2fadmin" },
    { target: "/public%2f..%2fadmin" },
    { target: "/./../public/../admin" },
    { target: "/public/./../admin" },
    { target: "/public/.." },
    { target: "/public\\..\\admin" },
    { target: "/public/..%5cadmin" },
    // Servers disagree: dots before percents …
    { target: "/public%2fx/../admin" },
    { target: "/public/x%2f../../admin" },
    // … whether two slashes are one …
    { target: "/public//../admin" },
    { target: "/public/x//../../admin" },
    // … whether parameters belong to a segment …
    { target: "/public/..;/admin" },
    { target: "/public/..;a=b/admin" },
    { target: "/public/%2e%2e%3bx/admin" },
    // … and a second server resolves what the first one decoded.
    { target: "/public/x/%2e%2e%2f../admin" },
    { target: "/%2e%2e%2fpublic%2fx/../../admin" },
  ])("$target is ambiguous", ({ target }) => {
    expect(matched(rules, "h", target)).toBe("ambiguous");
  });

  test.each([
    { target: "/public/./x", want: 0 },
    { target: "/public/a/../b", want: 0 },
    { target: "/public/a/%2e%2e/b", want: 0 },
    { target: "/admin/../admin/x", want: 1 },
    { target: "/admin/x/../y", want: 1 },
    { target: "/public/.well-known/x", want: 0 },
    { target: "/public/..x", want: 0 },
    { target: "/public/x..", want: 0 },
    { target: "/public/...", want: 0 },
    { target: "/public/x;../y", want: 0 },
    { target: "/other/../x", want: 2 },
    { target: "/public?/../admin", want: 0 },
  ])("$target: $want", ({ target, want }) => {
    expect(matched(rules, "h", target)).toBe(want);
  });

  test("does not matter where every rule takes every path", () => {
    expect(matched(NO_RULES, "h", "/a/../b")).toBe(0);
    expect(matched(rulesOf({ hostname: "h", service: "http://x" }), "h", "/a/../../b")).toBe(0);
  });

  /** The rule that was meant to be asked about a path that a server has made up its mind about. */
  function ruleOf(path: string): number {
    const decoded = decodeURIComponent(path);
    return decoded.startsWith("/public") ? 0 : decoded.startsWith("/admin") ? 1 : 2;
  }

  test("what passes reaches the same rule after any server's normalisation", () => {
    const segment = fc.constantFrom(
      "public",
      "admin",
      "x",
      "..",
      ".",
      "%2e%2e",
      "%2E",
      "..;p",
      "",
      "%2f",
      "..%2f",
      "%2f..",
    );
    fc.assert(
      fc.property(fc.array(segment, { maxLength: 8 }), fc.constantFrom("/", "\\", "//"), (segments, slash) => {
        const target = `/${segments.join(slash)}`;
        const got = matched(rules, "h", target);
        if (got === "ambiguous") return;
        const byUrlParser = new URL(`http://h${target}`).pathname;
        const decodedFirst = new URL(`http://h${decodeURIComponent(target)}`).pathname;
        // Only where there are dots to resolve: rules match other paths as they are.
        if (!/(^|[/\\])\.\.?($|[/\\;])/.test(decodeURIComponent(target))) return;
        expect(ruleOf(byUrlParser)).toBe(got);
        expect(ruleOf(decodedFirst)).toBe(got);
      }),
      { numRuns: 3_000 },
    );
  });

  test("many of them take little time", () => {
    const started = performance.now();
    matched(rules, "h", `/public${"/..".repeat(5_000)}`);
    matched(rules, "h", `/public${"/a%2f..;x".repeat(1_800)}`);
    expect(performance.now() - started).toBeLessThan(1_000);
  });
});

test("no host and target make matching throw", () => {
  const rules = rulesOf({ hostname: "*.example.com", path: "^/(a|b)+$", service: "http://x" });
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), fc.string(), (host, target) => {
      matchRule(rules, host, target);
      matchRule(rules, "a.example.com", `/${target}/../%`);
    }),
  );
});

describe("rules", () => {
  test("there are none: everything is answered 503", () => {
    const { rules, issues } = parseIngress({});
    expect(rules?.rules.map((rule) => rule.service)).toEqual([{ kind: "http_status", status: 503 }]);
    expect(issues).toEqual([]);
    expect(matched(NO_RULES, "h", "/")).toBe(0);
  });

  test("of a single service take everything", () => {
    expect(matched(singleRule({ kind: "hello_world" }), "any.example:80", "/x/../y")).toBe(0);
  });

  test.each([{ hostname: "*" }, { hostname: "" }, { hostname: null }, { path: "" }])("%j is a catch-all", (rule) => {
    expect(parseIngress({ ingress: [{ ...rule, service: "http_status:404" }] }).issues).toEqual([]);
  });

  test.each([{ service: "http://localhost:80" }, { service: "ssh://host:22" }, {}, { service: "" }, { service: null }])(
    "bastionMode makes a bastion of %j",
    (rule) => {
      const parsed = parseIngress({ ingress: [{ ...rule, originRequest: { bastionMode: true } }] });
      expect(parsed.issues).toEqual([]);
      expect(parsed.rules?.rules[0]?.service).toEqual({ kind: "bastion" });
    },
  );

  test("bastionMode leaves services alone that are no URLs", () => {
    const parsed = parseIngress({ originRequest: { bastionMode: true }, ingress: [{ service: "http_status:404" }] });
    expect(parsed.rules?.rules[0]?.service).toEqual({ kind: "http_status", status: 404 });
  });
});

describe("all that is wrong is said at once, with its place", () => {
  const cases: { name: string; ingress: unknown; want: string[] }[] = [
    { name: "no list", ingress: "x", want: ["ingress: Must be a list with at least one rule"] },
    { name: "empty list", ingress: [], want: ["ingress: Must be a list with at least one rule"] },
    { name: "no map", ingress: ["x"], want: ["ingress[0]: Rule #1 must be a map with a service"] },
    { name: "no service", ingress: [{}], want: ["ingress[0]: Rule #1 needs a service"] },
    {
      name: "wrong types",
      ingress: [{ hostname: 5, path: ["/"], service: 80 }, LAST],
      want: [
        'ingress[0].hostname: "hostname" must be a text: put it in quotes',
        'ingress[0].path: "path" must be a text',
        'ingress[0].service: "service" must be a text: put it in quotes',
        "ingress[0]: Rule #1 matches everything, so the rules behind it can never match",
      ],
    },
    {
      name: "last rule is no catch-all",
      ingress: [{ hostname: "a.example", service: "http://x" }],
      want: [
        "ingress[0]: The last rule must match everything: add a rule with only a service, such as http_status:404",
      ],
    },
    {
      name: "last rule has a path",
      ingress: [{ path: "/", service: "http://x" }],
      want: [
        "ingress[0]: The last rule must match everything: add a rule with only a service, such as http_status:404",
      ],
    },
    {
      name: "catch-all before the end",
      ingress: [{ hostname: "*", service: "http://x" }, LAST],
      want: ["ingress[0]: Rule #1 matches everything, so the rules behind it can never match"],
    },
    {
      name: "hostname, path and service wrong in one rule",
      ingress: [{ hostname: "a.example:80", path: "(?=x)", service: "http://x/y" }, LAST],
      want: [
        'ingress[0].hostname: Rule #1: Hostname "a.example:80" cannot contain a port',
        'ingress[0].path: Rule #1 has an invalid regex "(?=x)": look-around is not part of RE2 syntax',
        'ingress[0].service: Rule #1: Service "http://x/y" may not have a path: requests keep their own',
      ],
    },
    {
      name: "several rules wrong",
      ingress: [{ hostname: "a.*", service: "http://x" }, { path: "[", service: "http_status:1" }, LAST],
      want: [
        'ingress[0].hostname: Rule #1: Hostname "a.*" may have its wildcard only in front, as "*.example.com"',
        'ingress[1].path: Rule #2 has an invalid regex "[": missing closing ]: `[`',
        'ingress[1].service: Rule #2: Service "http_status:1" needs a status from 100 to 999',
      ],
    },
  ];
  test.each(cases)("$name", ({ ingress, want }) => {
    const parsed = parseIngress({ ingress });
    expect(parsed.rules).toBeUndefined();
    expect(parsed.issues.every((issue) => issue.severity === "error")).toBe(true);
    expect(parsed.issues.map(withPath)).toEqual(want);
  });

  test("an unknown key is a warning with the nearest known one, and the rules stand", () => {
    const parsed = parseIngress({ ingress: [{ servce: "x", zzzzzzzz: 1, ...LAST }] });
    expect(parsed.rules?.rules).toHaveLength(1);
    expect(parsed.issues).toEqual([
      {
        severity: "warning",
        path: "ingress[0].servce",
        message: 'Unknown key "servce"',
        hint: 'did you mean "service"?',
      },
      { severity: "warning", path: "ingress[0].zzzzzzzz", message: 'Unknown key "zzzzzzzz"' },
    ]);
  });

  test("an issue has the line and column that its path is at", () => {
    const asked: string[] = [];
    const parsed = parseIngress(
      { ingress: [{ service: "http_status:1" }] },
      {
        locate: (path) => {
          asked.push(path.join("/"));
          return { line: 7, column: 3 };
        },
      },
    );
    expect(asked).toEqual(["ingress/0/service"]);
    expect(parsed.issues[0]).toMatchObject({ line: 7, column: 3 });
    expect(formatIssue(parsed.issues[0] as ConfigIssue, "c.yml")).toStartWith("c.yml:7:3: Rule #1: Service");
  });
});

test("no value makes the parser throw", () => {
  fc.assert(
    fc.property(fc.anything({ withNullPrototype: true, withBigInt: true }), fc.anything(), (ingress, originRequest) => {
      parseIngress({ ingress, originRequest });
      parseIngress({ ingress: [ingress, originRequest], originRequest: { access: ingress, ipRules: originRequest } });
    }),
    { numRuns: 500 },
  );
});

function withPath(issue: ConfigIssue): string {
  return `${issue.path}: ${formatIssue(issue, undefined)}`;
}
