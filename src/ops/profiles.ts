import { Session } from "node:inspector";
import { getHeapSnapshot } from "node:v8";
import { type Clock, delay } from "../core/clock.ts";
import { TunnelError } from "../core/errors.ts";

/** Bounds on one CPU profile, in seconds. */
const MAX_SECONDS = 60;
const DEFAULT_SECONDS = 10;

let busy = false;

/** One profile of either kind at a time. Rejects with `stream.limit` while another one is being taken. */
async function alone<T>(take: () => Promise<T>): Promise<T> {
  if (busy) throw new TunnelError("stream.limit", "Another profile is being taken");
  busy = true;
  try {
    return await take();
  } finally {
    busy = false;
  }
}

/** Seconds that somebody asked for, within bounds. */
export function profileSeconds(asked: string | null): number {
  const seconds = asked === null ? DEFAULT_SECONDS : Number(asked);
  return Number.isFinite(seconds) && seconds > 0 ? Math.min(seconds, MAX_SECONDS) : DEFAULT_SECONDS;
}

/**
 * Where this process spends its time, as a `.cpuprofile` that browsers' developer tools, VS Code and speedscope open. One at
 * a time; rejects with `stream.limit` while another one runs. Ends early when `signal` aborts.
 */
export function cpuProfile(seconds: number, clock: Clock, signal: AbortSignal): Promise<string> {
  return alone(() => record(seconds, clock, signal));
}

async function record(seconds: number, clock: Clock, signal: AbortSignal): Promise<string> {
  const session = new Session();
  session.connect();
  try {
    await post(session, "Profiler.enable");
    await post(session, "Profiler.start");
    await delay(clock, seconds * 1000, signal);
    const { profile } = (await post(session, "Profiler.stop")) as { readonly profile: unknown };
    return JSON.stringify(profile);
  } finally {
    session.disconnect();
  }
}

/**
 * What is in the heap, as a `.heapsnapshot` that browsers' developer tools open: which objects there are, how large they
 * are and who holds them, without the contents of texts, which are secrets of this tunnel and of its visitors. The
 * process stands still meanwhile. One at a time; rejects with `stream.limit` while another profile is being taken.
 */
export function heapSnapshot(): Promise<string> {
  return alone(snapshotWithoutTexts);
}

async function snapshotWithoutTexts(): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of getHeapSnapshot()) chunks.push(Buffer.from(chunk as Uint8Array | string));
  const snapshot = JSON.parse(Buffer.concat(chunks).toString()) as Snapshot;
  return JSON.stringify({ ...snapshot, strings: namesAlone(snapshot) });
}

/** The parts of a snapshot that say where names are: two tables of numbers, described by `meta`. */
interface Snapshot {
  readonly snapshot: {
    readonly meta: {
      readonly node_fields: readonly string[];
      readonly node_types: readonly (readonly string[] | string)[];
      readonly edge_fields: readonly string[];
      readonly edge_types: readonly (readonly string[] | string)[];
    };
  };
  readonly nodes: readonly number[];
  readonly edges: readonly number[];
  readonly strings: readonly string[];
}

/** Kinds of node whose name is what they hold. */
const CONTENTS: ReadonlySet<string> = new Set([
  ...["string", "concatenated string", "sliced string", "number", "bigint", "symbol", "regexp"],
]);
/** Kinds of edge that are named by a number of their own. */
const NUMBERED: ReadonlySet<string> = new Set(["element", "hidden"]);

/** The texts of a snapshot that are names of classes, functions and properties; the others are empty. */
function namesAlone({ snapshot, nodes, edges, strings }: Snapshot): readonly string[] {
  const { node_fields, node_types, edge_fields, edge_types } = snapshot.meta;
  const names = new Set<number>();
  const collect = (
    table: readonly number[],
    fields: readonly string[],
    types: readonly (readonly string[] | string)[],
    name: string,
    isContent: ReadonlySet<string>,
  ): void => {
    const typeAt = fields.indexOf("type");
    const nameAt = fields.indexOf(name);
    const kinds = types[typeAt] ?? [];
    for (let row = 0; row < table.length; row += fields.length) {
      const kind = kinds[table[row + typeAt] ?? 0] ?? "";
      if (!isContent.has(kind)) names.add(table[row + nameAt] ?? 0);
    }
  };
  collect(nodes, node_fields, node_types, "name", CONTENTS);
  collect(edges, edge_fields, edge_types, "name_or_index", NUMBERED);
  return strings.map((text, index) => (names.has(index) ? text : ""));
}

function post(session: Session, method: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    session.post(method, (error, result) => {
      if (error === null) resolve(result);
      else reject(error);
    });
  });
}
