import {
  constants,
  createBrotliDecompress,
  createGunzip,
  createInflate,
  createZstdDecompress,
  type ZlibOptions,
} from "node:zlib";

/** Memory that zstd may want: 8 MiB are what the content encoding allows (RFC 9659 section 3). */
const ZSTD_WINDOW_LOG = 23;

export interface Decompressed {
  readonly bytes: Uint8Array;
  /** There was more of it, or the rest is damaged. */
  readonly cut: boolean;
}

/**
 * The beginning of what is packed in a content encoding, `maxBytes` at most; undefined = the encoding is not known, or
 * nothing can be unpacked. `bytes` may be cut off themselves: they are unpacked as far as they go. Never rejects.
 */
export function decompress(bytes: Uint8Array, encoding: string, maxBytes: number): Promise<Decompressed | undefined> {
  const unpacker = unpackerOf(encoding);
  if (unpacker === undefined) return Promise.resolve(undefined);
  return new Promise((resolve) => {
    const chunks: Uint8Array[] = [];
    let size = 0;
    const done = (cut: boolean): void => {
      unpacker.destroy();
      const unpacked = Buffer.concat(chunks);
      resolve(cut && size === 0 ? undefined : { bytes: unpacked.subarray(0, maxBytes), cut });
    };
    unpacker.on("data", (chunk: Uint8Array) => {
      if (size > maxBytes) return;
      chunks.push(chunk);
      size += chunk.length;
      if (size > maxBytes) done(true);
    });
    unpacker.once("end", () => done(false));
    // Also after the end of it: what comes late must not throw.
    unpacker.on("error", () => done(true));
    unpacker.end(bytes);
  });
}

function unpackerOf(encoding: string): ReturnType<typeof createGunzip | typeof createBrotliDecompress> | undefined {
  const zlib: ZlibOptions = { finishFlush: constants.Z_SYNC_FLUSH };
  switch (encoding) {
    case "gzip":
    case "x-gzip":
      return createGunzip(zlib);
    case "deflate":
      return createInflate(zlib);
    case "br":
      return createBrotliDecompress({ finishFlush: constants.BROTLI_OPERATION_FLUSH });
    case "zstd":
      return createZstdDecompress({
        finishFlush: constants.ZSTD_e_flush,
        params: { [constants.ZSTD_d_windowLogMax]: ZSTD_WINDOW_LOG },
      });
    default:
      return undefined;
  }
}
