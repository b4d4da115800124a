import { expect, test } from "bun:test";
import type { LineBlock } from "../../../src/core/line-block.ts";
import { batchLines } from "../../../src/core/log-batch.ts";
import { pollUntil } from "../../support/poll-until.ts";

const put = (block: LineBlock, word: string): boolean => block.put(Buffer.from("a ")) && block.value(word);

/** Texts and blocks as they were written, without the ends of their last lines. */
function batch() {
  const written: string[] = [];
  const sink = {
    write: (text: string) => void written.push(text),
    writeBlock: (lines: Uint8Array) => void written.push(Buffer.from(lines).toString().replace(/\n$/, "")),
  };
  return { written, ...batchLines(sink, put) };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

test("lines of one turn go out together, and a warning takes them along at once", async () => {
  const { written, write, flush } = batch();
  write("a", "info");
  write("b", "debug");
  expect(written).toEqual([]);
  await turn();
  expect(written).toEqual(["a\nb"]);
  write("c", "info");
  await turn();
  write("d", "info");
  write("e", "warn");
  expect(written).toEqual(["a\nb", "c", "d\ne"]);
  await turn();
  write("f", "info");
  flush();
  await turn();
  expect(written).toEqual(["a\nb", "c", "d\ne", "f"]);
});

test("lines of both ways keep their order", () => {
  const { written, write, add } = batch();
  add("first");
  add("second");
  write("third", "info");
  add("fourth");
  write("fifth", "warn");
  expect(written).toEqual(["a first\na second\nthird\na fourth\nfifth"]);
});

test("many lines go out at the end of the first turn, and then those of a tenth of a second together", async () => {
  const { written, add } = batch();
  add("1");
  add("2");
  await turn();
  expect(written).toEqual(["a 1\na 2"]);
  for (let line = 3; line <= 40; line += 1) {
    add(`${line}`);
    await turn();
  }
  await pollUntil(() => written.join("\n").endsWith("a 40"), { what: "the moment is over" });
  expect(written.join("\n").split("\n")).toEqual(Array.from({ length: 40 }, (_, i) => `a ${i + 1}`));
  // A machine that stands still ends moments early.
  expect(written.length).toBeLessThan(10);
});

test("many lines are written before they are more than a block holds, and none is lost", () => {
  const { written, add, flush } = batch();
  const words = Array.from({ length: 5_000 }, (_, i) => `line-${i}-${"x".repeat(i % 90)}`);
  for (const word of words) add(word);
  expect(written.length).toBeGreaterThan(3);
  flush();
  expect(Math.max(...written.map((text) => text.length))).toBeLessThanOrEqual(64 * 1024);
  expect(written.join("\n")).toBe(words.map((word) => `a ${word}`).join("\n"));
});
