import { describe, expect, test } from "bun:test";
import { describeRules } from "../../../src/connector/describe-rules.ts";
import { createRoutes } from "../../../src/connector/routes.ts";
import { type IngressRules, parseIngress } from "../../../src/ingress/rules.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

function rulesOf(ingress: readonly unknown[], originRequest?: unknown): IngressRules {
  const { rules, issues } = parseIngress({ ingress, originRequest });
  if (rules === undefined) throw new Error(issues.map((issue) => issue.message).join("; "));
  return rules;
}

function routesOf(rules: IngressRules) {
  return createRoutes(rules, {
    clock: new VirtualClock(),
    tags: [["ID", "x"]],
    readFile: (path) => {
      throw new Error(`no file ${path}`);
    },
  });
}

describe("routes", () => {
  const rules = rulesOf([
    { hostname: "a.example", path: "^/api", service: "http://localhost:1", originRequest: { httpHostHeader: "h" } },
    { hostname: "a.example", service: "hello_world" },
    { service: "http_status:404" },
  ]);

  test("carry the number of their rule and its headers", () => {
    const { route } = routesOf(rules);
    expect(route("a.example", "/api/x")).toMatchObject({
      ruleIndex: 0,
      headers: { hostHeader: "h", tags: [["ID", "x"]] },
    });
    expect(route("A.example:80", "/")).toMatchObject({ ruleIndex: 1, headers: { hostHeader: undefined } });
    expect(route("b.example", "/api")).toMatchObject({ ruleIndex: 2 });
  });

  test("refuse a path that another server could read as another rule's", () => {
    expect(routesOf(rules).route("a.example", "/x/%2e%2e/api")).toEqual({ kind: "ambiguous-path" });
  });

  test("are made for every kind of service", () => {
    const kinds = ["https://h", "h2c://h:1", "unix:/s", "unix+tls:/s", "http_status:404", "hello_world"];
    const streams = ["tcp://h:1", "ssh://h", "rdp://h", "smb://h", "mysql://h:3306", "bastion", "socks-proxy"];
    const all = [...kinds, ...streams];
    const ingress = all.map((service, i) =>
      i < all.length - 1 ? { hostname: `h${i}.example`, service } : { service },
    );
    const { services } = routesOf(rulesOf(ingress));
    expect([...services.values()].map(({ service }) => service.label)).toHaveLength(all.length);
  });

  test("are told to the edge with what differs from the defaults, durations in seconds", () => {
    const described = rulesOf(
      [
        { hostname: "a.example", path: "^/api", service: "https://h", originRequest: { connectTimeout: "1m" } },
        { service: "http_status:404" },
      ],
      { noTLSVerify: true, keepAliveTimeout: "2m" },
    );
    expect(JSON.parse(describeRules(described))).toEqual({
      __configuration_flags: {},
      ingress: [
        {
          hostname: "a.example",
          path: "^/api",
          service: "https://h:443",
          originRequest: { connectTimeout: 60, noTLSVerify: true, keepAliveTimeout: 120 },
        },
        { service: "http_status:404", originRequest: { noTLSVerify: true, keepAliveTimeout: 120 } },
      ],
      "warp-routing": {},
    });
  });

  test("are told with an Access check only where there is one, and with the flags that an edge may know", () => {
    const access = { required: true, teamName: "team", audTag: ["a"], environment: "fed" };
    const described = rulesOf(
      [
        { path: "^/a", service: "http://h:80", originRequest: { access, connectTimeout: "1500ms" } },
        { service: "http://h:80", originRequest: { access: { required: false } } },
      ],
      {},
    );
    const flags = [
      { name: "protocol", value: "quic" },
      { name: "token", value: "*****" },
      { name: "edge-proxy", value: "*****" },
    ];
    expect(JSON.parse(describeRules(described, flags))).toMatchObject({
      __configuration_flags: { protocol: "quic" },
      ingress: [{ originRequest: { access, connectTimeout: 1.5 } }, { originRequest: {} }],
    });
    expect(describeRules(described, flags)).not.toContain("*****");
    expect(describeRules(described, flags)).not.toContain("certsUrl");
  });
});
