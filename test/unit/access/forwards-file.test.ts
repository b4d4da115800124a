import { describe, expect, test } from "bun:test";
import { parseForwardsFile } from "../../../src/access/forwards-file.ts";
import { formatIssue } from "../../../src/ingress/issue.ts";

function problems(text: string): readonly string[] {
  const file = parseForwardsFile(text);
  return file.kind === "ok" ? [] : file.issues.map((issue) => formatIssue(issue, "f.yml"));
}

describe("a list of forwards", () => {
  test("with everything", () => {
    const file = parseForwardsFile(`
- hostname: db.example.com
  url: 127.0.0.1:5432
  headers: {X-Team: blue}
  serviceTokenID: id
  serviceTokenSecret: secret
- {hostname: "ws://bastion.example.com:8080", url: "localhost:2222", destination: "10.0.0.5:22"}
`);
    expect(file).toMatchObject({
      kind: "ok",
      forwards: [
        {
          app: { secure: true, host: "db.example.com", port: 443 },
          listen: { host: "127.0.0.1", port: 5432 },
          headers: ["X-Team", "blue"],
          serviceToken: { id: "id", secret: "secret" },
          destination: undefined,
        },
        {
          app: { secure: false, host: "bastion.example.com", port: 8080 },
          listen: { host: "localhost", port: 2222 },
          destination: "10.0.0.5:22",
          serviceToken: undefined,
        },
      ],
    });
  });

  test("cloudflared's service file: url is the hostname, listener the local side", () => {
    const file = parseForwardsFile("forwarders:\n  - url: https://db.example.com\n    listener: 127.0.0.1:5432\n");
    expect(file).toMatchObject({
      kind: "ok",
      forwards: [{ app: { host: "db.example.com" }, listen: { host: "127.0.0.1", port: 5432 } }],
    });
  });

  test.each([
    ["", 'Must be a list of forwards, or have one under "forwarders"'],
    ["[]", "Names no forward"],
    ["- 1", 'f.yml:1:3: Must be a map with "hostname" and "url"'],
    ["- url: 127.0.0.1:1", 'f.yml:1:3: "hostname" is missing'],
    ["- hostname: a.example", 'f.yml:1:3: "url" is missing'],
    ["- hostname: a.example\n  url: nowhere", 'f.yml:2:3: "url" must be HOST:PORT, not "nowhere"'],
    ["- hostname: ftp://a\n  url: :1", 'f.yml:1:3: "hostname" has the scheme "ftp": use https, wss, http or ws'],
    ["- hostname: 5\n  url: :1", 'f.yml:1:3: "hostname" must be a text: put it in quotes'],
    ["- hostname: a.example\n  url: :1\n  hedaers: {}", 'f.yml:3:3: Unknown key "hedaers": did you mean "headers"?'],
    [
      "- hostname: a.example\n  url: :1\n  headers:\n    Host: b",
      'f.yml:4:5: "headers": Host is set by the client itself',
    ],
    [
      "- {hostname: a.example, url: ':1'}\n- {hostname: b.example, url: ':1'}",
      "f.yml:2:3: Listens on 127.0.0.1:1, as forward 1 does",
    ],
    ["- hostname: a\n  hostname: b", "f.yml:2:3: This key stands here for the second time"],
  ])("%p", (text, problem) => {
    expect(problems(text)).toContain(problem);
  });

  test("aliases that unfold to very much are refused", () => {
    const doubling = Array.from({ length: 20 }, (_, i) => `x${i + 1}: &x${i + 1} [*x${i}, *x${i}]`).join("\n");
    expect(parseForwardsFile(`x0: &x0 [a]\n${doubling}\nforwarders: *x20`).kind).toBe("failed");
  });

  test("no problem shows a secret", () => {
    const text = "- hostname: a.example\n  url: :1\n  serviceTokenSecret: [s3cret]\n  headers: {A: ['s3cret']}\n";
    expect(problems(text).length).toBe(2);
    expect(problems(text).join("\n")).not.toContain("s3cret");
  });
});
