/** First wait doubles from here, in ms. */
export const BACKOFF_BASE_MS = 1_000;
/** Wait between the starts of slot 2, 3, …, in ms. */
export const SLOT_START_INTERVAL_MS = 1_000;
/**
 * An edge that does not answer is not loaded by being asked again, and visitors wait: so a slot that is down begins a
 * dial every 2 s at least in its first minute, and every 4 s for ever (or when the dial before ends, which is bounded),
 * where a refusal backs off further.
 */
export const EAGER_MS = 60_000;
/** Wait behind a dial that took longer than that, at most, in ms: so that many do not dial in step. */
export const SPREAD_MS = 250;
/** A connection that served this long is replaced within {@link QUICK_RETRY_MS} when it is lost, in ms. */
export const SETTLED_MS = 10_000;
export const QUICK_RETRY_MS = 500;
/** An attempt that is neither registered nor ended after this long is given up, in ms. */
export const ATTEMPT_LIMIT_MS = 45_000;
/** A tunnel without any connection for this long is built anew, from discovery on, in ms. */
export const OUTAGE_MS = 60_000;
/** A slot that failed this often in a row has the edge looked up again. */
export const REDISCOVER_AFTER = 3;
/** Lookups are at least this far apart while addresses are known, in ms. */
export const REDISCOVER_MS = 10_000;
/** Wait before the next lookup when none succeeded, in ms; doubles up to {@link MAX_DISCOVERY_DOUBLINGS} times. */
export const DISCOVERY_BASE_MS = 1_000;
export const MAX_DISCOVERY_DOUBLINGS = 4;
/** A fresh connection stays this long before it moves to a better transport, in ms. */
export const MOVE_TRANSPORT_AFTER_MS = 5_000;
/** And this long before it moves to a region that has too few, in ms. */
export const MOVE_REGION_AFTER_MS = 60_000;
/** Wait between two moves, in ms. */
export const MOVE_INTERVAL_MS = 1_000;
/** How often a refused secret is tried again before the first registration: a fresh tunnel may not be known yet. */
export const UNAUTHORIZED_TRIES = 3;
