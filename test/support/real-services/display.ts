import { readFileSync } from "node:fs";
import { join } from "node:path";
import { startProcess } from "../processes.ts";
import { makeTempDir } from "../temp-dir.ts";
import { commandPath } from "./commands.ts";

export interface Display extends AsyncDisposable {
  /** Value of DISPLAY. */
  readonly name: string;
  /** How many pixels of the screen have this colour, RRGGBB. */
  pixels(colour: string): number;
  /** How many colours are on the screen. */
  colours(): number;
}

/** Offsets in the header of a window dump, in big endian (XWDFile.h): header size, height, bytes a line, colours. */
const HEADER_BYTES_AT = 0;
const HEIGHT_AT = 20;
const LINE_BYTES_AT = 48;
const COLOUR_COUNT_AT = 76;
const COLOUR_ENTRY_BYTES = 12;
const PIXEL_BYTES = 4;

/** An X server whose screen of 1024 × 768 true colours is a file. */
export async function startDisplay(): Promise<Display> {
  await using stack = new AsyncDisposableStack();
  const dir = stack.use(makeTempDir());
  const screen = ["-screen", "0", "1024x768x24", "-fbdir", dir.path, "-nolisten", "tcp"];
  const server = stack.use(startProcess([commandPath("Xvfb"), "-displayfd", "1", ...screen]));
  const [, number] = await server.outputLine(/^(\d+)\n/);
  const count = (): Map<number, number> => countColours(readFileSync(join(dir.path, "Xvfb_screen0")));
  const all = stack.move();
  return {
    name: `:${number}`,
    pixels: (colour) => count().get(Number.parseInt(colour, 16)) ?? 0,
    colours: () => count().size,
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}

function countColours(dump: Buffer): Map<number, number> {
  const start = dump.readUInt32BE(HEADER_BYTES_AT) + dump.readUInt32BE(COLOUR_COUNT_AT) * COLOUR_ENTRY_BYTES;
  const end = start + dump.readUInt32BE(HEIGHT_AT) * dump.readUInt32BE(LINE_BYTES_AT);
  const counts = new Map<number, number>();
  for (let at = start; at < end; at += PIXEL_BYTES) {
    const pixel = dump.readUInt32LE(at) & 0xff_ff_ff;
    counts.set(pixel, (counts.get(pixel) ?? 0) + 1);
  }
  return counts;
}
