import { printable } from "../core/printable.ts";
import type { EdgeNumbers, TunnelNumbers } from "../edge/control/stats.ts";

/** What an edge said, and when that was, on the reader's clock. */
export interface Reading {
  readonly atMs: number;
  readonly numbers: EdgeNumbers;
}

/** One tunnel between two readings. */
export interface TunnelRate {
  readonly name: string;
  readonly status: TunnelNumbers["status"];
  readonly connectors: number;
  readonly connections: number;
  readonly running: number;
  readonly requestsPerS: number;
  /** Share of answers with 5xx, or none; undefined = there was no answer. */
  readonly errors: number | undefined;
  /** Time to the first byte that half, and 95 of 100, of the answers stayed below, in s; undefined = no answer. */
  readonly p50: number | undefined;
  readonly p95: number | undefined;
  readonly inPerS: number;
  readonly outPerS: number;
}

/** What is narrower shows the left part of a frame of this width. */
const MIN_COLUMNS = 40;
/** Lines above the table. */
const HEAD_LINES = 6;

/**
 * A screen of at most `rows` lines, none wider than `columns`: the totals, then the busiest tunnels, as many as fit. `before`:
 * undefined at the start, when there are no rates yet.
 */
export function topFrame(
  before: Reading | undefined,
  now: Reading,
  screen: { readonly columns: number; readonly rows: number; readonly clock: string },
): readonly string[] {
  const columns = Math.max(MIN_COLUMNS, screen.columns);
  const { numbers } = now;
  const rates = tunnelRates(before, now);
  const room = Math.max(1, screen.rows - HEAD_LINES);
  const shown = rates.slice(0, room);
  const hidden = rates.length - shown.length + numbers.more;
  const total = totals(before, now);
  const { tunnels, visitors } = numbers;
  return [
    sides(`culvert edge ${numbers.location}, up ${formatTime(numbers.uptimeMs)}`, `${screen.clock}  q quits`, columns),
    `Tunnels   ${tunnels.connected} of ${tunnels.total} connected, by ${tunnels.connections} connections; ${tunnels.hostnames} hostnames`,
    `Visitors  ${visitors.openConnections} connections, ${rate(total.requests)} requests/s, ${share(total.errors)} errors`,
    `Traffic   ${bytes(total.bytesIn)}/s in, ${bytes(total.bytesOut)}/s out; ${rate(total.limited)}/s limited, ${rate(total.retries)}/s retried`,
    "",
    tableHead(columns, hidden),
    ...(shown.length === 0 ? ["No tunnel is connected."] : shown.map((one) => tableRow(one, columns))),
  ]
    .slice(0, screen.rows)
    .map((line) => cut(line, screen.columns));
}

/** Tunnels, those with the most requests per second first. */
export function tunnelRates(before: Reading | undefined, now: Reading): readonly TunnelRate[] {
  const known = new Map(before?.numbers.list.map((one) => [one.id, one]));
  const seconds = secondsBetween(before, now);
  const bounds = now.numbers.latencyBounds;
  return now.numbers.list
    .map((one): TunnelRate => {
      const first = before === undefined ? one : known.get(one.id);
      const answered = difference(Object.values(one.answers), Object.values(first?.answers ?? {}));
      const all = sum(answered);
      const latency = difference(one.latency, first?.latency ?? []);
      return {
        ...{ name: one.name, status: one.status, connectors: one.connectors, connections: one.connections },
        running: one.running,
        requestsPerS: Math.max(0, one.requests - (first?.requests ?? 0)) / seconds,
        errors: all === 0 ? undefined : (answered[5] ?? 0) / all,
        p50: quantile(bounds, latency, 0.5),
        p95: quantile(bounds, latency, 0.95),
        inPerS: Math.max(0, one.bytesIn - (first?.bytesIn ?? 0)) / seconds,
        outPerS: Math.max(0, one.bytesOut - (first?.bytesOut ?? 0)) / seconds,
      };
    })
    .toSorted((a, b) => b.requestsPerS - a.requestsPerS || b.running - a.running || (a.name < b.name ? -1 : 1));
}

function totals(before: Reading | undefined, now: Reading) {
  const last = now.numbers.visitors;
  const first = before?.numbers.visitors ?? last;
  const seconds = secondsBetween(before, now);
  const per = (field: "requests" | "limited" | "retries" | "bytesIn" | "bytesOut"): number =>
    Math.max(0, last[field] - first[field]) / seconds;
  const answered = difference(Object.values(last.answers), Object.values(first.answers));
  const all = sum(answered);
  return {
    ...{ requests: per("requests"), limited: per("limited"), retries: per("retries") },
    ...{ bytesIn: per("bytesIn"), bytesOut: per("bytesOut") },
    errors: all === 0 ? undefined : (answered[5] ?? 0) / all,
  };
}

function secondsBetween(before: Reading | undefined, now: Reading): number {
  return before === undefined ? 1 : Math.max(0.001, (now.atMs - before.atMs) / 1_000);
}

/** What was added; an edge that began anew counts from 0. */
function difference(last: readonly number[], first: readonly number[]): readonly number[] {
  return last.map((count, i) => Math.max(0, count - (first[i] ?? 0)));
}

function sum(counts: readonly number[]): number {
  return counts.reduce((total, count) => total + count, 0);
}

/** As Prometheus reads a histogram: evenly spread within the bucket; the last bucket counts as its lower end. */
export function quantile(bounds: readonly number[], counts: readonly number[], q: number): number | undefined {
  const total = sum(counts);
  if (total === 0) return undefined;
  const wanted = q * total;
  let below = 0;
  for (let i = 0; i < counts.length; i += 1) {
    const inside = counts[i] ?? 0;
    if (below + inside >= wanted && inside > 0) {
      const from = i === 0 ? 0 : (bounds[i - 1] ?? 0);
      const to = bounds[i] ?? from;
      return from + ((to - from) * (wanted - below)) / inside;
    }
    below += inside;
  }
  return bounds.at(-1);
}

/** Widths without the name, which takes what is left. The last ones are left out on narrow screens. */
const COLUMNS: readonly {
  readonly title: string;
  readonly width: number;
  readonly left?: boolean;
  readonly cell: (one: TunnelRate) => string;
}[] = [
  { title: "STATE", width: 8, left: true, cell: ({ status }) => status },
  { title: "CONN", width: 6, cell: ({ connectors, connections }) => `${connectors}/${connections}` },
  { title: "REQ/S", width: 7, cell: ({ requestsPerS }) => rate(requestsPerS) },
  { title: "ERR", width: 6, cell: ({ errors }) => share(errors) },
  { title: "P50", width: 6, cell: ({ p50 }) => duration(p50) },
  { title: "P95", width: 6, cell: ({ p95 }) => duration(p95) },
  { title: "OPEN", width: 5, cell: ({ running }) => String(running) },
  { title: "OUT/S", width: 6, cell: ({ outPerS }) => bytes(outPerS) },
];
const MIN_NAME = 12;

function fitting(columns: number): { readonly cells: typeof COLUMNS; readonly name: number } {
  let left = columns - MIN_NAME;
  const cells = COLUMNS.filter(({ width }) => {
    left -= width + 1;
    return left >= 0;
  });
  return { cells, name: columns - cells.reduce((total, { width }) => total + width + 1, 0) };
}

function tableHead(columns: number, hidden: number): string {
  const { cells, name } = fitting(columns);
  const title = hidden === 0 ? "TUNNEL" : `TUNNEL (${hidden} more)`;
  return [pad(title, name), ...cells.map((one) => aligned(one.title, one.width, one.left))].join(" ");
}

function tableRow(one: TunnelRate, columns: number): string {
  const { cells, name } = fitting(columns);
  return [pad(one.name, name), ...cells.map(({ cell, width, left }) => aligned(cell(one), width, left))].join(" ");
}

function aligned(text: string, width: number, left = false): string {
  return left ? text.slice(0, width).padEnd(width) : text.slice(0, width).padStart(width);
}

function sides(left: string, right: string, columns: number): string {
  const room = columns - right.length - 1;
  return room < 10 ? left : `${pad(left, room)} ${right}`;
}

/** To that many cells of a terminal, cut or filled up. */
function pad(text: string, cells: number): string {
  const short = cut(text, cells);
  return short + " ".repeat(Math.max(0, cells - widthOf(short)));
}

/** At most that many cells, without anything that a terminal would obey. */
function cut(text: string, cells: number): string {
  const plain = printable(text);
  if (widthOf(plain) <= cells) return plain;
  let width = 0;
  let shown = "";
  for (const char of plain) {
    width += cellsOf(char);
    if (width > cells - 1) break;
    shown += char;
  }
  return `${shown}…`;
}

function widthOf(text: string): number {
  let width = 0;
  for (const char of text) width += cellsOf(char);
  return width;
}

/** Cells of one character: marks have none, East Asian wide ones and pictures two. */
function cellsOf(char: string): number {
  if (/\p{M}/u.test(char)) return 0;
  return /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f300}-\u{1faff}\u{20000}-\u{3fffd}]/u.test(
    char,
  )
    ? 2
    : 1;
}

function rate(perS: number): string {
  if (perS === 0) return "0";
  if (perS < 100) return perS.toFixed(1);
  return perS < 10_000 ? String(Math.round(perS)) : `${Math.round(perS / 1_000)}k`;
}

function share(part: number | undefined): string {
  if (part === undefined) return "-";
  return part === 0 || part === 1 ? `${part * 100}%` : `${(part * 100).toFixed(1)}%`;
}

function duration(s: number | undefined): string {
  if (s === undefined) return "-";
  if (s < 1) return `${Math.max(1, Math.round(s * 1_000))}ms`;
  return s < 10 ? `${s.toFixed(1)}s` : `${Math.round(s)}s`;
}

export function bytes(count: number): string {
  const units = ["B", "K", "M", "G", "T"];
  let value = count;
  let unit = 0;
  while (value >= 1_000 && unit < units.length - 1) {
    value /= 1_024;
    unit += 1;
  }
  return unit === 0 ? `${Math.round(value)}B` : `${value < 10 ? value.toFixed(1) : Math.round(value)}${units[unit]}`;
}

/** `3d 04:05:06`, or `04:05:06`. */
export function formatTime(ms: number): string {
  const s = Math.floor(ms / 1_000);
  const two = (value: number): string => String(value).padStart(2, "0");
  const clock = `${two(Math.floor(s / 3_600) % 24)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
  return s < 86_400 ? clock : `${Math.floor(s / 86_400)}d ${clock}`;
}
