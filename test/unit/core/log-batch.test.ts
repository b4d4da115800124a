import { expect, test } from "bun:test";
import type { LineBlock } from "../../../src/core/line-block.ts";
import { batchLines } from "../../../src/core/log-batch.ts";
import { pollUntil } from "../../support/poll-until.ts";

const turn = () => new Promise((resolve) => setImmediate(resolve));

test("lines of one turn go out together, and a warning takes them along at once", async () => {
  const written: string[] = [];
  const batch = batchLines((text) => void written.push(text));
  batch.write("a", "info");
  batch.write("b", "debug");
  expect(written).toEqual([]);
  await turn();
  expect(written).toEqual(["a\nb"]);
  batch.write("c", "info");
  await turn();
  batch.write("d", "info");
  batch.write("e", "warn");
  expect(written).toEqual(["a\nb", "c", "d\ne"]);
  await turn();
  batch.write("f", "info");
  batch.flush();
  await turn();
  expect(written).toEqual(["a\nb", "c", "d\ne", "f"]);
});

const put = (block: LineBlock, word: string): boolean => block.put(Buffer.from("a ")) && block.value(word);

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

test("many lines go out at the end of the first turn, and then those of a tenth of a second together", async () => {
  const written: string[] = [];
  const batch = batchLines((text) => void written.push(text));
  batch.add(put, "1");
  batch.add(put, "2");
  await turn();
  expect(written).toEqual(["a 1\na 2"]);
  for (let line = 3; line <= 40; line += 1) {
    batch.add(put, `${line}`);
    await turn();
  }
  await pollUntil(() => written.join("\n").endsWith("a 40"), { what: "the moment is over" });
  expect(written.join("\n").split("\n")).toEqual(Array.from({ length: 40 }, (_, i) => `a ${i + 1}`));
  // A machine that stands still ends moments early.
  expect(written.length).toBeLessThan(10);
});

test("a line that cannot be put leaves nothing behind", () => {
  const written: string[] = [];
  const batch = batchLines((text) => void written.push(text));
  const half = (block: LineBlock, word: string): boolean => put(block, word) && word !== "half";
  expect(batch.add(half, "half")).toBe(false);
  expect(batch.add(half, "whole")).toBe(true);
  expect(batch.add(half, "half")).toBe(false);
  batch.flush();
  expect(written).toEqual(["a whole"]);
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
