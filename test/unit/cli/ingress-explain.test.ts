import { describe, expect, test } from "bun:test";
import type { Run } from "../../../src/cli/command.ts";
import { run as explain } from "../../../src/cli/ingress-explain.ts";
import { validate } from "../../../src/cli/tunnel-ingress.ts";
import { commandContext } from "../../support/command-context.ts";

const RULES = `tag: [site=ams]
originRequest:
  connectTimeout: 10s
ingress:
  - hostname: api.example.com
    service: http://localhost:9001
  - hostname: app.example.com
    path: ^/admin
    service: http://localhost:9000
    originRequest:
      httpHostHeader: internal
      noTLSVerify: true
  - hostname: "*.example.com"
    service: http://localhost:8000
  - service: http_status:404
`;

async function call(command: Run, config: string, positionals: readonly string[], json = false) {
  const out: string[] = [];
  const err: string[] = [];
  const code = await command(
    commandContext({
      args: new Map([["config", ["/c.yml"]], ...(json ? [["json", ["true"]] as const] : [])]),
      positionals,
      host: { env: {}, homeDir: "/home/me", platform: "linux", exists: () => true, readFile: () => config },
      print: (line) => out.push(line),
      note: (line) => err.push(line),
    }),
  );
  return { code, out, err };
}

describe("ingress explain", () => {
  test("says which rule takes a URL, why no earlier one, and what the service gets", async () => {
    expect(await call(explain, RULES, ["https://APP.example.com/admin/%61?x=1"])).toEqual({
      code: 0,
      err: [],
      out: [
        "Using rules from /c.yml",
        "Host app.example.com, path /admin/a",
        "Rule #0: no, its hostname api.example.com is not app.example.com",
        "Rule #1: yes",
        "\thostname: app.example.com",
        "\tpath: ^/admin",
        "\tservice: http://localhost:9000",
        "\theader Host: internal",
        "\theader X-Forwarded-Host: app.example.com",
        "\theader Cf-Warp-Tag-ID: (id of the connector)",
        "\theader Cf-Warp-Tag-site: ams",
        "\tsetting connectTimeout: 10s",
        "\tsetting httpHostHeader: internal",
        "\tsetting noTLSVerify: true",
      ],
    });
  });

  test("the same as JSON", async () => {
    const { code, out } = await call(explain, RULES, ["app.example.com/x"], true);
    expect(code).toBe(0);
    expect(JSON.parse(out.join("\n"))).toEqual({
      file: "/c.yml",
      hostname: "app.example.com",
      path: "/x",
      passed: [
        { rule: 0, because: "hostname", reason: "its hostname api.example.com is not app.example.com" },
        { rule: 1, because: "path", reason: "its path ^/admin is not found in /x" },
      ],
      match: {
        rule: 2,
        hostname: "*.example.com",
        path: null,
        service: "http://localhost:8000",
        headers: { "Cf-Warp-Tag-ID": "(id of the connector)", "Cf-Warp-Tag-site": "ams" },
        settings: { connectTimeout: "10s" },
      },
    });
  });

  test("tells what servers could make of an ambiguous path", async () => {
    const { out } = await call(explain, RULES, ["app.example.com/x/../admin"]);
    expect(out).toContain("\tread as /x/../admin: rule #2");
    expect(out).toContain("\tread as /admin: rule #1");
    const { out: json } = await call(explain, RULES, ["app.example.com/x/../admin"], true);
    expect(JSON.parse(json.join(""))).toMatchObject({ match: null, readings: expect.any(Array) });
  });

  test("asks for one URL", async () => {
    const { code, err } = await call(explain, RULES, []);
    expect({ code, last: err.at(-1) }).toEqual({ code: 255, last: "See 'culvert tunnel ingress explain --help'." });
  });
});

describe("ingress validate", () => {
  /** Every error of surface, section 10.4, and where it stands. */
  const cases = [
    ["  - hostname: a.example:8080\n    service: http://h:1\n", "2:5"],
    ["  - hostname: a.*.example\n    service: http://h:1\n", "2:5"],
    ["  - hostname: a.example\n    path: '('\n    service: http://h:1\n", "3:5"],
    ["  - hostname: a.example\n    path: '(?=x)'\n    service: http://h:1\n", "3:5"],
    ["  - service: http://h:1\n", "2:5"],
    ["  - hostname: a.example\n    service: http_status:abc\n", "3:5"],
    ["  - hostname: a.example\n    service: http_status:1000\n", "3:5"],
    ["  - hostname: a.example\n    service: localhost:80\n", "3:5"],
    ["  - hostname: a.example\n    service: 'http://'\n", "3:5"],
    ["  - hostname: a.example\n    service: http://h:1/\n", "3:5"],
    ["  - hostname: a.example\n    service: http://h:1/path\n", "3:5"],
    ["  - hostname: a.example\n", "2:5"],
    ["  - hostname: a.example\n    service: 80\n", "3:5"],
    ["  - just a text\n", "2:5"],
    [
      "  - hostname: a.example\n    service: socks-proxy\n    originRequest:\n      ipRules:\n        - prefix: 10.0.0.0/99\n",
      "6:11",
    ],
    [
      "  - hostname: a.example\n    service: socks-proxy\n    originRequest:\n      ipRules:\n        - ports: [80]\n",
      "6:11",
    ],
    [
      "  - hostname: a.example\n    service: socks-proxy\n    originRequest:\n      ipRules:\n        - prefix: 10.0.0.0/8\n          ports: [0]\n",
      "7:11",
    ],
    [
      "  - hostname: a.example\n    service: http://h:1\n    originRequest:\n      access:\n        required: true\n        audTag: [x]\n",
      "5:7",
    ],
    ["  - hostname: a.example\n    service: http://h:1\n    originRequest:\n      connectTimeout: 5\n", "5:7"],
    ["  - hostname: a.example\n    service: http://h:1\n    originRequest: [1]\n", "4:5"],
  ] as const;

  test.each(cases.map(([rule, place]) => ({ rule, place })))("places the error of $rule", async ({ rule, place }) => {
    const { code, err } = await call(validate, `ingress:\n${rule}  - service: http_status:404\n`, []);
    expect(code).toBe(1);
    expect(err).toHaveLength(1);
    expect(err[0]).toStartWith(`Validation failed: /c.yml:${place}: `);
  });

  test("reports all of them at once, each with its place", async () => {
    const text = `ingress:\n${cases.map(([rule]) => rule).join("")}  - hostname: last.example\n    service: http_status:404\n`;
    const { err } = await call(validate, text, []);
    expect(err).toHaveLength(cases.length + 1);
    expect(err.filter((line) => !/^Validation failed: \/c\.yml:\d+:\d+: /.test(line))).toEqual([]);
  });

  test.each([
    ["ingress: []\n", "1:1"],
    ["ingress: 3\n", "1:1"],
    ["ingress:\n  - service: http_status:404\noriginRequest:\n  tlsTimeot: 1s\n", "4:3"],
    ["ingress:\n  - service: http_status:404\n    originRequst: {}\n", "3:5"],
  ])("places what is wrong with %j", async (text, place) => {
    const { err } = await call(validate, text, []);
    expect(err).toHaveLength(1);
    expect(err[0]).toStartWith(`Validation failed: /c.yml:${place}: `);
  });
});
