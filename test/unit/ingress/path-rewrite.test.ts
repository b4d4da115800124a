import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { createPathRewrite, type PathRewriteSettings } from "../../../src/ingress/path-rewrite.ts";

function rewrite(target: string, prefix: string, replacement?: PathRewriteSettings): string | undefined {
  return createPathRewrite(prefix, replacement)?.(target).target;
}

test("nothing to do is nothing to call", () => {
  expect(createPathRewrite("", undefined)).toBeUndefined();
});

describe("a prefix is taken away", () => {
  test.each([
    { target: "/app/x?y=/app", want: "/x?y=/app" },
    { target: "/app", want: "/" },
    { target: "/app?q", want: "/?q" },
    { target: "/app/", want: "/" },
    { target: "/apple", want: "/apple" },
    { target: "/other/app/x", want: "/other/app/x" },
    { target: "/%61pp/x", want: "/x" },
    { target: "/app%2Fx", want: "/app%2Fx" },
    { target: "/app/%2f%7e%c3%a4", want: "/%2F~%C3%A4" },
    { target: "/app//evil.example/", want: "//evil.example/" },
    { target: "*", want: "*" },
  ])("$target", ({ target, want }) => {
    expect(rewrite(target, "/app")).toBe(want);
  });

  test("that needs escapes, whichever way the visitor writes them", () => {
    expect(rewrite("/%c3%a4%20b/x", "/ä b")).toBe("/x");
    expect(rewrite("/%C3%A4%20b/x", "/%c3%a4%20b")).toBe("/x");
  });

  test("and told, so that the service can be told", () => {
    const stripped = createPathRewrite("/app", undefined);
    expect(stripped?.("/app/x").strippedPrefix).toBe("/app");
    expect(stripped?.("/x").strippedPrefix).toBe("");
  });
});

describe("a path is rewritten", () => {
  test.each([
    { target: "/old/a/b?q=/old/", match: "^/old/(.*)$", replace: "/new/$1", want: "/new/a/b?q=/old/" },
    { target: "/u/7", match: "^/u/(?P<id>[0-9]+)$", replace: "/users/\x24{id}/show", want: "/users/7/show" },
    { target: "/a/a", match: "/a", replace: "/b", want: "/b/a" },
    { target: "/%6fld/x", match: "^/old", replace: "", want: "/x" },
    { target: "/x", match: "^/y", replace: "/z", want: "/x" },
    // What cannot be a path is not sent.
    { target: "/x", match: "^/x", replace: "x", want: "/x" },
    { target: "/x", match: "^/x", replace: "/a b", want: "/x" },
    { target: "/x", match: "^/x", replace: "/a?b", want: "/x" },
    { target: "/x", match: "^/x", replace: "/a\r\nHost: b", want: "/x" },
  ])("$target by $match", ({ target, match, replace, want }) => {
    expect(rewrite(target, "", { match, replace })).toBe(want);
  });

  test("after the prefix is gone", () => {
    expect(rewrite("/app/v1/x", "/app", { match: "^/v1", replace: "/v2" })).toBe("/v2/x");
  });
});

test("any path stays one that can be sent, in time that grows with its length alone", () => {
  const rules = createPathRewrite("/a", { match: "(/.+)+(x+x+)+y", replace: "$1" });
  fc.assert(
    fc.property(fc.stringMatching(/^\/[!-~]*$/), (target) => {
      expect(rules?.(target).target).toMatch(/^\/[!-~]*$/);
    }),
  );
  const began = performance.now();
  rules?.(`/${"x".repeat(16_000)}`);
  expect(performance.now() - began).toBeLessThan(2_000);
});
