import { brotliDecompressSync, constants, gunzipSync, inflateSync } from "node:zlib";
import { headerValue, type RawHeaders } from "../../wire/headers.ts";
import type { BodyCopy } from "./recording.ts";
import { redactBody } from "./redact.ts";

/** Bytes that a compressed body may become. */
const MAX_DECODED_BYTES = 256 * 1024;

/** A body as it may be shown. */
export type ShownBody =
  | { readonly kind: "none" }
  /** Secrets hidden. `cut`: there was more of it. */
  | { readonly kind: "text"; readonly text: string; readonly type: string; readonly cut: boolean }
  | { readonly kind: "binary"; readonly bytes: number; readonly type: string };

/** Decodes what was kept of a body: compression off, text as text with its secrets hidden, anything else as a number of bytes. */
export function showBody(body: BodyCopy, headers: RawHeaders): ShownBody {
  if (body.total === 0) return { kind: "none" };
  const type = headerValue(headers, "content-type") ?? "";
  const binary = { kind: "binary", bytes: body.total, type } as const;
  const encoding = (headerValue(headers, "content-encoding") ?? "").trim().toLowerCase();
  const decoded = decompress(body.bytes, encoding);
  if (decoded === undefined) return binary;
  const cut = body.cut || decoded.length >= MAX_DECODED_BYTES;
  const text = asText(decoded, cut);
  return text === undefined ? binary : { kind: "text", text: redactBody(text, type), type, cut };
}

function decompress(bytes: Uint8Array, encoding: string): Uint8Array | undefined {
  // What was cut off is decoded as far as it goes.
  const zlib = { finishFlush: constants.Z_SYNC_FLUSH, maxOutputLength: MAX_DECODED_BYTES };
  try {
    switch (encoding) {
      case "":
      case "identity":
        return bytes;
      case "gzip":
      case "x-gzip":
        return gunzipSync(bytes, zlib);
      case "deflate":
        return inflateSync(bytes, zlib);
      case "br":
        return brotliDecompressSync(bytes, {
          finishFlush: constants.BROTLI_OPERATION_FLUSH,
          maxOutputLength: MAX_DECODED_BYTES,
        });
      default:
        return undefined;
    }
  } catch {
    return undefined;
  }
}

/** UTF-8 without control characters; undefined = it is something else. A character that a cut went through is left out. */
function asText(bytes: Uint8Array, cut: boolean): string | undefined {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes, { stream: cut });
    return isPlain(text) ? text : undefined;
  } catch {
    return undefined;
  }
}

function isPlain(text: string): boolean {
  for (let i = 0; i < text.length; i += 1) {
    const code = text.charCodeAt(i);
    if (code < 0x20 && code !== 0x09 && code !== 0x0a && code !== 0x0d && code !== 0x1b) return false;
  }
  return true;
}
