import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { matchHost, parseHostPattern, requestHostname } from "../../../src/ingress/hostname.ts";

function matches(rule: string, host: string): boolean {
  const pattern = parseHostPattern(rule);
  if ("error" in pattern) throw new Error(pattern.error);
  return matchHost(pattern, requestHostname(host));
}

test.each([
  { rule: "", host: "any.example", want: true },
  { rule: "*", host: "any.example", want: true },
  { rule: "*", host: "", want: true },
  { rule: "app.example.com", host: "app.example.com", want: true },
  { rule: "app.example.com", host: "APP.Example.COM", want: true },
  { rule: "App.Example.Com", host: "app.example.com", want: true },
  { rule: "app.example.com", host: "app.example.com:8443", want: true },
  { rule: "app.example.com", host: "app.example.com.", want: true },
  { rule: "app.example.com", host: "app.example.com.:443", want: true },
  { rule: "app.example.com.", host: "app.example.com", want: true },
  { rule: "app.example.com", host: "xapp.example.com", want: false },
  { rule: "app.example.com", host: "app.example.com.evil.example", want: false },
  { rule: "*.example.com", host: "a.example.com", want: true },
  { rule: "*.example.com", host: "a.b.example.com", want: true },
  { rule: "*.Example.com", host: "a.EXAMPLE.com:80", want: true },
  { rule: "*.example.com", host: "example.com", want: false },
  { rule: "*.example.com", host: ".example.com", want: false },
  { rule: "*.example.com", host: "aexample.com", want: false },
  { rule: "bücher.example", host: "xn--bcher-kva.example", want: true },
  { rule: "BÜCHER.example", host: "XN--bcher-kva.example:80", want: true },
  { rule: "*.bücher.example", host: "a.xn--bcher-kva.example", want: true },
  { rule: "xn--bcher-kva.example", host: "xn--bcher-kva.example", want: true },
  { rule: "my_host.example", host: "my_host.example", want: true },
  { rule: "::1", host: "[::1]:8080", want: true },
  { rule: "[0:0:0:0:0:0:0:1]", host: "[::1]", want: true },
  { rule: "127.0.0.1", host: "127.0.0.1:80", want: true },
  // The URL parser would make 127.0.0.1 of it.
  { rule: "127.1", host: "127.0.0.1", want: false },
])('rule "$rule" takes host "$host": $want', ({ rule, host, want }) => {
  expect(matches(rule, host)).toBe(want);
});

describe("a hostname is refused", () => {
  test.each([
    { rule: "app.example.com:8080", says: "port" },
    { rule: "app.example.com:", says: "port" },
    { rule: "[::1]:80", says: "port" },
    { rule: "*foo.example.com", says: "wildcard" },
    { rule: "a.*.example.com", says: "wildcard" },
    { rule: "*.*.example.com", says: "wildcard" },
    { rule: "example.*", says: "wildcard" },
    { rule: "*.", says: "not valid" },
    { rule: ".example.com", says: "not valid" },
    { rule: "a..example.com", says: "not valid" },
    { rule: "http://example.com", says: "not valid" },
    { rule: "example.com/path", says: "not valid" },
    { rule: "user@example.com", says: "not valid" },
    { rule: "two words", says: "not valid" },
    { rule: "a%62c", says: "not valid" },
    { rule: "a<b", says: "not valid" },
    { rule: "[::1", says: "not valid" },
  ])('"$rule": $says', ({ rule, says }) => {
    const pattern = parseHostPattern(rule);
    expect(pattern).toHaveProperty("error");
    if ("error" in pattern) {
      expect(pattern.error).toContain(says);
      expect(pattern.error).toContain(`"${rule}"`);
    }
  });
});

test("no text makes a host pattern or a request's host throw", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), fc.string({ unit: "binary" }), (rule, host) => {
      const pattern = parseHostPattern(rule);
      if (!("error" in pattern)) matchHost(pattern, requestHostname(host));
    }),
  );
});
