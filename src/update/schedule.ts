import { type Parsed, refused } from "../wire/parsed.ts";

const DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"] as const;
const MINUTES_A_DAY = 24 * 60;
const MINUTE_MS = 60_000;
/** Of a window, this share of its end is left alone: an update that begins in a window should end in it. */
const LATEST_SHARE = 0.8;

/** When changes are welcome, in local time. */
export interface MaintenanceWindow {
  /** Days that it opens on, 0 = Sunday. */
  readonly days: ReadonlySet<number>;
  /** Minutes since midnight. */
  readonly opens: number;
  /** From 1 to a day. */
  readonly minutes: number;
}

export interface Schedule {
  /** The mean time between two checks, in ms. */
  readonly everyMs: number;
  /** Undefined = always. */
  readonly window: MaintenanceWindow | undefined;
}

/** Reads `02:00-04:30`, `22:00-02:00` (over midnight) or `sat,sun 02:00-06:00`. */
export function parseWindow(text: string): Parsed<MaintenanceWindow> {
  const parts = /^\s*(?:([a-z,]+)\s+)?(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})\s*$/i.exec(text);
  if (parts === null) return refused("", "not HH:MM-HH:MM, with days like sat,sun before it if only they will do");
  const names = parts[1]?.toLowerCase().split(",") ?? DAYS;
  const days = names.map((name) => (DAYS as readonly string[]).indexOf(name));
  if (days.includes(-1)) return refused("", `not made of the days ${DAYS.join(", ")}`);
  const [opens, closes] = [minuteOf(parts[2], parts[3]), minuteOf(parts[4], parts[5])];
  if (opens === undefined || closes === undefined) return refused("", "not made of times from 00:00 to 23:59");
  const minutes = (closes - opens + MINUTES_A_DAY) % MINUTES_A_DAY;
  return { ok: true, value: { days: new Set(days), opens, minutes: minutes === 0 ? MINUTES_A_DAY : minutes } };
}

function minuteOf(hours = "", minutes = ""): number | undefined {
  const [hour, minute] = [Number(hours), Number(minutes)];
  return hour < 24 && minute < 60 ? hour * 60 + minute : undefined;
}

/**
 * How long to wait for the next check, in ms. Chance spreads the machines of a fleet: over a whole period without a
 * window, over the window with one.
 */
export function nextCheckMs({ everyMs, window }: Schedule, wallMs: number, random: () => number): number {
  const due = wallMs + everyMs * (0.5 + random());
  if (window === undefined) return due - wallMs;
  for (let from = due; ; ) {
    const { opens, closes } = nextOpening(window, from);
    const earliest = Math.max(opens, from);
    const latest = opens + (closes - opens) * LATEST_SHARE;
    if (earliest < latest) return earliest + (latest - earliest) * random() - wallMs;
    // Too late in this one.
    from = closes;
  }
}

/** The window that is open at a time, or the next one. */
function nextOpening(window: MaintenanceWindow, wallMs: number): { readonly opens: number; readonly closes: number } {
  const at = new Date(wallMs);
  // One that opened yesterday may still be open; a week later every day has come.
  for (let day = -1; day <= 8; day++) {
    const opening = new Date(at.getFullYear(), at.getMonth(), at.getDate() + day, 0, window.opens);
    const closes = opening.getTime() + window.minutes * MINUTE_MS;
    if (window.days.has(opening.getDay()) && closes > wallMs) return { opens: opening.getTime(), closes };
  }
  return { opens: wallMs, closes: wallMs + MINUTE_MS };
}
