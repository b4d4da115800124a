// The code signature of a thin 64-bit Mach-O file. macOS kills a program whose pages do not hash to what its signature
// says, and Bun's compile leaves that so on x86-64. An ad-hoc signature has hashes and no signer; a Developer ID
// needs Apple's tools. Layout: mach-o/loader.h and cs_blobs.h of Apple's open-source xnu.

import { createHash } from "node:crypto";

const MAGIC_64 = 0xfeedfacf;
const HEADER_BYTES = 32;
const LC_SEGMENT_64 = 0x19;
const LC_CODE_SIGNATURE = 0x1d;

const SUPER_BLOB = 0xfade0cc0;
const CODE_DIRECTORY = 0xfade0c02;
/** The version of a code directory that has the execSeg fields. */
const DIRECTORY_VERSION = 0x20400;
const DIRECTORY_HEAD_BYTES = 88;
const FLAG_ADHOC = 0x2;
const FLAG_LINKER_SIGNED = 0x20000;
const EXEC_SEG_MAIN_BINARY = 1n;
const HASH_SHA256 = 2;
const HASH_BYTES = 32;
const PAGE_SHIFT = 12;
const PAGE_BYTES = 1 << PAGE_SHIFT;
/** Of arm64, and a multiple of x86-64's. */
const SEGMENT_ALIGNMENT = 0x4000n;

interface Layout {
  /** Where the LC_CODE_SIGNATURE command is. */
  readonly command: number;
  readonly signature: { readonly offset: number; readonly size: number };
  /** Where the LC_SEGMENT_64 commands of these are. */
  readonly linkedit: number;
  readonly text: number;
}

function readLayout(file: Buffer): Layout {
  if (file.readUInt32LE(0) !== MAGIC_64) throw new Error("Not a thin 64-bit Mach-O file");
  const commands = file.readUInt32LE(16);
  let command = -1;
  const segments = new Map<string, number>();
  for (let i = 0, at = HEADER_BYTES; i < commands; i++, at += file.readUInt32LE(at + 4)) {
    const kind = file.readUInt32LE(at);
    if (kind === LC_CODE_SIGNATURE) command = at;
    if (kind === LC_SEGMENT_64) segments.set(file.toString("latin1", at + 8, at + 24).replace(/\0+$/, ""), at);
  }
  const linkedit = segments.get("__LINKEDIT");
  const text = segments.get("__TEXT");
  if (command < 0 || linkedit === undefined || text === undefined) {
    throw new Error("The Mach-O file has no place for a signature");
  }
  const signature = { offset: file.readUInt32LE(command + 8), size: file.readUInt32LE(command + 12) };
  return { command, signature, linkedit, text };
}

function pageHash(file: Buffer, page: number, end: number): Buffer {
  const from = page * PAGE_BYTES;
  return createHash("sha256")
    .update(file.subarray(from, Math.min(from + PAGE_BYTES, end)))
    .digest();
}

/** How many pages the signature speaks of, and how many of them are not what it says. Throws when there is none. */
export function checkPageHashes(file: Buffer): { readonly pages: number; readonly wrong: number } {
  const { signature } = readLayout(file);
  const blob = file.subarray(signature.offset, signature.offset + signature.size);
  if (blob.readUInt32BE(0) !== SUPER_BLOB) throw new Error("The signature of the Mach-O file is not a super blob");
  for (let i = 0; i < blob.readUInt32BE(8); i++) {
    const directory = blob.subarray(blob.readUInt32BE(12 + i * 8 + 4));
    if (directory.readUInt32BE(0) !== CODE_DIRECTORY) continue;
    const hashes = directory.readUInt32BE(16);
    const pages = directory.readUInt32BE(28);
    const end = directory.readUInt32BE(32);
    if (directory[37] !== HASH_SHA256 || directory[39] !== PAGE_SHIFT) {
      throw new Error("The signature of the Mach-O file is of an unknown kind");
    }
    // Pages that it leaves out are as bad as wrong ones.
    let wrong = Math.max(0, Math.ceil(signature.offset / PAGE_BYTES) - pages);
    for (let page = 0; page < pages; page++) {
      const at = hashes + page * HASH_BYTES;
      if (!pageHash(file, page, end).equals(directory.subarray(at, at + HASH_BYTES))) wrong += 1;
    }
    return { pages, wrong };
  }
  throw new Error("The Mach-O file has no code directory");
}

/** The file with one ad-hoc signature in place of whatever stood there. */
export function signAdHoc(original: Buffer, identifier: string): Buffer {
  const { command, signature, linkedit, text } = readLayout(original);
  const end = signature.offset;
  const pages = Math.ceil(end / PAGE_BYTES);
  const name = Buffer.from(`${identifier}\0`);
  const hashesAt = DIRECTORY_HEAD_BYTES + name.length;
  const directoryBytes = hashesAt + pages * HASH_BYTES;
  const blobBytes = 12 + 8 + directoryBytes;
  const size = (blobBytes + 15) & ~15;

  const file = Buffer.concat([original.subarray(0, end), Buffer.alloc(size)]);
  // The commands are on the pages that are hashed: they come first.
  file.writeUInt32LE(size, command + 12);
  const linkeditBytes = BigInt(end + size) - file.readBigUInt64LE(linkedit + 40);
  file.writeBigUInt64LE(linkeditBytes, linkedit + 48);
  file.writeBigUInt64LE((linkeditBytes + SEGMENT_ALIGNMENT - 1n) & -SEGMENT_ALIGNMENT, linkedit + 32);

  const blob = file.subarray(end);
  // One entry, the code directory, behind the index.
  for (const [i, word] of [SUPER_BLOB, blobBytes, 1, 0, 20].entries()) blob.writeUInt32BE(word, i * 4);
  const directory = blob.subarray(20);
  const words = [
    ...[CODE_DIRECTORY, directoryBytes, DIRECTORY_VERSION, FLAG_ADHOC | FLAG_LINKER_SIGNED],
    // Where hashes and name are; no special slots, so many pages, and where the signed part ends.
    ...[hashesAt, DIRECTORY_HEAD_BYTES, 0, pages, end],
  ];
  for (const [i, word] of words.entries()) directory.writeUInt32BE(word, i * 4);
  directory.set([HASH_BYTES, HASH_SHA256, 0, PAGE_SHIFT], 36);
  directory.writeBigUInt64BE(file.readBigUInt64LE(text + 40), 64);
  directory.writeBigUInt64BE(file.readBigUInt64LE(text + 48), 72);
  directory.writeBigUInt64BE(EXEC_SEG_MAIN_BINARY, 80);
  name.copy(directory, DIRECTORY_HEAD_BYTES);
  for (let page = 0; page < pages; page++) pageHash(file, page, end).copy(directory, hashesAt + page * HASH_BYTES);
  return file;
}
