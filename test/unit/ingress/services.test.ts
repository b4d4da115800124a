import { describe, expect, test } from "bun:test";
import { formatIssue } from "../../../src/ingress/issue.ts";
import { parseIngress } from "../../../src/ingress/rules.ts";
import { formatService } from "../../../src/ingress/service.ts";

function parse(rule: Record<string, unknown>, durations: "text" | "seconds" = "text") {
  const { rules, issues } = parseIngress({ ingress: [rule] }, { durations });
  return {
    service: rules?.rules[0]?.service,
    problems: issues.map((issue) => `${issue.path}: ${formatIssue(issue, undefined)}`),
  };
}

describe("services", () => {
  test("are texts or maps, with defaults for all the rest", () => {
    const { service, problems } = parse({ services: ["http://a:1", { service: "unix:/s", weight: 3 }] });
    expect(problems).toEqual([]);
    expect(service).toEqual({
      kind: "balanced",
      backends: [
        { service: { kind: "http", host: "a", port: 1 }, weight: 1 },
        { service: { kind: "unix", path: "/s" }, weight: 3 },
      ],
      balance: { healthCheck: undefined, stickyCookie: "", ejectAfter: 3, ejectFor: 10_000 },
    });
    expect(service === undefined ? "" : formatService(service)).toBe("http://a:1,unix:/s");
  });

  test.each(["text", "seconds"] as const)("with everything said (durations as %s)", (style) => {
    const time = (s: number) => (style === "text" ? `${s}s` : s);
    const balance = {
      healthCheck: { path: "/up?x", interval: time(5), timeout: time(1), healthyAfter: 1, unhealthyAfter: 9 },
      stickyCookie: "srv",
      ejectAfter: 0,
      ejectFor: time(60),
    };
    const { service, problems } = parse({ services: ["https://a"], balance }, style);
    expect(problems).toEqual([]);
    expect(service).toMatchObject({
      balance: {
        healthCheck: { path: "/up?x", interval: 5_000, timeout: 1_000, healthyAfter: 1, unhealthyAfter: 9 },
        stickyCookie: "srv",
        ejectAfter: 0,
        ejectFor: 60_000,
      },
    });
  });

  test.each<{ rule: Record<string, unknown>; want: string[] }>([
    { rule: { services: [] }, want: ['ingress[0].services: "services" must be a list of 1 to 64 services'] },
    { rule: { services: "http://a" }, want: ['ingress[0].services: "services" must be a list of 1 to 64 services'] },
    {
      rule: { services: ["http://a"], service: "http://b" },
      want: ['ingress[0]: Rule #1 has both "service" and "services": give one of them'],
    },
    {
      rule: { services: ["http://a:1", { service: "ws://a:1" }] },
      want: ['ingress[0].services[1]: Rule #1 names "http://a:1" twice: use its weight'],
    },
    {
      rule: { services: ["ssh://a", "http_status:404", 5, {}, "http://a/b"] },
      want: [
        'ingress[0].services[0]: Rule #1: "services" speak HTTP: "ssh://a" does not',
        'ingress[0].services[1]: Rule #1: "services" speak HTTP: "http_status:404" does not',
        "ingress[0].services[2]: Must be a map with service, weight",
        'ingress[0].services[3]: Rule #1: an entry of "services" needs a service',
        'ingress[0].services[4]: Rule #1: Service "http://a/b" may not have a path: requests keep their own',
      ],
    },
    {
      rule: { services: [{ service: "http://a", weight: 0, wieght: 1 }] },
      want: [
        'ingress[0].services[0].wieght: Unknown key "wieght": did you mean "weight"?',
        'ingress[0].services[0].weight: "weight" must be a whole number from 1 to 1000',
      ],
    },
    {
      rule: { service: "http://a", balance: {} },
      want: ['ingress[0].balance: Rule #1: "balance" is about a list of "services"'],
    },
    {
      rule: {
        services: ["http://a"],
        balance: { stickyCookie: "a b", ejectAfter: -1, ejectFor: "1ms", healthCheck: { path: "up", interval: 5 } },
      },
      want: [
        'ingress[0].balance.stickyCookie: "stickyCookie" must be the name of a cookie',
        'ingress[0].balance.healthCheck.path: "path" must be a path such as /healthz',
        'ingress[0].balance.healthCheck.interval: "interval" must be a duration such as 30s, not "5"',
        'ingress[0].balance.ejectAfter: "ejectAfter" must be a whole number from 0 to 100',
        'ingress[0].balance.ejectFor: "ejectFor" must be 100ms or longer',
      ],
    },
    {
      rule: { services: ["http://a", "h2c://b"], originRequest: { proxyProtocol: "v1" } },
      want: [
        'ingress[0]: Rule #1: "proxyProtocol" names one visitor for a whole connection, and HTTP/2 carries many: leave one of them out',
      ],
    },
  ])("$rule", ({ rule, want }) => {
    expect(parse(rule).problems).toEqual(want);
  });
});
