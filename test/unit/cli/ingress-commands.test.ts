import { describe, expect, test } from "bun:test";
import type { Run } from "../../../src/cli/command.ts";
import { rule, validate } from "../../../src/cli/tunnel-ingress.ts";
import { commandContext } from "../../support/command-context.ts";

const RULES = `ingress:
  - hostname: app.example.com
    path: ^/admin
    service: http://localhost:9000
  - hostname: "*.example.com"
    service: http://localhost:8000
  - service: http_status:404
`;

/** Runs a command with one config file, if any. */
async function call(
  command: Run,
  config: string | undefined,
  positionals: readonly string[] = [],
  flags: readonly (readonly [string, readonly string[]])[] = [],
) {
  const out: string[] = [];
  const err: string[] = [];
  const code = await command(
    commandContext({
      args: new Map([["config", ["/c.yml"]], ...flags]),
      positionals,
      host: {
        env: {},
        homeDir: "/home/me",
        platform: "linux",
        exists: () => config !== undefined,
        readFile: () => {
          if (config === undefined) throw Object.assign(new Error("made up"), { code: "ENOENT" });
          return config;
        },
      },
      print: (line) => out.push(line),
      note: (line) => err.push(line),
    }),
  );
  return { code, out, err };
}

describe("ingress validate", () => {
  test("says so when the rules are good", async () => {
    expect(await call(validate, RULES)).toEqual({ code: 0, out: ["Validating rules from /c.yml", "OK"], err: [] });
  });

  test.each([
    { what: "no catch-all", yaml: "ingress:\n  - hostname: a.example\n    service: http://h:1\n", at: "/c.yml:2:5: " },
    {
      what: "bad regex",
      yaml: "ingress:\n  - path: '['\n    service: http://h:1\n  - service: bastion\n",
      at: "/c.yml:2:5: ",
    },
    { what: "unknown key", yaml: "ingress:\n  - servcie: x\n    service: http://h:1\n", at: "/c.yml:2:5: " },
    { what: "unknown key at the top", yaml: "ingres: []\ningress:\n  - service: http://h:1\n", at: "/c.yml:1:1: " },
    { what: "a flag of another type", yaml: `retries: many\n${RULES}`, at: "/c.yml:1:1: " },
  ])("fails with the place of: $what", async ({ yaml, at }) => {
    const { code, out, err } = await call(validate, yaml);
    expect({ code, out }).toEqual({ code: 1, out: ["Validating rules from /c.yml"] });
    expect(err).toHaveLength(1);
    expect(err[0]).toStartWith(`Validation failed: ${at}`);
  });

  test("fails when there is one service beside the rules, wherever it is named", async () => {
    const told = [/^Validation failed: "url" is set to "http:\/\/h:1" beside ingress rules/];
    const inFile = await call(validate, `url: http://h:1\n${RULES}`);
    const byFlag = await call(validate, RULES, [], [["url", ["http://h:1"]]]);
    for (const { code, err } of [inFile, byFlag]) {
      expect(code).toBe(1);
      expect(err).toEqual(told.map((line) => expect.stringMatching(line)));
    }
  });

  test.each([
    { json: '{"ingress":[{"service":"http://h:1","originRequest":{"connectTimeout":5}}]}', code: 0, err: [] },
    { json: '{"ingress":[{"hostname":"a.example","service":"http://h:1"}]}', code: 1, err: [/^Validation failed: /] },
    { json: "{", code: 1, err: [/^Validation failed: The configuration is no JSON$/] },
  ])("with --json $json ends with $code", async ({ json, code, err }) => {
    const told = await call(validate, undefined, [], [["json", [json]]]);
    expect({ code: told.code, err: told.err }).toEqual({ code, err: err.map((line) => expect.stringMatching(line)) });
    expect(told.out[0]).toBe("Validating rules from command line flag --json");
  });

  test("fails in one line when the file is not there", async () => {
    const { code, out, err } = await call(validate, undefined);
    expect({ code, out, err }).toEqual({
      code: 1,
      out: [],
      err: ['culvert: Cannot read config file "/c.yml": there is no such file'],
    });
  });
});

describe("ingress rule", () => {
  test.each([
    {
      url: "https://app.example.com/admin/x?y",
      want: ["Matched rule #0", "\thostname: app.example.com", "\tpath: ^/admin", "\tservice: http://localhost:9000"],
    },
    {
      url: "app.example.com",
      want: ["Matched rule #1", "\thostname: *.example.com", "\tservice: http://localhost:8000"],
    },
    {
      url: "https://APP.example.com:8443/%61dmin",
      want: ["Matched rule #0", "\thostname: app.example.com", "\tpath: ^/admin", "\tservice: http://localhost:9000"],
    },
    { url: "https://other.example.org/admin?x", want: ["Matched rule #2", "\tservice: http_status:404"] },
    { url: "https://[::1]:80/#/admin", want: ["Matched rule #2", "\tservice: http_status:404"] },
    {
      url: "https://app.example.com/x/../admin",
      want: ["No rule: the path's dot segments could reach another rule, so the request is refused with 400"],
    },
  ])("$url", async ({ url, want }) => {
    expect(await call(rule, RULES, [url])).toEqual({ code: 0, out: ["Using rules from /c.yml", ...want], err: [] });
  });

  test.each([{ positionals: [] }, { positionals: ["http://["] }, { positionals: ["a.example", "b.example"] }])(
    "asks for one URL instead of $positionals",
    async ({ positionals }) => {
      expect(await call(rule, RULES, positionals)).toEqual({
        code: 255,
        out: [],
        err: [
          "culvert: Give one URL, such as https://app.example.com/path",
          "See 'culvert tunnel ingress rule --help'.",
        ],
      });
    },
  );

  test("fails with what is wrong with the rules", async () => {
    const { code, err } = await call(rule, "ingress: []\n", ["a.example"]);
    expect({ code, err }).toEqual({ code: 1, err: ["culvert: /c.yml:1:1: Must be a list with at least one rule"] });
  });
});
