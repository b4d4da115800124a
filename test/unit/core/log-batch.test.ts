import { expect, test } from "bun:test";
import { join } from "node:path";
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

/** Less than may wait for a reader. */
const PIPED_LINES = 250_000;

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

test("a tenth of a second with a single line is followed by one in which lines wait", async () => {
  const written: string[] = [];
  const ended = Promise.withResolvers<void>();
  const sink = {
    write: () => {},
    writeBlock: (lines: Uint8Array) => {
      written.push(Buffer.from(lines).toString().trimEnd());
      if (written.length === 2) ended.resolve();
    },
  };
  const { add } = batchLines(sink, put);
  add("1");
  await turn();
  add("2");
  await ended.promise;
  add("3");
  await turn();
  expect(written).toEqual(["a 1", "a 2"]);
  await pollUntil(() => written.length === 3, { what: "the moment is over" });
});

test("blocks that wait for their reader are left alone, and used again once they are read", async () => {
  const waiting: { readonly lines: Uint8Array; readonly done: (() => void) | undefined }[] = [];
  const read: string[] = [];
  const blocks = new Set<ArrayBufferLike>();
  const sink = {
    write: () => {},
    writeBlock: (lines: Uint8Array, done?: () => void) => {
      waiting.push({ lines, done });
      if (done !== undefined) blocks.add(lines.buffer);
    },
  };
  const { add, flush } = batchLines(sink, put);
  const words = Array.from({ length: 20_000 }, (_, i) => `line-${i}-${"x".repeat(i % 90)}`);
  for (const [i, word] of words.entries()) {
    add(word);
    while (waiting.length > (i < 10_000 ? 3 : 0)) {
      const oldest = waiting.shift();
      read.push(Buffer.from(oldest?.lines ?? []).toString());
      oldest?.done?.();
    }
  }
  flush();
  read.push(...waiting.map(({ lines }) => Buffer.from(lines).toString()));
  expect(read.join("")).toBe(words.map((word) => `a ${word}\n`).join(""));
  expect({ handedOn: read.length > 12, blocks: blocks.size < read.length / 2 }).toEqual({
    handedOn: true,
    blocks: true,
  });
});

test("a pipe whose reader is slow gets every line as it was", async () => {
  const root = join(import.meta.dir, "../../..");
  const program = `
    import { batchLines } from "./src/core/log-batch.ts";
    import { ConsoleOutput } from "./src/core/console-output.ts";
    const put = (block, i) => block.put(Buffer.from("line ")) && block.integer(i);
    const { add, flush } = batchLines(new ConsoleOutput(process.stderr), put);
    for (let i = 0; i < ${PIPED_LINES}; i += 1) {
      add(i);
      if (i % 10_000 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    }
    flush();`;
  await using child = Bun.spawn([process.execPath, "-e", program], { cwd: root, stderr: "pipe", stdout: "ignore" });
  let text = "";
  for await (const chunk of child.stderr) {
    text += Buffer.from(chunk).toString("latin1");
    await Bun.sleep(1);
  }
  const lines = text.split("\n");
  expect(lines.length).toBe(PIPED_LINES + 1);
  expect(lines.findIndex((line, i) => line !== `line ${i}`)).toBe(PIPED_LINES);
}, 30_000);

test("many lines are written before they are more than a block holds, and none is lost", () => {
  const { written, add, flush } = batch();
  const words = Array.from({ length: 5_000 }, (_, i) => `line-${i}-${"x".repeat(i % 90)}`);
  for (const word of words) add(word);
  expect(written.length).toBeGreaterThan(3);
  flush();
  expect(Math.max(...written.map((text) => text.length))).toBeLessThanOrEqual(64 * 1024);
  expect(written.join("\n")).toBe(words.map((word) => `a ${word}`).join("\n"));
});
