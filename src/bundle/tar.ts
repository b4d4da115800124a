import { TunnelError } from "../core/errors.ts";

const BLOCK_BYTES = 512;
/** Two empty blocks end an archive. */
const END_BYTES = 2 * BLOCK_BYTES;
/** What 11 octal digits can say. */
const MAX_SIZE_BYTES = 8 ** 11 - 1;

export interface TarFile {
  /** Below the archive's top, such as `folder/file`: up to 100 characters of ASCII. */
  readonly name: string;
  /** Permissions, such as 0o755. */
  readonly mode: number;
  readonly sizeBytes: number;
  /** Exactly `sizeBytes` bytes. */
  readonly content: AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

/**
 * An archive of regular files that every tar reads (POSIX.1-1988, "ustar"): all of them root's, and of one time, so that
 * the same files give the same bytes. Throws a TunnelError when a file has not the size that was said.
 *
 * @param mtimeS seconds since 1970
 */
export async function* tar(files: Iterable<TarFile>, mtimeS: number): AsyncGenerator<Uint8Array> {
  for (const file of files) {
    yield header(file, mtimeS);
    let count = 0;
    for await (const chunk of file.content) {
      count += chunk.length;
      if (count > file.sizeBytes) break;
      yield chunk;
    }
    if (count !== file.sizeBytes) {
      throw new TunnelError("update.failed", `"${file.name}" changed while it was written to the archive`);
    }
    const rest = count % BLOCK_BYTES;
    if (rest > 0) yield new Uint8Array(BLOCK_BYTES - rest);
  }
  yield new Uint8Array(END_BYTES);
}

function header({ name, mode, sizeBytes }: TarFile, mtimeS: number): Uint8Array {
  if (!/^[\x21-\x7e]{1,100}$/.test(name))
    throw new TunnelError("update.failed", `"${name}" cannot stand in an archive`);
  if (sizeBytes > MAX_SIZE_BYTES) throw new TunnelError("update.failed", `"${name}" is too large for an archive`);
  const block = new Uint8Array(BLOCK_BYTES);
  const put = (at: number, text: string): void => {
    for (let i = 0; i < text.length; i++) block[at + i] = text.charCodeAt(i);
  };
  const octal = (value: number, digits: number): string => `${value.toString(8).padStart(digits, "0")}\0`;
  put(0, name);
  put(100, octal(mode, 7));
  put(108, octal(0, 7));
  put(116, octal(0, 7));
  put(124, octal(sizeBytes, 11));
  put(136, octal(mtimeS, 11));
  put(156, "0");
  put(257, "ustar\0");
  put(263, "00");
  put(265, "root");
  put(297, "root");
  // The sum is of the block with spaces where it will stand.
  put(148, "        ");
  const sum = block.reduce((total, byte) => total + byte, 0);
  put(148, `${octal(sum, 6)} `);
  return block;
}
