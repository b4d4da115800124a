import { expect, test } from "bun:test";
import type { AsciiText } from "../../../src/core/ascii-text.ts";
import { batchLines } from "../../../src/core/log-batch.ts";
import { pollUntil } from "../../support/poll-until.ts";

test("lines of one turn go out together, those of the moment after that as well, and a warning takes them along at once", async () => {
  const written: string[] = [];
  const batch = batchLines((text) => void written.push(text));
  batch.write("a", "info");
  batch.write("b", "debug");
  expect(written).toEqual([]);
  await pollUntil(() => written.length === 1, { what: "the end of the turn" });
  batch.write("c", "info");
  await new Promise((resolve) => setImmediate(resolve));
  batch.write("d", "info");
  expect(written).toEqual(["a\nb"]);
  await pollUntil(() => written.length === 2, { what: "the moment is over" });
  batch.write("e", "info");
  batch.write("f", "warn");
  expect(written).toEqual(["a\nb", "c\nd", "e\nf"]);
  batch.write("g", "info");
  batch.flush();
  expect(written.at(-1)).toBe("g");
});

const put = (text: AsciiText, word: string): boolean => text.put(Buffer.from("a ")) && text.plain(word);

test("lines of both ways keep their order", () => {
  const written: string[] = [];
  const batch = batchLines((text) => void written.push(text));
  expect(batch.add(put, "first")).toBe(true);
  expect(batch.add(put, "second")).toBe(true);
  batch.write("third", "info");
  expect(batch.add(put, "fourth")).toBe(true);
  batch.write("fifth", "warn");
  expect(written).toEqual(["a first\na second\nthird\na fourth\nfifth"]);
});

test("a line that cannot be put leaves nothing behind", () => {
  const written: string[] = [];
  const batch = batchLines((text) => void written.push(text));
  expect(batch.add(put, "not plain")).toBe(false);
  expect(batch.add(put, "plain")).toBe(true);
  expect(batch.add(put, "n\nt plain")).toBe(false);
  batch.flush();
  expect(written).toEqual(["a plain"]);
});

test("many lines are written before they are more than a block holds, and none is lost", () => {
  const written: string[] = [];
  const batch = batchLines((text) => void written.push(text));
  const words = Array.from({ length: 5_000 }, (_, i) => `line-${i}-${"x".repeat(i % 90)}`);
  for (const word of words) expect(batch.add(put, word)).toBe(true);
  expect(written.length).toBeGreaterThan(3);
  batch.flush();
  expect(Math.max(...written.map((text) => text.length))).toBeLessThanOrEqual(64 * 1024);
  expect(written.join("\n")).toBe(words.map((word) => `a ${word}`).join("\n"));
  expect(batch.add(put, "x".repeat(70_000))).toBe(false);
});
