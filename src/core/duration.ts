const UNIT_MS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  μs: 1e-3,
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
};

const TERM = /([0-9]*\.?[0-9]+|[0-9]+\.)(ns|us|µs|μs|ms|s|m|h)/y;

/** Go counts nanoseconds in 63 bits: what is longer is no duration there, and a typing error here. */
const MAX_DURATION_MS = 2 ** 63 / 1e6;
/** Results are rounded to whole nanoseconds, which is what Go's are. */
const NS_PER_MS = 1e6;

/**
 * Reads a duration as Go writes it (`300ms`, `1m30s`, `1.5h`, `0`) into ms, without the noise of binary fractions; undefined when it
 * is none, or longer than Go's longest (about 292 years).
 */
export function parseDuration(text: string): number | undefined {
  const negative = text.startsWith("-");
  const body = text.replace(/^[+-]/, "");
  if (body === "0") return 0;
  if (body === "") return undefined;
  let total = 0;
  TERM.lastIndex = 0;
  while (TERM.lastIndex < body.length) {
    const term = TERM.exec(body);
    if (term === null) return undefined;
    total += Number(term[1]) * (UNIT_MS[term[2] as string] as number);
  }
  if (total >= MAX_DURATION_MS) return undefined;
  const ns = Math.round(total * NS_PER_MS);
  // Beyond some hundred days a number has no room for nanoseconds, and nobody counts them.
  const exact = Number.isSafeInteger(ns) ? ns / NS_PER_MS : total;
  return negative && exact !== 0 ? -exact : exact;
}

/** Writes ms as Go does: `1m30s`, `500ms`, `1.5µs`, `0s`. */
export function formatDuration(ms: number): string {
  if (ms === 0) return "0s";
  if (ms < 0) return `-${formatDuration(-ms)}`;
  if (ms < 1e-3) return `${decimal(ms * 1e6)}ns`;
  if (ms < 1) return `${decimal(ms * 1e3)}µs`;
  if (ms < 1_000) return `${decimal(ms)}ms`;
  const hours = Math.floor(ms / 3_600_000);
  const minutes = Math.floor((ms % 3_600_000) / 60_000);
  const seconds = decimal((ms % 60_000) / 1_000);
  return `${hours > 0 ? `${hours}h` : ""}${hours > 0 || minutes > 0 ? `${minutes}m` : ""}${seconds}s`;
}

/** Nine decimal places are a nanosecond in a second; what is behind them is noise of binary fractions. */
function decimal(value: number): string {
  return String(Math.round(value * 1e9) / 1e9);
}
