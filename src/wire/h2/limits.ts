import { MAX_FRAME_BYTES, MAX_HEADER_BLOCK_BYTES } from "./frame-reader.ts";

/** Unread bytes we let the peer send on one stream, at first. */
export const STREAM_WINDOW_BYTES = 1024 * 1024;
/** The same for a stream whose owner keeps up: a fast transfer must not wait for a peer's turn on the processor. */
export const MAX_STREAM_WINDOW_BYTES = 8 * 1024 * 1024;
/** The connection's own window. It is refilled as bytes arrive, so that a stalled stream cannot stall the others. */
export const CONNECTION_WINDOW_BYTES = 16 * 1024 * 1024;
/** Bytes put aside for paused streams of one connection, at which refilling stops and the whole link is held back. */
export const HELD_BUDGET_BYTES = 64 * 1024 * 1024;
/** A decoded header block: names, values and 32 a field. */
export const MAX_HEADER_LIST_BYTES = 1024 * 1024;
/** Streams the peer may have open at once (server role). */
export const MAX_CONCURRENT_STREAMS = 16_384;
/** Output not yet taken above which streams are told to hold back. */
export const OUTPUT_HIGH_BYTES = 256 * 1024;
/** Answers to control frames (acks, resets) that may pile up behind a peer that does not read. */
export const MAX_STUCK_OUTPUT_BYTES = 4 * 1024 * 1024;
/** Control frames in a row, with no message bytes between them either way, that end a connection. */
export const MAX_IDLE_CONTROL_FRAMES = 20_000;
/** Settings in one frame. Each may touch every stream, so a frame of thousands would be cheap to send and dear to take. */
export const MAX_SETTINGS_IN_FRAME = 32;

/** What one peer may cost. */
export interface H2Limits {
  /** Streams it may have open at once (server role). */
  readonly streams: number;
  /** Unread bytes of one stream: at first (65,535 or more), and once its owner keeps up. */
  readonly streamWindowBytes: number;
  readonly maxStreamWindowBytes: number;
  /** Unread bytes of the connection (65,535 or more). */
  readonly connectionWindowBytes: number;
  /** Bytes put aside for paused streams at which the connection's window stays shut. */
  readonly heldBudgetBytes: number;
  /** A decoded header block: names, values and 32 a field. */
  readonly headerListBytes: number;
  /** An encoded one. */
  readonly headerBlockBytes: number;
  /** Longest frame (16,384 or more). */
  readonly frameBytes: number;
  /** Control frames in a row, with no message between them. */
  readonly idleControlFrames: number;
  /** CONNECT requests reach the handler and RFC 8441 is announced; otherwise they are malformed (server role). */
  readonly connect: boolean;
}

/** Limits of a tunnel: the peer is known, and carries the traffic of many visitors. */
export const TUNNEL_LIMITS: H2Limits = {
  streams: MAX_CONCURRENT_STREAMS,
  streamWindowBytes: STREAM_WINDOW_BYTES,
  maxStreamWindowBytes: MAX_STREAM_WINDOW_BYTES,
  connectionWindowBytes: CONNECTION_WINDOW_BYTES,
  heldBudgetBytes: HELD_BUDGET_BYTES,
  headerListBytes: MAX_HEADER_LIST_BYTES,
  headerBlockBytes: MAX_HEADER_BLOCK_BYTES,
  frameBytes: MAX_FRAME_BYTES,
  idleControlFrames: MAX_IDLE_CONTROL_FRAMES,
  connect: false,
};
