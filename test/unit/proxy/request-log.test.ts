import { expect, test } from "bun:test";
import { AsciiText } from "../../../src/core/ascii-text.ts";
import { createLogger } from "../../../src/core/log.ts";
import type { EndedRequest } from "../../../src/proxy/observer.ts";
import { accessFields, putAccess } from "../../../src/proxy/request-log.ts";

const REQUEST: EndedRequest["request"] = {
  ...{ kind: "http", method: "GET", authority: "app.example", path: "/a/b", bodyless: true },
  headers: ["cf-connecting-ip", "198.51.100.7", "cf-ray", "92ace8e3004514d4-LAB", "User-Agent", "x"],
};
const ENDED: EndedRequest = {
  ...{ kind: "http", request: REQUEST, rule: 2, service: "http://localhost:8080", status: 200, outcome: "served" },
  ...{ answeredAfterMs: 12.4, durationMs: 15.6, bytesToOrigin: 3, bytesToVisitor: 1_000 },
};

function slow(ended: EndedRequest): string {
  const lines: string[] = [];
  const wallMs = (): number => 0;
  const log = createLogger({ level: "info", format: "default", wallMs, write: (line) => void lines.push(line) });
  log.info("request", accessFields(ended));
  return (lines[0] ?? "").slice("1970-01-01T00:00:00Z INF request ".length);
}

/** Undefined where the line is left to `slow`. */
function quick(ended: EndedRequest): string | undefined {
  const text = new AsciiText(8_192);
  return putAccess(text, 0, ended) ? text.take().slice("1970-01-01T00:00:00Z INF request ".length) : undefined;
}

test("the line of a request", () => {
  expect(quick(ENDED)).toBe(
    "bytesIn=3 bytesOut=1000 cfRay=92ace8e3004514d4-LAB client=198.51.100.7 event=1 firstByteMs=12 host=app.example " +
      "ingressRule=2 method=GET ms=16 originService=http://localhost:8080 outcome=served path=/a/b status=200",
  );
});

const JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ2aXNpdG9yIn0.c2lnbmF0dXJl";
const cases: readonly (readonly [name: string, ended: EndedRequest])[] = [
  ["a plain one", ENDED],
  [
    "one that no rule took",
    { ...ENDED, rule: undefined, service: undefined, outcome: "refused", answeredAfterMs: undefined },
  ],
  ["one that failed", { ...ENDED, status: undefined, outcome: "failed" }],
  ["a query", { ...ENDED, request: { ...REQUEST, path: "/a?token=secret" } }],
  ["a token in its path", { ...ENDED, request: { ...REQUEST, path: `/reset/${JWT}` } }],
  ["a host that forges", { ...ENDED, request: { ...REQUEST, authority: 'a status=200 "x"', path: "/\n2026 ERR" } }],
  [
    "fields in another spelling",
    { ...ENDED, request: { ...REQUEST, headers: ["CF-Ray", "a b", "Cf-Connecting-Ip", "c=d"] } },
  ],
  [
    "fields twice",
    {
      ...ENDED,
      request: { ...REQUEST, headers: ["cf-ray", "a", "cf-ray", "b", "CF-Connecting-IP", "c", "cf-connecting-ip", ""] },
    },
  ],
  ["another service for the same host", { ...ENDED, service: "http://localhost:8081", rule: 3 }],
  ["no fields", { ...ENDED, request: { ...REQUEST, headers: [] } }],
  ["a service with a password", { ...ENDED, service: "http://user:password@host:80" }],
  [
    "a path that steers a terminal",
    { ...ENDED, request: { ...REQUEST, path: "/\u00c2\u009b31m", authority: "a\u009b" } },
  ],
  ["an endless path", { ...ENDED, request: { ...REQUEST, path: `/${"x".repeat(5_000)}` } }],
];

/** Whose values need quotes. */
const LEFT: ReadonlySet<string> = new Set([
  ...["a query", "a host that forges", "fields in another spelling", "an endless path"],
]);

test.each(cases)("both ways of writing it agree: %s", (name, ended) => {
  const shown = slow(ended);
  const text = quick(ended);
  expect(text).toBe(LEFT.has(name) ? undefined : shown);
  expect(shown).not.toMatch(/secret|password|c2lnbmF0dXJl|\n/);
  expect(shown.length).toBeLessThan(1_500);
});
