import { decodeLatin1 } from "../latin1.ts";
import { decodeHuffman } from "./huffman.ts";
import { STATIC_TABLE } from "./static-table.ts";

/** What each table entry costs beside its text (RFC 7541 section 4.1). */
const ENTRY_OVERHEAD_BYTES = 32;

/** Size of the dynamic table we allow the peer's encoder; the protocol's default, so no setting announces it. */
export const DYNAMIC_TABLE_BYTES = 4096;

export type HpackResult =
  | { readonly kind: "headers"; readonly fields: string[] }
  /** The block was decoded, so the table stays in step, but its fields are more than the limit allows. */
  | { readonly kind: "too-large" }
  | { readonly kind: "malformed"; readonly reason: string };

/** Decodes header blocks of one connection, in order (RFC 7541). Fields come as a flat name, value list. */
export class HpackDecoder {
  readonly #maxListBytes: number;
  readonly #table = new DynamicTable();
  #scratch = new Uint8Array(1024);
  #at = 0;
  #end = 0;
  #block: Uint8Array = new Uint8Array(0);
  #reason: string | undefined;

  /** `maxListBytes`: bound on one block's names and values plus 32 a field (SETTINGS_MAX_HEADER_LIST_SIZE). */
  constructor(maxListBytes: number) {
    this.#maxListBytes = maxListBytes;
  }

  decode(block: Uint8Array, start: number, end: number): HpackResult {
    this.#block = block;
    this.#at = start;
    this.#end = end;
    this.#reason = undefined;
    const fields: string[] = [];
    let listBytes = 0;
    let sizeUpdateAllowed = true;
    while (this.#at < this.#end && this.#reason === undefined) {
      const first = block[this.#at] as number;
      if ((first & 0xe0) === 0x20) {
        const bytes = this.#integer(5);
        if (!sizeUpdateAllowed || bytes > DYNAMIC_TABLE_BYTES) this.#fail("dynamic table size update");
        else this.#table.resize(bytes);
        continue;
      }
      sizeUpdateAllowed = false;
      let name: string;
      let value: string;
      if ((first & 0x80) !== 0) {
        const index = this.#integer(7);
        name = this.#nameAt(index);
        value = this.#valueAt(index);
      } else {
        const store = (first & 0x40) !== 0;
        const index = this.#integer(store ? 6 : 4);
        name = index === 0 ? this.#string() : this.#nameAt(index);
        value = this.#string();
        if (store && this.#reason === undefined) this.#table.add(name, value);
      }
      listBytes += name.length + value.length + ENTRY_OVERHEAD_BYTES;
      if (listBytes <= this.#maxListBytes) fields.push(name, value);
    }
    if (this.#reason !== undefined) return { kind: "malformed", reason: this.#reason };
    return listBytes > this.#maxListBytes ? { kind: "too-large" } : { kind: "headers", fields };
  }

  #fail(reason: string): void {
    this.#reason ??= reason;
  }

  #nameAt(index: number): string {
    const entry = STATIC_TABLE[index - 1];
    if (entry !== undefined) return entry[0];
    const name = this.#table.name(index - STATIC_TABLE.length - 1);
    if (name === undefined) this.#fail("index out of the table");
    return name ?? "";
  }

  #valueAt(index: number): string {
    const entry = STATIC_TABLE[index - 1];
    return entry === undefined ? (this.#table.value(index - STATIC_TABLE.length - 1) ?? "") : entry[1];
  }

  /** An integer with a prefix of `bits` (RFC 7541 section 5.1), bounded to 2^28. */
  #integer(bits: number): number {
    const mask = (1 << bits) - 1;
    let value = (this.#block[this.#at++] as number) & mask;
    if (value < mask) return value;
    for (let shift = 0; shift <= 21; shift += 7) {
      if (this.#at >= this.#end) break;
      const byte = this.#block[this.#at++] as number;
      value += (byte & 0x7f) << shift;
      if ((byte & 0x80) === 0) return value;
    }
    this.#fail("integer too long or cut off");
    return 0;
  }

  #string(): string {
    if (this.#at >= this.#end) {
      this.#fail("string cut off");
      return "";
    }
    const huffman = ((this.#block[this.#at] as number) & 0x80) !== 0;
    const length = this.#integer(7);
    const start = this.#at;
    if (length > this.#end - start) {
      this.#fail("string cut off");
      return "";
    }
    this.#at = start + length;
    if (!huffman) return decodeLatin1(this.#block, start, this.#at);
    if (this.#scratch.length < length * 2) this.#scratch = new Uint8Array(length * 2);
    const written = decodeHuffman(this.#block, start, this.#at, this.#scratch);
    if (written < 0) {
      this.#fail("bad Huffman code");
      return "";
    }
    return decodeLatin1(this.#scratch, 0, written);
  }
}

/** Newest entry has index 0; the oldest leave when the size limit is passed (RFC 7541 section 4). */
class DynamicTable {
  readonly #names: string[] = [];
  readonly #values: string[] = [];
  #first = 0;
  #bytes = 0;
  #maxBytes = DYNAMIC_TABLE_BYTES;

  name(index: number): string | undefined {
    return index < 0 ? undefined : this.#at(this.#names, index);
  }

  value(index: number): string | undefined {
    return index < 0 ? undefined : this.#at(this.#values, index);
  }

  add(name: string, value: string): void {
    this.#names.push(name);
    this.#values.push(value);
    this.#bytes += name.length + value.length + ENTRY_OVERHEAD_BYTES;
    this.#evict();
  }

  resize(bytes: number): void {
    this.#maxBytes = bytes;
    this.#evict();
  }

  #at(list: readonly string[], index: number): string | undefined {
    const position = list.length - 1 - index;
    return position < this.#first ? undefined : list[position];
  }

  #evict(): void {
    while (this.#bytes > this.#maxBytes) {
      const i = this.#first++;
      this.#bytes -= (this.#names[i] as string).length + (this.#values[i] as string).length + ENTRY_OVERHEAD_BYTES;
    }
    // Entries leave at the front; compact now and then instead of shifting each time.
    if (this.#first >= 256) {
      this.#names.splice(0, this.#first);
      this.#values.splice(0, this.#first);
      this.#first = 0;
    }
  }
}
