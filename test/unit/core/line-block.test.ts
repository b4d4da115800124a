import { expect, test } from "bun:test";
import { LineBlock } from "../../../src/core/line-block.ts";
import { fieldText } from "../../../src/core/log.ts";

test.each([0, 1, 9, 10, 99, 100, 12_345, 999_999_999, 1_000_000_000, 2 ** 31, Number.MAX_SAFE_INTEGER])(
  "the number %d is written as it reads",
  (value) => {
    const text = new LineBlock(32);
    expect(text.integer(value)).toBe(true);
    expect(Buffer.from(text.bytes).toString()).toBe(String(value));
  },
);

test("values stand as in any other line of the log", () => {
  const text = new LineBlock(256);
  const values = [
    "a",
    "",
    "a b",
    'a"b',
    "a=b",
    "a\nb",
    "\u001b[31m",
    "\u007f",
    "é",
    "a\u009b",
    "日本",
    "/x?…",
    "a\\b",
    "a\\ b",
    "…",
    'a…"',
    "a\ud800",
  ];
  for (const value of values) expect([value, text.value(value)]).toEqual([value, true]);
  expect(Buffer.from(text.bytes).toString()).toBe(values.map(fieldText).join(""));
  text.cut(0);
  expect(Buffer.from(text.bytes).toString()).toBe("");
});

test("what does not fit is refused, by a byte too", () => {
  const text = new LineBlock(4);
  expect([text.value("abc"), text.put(Buffer.from("de")), text.integer(12), text.value("xy")]).toEqual([
    ...[true, false, false, false],
  ]);
  expect([text.newline(), text.newline(), text.integer(0), text.put(Buffer.of())]).toEqual([true, false, false, true]);
  text.cut(2);
  expect([text.length, text.integer(34), Buffer.from(text.bytes).toString()]).toEqual([2, true, "ab34"]);
});
