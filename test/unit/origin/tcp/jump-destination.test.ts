import { expect, test } from "bun:test";
import { jumpDestination } from "../../../../src/origin/tcp/jump-destination.ts";

test.each([
  ["10.0.0.5:22", { host: "10.0.0.5", port: 22 }],
  [" db.internal:5432 ", { host: "db.internal", port: 5432 }],
  ["ssh://me@db.internal:22/path?x#y", { host: "db.internal", port: 22 }],
  ["[2001:db8::1]:22", { host: "2001:db8::1", port: 22 }],
  ["tcp://[::1]:65535/", { host: "::1", port: 65_535 }],
])("%s", (value, destination) => {
  expect(jumpDestination(["X", "y", "Cf-Access-Jump-Destination", value])).toEqual(destination);
});

test.each([
  ...["", "db.internal", "ssh://db.internal", "db.internal:0", "db.internal:65536", "db.internal:22:23", "a b:22"],
  ...["2001:db8::1:22", "[x]:22", ":22", "-x:22", "a\r\nb:22", "db.internal:+22"],
])("%p names nothing", (value) => {
  expect(jumpDestination(["Cf-Access-Jump-Destination", value])).toEqual(expect.any(String));
});

test("no header, or two", () => {
  expect(jumpDestination([])).toContain("missing");
  const twice = ["Cf-Access-Jump-Destination", "a:1", "cf-access-jump-destination", "b:2"];
  expect(jumpDestination(twice)).toContain("more than one");
});
