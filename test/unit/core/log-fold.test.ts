import { expect, test } from "bun:test";
import { createLogger } from "../../../src/core/log.ts";
import { FOLD_MS, foldingLogger } from "../../../src/core/log-fold.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

function folding() {
  const lines: string[] = [];
  const clock = new VirtualClock();
  const inner = createLogger({
    ...({ level: "debug", format: "default", wallMs: () => 0 } as const),
    write: (line) => void lines.push(line.slice("1970-01-01T00:00:00Z ".length)),
  });
  return { lines, clock, ...foldingLogger(inner, clock) };
}

test("an error that repeats is written once, and then how often it came, whatever its ray was", async () => {
  const { lines, clock, log } = folding();
  for (let i = 0; i < 50; i += 1) log.with({ ingressRule: 0 }).error("down", { cfRay: `ray${i}` });
  expect(lines).toEqual(["ERR down cfRay=ray0 ingressRule=0"]);
  await clock.advance(FOLD_MS);
  expect(lines).toEqual(["ERR down cfRay=ray0 ingressRule=0", "ERR down cfRay=ray49 ingressRule=0 repeated=49"]);
  // It goes on: still no line for each.
  log.with({ ingressRule: 0 }).error("down", { cfRay: "ray50" });
  expect(lines).toHaveLength(2);
  await clock.advance(FOLD_MS);
  expect(lines.at(-1)).toBe("ERR down cfRay=ray50 ingressRule=0 repeated=1");
  // It stopped, and comes back much later: that is news.
  await clock.advance(FOLD_MS);
  log.with({ ingressRule: 0 }).error("down", { cfRay: "ray51" });
  expect(lines.at(-1)).toBe("ERR down cfRay=ray51 ingressRule=0");
});

test("what differs, and what is no warning, is not folded; what is left is written at the end", () => {
  const { lines, log, flush } = folding();
  log.warn("a", { connIndex: 0 });
  log.warn("a", { connIndex: 1 });
  log.error("a", { connIndex: 0 });
  log.warn("a", { connIndex: 0 });
  log.info("b");
  log.info("b");
  expect(lines).toEqual(["WRN a connIndex=0", "WRN a connIndex=1", "ERR a connIndex=0", "INF b", "INF b"]);
  flush();
  expect(lines.slice(5)).toEqual(["WRN a connIndex=0 repeated=1"]);
});
