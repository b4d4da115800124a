import { LineBlock } from "./line-block.ts";
import { LOG_LEVELS, type LogLevel } from "./log.ts";

/** While there are many lines, how long they wait for each other, in ms. */
const WINDOW_MS = 100;
/** Text that is written at once rather than kept, in chars, or bytes. */
const MAX_CHARS = 64 * 1024;
/** Items whose lines are made one after the other: what that needs of code and tables is then at hand. */
const MAX_ITEMS = 64;

export interface BatchedLines<Item> {
  write(line: string, level: LogLevel): void;
  /** The way of many lines, of level info: that of `item` is made and written a little later, but before all that follows. */
  add(item: Item): void;
  flush(): void;
}

/** Where lines go. */
export interface LineSink {
  /** One line or more, without the end of the last one. */
  write(text: string): void;
  /** Whole lines, in UTF-8. */
  writeBlock(lines: Uint8Array): void;
}

/**
 * Hands lines on together: those of a turn of the event loop. Of many lines, those that come after a quiet tenth of a second
 * are written as soon, and all of the tenth of a second that follows together, so that there are few system calls, whatever
 * the number of requests. A warning, and worse, does not wait, and takes what was before it along.
 *
 * `put` puts the line of an item without an end, with the time at which the line is made, in ms since the Unix epoch; false
 * = it does not fit. Every line fits into an empty block of 64 KiB.
 */
export function batchLines<Item>(
  sink: LineSink,
  wallMs: () => number,
  put: (block: LineBlock, item: Item, atMs: number) => boolean,
): BatchedLines<Item> {
  /** Three parts, in this order. */
  let text = "";
  const block = new LineBlock(MAX_CHARS);
  let items: Item[] = [];
  let atTurnEnd = false;
  let inWindow = false;

  const append = (lines: string): void => {
    text = text === "" ? lines : `${text}\n${lines}`;
  };
  const flushMade = (): void => {
    if (text !== "") {
      const lines = text;
      text = "";
      sink.write(lines);
    }
    if (block.length > 0) sink.writeBlock(block.take());
  };
  const makeLine = (item: Item, atMs: number): boolean => {
    const begin = block.length;
    if (put(block, item, atMs) && block.newline()) return true;
    block.cut(begin);
    return false;
  };
  const makeLines = (): void => {
    if (items.length === 0) return;
    const group = items;
    items = [];
    const atMs = wallMs();
    for (const item of group) {
      if (makeLine(item, atMs)) continue;
      flushMade();
      if (!makeLine(item, atMs)) throw new Error("A line of the log is longer than any may be");
    }
  };
  const flush = (): void => {
    makeLines();
    flushMade();
  };
  const flushAtTurnEnd = (): void => {
    if (atTurnEnd) return;
    atTurnEnd = true;
    setImmediate(() => {
      atTurnEnd = false;
      flush();
    });
  };
  const endWindow = (): void => {
    inWindow = items.length > 0 || block.length > 0;
    if (inWindow) setTimeout(endWindow, WINDOW_MS);
    flush();
  };
  return {
    flush,
    write: (line, level) => {
      makeLines();
      if (block.length > 0) append(Buffer.from(block.take()).toString().slice(0, -1));
      append(line);
      if (text.length > MAX_CHARS || LOG_LEVELS.indexOf(level) >= LOG_LEVELS.indexOf("warn")) flush();
      else flushAtTurnEnd();
    },
    add: (item) => {
      items.push(item);
      if (items.length === MAX_ITEMS) makeLines();
      if (inWindow) return;
      inWindow = true;
      flushAtTurnEnd();
      setTimeout(endWindow, WINDOW_MS);
    },
  };
}
