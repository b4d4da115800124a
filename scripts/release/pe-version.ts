// The version resource of a Windows program: what the properties of the file show. `bun build` has flags for it that
// work on Windows alone. Layout: Microsoft's "PE Format" and "VS_VERSIONINFO structure".

const RT_VERSION = 16;
const SUBDIRECTORY = 0x80000000;
const LANGUAGE_AND_UNICODE = "040904b0";

/** Values of the StringFileInfo block, by key. */
export type VersionStrings = Readonly<Record<string, string>>;

/**
 * Replaces the version resource, in place.
 *
 * @param numbers four numbers of 16 bits
 */
export function setVersionResource(file: Buffer, numbers: readonly number[], strings: VersionStrings): void {
  const { section, directory, entry } = findVersionEntry(file);
  const at = section.rawStart + (file.readUInt32LE(entry) - section.address);
  const oldSize = file.readUInt32LE(entry + 4);
  const blob = renderVersionInfo(numbers, strings);
  const used = section.rawStart + file.readUInt32LE(section.header + 8);
  // The last resource may grow into what pads its section.
  const room = at + oldSize >= used ? section.rawStart + section.rawBytes - at : oldSize;
  if (blob.length > room) throw new Error(`The version resource has ${blob.length} bytes, and room for ${room}`);
  file.fill(0, at, at + oldSize);
  blob.copy(file, at);
  file.writeUInt32LE(blob.length, entry + 4);
  const size = Math.max(used, at + blob.length) - section.rawStart;
  file.writeUInt32LE(size, section.header + 8);
  file.writeUInt32LE(size, directory + 4);
  writeChecksum(file);
}

interface Section {
  /** Where its header is. */
  readonly header: number;
  readonly address: number;
  readonly rawStart: number;
  readonly rawBytes: number;
}

function findVersionEntry(file: Buffer): { section: Section; directory: number; entry: number } {
  const pe = file.readUInt32LE(0x3c);
  if (file.toString("latin1", pe, pe + 4) !== "PE\0\0") throw new Error("Not a PE file");
  const optional = pe + 24;
  if (file.readUInt16LE(optional) !== 0x20b) throw new Error("Not a 64-bit PE file");
  // The third of the data directories.
  const directory = optional + 112 + 2 * 8;
  const address = file.readUInt32LE(directory);
  const headers = optional + file.readUInt16LE(pe + 20);
  const sections = Array.from({ length: file.readUInt16LE(pe + 6) }, (_, i): Section => {
    const header = headers + i * 40;
    const [, start = 0, rawBytes = 0, rawStart = 0] = [8, 12, 16, 20].map((field) => file.readUInt32LE(header + field));
    return { header, address: start, rawStart, rawBytes };
  });
  const section = sections.find((each) => each.address === address);
  if (section === undefined) throw new Error("The PE file has no resources");
  const entries = (table: number): readonly { readonly id: number; readonly offset: number }[] => {
    const from = section.rawStart + table;
    const count = file.readUInt16LE(from + 12) + file.readUInt16LE(from + 14);
    return Array.from({ length: count }, (_, i) => ({
      id: file.readUInt32LE(from + 16 + i * 8),
      offset: file.readUInt32LE(from + 16 + i * 8 + 4),
    }));
  };
  // Type, name, language.
  const byType = entries(0).find(({ id }) => id === RT_VERSION);
  const byName = byType && entries(byType.offset & ~SUBDIRECTORY)[0];
  const leaf = byName && entries(byName.offset & ~SUBDIRECTORY)[0];
  if (leaf === undefined) throw new Error("The PE file has no version resource");
  return { section, directory, entry: section.rawStart + leaf.offset };
}

function renderVersionInfo(numbers: readonly number[], strings: VersionStrings): Buffer {
  const [major = 0, minor = 0, patch = 0, build = 0] = numbers;
  const fixed = Buffer.alloc(52);
  const version = [major * 0x10000 + minor, patch * 0x10000 + build];
  // Signature, structure version, file and product version, mask and flags, NT, application; no subtype and no date.
  const words = [0xfeef04bd, 0x10000, ...version, ...version, 0x3f, 0, 0x40004, 1];
  for (const [i, word] of words.entries()) fixed.writeUInt32LE(word, i * 4);
  const table = Object.entries(strings).map(([key, value]) => block(key, utf16(`${value}\0`), { text: true }));
  const translation = Buffer.from([0x09, 0x04, 0xb0, 0x04]);
  return block("VS_VERSION_INFO", fixed, {
    children: [
      block("StringFileInfo", EMPTY, {
        text: true,
        children: [block(LANGUAGE_AND_UNICODE, EMPTY, { text: true, children: table })],
      }),
      block("VarFileInfo", EMPTY, { text: true, children: [block("Translation", translation, {})] }),
    ],
  });
}

const EMPTY = Buffer.alloc(0);

/** One node of the tree: length, length of the value, kind, key; value and children each on a multiple of four. */
function block(key: string, value: Buffer, node: { text?: boolean; children?: readonly Buffer[] }): Buffer {
  const { text = false, children = [] } = node;
  const head = Buffer.alloc(6);
  let whole = pad(Buffer.concat([head, utf16(`${key}\0`)]));
  whole = Buffer.concat([whole, value]);
  for (const child of children) whole = Buffer.concat([pad(whole), child]);
  whole.writeUInt16LE(whole.length, 0);
  // Of text the length is in characters.
  whole.writeUInt16LE(text ? value.length / 2 : value.length, 2);
  whole.writeUInt16LE(text ? 1 : 0, 4);
  return whole;
}

function utf16(text: string): Buffer {
  return Buffer.from(text, "utf16le");
}

function pad(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);
}

/** The sum over 16-bit words with carry, plus the length; drivers need it, scanners of malware look at it. */
function writeChecksum(file: Buffer): void {
  const at = file.readUInt32LE(0x3c) + 24 + 64;
  file.writeUInt32LE(0, at);
  let sum = 0;
  for (let i = 0; i + 1 < file.length; i += 2) {
    sum += file.readUInt16LE(i);
    sum = (sum & 0xffff) + (sum >>> 16);
  }
  if (file.length % 2 === 1) sum += file.readUInt8(file.length - 1);
  sum = (sum & 0xffff) + (sum >>> 16);
  file.writeUInt32LE(sum + file.length, at);
}
