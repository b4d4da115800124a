import { existsSync, readFileSync, writeFileSync } from "node:fs";

/** Inputs kept of one target. */
export const MAX_CORPUS_INPUTS = 200;
/** Bytes of them together. */
export const MAX_CORPUS_BYTES = 40 * 1024;

function pathOf(target: string): string {
  return new URL(`./corpus/${target}.txt`, import.meta.url).pathname;
}

/** The inputs saved for a target: a line of base64 each. */
export function loadCorpus(target: string): Uint8Array[] {
  const path = pathOf(target);
  if (!existsSync(path)) return [];
  return readFileSync(path, "utf8")
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => Uint8Array.fromBase64(line.trim()));
}

/** Replaces what is saved for a target. */
export function saveCorpus(target: string, inputs: readonly Uint8Array[]): void {
  const lines = [...new Set(inputs.map((input) => input.toBase64()))];
  writeFileSync(pathOf(target), `${lines.sort((a, b) => a.length - b.length || (a < b ? -1 : 1)).join("\n")}\n`);
}
