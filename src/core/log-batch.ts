import type { LineSink } from "./console-output.ts";
import { LineBlock } from "./line-block.ts";
import { LOG_LEVELS, type LogLevel } from "./log.ts";

/** While there are many lines, how long they wait for each other, in ms. */
const WINDOW_MS = 100;
/** Text that is written at once rather than kept, in chars, or bytes. */
const MAX_CHARS = 64 * 1024;
/**
 * Items whose lines are made one after the other. Making a line is short, and what it needs has left the nearest cache since
 * the one before, as what others need leaves it then: that costs more than the line does, and is paid once for all of these.
 */
const GROUP = 8;

export interface BatchedLines<Item> {
  write(line: string, level: LogLevel): void;
  /** The way of many lines, of level info: that of `item` is written a little later, but before all that follows. */
  add(item: Item): void;
  flush(): void;
}

/**
 * Hands lines on together: those of a turn of the event loop. Of many lines, those that come after a quiet tenth of a second
 * are written as soon, and all of the tenth of a second that follows together, so that there are few system calls, whatever
 * the number of requests. A warning, and worse, does not wait, and takes what was before it along.
 *
 * `put` puts the line of an item without an end, false = it does not fit. Every line fits into an empty block of 64 KiB.
 */
export function batchLines<Item>(sink: LineSink, put: (block: LineBlock, item: Item) => boolean): BatchedLines<Item> {
  /** Three parts, in this order. */
  let text = "";
  let block = new LineBlock(MAX_CHARS);
  let items: Item[] = [];
  /** One that was written. */
  let spare: LineBlock | undefined;
  let atTurnEnd = false;
  let inWindow = false;

  const append = (lines: string): void => {
    text = text === "" ? lines : `${text}\n${lines}`;
  };
  const flush = (): void => {
    makeLines();
    handOnAll();
  };
  const handOnAll = (): void => {
    if (text !== "") {
      const lines = text;
      text = "";
      sink.write(lines);
    }
    if (block.length >= MAX_CHARS / 2) handOn();
    else if (block.length > 0) sink.writeBlock(copied());
  };
  /** Of many lines, a copy would cost as much as writing them; of few, a block that waits for a reader costs memory. */
  const handOn = (): void => {
    const full = block;
    block = spare ?? new LineBlock(MAX_CHARS);
    spare = undefined;
    sink.writeBlock(full.bytes, () => {
      full.cut(0);
      spare = full;
    });
  };
  const copied = (): Buffer => {
    const lines = Buffer.from(block.bytes);
    block.cut(0);
    return lines;
  };
  const makeLines = (): void => {
    if (items.length === 0) return;
    const group = items;
    items = [];
    for (const item of group) {
      if (addLine(item)) continue;
      handOnAll();
      if (!addLine(item)) throw new Error("A line of the log is longer than any may be");
    }
  };
  const addLine = (item: Item): boolean => {
    const begin = block.length;
    if (put(block, item) && block.newline()) return true;
    block.cut(begin);
    return false;
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
    inWindow = block.length > 0 || items.length > 0;
    if (inWindow) setTimeout(endWindow, WINDOW_MS);
    flush();
  };
  return {
    flush,
    write: (line, level) => {
      makeLines();
      if (block.length > 0) append(copied().toString().slice(0, -1));
      append(line);
      if (text.length > MAX_CHARS || LOG_LEVELS.indexOf(level) >= LOG_LEVELS.indexOf("warn")) flush();
      else flushAtTurnEnd();
    },
    add: (item) => {
      items.push(item);
      if (items.length === GROUP) makeLines();
      if (inWindow) return;
      inWindow = true;
      flushAtTurnEnd();
      setTimeout(endWindow, WINDOW_MS);
    },
  };
}
