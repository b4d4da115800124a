import { expect, test } from "bun:test";
import { ConsoleOutput, MAX_WAITING_CHARS } from "../../../src/core/console-output.ts";

/** A reader that reads when it is told to. */
function reader() {
  const waiting: { readonly lines: string | Uint8Array; readonly done: (error?: Error | null) => void }[] = [];
  const read: (string | Uint8Array)[] = [];
  const take = (count: number, error: Error | null = null): void => {
    for (const { lines, done } of waiting.splice(0, count)) {
      if (error === null) read.push(lines);
      done(error);
    }
  };
  return {
    waiting,
    read,
    take,
    stream: { write: (lines: string | Uint8Array, done: () => void) => waiting.push({ lines, done }) },
  };
}

const TEXT = `${"x".repeat(64 * 1024 - 4)}\nyz`;
const FITS = MAX_WAITING_CHARS / (TEXT.length + 1);

test("what nobody reads is kept up to a bound; then whole texts are lost and counted", () => {
  const { stream, waiting } = reader();
  const output = new ConsoleOutput(stream);
  for (let i = 0; i < FITS + 10; i += 1) output.write(TEXT);
  output.write("one line that would fit");
  expect({ kept: waiting.length, lost: output.lines }).toEqual({ kept: FITS, lost: 21 });
});

test("when half is read it is said how many were lost, once, and all that follows is kept", () => {
  const { stream, take, read, waiting } = reader();
  const output = new ConsoleOutput(stream);
  for (let i = 0; i < FITS + 10; i += 1) output.write(TEXT);
  take(FITS / 2 - 1);
  output.write("still too much");
  expect(output.lines).toBe(21);
  const told: number[] = [];
  output.onRegained((lines) => void told.push(lines));
  take(1);
  output.write("and on");
  take(waiting.length);
  expect(told).toEqual([21]);
  expect({ last: read.at(-1), lost: output.lines }).toEqual({ last: "and on\n", lost: 21 });
});

test("where nobody asked to be told, a line says it; a reader that has gone is only counted", () => {
  const { stream, take, read, waiting } = reader();
  const output = new ConsoleOutput(stream);
  for (let i = 0; i < FITS + 1; i += 1) output.write(TEXT);
  take(waiting.length);
  take(waiting.length);
  expect(read.at(-1)).toBe("culvert: Lines for the console were lost, since nobody read them: 2\n");
  output.write("a\nb\nc");
  take(1, new Error("EPIPE"));
  expect({ lost: output.lines, waiting: waiting.length }).toEqual({ lost: 5, waiting: 0 });
});

test("whole lines as bytes are bounded and counted as texts are", () => {
  const { stream, take, waiting } = reader();
  const output = new ConsoleOutput(stream);
  const block = Buffer.from(`${TEXT}\n`);
  const done: number[] = [];
  for (let i = 0; i < FITS + 3; i += 1) output.writeBlock(block, () => void done.push(i));
  expect({ kept: waiting.length, lost: output.lines, same: waiting[0]?.lines === block, done }).toEqual({
    ...{ kept: FITS, lost: 6, same: true, done: [FITS, FITS + 1, FITS + 2] },
  });
  take(1);
  take(1, new Error("EPIPE"));
  expect(done.slice(3)).toEqual([0, 1]);
});
