import { describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { readDomain } from "../../../src/edge/hostname.ts";
import { loadSettings } from "../../../src/edge/settings-file.ts";
import { makeTempDir } from "../../support/temp-dir.ts";

const GOOD = [
  ["edge.example.com", "edge.example.com"],
  ["Edge.EXAMPLE.com.", "edge.example.com"],
  ["bücher.example", "xn--bcher-kva.example"],
  ["edge", "edge"],
  ["3com.example", "3com.example"],
] as const;
const BAD = [
  ...["", " ", ".", "*", "*.example.com", "https://edge.example.com", "edge.example.com:443", "edge.example.com/x"],
  ...["192.0.2.1", "::1", "[::1]", "1.2.3", "edge.0x7f", "a..b", "-a.example", `${"a".repeat(64)}.example`],
  ...[`${"a.".repeat(130)}com`, "edge example.com", "edge@example.com", "edge.example.com\n"],
];

describe("the name of an edge", () => {
  test.each(GOOD)("%s is %s", (text, domain) => {
    expect(readDomain(text)).toBe(domain);
  });

  test.each(BAD)("%j is none", (text) => {
    expect(readDomain(text)).toBeUndefined();
  });
});

describe("the settings file", () => {
  test("has the domain as routes have hostnames, whoever wrote it", () => {
    using dir = makeTempDir();
    expect(loadSettings(dir.path)).toEqual({});
    for (const [text, domain] of GOOD) {
      writeFileSync(join(dir.path, "edge.json"), JSON.stringify({ domain: text }));
      expect(loadSettings(dir.path)).toEqual({ domain });
    }
  });

  test.each([...BAD, 5, null])("is refused with its path when the domain is %j", (domain) => {
    using dir = makeTempDir();
    const path = join(dir.path, "edge.json");
    writeFileSync(path, JSON.stringify({ domain }));
    let thrown: unknown;
    try {
      loadSettings(dir.path);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toMatchObject({ code: "store.failed", message: expect.stringContaining(`Cannot read "${path}"`) });
  });
});
