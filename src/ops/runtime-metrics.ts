import { readdirSync, readFileSync } from "node:fs";
import type { CancelTimer, Clock } from "../core/clock.ts";
import type { MetricFamily } from "./exposition.ts";
import { Histogram } from "./histogram.ts";
import { memoryUsage } from "./memory-usage.ts";

/** How often the event loop is asked how late it is, in ms. */
const LOOK_MS = 1_000;
/** Seconds. */
const DELAY_BOUNDS = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5] as const;
const KIB = 1024;
/** Clock ticks of a second, in which Linux gives times of processes. */
const TICKS = 100;

/** Looks once a second how late timers fire, which is what everybody waits when a connector computes too long, and at the heap. */
export class RuntimeWatch {
  readonly delay = new Histogram(DELAY_BOUNDS);
  /** What the heap grew by from one look to the next, summed up: asking the runtime for all that was ever on it takes long. */
  allocatedBytes = 0;
  #heapBytes = memoryUsage()?.heapUsed ?? 0;
  #cancel: CancelTimer = () => {};

  constructor(clock: Clock) {
    const look = (): void => {
      const dueMs = clock.nowMs() + LOOK_MS;
      this.#cancel = clock.after(
        LOOK_MS,
        () => {
          this.delay.observe(Math.max(0, clock.nowMs() - dueMs) / 1000);
          this.#lookAtHeap();
          look();
        },
        { background: true },
      );
    };
    look();
  }

  stop(): void {
    this.#cancel();
  }

  #lookAtHeap(): void {
    const heapUsed = memoryUsage()?.heapUsed ?? 0;
    this.allocatedBytes += Math.max(0, heapUsed - this.#heapBytes);
    this.#heapBytes = heapUsed;
  }
}

/**
 * This process, under the names that every exporter uses (surface: section 16). Those that begin with `go_` are Go's; dashboards
 * made for cloudflared ask for them, and get what corresponds here, as their help says.
 */
export function* processFamilies(activities: number, allocatedBytes: number): Iterable<MetricFamily> {
  const { user, system } = process.cpuUsage();
  yield counter(
    "process_cpu_seconds_total",
    "Total user and system CPU time spent in seconds.",
    (user + system) / 1_000_000,
  );
  yield* linuxFamilies();
  yield gauge("go_goroutines", "Open streams and connections: there are no goroutines in this program.", activities);
  const memory = memoryUsage();
  if (memory !== undefined) yield* memoryFamilies(memory);
  yield counter(
    "go_memstats_alloc_bytes_total",
    "What the JavaScript heap grew by from each second to the next.",
    allocatedBytes,
  );
}

function* memoryFamilies(memory: NodeJS.MemoryUsage): Iterable<MetricFamily> {
  yield gauge("process_resident_memory_bytes", "Resident memory size in bytes.", memory.rss);
  yield gauge("go_memstats_alloc_bytes", "Bytes of the JavaScript heap in use.", memory.heapUsed);
  yield gauge("go_memstats_heap_alloc_bytes", "Bytes of the JavaScript heap in use.", memory.heapUsed);
  yield gauge("go_memstats_heap_inuse_bytes", "Bytes of the JavaScript heap in use.", memory.heapUsed);
  yield gauge(
    "go_memstats_heap_idle_bytes",
    "Bytes of the JavaScript heap that wait to be used.",
    Math.max(0, memory.heapTotal - memory.heapUsed),
  );
  yield gauge("go_memstats_sys_bytes", "Bytes that the JavaScript heap has from the system.", memory.heapTotal);
}

function* linuxFamilies(): Iterable<MetricFamily> {
  if (process.platform !== "linux") return;
  const fds = attempt(() => readdirSync("/proc/self/fd").length);
  if (fds !== undefined) yield gauge("process_open_fds", "Number of open file descriptors.", fds);
  const limits = attempt(() => readFileSync("/proc/self/limits", "utf8"));
  const limit = (name: string): number | undefined => {
    const text = limits === undefined ? undefined : new RegExp(`^${name}\\s+(\\d+|unlimited)`, "m").exec(limits)?.[1];
    return text === undefined ? undefined : text === "unlimited" ? Number.POSITIVE_INFINITY : Number(text);
  };
  const maxFds = limit("Max open files");
  if (maxFds !== undefined) yield gauge("process_max_fds", "Maximum number of open file descriptors.", maxFds);
  const maxAddress = limit("Max address space");
  if (maxAddress !== undefined) {
    const value = Number.isFinite(maxAddress) ? maxAddress : 2 ** 64;
    yield gauge("process_virtual_memory_max_bytes", "Maximum amount of virtual memory available in bytes.", value);
  }
  const virtual = attempt(() => /^VmSize:\s+(\d+) kB/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1]);
  if (virtual !== undefined) {
    yield gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", Number(virtual) * KIB);
  }
  const started = attempt(startedAtSeconds);
  if (started !== undefined) {
    yield gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", started);
  }
  const octets = attempt(networkOctets);
  if (octets === undefined) return;
  yield counter(
    "process_network_receive_bytes_total",
    "Number of bytes received by the network namespace of the process over the network.",
    octets.received,
  );
  yield counter(
    "process_network_transmit_bytes_total",
    "Number of bytes sent by the network namespace of the process over the network.",
    octets.sent,
  );
}

function startedAtSeconds(): number {
  const stat = readFileSync("/proc/self/stat", "utf8");
  // The name of the command, in parentheses, may hold anything.
  const ticks = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]);
  const boot = Number(/^btime (\d+)/m.exec(readFileSync("/proc/stat", "utf8"))?.[1]);
  return boot + ticks / TICKS;
}

function networkOctets(): { readonly received: number; readonly sent: number } | undefined {
  const lines = readFileSync("/proc/self/net/netstat", "utf8").split("\n");
  const [names, values] = lines.filter((line) => line.startsWith("IpExt:")).map((line) => line.split(" "));
  const value = (name: string): number => Number(values?.[names?.indexOf(name) ?? -1]);
  const found = { received: value("InOctets"), sent: value("OutOctets") };
  return Number.isFinite(found.received) && Number.isFinite(found.sent) ? found : undefined;
}

/** What the system does not tell is left out. */
function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

function gauge(name: string, help: string, value: number): MetricFamily {
  return { name, help, type: "gauge", samples: [{ value }] };
}

function counter(name: string, help: string, value: number): MetricFamily {
  return { name, help, type: "counter", samples: [{ value }] };
}
