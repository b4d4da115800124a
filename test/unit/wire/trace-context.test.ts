import { describe, expect, test } from "bun:test";
import {
  formatCfTraceId,
  formatTraceparent,
  parseCfTraceId,
  parseTraceparent,
  readCfTraceId,
  readTraceparent,
  readTracestate,
  setTraceparent,
} from "../../../src/wire/trace-context.ts";

const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN = "00f067aa0ba902b7";
const CONTEXT = { traceId: TRACE, spanId: SPAN, sampled: true };

describe("traceparent", () => {
  test("is read and written as W3C has it", () => {
    const text = `00-${TRACE}-${SPAN}-01`;
    expect(parseTraceparent(text)).toEqual(CONTEXT);
    expect(formatTraceparent(CONTEXT)).toBe(text);
    expect(formatTraceparent({ ...CONTEXT, sampled: false })).toBe(`00-${TRACE}-${SPAN}-00`);
  });

  test("of the flags only the lowest bit says that it is recorded", () => {
    expect(parseTraceparent(`00-${TRACE}-${SPAN}-03`)?.sampled).toBe(true);
    expect(parseTraceparent(`00-${TRACE}-${SPAN}-02`)?.sampled).toBe(false);
    expect(parseTraceparent(`00-${TRACE}-${SPAN}-ff`)?.sampled).toBe(true);
  });

  test("a later version may say more", () => {
    expect(parseTraceparent(`01-${TRACE}-${SPAN}-01`)).toEqual(CONTEXT);
    expect(parseTraceparent(`cc-${TRACE}-${SPAN}-01-what-the-future-will-be`)).toEqual(CONTEXT);
  });

  test.each([
    "",
    "00",
    `00-${TRACE}-${SPAN}`,
    `00-${TRACE}-${SPAN}-01-more`,
    `00-${TRACE}-${SPAN}-01-`,
    `ff-${TRACE}-${SPAN}-01`,
    `00-${TRACE.toUpperCase()}-${SPAN}-01`,
    `00-${"0".repeat(32)}-${SPAN}-01`,
    `00-${TRACE}-${"0".repeat(16)}-01`,
    `00-${TRACE.slice(1)}-${SPAN}-01`,
    `00-${TRACE}-${SPAN}-1`,
    `00-${TRACE}-${SPAN}-0g`,
    ` 00-${TRACE}-${SPAN}-01`,
    `00-${TRACE}-${SPAN}-01\n`,
    `01-${TRACE}-${SPAN}-01-${"x".repeat(300)}`,
    "-".repeat(100_000),
  ])("%p is none", (text) => {
    expect(parseTraceparent(text)).toBeUndefined();
  });

  test("two fields are none, whatever they say", () => {
    const text = `00-${TRACE}-${SPAN}-01`;
    expect(readTraceparent(["TraceParent", text])).toEqual(CONTEXT);
    expect(readTraceparent(["traceparent", text, "traceparent", text])).toBeUndefined();
    expect(readTraceparent([])).toBeUndefined();
  });
});

describe("cf-trace-id", () => {
  test("is read and written as Jaeger does", () => {
    expect(parseCfTraceId(`${TRACE}:${SPAN}:0:1`)).toEqual(CONTEXT);
    expect(formatCfTraceId(CONTEXT)).toBe(`${TRACE}:${SPAN}:0:1`);
    expect(formatCfTraceId({ ...CONTEXT, sampled: false })).toBe(`${TRACE}:${SPAN}:0:0`);
  });

  test.each([
    ["4bf92f3577b34da:f067aa0ba902b7:0:1", "00000000000000000" + "4bf92f3577b34da", "00f067aa0ba902b7", true],
    [`${TRACE.toUpperCase()}:A:B:01`, TRACE, "000000000000000a", true],
    [`${TRACE}:${SPAN}::3`, TRACE, SPAN, true],
    [`${TRACE}:${SPAN}:${SPAN}:2`, TRACE, SPAN, false],
  ] as const)("%p may lack zeros, and have a parent", (text, traceId, spanId, sampled) => {
    expect(parseCfTraceId(text)).toEqual({ traceId, spanId, sampled });
  });

  test.each([
    "",
    ":::",
    `${TRACE}:${SPAN}:0`,
    `${TRACE}:${SPAN}:0:1:`,
    `${TRACE}0:${SPAN}:0:1`,
    `${TRACE}:${SPAN}0:0:1`,
    `${TRACE}:${SPAN}:0:100`,
    `${TRACE}:${SPAN}:0:-1`,
    `0:${SPAN}:0:1`,
    `${TRACE}:0:0:1`,
    `${TRACE}%3A${SPAN}%3A0%3A1`,
    `${TRACE}:${SPAN}:0:1\r\nX: y`,
    ":".repeat(100_000),
  ])("%p is none", (text) => {
    expect(parseCfTraceId(text)).toBeUndefined();
  });

  test("the last field counts", () => {
    const other = `${"1".repeat(32)}:2:0:0`;
    expect(readCfTraceId(["Cf-Trace-Id", other, "cf-trace-id", `${TRACE}:${SPAN}:0:1`])).toEqual(CONTEXT);
    expect(readCfTraceId(["cf-trace-id", `${TRACE}:${SPAN}:0:1`, "Cf-Trace-Id", "?"])).toBeUndefined();
  });
});

describe("towards the next one", () => {
  test("tracestate is one text within its bound", () => {
    expect(readTracestate(["tracestate", "a=1", "TraceState", "b=2"])).toBe("a=1,b=2");
    expect(readTracestate(["tracestate", "x".repeat(513)])).toBe("");
    expect(readTracestate(["tracestate", "a=\u00e9"])).toBe("");
    expect(readTracestate([])).toBe("");
  });

  test("traceparent is replaced wherever it stood, and nothing else", () => {
    const headers = ["Host", "a", "traceparent", "x", "tracestate", "a=1", "Traceparent", "y", "Keep-Alive", "z"];
    const kept = [...headers];
    setTraceparent(kept, CONTEXT, true);
    expect(kept).toEqual([
      ...["Host", "a", "tracestate", "a=1", "Keep-Alive", "z"],
      ...["traceparent", `00-${TRACE}-${SPAN}-01`],
    ]);
    setTraceparent(headers, CONTEXT, false);
    expect(headers).toEqual(["Host", "a", "Keep-Alive", "z", "traceparent", `00-${TRACE}-${SPAN}-01`]);
  });
});
