import { expect, test } from "bun:test";
import { createLogger, type LogFormat, renderJson } from "../../../src/core/log.ts";
import { shownHeaders, shownTarget } from "../../../src/core/log-redact.ts";
import { percentEncoded, printable } from "../../../src/core/printable.ts";

/** CSI as one char, DEL, a direction override, separators of lines, a soft hyphen, and a tag in two code units. */
const STEERING = "\u009b31m\u007f\u202e\u2028\u2029\u00ad\u{e0041}";

test("what steers a terminal is shown as its number; what people write is left alone", () => {
  expect(printable(`a${STEERING}\u001b[2J\nb`)).toBe(
    "a\\u009b31m\\u007f\\u202e\\u2028\\u2029\\u00ad\\udb40\\udc41\\u001b[2J\\u000ab",
  );
  for (const text of ["", "plain ~", "Grüße", "日本語", "🚇"]) expect(printable(text)).toBe(text);
});

test("no log line holds any of it, and JSON says the same as before", () => {
  const lines: string[] = [];
  const log = (format: LogFormat) =>
    createLogger({ level: "debug", format, wallMs: () => 0, write: (line) => void lines.push(line) });
  const fields = { host: STEERING, path: `/é${STEERING}` };
  for (const format of ["default", "json"] as const) log(format).info(`GET ${STEERING}\u001b[2J`, fields);
  lines.push(renderJson({ level: "info", wallMs: 0, message: STEERING, fields }));
  for (const line of lines) expect(line).not.toMatch(/[\p{Cc}\p{Cf}\u2028\u2029]/u);
  expect(lines[0]).toContain("INF GET \\u009b31m\\u007f\\u202e");
  expect(lines[0]).toContain('host="\\u009b31m');
  expect(JSON.parse(lines[1] ?? "")).toMatchObject({ message: `GET ${STEERING}\u001b[2J`, ...fields });
});

test("bytes of a path that are not ASCII are shown as they would be in a URL", () => {
  const bytes = Buffer.from("/café/ü\u009b", "utf8").toString("latin1");
  expect(percentEncoded(bytes)).toBe("/caf%C3%A9/%C3%BC%C2%9B");
  expect(shownTarget(`${bytes}?q=é`)).toBe("/caf%C3%A9/%C3%BC%C2%9B?…");
  expect(percentEncoded("/already/%C3%A9")).toBe("/already/%C3%A9");
});

test.each([
  ["https://a.example/cb#access_token=secret", "https://a.example/cb#…"],
  ["https://a.example/cb?code=secret#state=secret", "https://a.example/cb?…"],
  ["https://a.example/cb#/route?code=secret", "https://a.example/cb#…"],
  ["https://a.example/cb", "https://a.example/cb"],
])("an address in a header field, %s, is shown as %s", (location, shown) => {
  expect(shownHeaders(["Location", location])).toBe(`location: ${shown}`);
});
