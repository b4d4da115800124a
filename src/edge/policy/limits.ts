import { REQUEST_HEAD_LIMITS } from "../../wire/h1/limits.ts";

/** How a limit is written: a number, a number of bytes (`10MiB`), or a time (`15s`, kept in ms). */
export type LimitUnit = "count" | "per-second" | "bytes" | "time";

interface LimitRule {
  readonly unit: LimitUnit;
  readonly default: number;
  /** Smallest and largest value; 0 = off, where `min` is 0. */
  readonly min: number;
  readonly max: number;
  /** What whoever meets it gets. */
  readonly answer: "closed" | 408 | 413 | 429 | 431 | 503;
  /** For help and documentation. */
  readonly help: string;
}

const MAX_COUNT = 1_000_000;
const DAY_MS = 86_400_000;

/** Every limit of the public side, by the name that `--limit` knows. */
export const LIMIT_RULES = {
  connections: {
    unit: "count",
    default: 20_000,
    min: 1,
    max: MAX_COUNT,
    answer: "closed",
    help: "Visitors' connections open at once",
  },
  "connections-per-ip": {
    unit: "count",
    default: 2_000,
    min: 1,
    max: MAX_COUNT,
    answer: "closed",
    help: "The same from one address",
  },
  "requests-per-ip": {
    unit: "count",
    default: 1_000,
    min: 0,
    max: MAX_COUNT,
    answer: 429,
    help: "Requests of one address that run at once, open WebSockets among them",
  },
  "requests-per-tunnel": {
    unit: "count",
    default: 20_000,
    min: 0,
    max: MAX_COUNT,
    answer: 503,
    help: "Requests to one tunnel that run at once, open WebSockets among them",
  },
  "rate-per-ip": {
    unit: "per-second",
    default: 2_000,
    min: 0,
    max: MAX_COUNT,
    answer: 429,
    help: "Requests a second of one address",
  },
  "burst-per-ip": {
    unit: "count",
    default: 0,
    min: 0,
    max: MAX_COUNT,
    answer: 429,
    help: "Requests that one address may send at once; 0 = as many as in two seconds",
  },
  "rate-per-tunnel": {
    unit: "per-second",
    default: 0,
    min: 0,
    max: MAX_COUNT,
    answer: 429,
    help: "Requests a second to one tunnel",
  },
  "burst-per-tunnel": {
    unit: "count",
    default: 0,
    min: 0,
    max: MAX_COUNT,
    answer: 429,
    help: "Requests that one tunnel may get at once; 0 = as many as in two seconds",
  },
  "header-size": {
    unit: "bytes",
    default: REQUEST_HEAD_LIMITS.headBytes,
    min: 1024,
    max: REQUEST_HEAD_LIMITS.headBytes,
    answer: 431,
    help: "Head of a request",
  },
  "body-size": {
    unit: "bytes",
    default: 0,
    min: 0,
    max: Number.MAX_SAFE_INTEGER,
    answer: 413,
    help: "Body of a request",
  },
  "header-timeout": {
    unit: "time",
    default: 15_000,
    min: 1_000,
    max: DAY_MS,
    answer: 408,
    help: "From the first byte of a head to its last",
  },
  "body-timeout": {
    unit: "time",
    default: 120_000,
    min: 1_000,
    max: DAY_MS,
    answer: 408,
    help: "Silence within a body that the service waits for",
  },
  "idle-timeout": {
    unit: "time",
    default: 75_000,
    min: 1_000,
    max: DAY_MS,
    answer: "closed",
    help: "Silence of a connection between requests",
  },
  "write-timeout": {
    unit: "time",
    default: 300_000,
    min: 1_000,
    max: DAY_MS,
    answer: "closed",
    help: "How long a visitor may take nothing of an answer that waits for it",
  },
} as const satisfies Readonly<Record<string, LimitRule>>;

export type LimitName = keyof typeof LIMIT_RULES;
export const LIMIT_NAMES = Object.keys(LIMIT_RULES) as readonly LimitName[];

/** Limits that turn something away by themselves; a burst is part of its rate. */
export type CountedLimit = Exclude<LimitName, `burst-${string}`>;
export const COUNTED_LIMITS = LIMIT_NAMES.filter((name): name is CountedLimit => !name.startsWith("burst-"));

export interface Limits {
  readonly values: Readonly<Record<LimitName, number>>;
  /** Limits that somebody set: those hold for this machine's own addresses too, where defaults spare them. */
  readonly chosen: ReadonlySet<LimitName>;
}

/** The defaults, with these in their place. */
export function limitsFrom(chosen: Readonly<Partial<Record<LimitName, number>>> = {}): Limits {
  const values = Object.fromEntries(LIMIT_NAMES.map((name) => [name, chosen[name] ?? LIMIT_RULES[name].default]));
  return {
    values: values as Record<LimitName, number>,
    chosen: new Set(LIMIT_NAMES.filter((name) => chosen[name] !== undefined)),
  };
}

export function isLimitName(text: string): text is LimitName {
  return Object.hasOwn(LIMIT_RULES, text);
}
