import type { LostLines } from "../core/log-losses.ts";
import type { MetricFamily } from "./exposition.ts";

/** Nothing where nobody counts. */
export function* logFamilies(lost: LostLines | undefined): Iterable<MetricFamily> {
  if (lost === undefined) return;
  const file = lost.file === undefined ? [] : [{ labels: { sink: "file" }, value: lost.file }];
  yield {
    name: "culvert_log_lines_dropped_total",
    help: "Lines of the log that were lost: nobody read standard error, or the disk did not take them",
    type: "counter",
    samples: [{ labels: { sink: "console" }, value: lost.console }, ...file],
  };
}
