import { printable } from "../core/printable.ts";
import type { LiveLevel, LiveLogLine } from "../wire/management-events.ts";

const RESET = "\u001b[0m";
const DIM = "\u001b[2m";
const COLOURS: Readonly<Record<LiveLevel, string>> = {
  debug: "\u001b[36m",
  info: "\u001b[32m",
  warn: "\u001b[33m",
  error: "\u001b[31m",
};

/** One line for people, with the columns of cloudflared's: time, level, event, message, fields. */
export function renderLine(line: LiveLogLine, coloured: boolean): string {
  const paint = (colour: string, text: string): string => (coloured ? `${colour}${text}${RESET}` : text);
  const level = paint(COLOURS[line.level], line.level);
  const fields = paint(DIM, printable(JSON.stringify(line.fields)));
  return `${paint(DIM, printable(line.time))} ${level} ${line.event} ${printable(line.message)} ${fields}`;
}

/** The same for machines, whole whatever the connector left out. */
export function jsonLine({ time, level, message, event, fields }: LiveLogLine): string {
  return printable(JSON.stringify({ time, level, message, event, fields }));
}
