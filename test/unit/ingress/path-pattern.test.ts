import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { RE2JS } from "re2js";
import { compilePath } from "../../../src/ingress/path-pattern.ts";

function found(source: string, path: string): boolean {
  const pattern = compilePath(source);
  if ("error" in pattern) throw new Error(pattern.error);
  return pattern.test(path);
}

test.each([
  { source: "login", path: "/a/login/b", want: true },
  { source: "login", path: "/a/LOGIN", want: false },
  { source: "^/api", path: "/api/v1", want: true },
  { source: "^/api", path: "/v1/api", want: false },
  { source: "^", path: "/", want: true },
  { source: "/api$", path: "/v1/api", want: true },
  { source: "/api$", path: "/api/", want: false },
  { source: "(?i)login", path: "/LogIn", want: true },
  { source: "\\.(jpg|png)$", path: "/a.png", want: true },
  { source: "\\pL{3}", path: "/äöü", want: true },
  { source: "^/(?P<name>[a-z]+)$", path: "/abc", want: true },
  { source: "a.c", path: "/a\nc", want: false },
  { source: "(?s)a.c", path: "/a\nc", want: true },
  { source: "^b", path: "/a\nb", want: false },
])("$source found in $path: $want", ({ source, path, want }) => {
  expect(found(source, path)).toBe(want);
});

describe("an expression is refused", () => {
  test.each([
    { source: "(?=x)", says: "look-around is not part of RE2 syntax" },
    { source: "a(?!b)", says: "look-around is not part of RE2 syntax" },
    { source: "(?<=a)b", says: "look-around is not part of RE2 syntax" },
    { source: "(?<!a)b", says: "look-around is not part of RE2 syntax" },
    { source: "(a)\\1", says: "back-references are not part of RE2 syntax" },
    { source: "(?P<x>a)\\k<x>", says: "invalid escape sequence" },
    { source: "[", says: "missing closing ]" },
    { source: "a**", says: "invalid nested repetition" },
    { source: "a{2000}", says: "repeat count" },
  ])("$source: $says", ({ source, says }) => {
    const pattern = compilePath(source);
    expect(pattern).toHaveProperty("error");
    if ("error" in pattern) expect(pattern.error).toContain(says);
  });
});

test("time is linear where a backtracking engine needs for ever", () => {
  expect(found("^(a+)+$", `${"a".repeat(16_000)}b`)).toBe(false);
  expect(found("(.*)(.*)(.*)(.*)x$", "a".repeat(16_000))).toBe(false);
});

describe("a plain text, compared without the engine, gives the engine's answer", () => {
  /** Few letters, so that texts are found in each other; none means anything in an expression. */
  const plain = fc.string({ unit: fc.constantFrom("a", "b", "/", "-", "ä", "😀", "\n", " ", "~") });

  test.each([{ anchor: "" }, { anchor: "^" }])('behind "$anchor"', ({ anchor }) => {
    fc.assert(
      fc.property(plain, plain, (literal, path) => {
        const source = anchor + literal;
        expect(found(source, path)).toBe(RE2JS.compile(source).matcher(path).find());
      }),
      { numRuns: 500 },
    );
  });
});

test("no text makes the compiler throw", () => {
  const hostile = fc.string({ unit: fc.constantFrom(..."ab()[]{}?*+^$|\\.<>=!:P1,") });
  fc.assert(
    fc.property(hostile, (source) => {
      const pattern = compilePath(source);
      if (!("error" in pattern)) pattern.test("/a/b");
    }),
    { numRuns: 1_000 },
  );
});
