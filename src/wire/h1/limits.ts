/** Bounds on one HTTP/1.1 message head; reaching one is answered with 414 or 431, never by buffering on. */
export interface HeadLimits {
  /** Start line and fields with their line ends, in bytes. */
  readonly headBytes: number;
  /** The request or status line, in bytes; longer request lines are answered with 414. */
  readonly startLineBytes: number;
  /** Number of field lines. */
  readonly fields: number;
}

/** What a visitor may send. 64 KiB of fields must pass the tunnel, so the head as a whole may be larger. */
export const REQUEST_HEAD_LIMITS: HeadLimits = { headBytes: 80 * 1024, startLineBytes: 16 * 1024, fields: 200 };

/** What an origin may send: it is trusted more than a visitor, and nobody is served by refusing its answer. */
export const RESPONSE_HEAD_LIMITS: HeadLimits = { headBytes: 256 * 1024, startLineBytes: 8 * 1024, fields: 1000 };

/** Trailer section of a chunked body. */
export const MAX_TRAILER_BYTES = 16 * 1024;
export const MAX_TRAILER_FIELDS = 100;

/** Extensions of one chunk, from `;` to the line end, in bytes. */
export const MAX_CHUNK_EXTENSION_BYTES = 1024;

/** Extensions of all chunks of one body together: they carry nothing, so a peer must not make us read them for ever. */
export const MAX_BODY_EXTENSION_BYTES = 16 * 1024;

/** Hexadecimal digits of a chunk size, leading zeros included. */
export const MAX_CHUNK_SIZE_DIGITS = 16;

/** Digits of a Content-Length: any such number is exact in a double. */
export const MAX_CONTENT_LENGTH_DIGITS = 15;

/**
 * Bytes taken after a message ended and before `next`, in chunks behind the one that ended it. An owner who stops
 * reading the socket never comes near it.
 */
export const MAX_PIPELINED_BYTES = 1024 * 1024;

/** Interim answers (1xx) in front of one final answer. */
export const MAX_INFORMATIONAL = 32;
