import { describe, expect, test } from "bun:test";
import { createLogger } from "../../../../src/core/log.ts";
import { MAX_BATCH_SPANS, MAX_QUEUED_SPANS, OtlpExporter } from "../../../../src/ops/tracing/exporter.ts";
import type { Span } from "../../../../src/wire/otlp.ts";
import {
  type CollectedRequest,
  type Collector,
  type CollectorAnswer,
  startCollector,
} from "../../../support/otlp-collector.ts";
import { pollUntil } from "../../../support/poll-until.ts";
import { VirtualClock } from "../../../support/virtual-clock.ts";

const SECRET = "collector-key-5d3e";

interface World extends AsyncDisposable {
  readonly collector: Collector;
  readonly exporter: OtlpExporter;
  readonly clock: VirtualClock;
  readonly lines: string[];
}

async function start(answer?: (request: number) => CollectorAnswer): Promise<World> {
  const collector = await startCollector(answer);
  const clock = new VirtualClock();
  const lines: string[] = [];
  const log = createLogger({
    ...{ level: "debug", format: "default", wallMs: clock.wallMs.bind(clock) },
    write: (line) => void lines.push(line),
  });
  const exporter = new OtlpExporter(
    {
      url: `${collector.url}/v1/traces`,
      headers: [["X-Api-Key", SECRET]],
      source: { resource: [["service.name", "test"]], scope: { name: "culvert", version: "0" } },
    },
    // The longest wait each time.
    { clock, random: () => 0.999, log },
  );
  return {
    ...{ collector, exporter, clock, lines },
    [Symbol.asyncDispose]: async () => {
      const closed = exporter.close(0);
      await clock.advance(0);
      await closed;
      await collector[Symbol.asyncDispose]();
    },
  };
}

function span(number: number): Span {
  return {
    traceId: number.toString(16).padStart(32, "0"),
    spanId: (number + 1).toString(16).padStart(16, "0"),
    parentSpanId: undefined,
    ...{ traceState: "", name: "GET", kind: "server", startUs: 1, endUs: 2, attributes: [], failed: false },
  } as const;
}

function add(world: World, count: number): void {
  for (let i = 0; i < count; i += 1) world.exporter.add(span(i));
}

/** Moves the clock until something has happened on the network. */
async function moveUntil(world: World, what: string, holds: () => boolean, stepMs = 100): Promise<number> {
  const fromMs = world.clock.nowMs();
  await pollUntil(
    async () => {
      if (holds()) return true;
      await world.clock.advance(stepMs);
      return false;
    },
    { what, everyMs: 2 },
  );
  return world.clock.nowMs() - fromMs;
}

const idsOf = ({ spans }: CollectedRequest) => spans.map(({ spanId }) => spanId).join();

const counters = ({ exporter }: World) => ({ ...exporter.counters });

test("spans wait for others, and go together with the headers asked for", async () => {
  await using world = await start();
  add(world, 3);
  expect(world.collector.requests).toHaveLength(0);
  await world.clock.advance(1_999);
  expect(world.collector.requests).toHaveLength(0);
  await world.clock.advance(1);
  await pollUntil(() => world.exporter.counters.exported === 3, { what: "three spans" });
  expect(world.collector.requests).toHaveLength(1);
  const [request] = world.collector.requests;
  expect(request).toMatchObject({ target: "/v1/traces" });
  expect(request?.headers).toMatchObject({ "content-type": "application/x-protobuf", "x-api-key": SECRET });
  expect(request?.spans.map(({ spanId }) => Number.parseInt(spanId, 16))).toEqual([1, 2, 3]);
  expect(world.lines).toEqual([]);
});

test("a full batch goes at once, and what came meanwhile goes later", async () => {
  await using world = await start();
  add(world, MAX_BATCH_SPANS + 1);
  await pollUntil(() => world.exporter.counters.exported === MAX_BATCH_SPANS, { what: "a batch" });
  await moveUntil(world, "the rest", () => world.exporter.counters.exported === MAX_BATCH_SPANS + 1);
  expect(world.collector.requests.map(({ spans }) => spans.length)).toEqual([MAX_BATCH_SPANS, 1]);
});

test("a collector that is slow holds nobody up: what does not fit is dropped and counted", async () => {
  await using world = await start(() => ({ status: "never" }));
  add(world, MAX_BATCH_SPANS);
  await pollUntil(() => world.collector.requests.length === 1, { what: "the first batch is on its way" });
  add(world, MAX_QUEUED_SPANS + 7);
  expect(counters(world)).toEqual({ exported: 0, dropped: 7 });
  expect(world.collector.requests).toHaveLength(1);
  await moveUntil(world, "the call is given up", () => world.lines.length > 0, 1_000);
  expect(world.lines[0]).toContain("no answer within 10000 ms");
});

describe("a collector that fails", () => {
  test.each([429, 502, 503, 504])("with %d gets the same batch again, later", async (status) => {
    await using world = await start((request) => ({ status: request <= 2 ? status : 200 }));
    add(world, 2);
    const tookMs = await moveUntil(world, "the third try", () => world.exporter.counters.exported === 2);
    expect(tookMs).toBeGreaterThanOrEqual(2_000 + 1_998 + 3_996 - 200);
    const [first = ""] = world.collector.requests.map(idsOf);
    expect(world.collector.requests.map(idsOf)).toEqual([first, first, first]);
    expect(counters(world)).toEqual({ exported: 2, dropped: 0 });
    // Once when it begins, once when it is over.
    expect(world.lines).toHaveLength(2);
    expect(world.lines[0]).toContain(`status ${status}`);
    expect(world.lines[0]).toContain("spans are kept for a while, then dropped");
    expect(world.lines.join()).not.toContain(SECRET);
  });

  test.each([
    ["seconds", () => "30"],
    ["a date", (clock: VirtualClock) => new Date(clock.wallMs() + 30_000).toUTCString()],
  ])("and says Retry-After in %s is left alone for so long", async (_form, value) => {
    let clock: VirtualClock | undefined;
    await using world = await start((request) =>
      request === 1 && clock !== undefined
        ? { status: 429, headers: { "Retry-After": value(clock) } }
        : { status: 200 },
    );
    clock = world.clock;
    add(world, 1);
    const tookMs = await moveUntil(world, "the second try", () => world.exporter.counters.exported === 1);
    expect(tookMs).toBeGreaterThanOrEqual(30_000);
    expect(tookMs).toBeLessThan(40_000);
  });

  test.each(["999999999", "Fri, 31 Dec 9999 23:59:59 GMT", "never", "-5", ""])(
    "and says Retry-After: %p does not hold spans for ever",
    async (value) => {
      await using world = await start((request) =>
        request === 1 ? { status: 503, headers: { "Retry-After": value } } : { status: 200 },
      );
      add(world, 1);
      const tookMs = await moveUntil(world, "the second try", () => world.exporter.counters.exported === 1, 500);
      expect(tookMs).toBeLessThan(70_000);
    },
  );

  test("for ever loses the batch after five tries, and takes the next one", async () => {
    await using world = await start((request) => ({ status: request <= 5 ? 503 : 200 }));
    add(world, 4);
    await moveUntil(world, "five tries", () => world.exporter.counters.dropped === 4);
    expect(world.collector.requests).toHaveLength(5);
    add(world, 1);
    await moveUntil(world, "the next batch", () => world.exporter.counters.exported === 1);
    expect(world.lines.at(-1)).toContain("exported again");
  });

  test.each([301, 307, 400, 401, 413, 500])("with %d is not asked again for that batch", async (status) => {
    await using world = await start(() => ({ status, headers: { Location: "/elsewhere" } }));
    add(world, 2);
    await moveUntil(world, "the batch is dropped", () => world.exporter.counters.dropped === 2);
    await world.clock.advance(60_000);
    expect(world.collector.requests).toHaveLength(1);
    expect(world.lines).toHaveLength(1);
    expect(world.lines[0]).toContain("spans are dropped");
    expect(world.lines[0]).toContain(`status ${status}`);
  });

  test("in both ways says each once, until it is well", async () => {
    const statuses = [503, 500, 503, 401, 200, 500];
    await using world = await start((request) => ({ status: statuses[request - 1] ?? 200 }));
    for (const dropped of [1, 2]) {
      add(world, 1);
      await moveUntil(world, "a lost batch", () => world.exporter.counters.dropped === dropped);
    }
    const said = () => world.lines.map((line) => /spans are \w+|exported again/.exec(line)?.[0]);
    expect(said()).toEqual(["spans are kept", "spans are dropped"]);
    add(world, 1);
    await moveUntil(world, "a taken batch", () => world.exporter.counters.exported === 1);
    add(world, 1);
    await moveUntil(world, "one more lost batch", () => world.exporter.counters.dropped === 3);
    expect(said()).toEqual(["spans are kept", "spans are dropped", "exported again", "spans are dropped"]);
  });

  test("because nobody is there gets it when somebody is", async () => {
    const gone = await startCollector();
    await gone[Symbol.asyncDispose]();
    await using world = await start();
    const exporter = new OtlpExporter(
      {
        url: `${gone.url}/v1/traces`,
        headers: [],
        source: { resource: [], scope: { name: "culvert", version: "0" } },
      },
      {
        clock: world.clock,
        random: () => 0.999,
        log: createLogger({ ...LOG, write: (l) => void world.lines.push(l) }),
      },
    );
    exporter.add(span(0));
    await moveUntil(world, "a failed try", () => world.lines.length > 0);
    expect(world.lines[0]).toContain("spans are kept for a while");
    expect(world.lines[0]).toContain("connection refused (ECONNREFUSED)");
    expect(exporter.counters).toEqual({ exported: 0, dropped: 0 });
    await moveUntil(world, "the last try", () => exporter.counters.dropped === 1);
  });
});

const LOG = { level: "debug", format: "default", wallMs: () => 0 } as const;

describe("at the end", () => {
  test("everything that waits is sent", async () => {
    await using world = await start();
    add(world, MAX_BATCH_SPANS * 2 + 5);
    await world.exporter.close(5_000);
    expect(counters(world)).toEqual({ exported: MAX_BATCH_SPANS * 2 + 5, dropped: 0 });
    world.exporter.add(span(1));
    expect(world.exporter.counters.dropped).toBe(1);
    expect(world.clock.awaited).toBe(0);
  });

  test("a wait between two tries is over at once, and there is one more", async () => {
    await using world = await start((request) => ({ status: request === 1 ? 503 : 200 }));
    add(world, 2);
    await moveUntil(world, "a failed try", () => world.lines.length > 0);
    await world.exporter.close(5_000);
    expect(counters(world)).toEqual({ exported: 2, dropped: 0 });
  });

  test("a collector that says nothing holds it up no longer than it may", async () => {
    await using world = await start(() => ({ status: "never" }));
    add(world, MAX_BATCH_SPANS + 3);
    const closed = world.exporter.close(3_000);
    await pollUntil(() => world.collector.requests.length === 1, { what: "the last call" });
    await world.clock.advance(3_000);
    await closed;
    expect(world.lines).toHaveLength(1);
    expect(world.lines[0]).toContain("spans are dropped");
    expect(counters(world)).toEqual({ exported: 0, dropped: MAX_BATCH_SPANS + 3 });
    expect(world.clock.pending).toBe(0);
  });

  test("without a span there is nothing to send", async () => {
    await using world = await start();
    await world.exporter.close(5_000);
    expect(world.collector.requests).toHaveLength(0);
    expect(world.clock.pending).toBe(0);
  });
});
