import { Counter, Gauge, type Registry } from "prom-client";
import { memoryUsage } from "./memory-usage.ts";

/** Memory and processor time of this process, under the names every exporter uses. */
export function processMetrics(registers: Registry[]): void {
  new Gauge({
    name: "process_resident_memory_bytes",
    help: "Resident memory size in bytes.",
    registers,
    collect() {
      const memory = memoryUsage();
      if (memory === undefined) this.remove();
      else this.set(memory.rss);
    },
  });
  new Counter({
    name: "process_cpu_seconds_total",
    help: "Total user and system CPU time spent in seconds.",
    registers,
    collect() {
      const { user, system } = process.cpuUsage();
      this.reset();
      this.inc((user + system) / 1_000_000);
    },
  });
}
