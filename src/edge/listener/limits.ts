/**
 * Silence of an answer after the visitor ended its direction, in ms. Browsers leave an open event stream that way and
 * send nothing further; a visitor that only half-closed still gets an answer that moves.
 */
export const HALF_CLOSED_IDLE_MS = 5_000;
/** How long the rest of a request is read and dropped after an early answer, so that the answer is not lost, in ms. */
export const LINGER_MS = 5_000;
/** How long a connection without a request may stay when the edge stops, in ms: its visitor was told to go. */
export const RETIRED_LINGER_MS = 1_000;
/** Bytes of the rest of a request read and dropped. */
export const MAX_LINGER_BYTES = 4 * 1024 * 1024;

/** Requests one HTTP/2 connection may have running. */
export const MAX_H2_STREAMS = 250;
/**
 * Requests that a visitor of HTTP/2 may take back before they are answered: at once, and a second. Each costs a request
 * to the origin and nothing to whoever sent it ("rapid reset"); browsers and callers with deadlines stay far below.
 */
export const H2_RESET_BURST = 1_000;
export const H2_RESETS_PER_SECOND = 50;
/** Silence of an HTTP/2 connection that carries requests before it is asked for a sign of life, in ms. */
export const H2_PING_AFTER_MS = 60_000;
