import { expect, test } from "bun:test";
import { createLogger } from "../../../src/core/log.ts";
import { createScrubber, redactingLogger, shownHeaders, shownTarget } from "../../../src/core/log-redact.ts";

const SECRET = "s3cret/+word";

test.each([
  ["as it is", SECRET],
  ["in a URL", encodeURIComponent(SECRET)],
  ["in base64", Buffer.from(SECRET).toString("base64")],
  ["in base64url", Buffer.from(SECRET).toString("base64url")],
  ["in hex", Buffer.from(SECRET).toString("hex")],
])("a secret is found %s", (_how, shape) => {
  const clean = createScrubber([SECRET, undefined, "ab"])(`before ${shape} after ab`);
  expect(clean).toStartWith("before REDACTED");
  expect(clean).toEndWith(" after ab");
});

test.each([
  ["proxy http://user:pass@host:80 failed", "proxy http://REDACTED@host:80 failed"],
  ["Authorization: Bearer abcdefgh12345", "Authorization: Bearer REDACTED"],
  ["sent basic dXNlcjpwYXNz", "sent basic REDACTED"],
  ["token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc_DEF-1 end", "token REDACTED end"],
  ["nothing to hide: a@b http://host/path", "nothing to hide: a@b http://host/path"],
])("what looks like a credential goes: %s", (text, want) => {
  expect(createScrubber([])(text)).toBe(want);
});

test("header fields that let somebody in show their name alone; an address shows no query", () => {
  const headers = [
    "Host",
    "a",
    "Cookie",
    "sid=1",
    "X-Api-Key",
    "k",
    "Cf-Access-Jwt-Assertion",
    "j",
    "Referer",
    "/x?t=1",
  ];
  expect(shownHeaders(headers)).toBe(
    "host: a; cookie: REDACTED; x-api-key: REDACTED; cf-access-jwt-assertion: REDACTED; referer: /x?…",
  );
  expect(shownTarget("/path")).toBe("/path");
  expect(shownTarget("/path?a=b?c")).toBe("/path?…");
  expect(shownTarget("/x&token=s3cret&b=2")).toBe("/x&token=REDACTED&b=2");
  expect(shownTarget("/cb/eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl/done?c")).toBe("/cb/REDACTED/done?…");
  expect(shownTarget("/path;v=1;jsessionid=s3cret/b?c")).toBe("/path;v=1;jsessionid=REDACTED/b?…");
  expect(shownHeaders(["Referer", "https://a.example/;sid=s3cret", "Accept", "text/html;q=0.9, */*;q=0.8"])).toBe(
    "referer: https://a.example/;sid=REDACTED; accept: text/html;q=0.9, */*;q=0.8",
  );
});

test("messages and fields are clean before anybody sees them", () => {
  const lines: string[] = [];
  const inner = createLogger({
    ...({ level: "info", format: "json", wallMs: () => 0 } as const),
    write: (line) => void lines.push(line),
  });
  const log = redactingLogger(inner, createScrubber([SECRET])).with({ base: SECRET });
  log.info(`it is ${SECRET}`, { error: `no ${SECRET}`, count: 3 });
  log.debug(SECRET);
  expect(lines.map((line) => JSON.parse(line))).toEqual([
    {
      level: "info",
      time: "1970-01-01T00:00:00Z",
      message: "it is REDACTED",
      base: "REDACTED",
      error: "no REDACTED",
      count: 3,
    },
  ]);
});
