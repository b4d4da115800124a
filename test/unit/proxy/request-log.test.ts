import { expect, test } from "bun:test";
import { LineBlock } from "../../../src/core/line-block.ts";
import { createLogger } from "../../../src/core/log.ts";
import { batchLines } from "../../../src/core/log-batch.ts";
import type { EndedRequest } from "../../../src/proxy/observer.ts";
import { accessFields, putAccess } from "../../../src/proxy/request-log.ts";

const HEAD_CHARS = "1970-01-01T00:00:00Z INF request ".length;
const REQUEST: EndedRequest["request"] = {
  ...{ kind: "http", method: "GET", authority: "app.example", path: "/a/b", bodyless: true },
  headers: ["cf-connecting-ip", "198.51.100.7", "cf-ray", "92ace8e3004514d4-LAB", "User-Agent", "x"],
};
const ENDED: EndedRequest = {
  ...{ kind: "http", request: REQUEST, rule: 2, service: "http://localhost:8080", status: 200, outcome: "served" },
  ...{ answeredAfterMs: 12.4, startedAtMs: 6_984.4, endedAtMs: 7_000, bytesToOrigin: 3, bytesToVisitor: 1_000 },
};

const EPOCH = { nowMs: () => 7_000, wallMs: () => 0 };

function slow(ended: EndedRequest): string {
  const lines: string[] = [];
  const wallMs = (): number => 0;
  const log = createLogger({ level: "info", format: "default", wallMs, write: (line) => void lines.push(line) });
  log.info("request", accessFields(ended));
  return (lines[0] ?? "").slice(HEAD_CHARS);
}

/** Undefined where it does not fit. */
function quick(ended: EndedRequest): string | undefined {
  const block = new LineBlock(8_192);
  return putAccess(block, ended, EPOCH) ? Buffer.from(block.bytes).toString().slice(HEAD_CHARS) : undefined;
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
  ["a session in its path", { ...ENDED, request: { ...REQUEST, path: "/a;jsessionid=secret/b" } }],
  ["a parameter in its path", { ...ENDED, request: { ...REQUEST, path: "/a&token=secret&b=2" } }],
  ["one before a query", { ...ENDED, request: { ...REQUEST, path: "/a&token=secret?b=2" } }],
  ["credentials in its path", { ...ENDED, request: { ...REQUEST, path: "/Bearer secret-of-mine" } }],
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

test.each(cases)("both ways of writing it agree: %s", (_name, ended) => {
  const shown = slow(ended);
  expect(quick(ended)).toBe(shown);
  expect(shown).not.toMatch(/secret|password|c2lnbmF0dXJl|\n/);
  expect(shown.length).toBeLessThan(1_500);
});

test("lines of odd requests wait for each other as all do", () => {
  const written: string[] = [];
  const sink = {
    write: (text: string) => void written.push(`${text}\n`),
    writeBlock: (lines: Uint8Array) => void written.push(Buffer.from(lines).toString()),
  };
  const batch = batchLines(sink, (block, ended: EndedRequest) => putAccess(block, ended, EPOCH));
  const odd = ["/a?b=c", "/a b", '/"a"', "/\u009b", "/caf\u00e9", "/a=b#c"];
  const lines = Array.from({ length: 60 }, (_, i) => ({
    ...ENDED,
    request: { ...REQUEST, path: odd[i % odd.length] ?? "", authority: i % 2 === 0 ? "app.example" : "a b" },
  }));
  for (const ended of lines) batch.add(ended);
  expect(written).toEqual([]);
  batch.flush();
  expect(written.length).toBe(1);
  const shown = written.join("").trimEnd().split("\n");
  expect(shown.map((line) => line.slice(HEAD_CHARS))).toEqual(lines.map(slow));
});

test("the longest line there can be fits into a block of 64 KiB", () => {
  const long = "\u009b".repeat(100_000);
  const request = {
    ...REQUEST,
    method: long,
    authority: long,
    path: `/${long}`,
    headers: ["cf-ray", long, "cf-connecting-ip", long],
  };
  const ended = { ...ENDED, request, service: long, bytesToOrigin: Number.MAX_SAFE_INTEGER, endedAtMs: 1e15 };
  const block = new LineBlock(64 * 1024);
  expect(putAccess(block, ended, EPOCH)).toBe(true);
  expect(Buffer.from(block.bytes).toString().slice(HEAD_CHARS)).toBe(slow(ended));
});

test("the calendar is looked at once in each of its seconds", () => {
  let looks = 0;
  const headAt = (endedAtMs: number, date: number, lateMs = 0): string => {
    const block = new LineBlock(8_192);
    const wallMs = (): number => {
      looks += 1;
      return date;
    };
    putAccess(block, { ...ENDED, endedAtMs }, { nowMs: () => endedAtMs + lateMs, wallMs });
    return Buffer.from(block.bytes).toString().slice(0, HEAD_CHARS);
  };
  expect(headAt(100_000, 59_400)).toBe("1970-01-01T00:00:59Z INF request ");
  expect(headAt(100_599, 59_999)).toBe("1970-01-01T00:00:59Z INF request ");
  expect(looks).toBe(1);
  expect(headAt(100_600, 60_000)).toBe("1970-01-01T00:01:00Z INF request ");
  // The calendar was put back.
  expect(headAt(101_600, 3_000)).toBe("1970-01-01T00:00:03Z INF request ");
  expect(looks).toBe(3);
  // Made a little later, a line still has the second that its request ended in.
  expect(headAt(110_000, 8_050, 60)).toBe("1970-01-01T00:00:07Z INF request ");
  expect(headAt(110_009, 8_060, 61)).toBe("1970-01-01T00:00:07Z INF request ");
  expect(headAt(110_010, 8_070, 70)).toBe("1970-01-01T00:00:08Z INF request ");
});
