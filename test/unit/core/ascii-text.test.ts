import { expect, test } from "bun:test";
import { AsciiText } from "../../../src/core/ascii-text.ts";

test.each([0, 1, 9, 10, 99, 100, 12_345, 999_999_999, 1_000_000_000, 2 ** 31, Number.MAX_SAFE_INTEGER])(
  "the number %d is written as it reads",
  (value) => {
    const text = new AsciiText(32);
    expect(text.integer(value)).toBe(true);
    expect(text.take()).toBe(String(value));
  },
);

test("values that a reader could take for more than one are refused, and leave nothing", () => {
  const text = new AsciiText(64);
  expect(text.plain("before")).toBe(true);
  for (const value of ["", "a b", 'a"b', "a=b", "a\nb", "\u001b[31m", "\u007f", "é", "a\u009b", "日本"]) {
    expect(text.plain(value)).toBe(false);
  }
  expect(text.take()).toBe("before");
  expect(text.take()).toBe("");
});

test("what does not fit is refused, by a byte too", () => {
  const text = new AsciiText(4);
  expect([text.plain("abc"), text.put(Buffer.from("de")), text.integer(12), text.plain("xy")]).toEqual([
    ...[true, false, false, false],
  ]);
  expect([text.newline(), text.newline(), text.integer(0), text.put(Buffer.of())]).toEqual([true, false, false, true]);
  text.cut(2);
  expect([text.length, text.integer(34), text.take()]).toEqual([2, true, "ab34"]);
});
