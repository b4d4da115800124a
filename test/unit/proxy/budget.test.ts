import { expect, test } from "bun:test";
import { systemClock } from "../../../src/core/clock.ts";
import { TunnelError } from "../../../src/core/errors.ts";
import { createLogger } from "../../../src/core/log.ts";
import { createProxy } from "../../../src/proxy/proxy.ts";
import { createMemorySessionPair } from "../../../src/transport/memory.ts";

test("a stream that its transport failed over its budget is counted and told at warn, a visitor who left is not", async () => {
  const { edge, connector } = createMemorySessionPair();
  const lines: string[] = [];
  let overBudget = 0;
  const proxy = createProxy({
    route: () => ({
      ruleIndex: 3,
      headers: { tags: [], hostHeader: undefined },
      service: {
        label: "nobody",
        start: () => Promise.resolve(),
        exchange: () => ({ write: () => true, end: () => {}, abort: () => {}, pause: () => {}, resume: () => {} }),
        close: () => Promise.resolve(),
      },
    }),
    flow: () => {},
    clock: systemClock,
    log: createLogger({ level: "info", format: "default", wallMs: () => 0, write: (line) => void lines.push(line) }),
    observer: {
      requestStarted: () => {},
      requestEnded: () => {},
      requestFailed: () => {},
      streamOverBudget: () => {
        overBudget += 1;
      },
      tallyOf: () => ({ toOrigin: 0, toVisitor: 0 }),
    },
  });
  for (const code of ["stream.limit", "stream.reset"] as const) {
    const over = new Promise<void>((resolve) => {
      connector.serve((stream) => {
        proxy(stream);
        stream.abort(new TunnelError(code, `closed with ${code}`));
        setTimeout(resolve, 0);
      });
    });
    edge.open(
      { kind: "http", method: "GET", authority: "a", path: "/", headers: [], bodyless: true },
      {
        onInformational: () => {},
        onResponse: () => {},
        onData: () => {},
        onEnd: () => {},
        onDrain: () => {},
        onClose: () => {},
      },
    );
    await over;
  }
  expect(overBudget).toBe(1);
  expect(lines).toEqual([expect.stringContaining("closed with stream.limit")]);
});
