import { expect, test } from "bun:test";
import { detectInit } from "../../../src/service/detect.ts";
import { layoutOf, nameProblem } from "../../../src/service/layout.ts";

test.each([
  ["linux", ["/run/systemd/system", "/sbin/openrc-run", "/etc/init.d"], "systemd"],
  ["linux", ["/usr/sbin/openrc-run", "/etc/init.d"], "openrc"],
  ["linux", ["/etc/init.d"], "sysv"],
  ["linux", [], undefined],
  ["darwin", [], "launchd"],
  ["freebsd", [], "freebsd"],
  ["win32", [], "windows"],
  ["aix", [], undefined],
])("%s with %j runs %p", (platform, present, kind) => {
  expect(detectInit({ platform, exists: (path) => present.some((each) => each === path) })).toBe(kind as never);
});

test.each(["web", "a", "web-2", "0".repeat(23)])("an instance may be called %s", (name) => {
  expect(nameProblem(name)).toBeUndefined();
});

test.each(["", "Web", "-web", "web-", "a b", "../x", "edge", "0".repeat(24), "a_b"])(
  "an instance may not be called %j",
  (name) => {
    expect(nameProblem(name)).toBeString();
  },
);

test("nothing is under a name of cloudflared's", () => {
  for (const family of ["linux", "macos", "freebsd", "windows"] as const) {
    for (const name of [undefined, "web"]) {
      const spec = { role: "connector", name, scope: { kind: "system" }, program: ["/x"], user: undefined } as const;
      expect(JSON.stringify(layoutOf(spec, family))).not.toContain("cloudflared");
    }
  }
});
