import { execFile } from "node:child_process";
import { isIP } from "node:net";
import { zipSync } from "fflate";
import type { Clock } from "../core/clock.ts";
import { createScrubber } from "../core/log-redact.ts";
import { listenerUid } from "./listener-owner.ts";
import { fetchPage, fieldsOf, type LocalConnector } from "./local-status.ts";
import { type LogSource, readLog } from "./log-source.ts";

/** Bounds on one page, on the profile, on one trace, in ms. */
const PAGE_MS = 10_000;
const PROFILE_SECONDS = 3;
const TRACE_MS = 15_000;
/** Hops that are looked at, and addresses; the way through one's own network is what varies. */
const TRACE_HOPS = 5;
const MAX_TRACES = 4;
const NS_PER_MS = 1_000_000;
/** A tunnel's token: JSON in base64, longer than any name. */
const TOKEN = /\beyJ[\w+/-]{24,}={0,2}/g;
const PRIVATE_KEY = /-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)/g;

export type Part = "logs" | "metrics" | "system" | "runtime" | "network";

export interface CollectOptions {
  readonly connector: LocalConnector;
  /** What to leave out. */
  readonly without: ReadonlySet<Part>;
  readonly log: LogSource;
  readonly clock: Clock;
}

/** How the making of one file went. */
export interface TaskResult {
  readonly file: string;
  /** Undefined = it is in the zip. */
  readonly error: string | undefined;
  readonly ms: number;
}

export interface Collected {
  readonly zip: Uint8Array;
  readonly results: readonly TaskResult[];
}

/**
 * What is known about a connector of this machine, as a zip with the names that cloudflared gives its files (surface:
 * section 19). Its memory is left out, since that holds the tunnel's secret; texts are cleaned of what looks like one.
 */
export async function collect(options: CollectOptions): Promise<Collected> {
  const { connector, without, clock } = options;
  const { address, auth } = connector;
  const page = async (path: string, timeoutMs = PAGE_MS): Promise<Uint8Array> => {
    const answer = await fetchPage(address, path, { timeoutMs, auth });
    if (answer === undefined) throw new Error(`${path} gives no answer`);
    if (answer.status !== 200) throw new Error(`${path} answers ${answer.status}`);
    return answer.body;
  };
  const reader = { namedBy: listenerUid(address), self: process.getuid?.() };
  let ways: Promise<readonly Way[]> | undefined;
  const looked = (): Promise<readonly Way[]> => {
    ways ??= page("/diag/tunnel").then(traces);
    return ways;
  };
  const tasks: readonly { readonly part?: Part; readonly file: string; readonly make: () => Promise<Uint8Array> }[] = [
    { file: "tunnelstate.json", make: () => page("/diag/tunnel") },
    { file: "cli-configuration.json", make: () => page("/diag/configuration") },
    { file: "configuration.json", make: () => page("/config") },
    { part: "metrics", file: "metrics.txt", make: () => page("/metrics") },
    { part: "system", file: "systeminformation.json", make: () => page("/diag/system") },
    {
      part: "runtime",
      file: "cpu.cpuprofile",
      make: () => page(`/debug/pprof/profile?seconds=${PROFILE_SECONDS}`, PROFILE_SECONDS * 1000 + PAGE_MS),
    },
    {
      part: "network",
      file: "raw-network.txt",
      make: async () => encode((await looked()).map(({ address, text }) => `${address}\n${text}`).join("\n")),
    },
    {
      part: "network",
      file: "network.json",
      make: async () =>
        encode(JSON.stringify(Object.fromEntries((await looked()).map((way) => [way.address, hopsOf(way.text)])))),
    },
    {
      part: "logs",
      file: "culvert_logs.txt",
      make: async () => encode(await readLog(options.log, await page("/diag/configuration"), reader)),
    },
  ];
  const files: Record<string, Uint8Array> = {};
  const results = await Promise.all(
    tasks
      .filter(({ part }) => part === undefined || !without.has(part))
      .map(async ({ file, make }): Promise<TaskResult> => {
        const startMs = clock.nowMs();
        let error: string | undefined;
        try {
          files[file] = encode(clean(new TextDecoder().decode(await make()), auth));
        } catch (thrown) {
          error = thrown instanceof Error ? thrown.message : String(thrown);
        }
        return { file, error, ms: Math.round(clock.nowMs() - startMs) };
      }),
  );
  files["task-result.json"] = encode(JSON.stringify(results, undefined, 2));
  return { zip: zipSync(files, { level: 6 }), results };
}

/** The text without what lets somebody in. */
export function clean(text: string, auth?: string): string {
  const known = auth === undefined ? [] : [auth, auth.slice(auth.indexOf(":") + 1)];
  return createScrubber(known)(text.replace(PRIVATE_KEY, "REDACTED").replace(TOKEN, "REDACTED"));
}

/** A way to an address of the edge, and what `traceroute` said of it. */
interface Way {
  readonly address: string;
  readonly text: string;
}

/** The way to the edge's addresses, as `traceroute` sees it; one after the other would take too long. */
async function traces(tunnelState: Uint8Array): Promise<readonly Way[]> {
  const { connections } = fieldsOf({ status: 200, body: tunnelState });
  const list: readonly unknown[] = Array.isArray(connections) ? connections : [];
  const addresses = list.flatMap((one) => {
    const address = typeof one === "object" && one !== null && "edgeAddress" in one ? one.edgeAddress : undefined;
    return typeof address === "string" && isIP(address) > 0 ? [address] : [];
  });
  const distinct = [...new Set(addresses)].slice(0, MAX_TRACES);
  if (distinct.length === 0) throw new Error("The connector has no connection whose way could be looked at");
  return await Promise.all(distinct.map(async (address) => ({ address, text: await trace(address) })));
}

interface Hop {
  readonly hop: number;
  /** Its address; `*` = it gave no answer. */
  readonly domain: string;
  /** Round trips, in ns as cloudflared has them. */
  readonly rtts: readonly number[];
}

/** The hops in what `traceroute` or `tracert` printed. */
export function hopsOf(text: string): readonly Hop[] {
  return text.split(/\r?\n/).flatMap((line): readonly Hop[] => {
    const [, hop, rest = ""] = /^\s*(\d+)\s+(.*)$/.exec(line) ?? [];
    if (hop === undefined) return [];
    const domain = rest.split(/\s+/).find((word) => isIP(word) > 0) ?? "*";
    const rtts = [...rest.matchAll(/([\d.]+) ms\b/g)].map(([, ms]) => Math.round(Number(ms) * NS_PER_MS));
    return [{ hop: Number(hop), domain, rtts }];
  });
}

function trace(address: string): Promise<string> {
  const [program, args] =
    process.platform === "win32"
      ? ["tracert", ["-d", "-h", `${TRACE_HOPS}`, "-w", "1000", address]]
      : ["traceroute", ["-n", "-m", `${TRACE_HOPS}`, "-w", "1", "-q", "1", address]];
  return new Promise((resolve, reject) => {
    execFile(program, args, { timeout: TRACE_MS, windowsHide: true }, (error, stdout) => {
      if (error !== null && stdout === "") reject(new Error(`${program}: ${error.message.split("\n", 1)[0] ?? ""}`));
      else resolve(stdout);
    });
  });
}

function encode(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}
