const PE_AT = 0x80;
const HEADERS_BYTES = 0x400;
const SECTION_BYTES = 0x200;
const SECTION_RVA = 0x1000;
const X64 = 0x8664;
const PE32_PLUS = 0x20b;
const OPTIONAL_BYTES = 240;
/** Executable image, large addresses, a library. */
const LIBRARY = 0x2022;
const DIRECTORIES = 16;
const READABLE_DATA = 0x4000_0040;

/**
 * A library for 64-bit Windows that has one function, which is another library's: `to` is `LIBRARY.function`. It holds
 * no code (PE format, sections 2 and 6.3: export forwarders). Made for what an older wine lacks, and for nothing else.
 */
export function forwardingLibrary(name: string, exported: string, to: string): Uint8Array {
  const file = Buffer.alloc(HEADERS_BYTES + SECTION_BYTES);
  file.write("MZ", 0, "latin1");
  file.writeUInt32LE(PE_AT, 0x3c);
  file.write("PE\0\0", PE_AT, "latin1");
  const coff = PE_AT + 4;
  file.writeUInt16LE(X64, coff);
  file.writeUInt16LE(1, coff + 2);
  file.writeUInt16LE(OPTIONAL_BYTES, coff + 16);
  file.writeUInt16LE(LIBRARY, coff + 18);
  const optional = coff + 20;
  file.writeUInt16LE(PE32_PLUS, optional);
  file.writeUInt32LE(SECTION_BYTES, optional + 8);
  file.writeUInt32LE(SECTION_RVA, optional + 20);
  file.writeBigUInt64LE(0x1_8000_0000n, optional + 24);
  file.writeUInt32LE(0x1000, optional + 32);
  file.writeUInt32LE(0x200, optional + 36);
  file.writeUInt16LE(6, optional + 40);
  file.writeUInt16LE(6, optional + 48);
  file.writeUInt32LE(SECTION_RVA + 0x1000, optional + 56);
  file.writeUInt32LE(HEADERS_BYTES, optional + 60);
  file.writeUInt16LE(2, optional + 68);
  file.writeUInt32LE(DIRECTORIES, optional + 108);
  file.writeUInt32LE(SECTION_RVA, optional + 112);
  file.writeUInt32LE(SECTION_BYTES, optional + 116);
  const section = optional + OPTIONAL_BYTES;
  file.write(".edata", section, "latin1");
  for (const [index, value] of [SECTION_BYTES, SECTION_RVA, SECTION_BYTES, HEADERS_BYTES].entries()) {
    file.writeUInt32LE(value, section + 8 + index * 4);
  }
  file.writeUInt32LE(READABLE_DATA, section + 36);
  const texts = [name, exported, to].map((text) => Buffer.from(`${text}\0`, "latin1"));
  let next = 64;
  const [nameRva = 0, exportedRva = 0, toRva = 0] = texts.map((text) => {
    text.copy(file, HEADERS_BYTES + next);
    next += text.length;
    return SECTION_RVA + next - text.length;
  });
  const [functions, names, ordinals] = [40, 44, 48];
  const directory = [nameRva, 1, 1, 1, SECTION_RVA + functions, SECTION_RVA + names, SECTION_RVA + ordinals];
  for (const [index, value] of [...directory, toRva, exportedRva].entries()) {
    file.writeUInt32LE(value, HEADERS_BYTES + 12 + index * 4);
  }
  return file;
}
