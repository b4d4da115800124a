import { LineBlock } from "./line-block.ts";
import { LOG_LEVELS, type LogLevel } from "./log.ts";

/** While there are many lines, how long they wait for each other, in ms. */
const WINDOW_MS = 100;
/** Text that is written at once rather than kept, in chars. */
const MAX_CHARS = 64 * 1024;

export interface BatchedLines {
  write(line: string, level: LogLevel): void;
  /**
   * The way of many lines: `put` puts one of level info, about `item`, without an end. False = it could not, and nothing is
   * written.
   */
  add<Item>(put: (block: LineBlock, item: Item) => boolean, item: Item): boolean;
  flush(): void;
}

/**
 * Hands lines to `write`, joined: those of a turn of the event loop together. Of many lines, those that come after a quiet
 * tenth of a second are written as soon, and all of the tenth of a second that follows together, so that there are few system
 * calls, whatever the number of requests. A warning, and worse, does not wait, and takes what was before it along.
 */
export function batchLines(write: (text: string) => void): BatchedLines {
  let waiting = "";
  /** What comes behind. */
  const block = new LineBlock(MAX_CHARS);
  let atTurnEnd = false;
  let inWindow = false;
  const append = (text: string): void => {
    waiting = waiting === "" ? text : `${waiting}\n${text}`;
  };
  const flush = (): void => {
    if (block.length > 0) append(block.take());
    if (waiting === "") return;
    const text = waiting;
    waiting = "";
    write(text);
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
    inWindow = block.length > 0;
    if (inWindow) setTimeout(endWindow, WINDOW_MS);
    flush();
  };
  const addTo = <Item>(put: (block: LineBlock, item: Item) => boolean, item: Item): boolean => {
    const begin = block.length;
    if ((begin === 0 || block.newline()) && put(block, item)) return true;
    block.cut(begin);
    return false;
  };
  return {
    flush,
    write: (line, level) => {
      if (block.length > 0) append(block.take());
      append(line);
      if (waiting.length > MAX_CHARS || LOG_LEVELS.indexOf(level) >= LOG_LEVELS.indexOf("warn")) flush();
      else flushAtTurnEnd();
    },
    add: (put, item) => {
      if (!addTo(put, item)) {
        // It may have been too full.
        if (block.length === 0) return false;
        flush();
        if (!addTo(put, item)) return false;
      }
      if (!inWindow) {
        inWindow = true;
        flushAtTurnEnd();
        setTimeout(endWindow, WINDOW_MS);
      }
      return true;
    },
  };
}
