import { expect, test } from "bun:test";
import { TRACE_FLAGS } from "../../../src/config/trace-flags.ts";
import { readTracing } from "../../../src/config/tracing.ts";
import { Values } from "../../../src/config/values.ts";

function read(args: Record<string, string | string[]>, env: Record<string, string> = {}) {
  const list = Object.entries(args).map(([name, value]) => [name, [value].flat()] as const);
  const problems: string[] = [];
  const tracing = readTracing(new Values(TRACE_FLAGS, { args: new Map(list), env }), (text) => problems.push(text));
  return { tracing, problems };
}

test("there are no traces unless somebody names a collector to this program", () => {
  expect(read({})).toEqual({ tracing: undefined, problems: [] });
  expect(read({ "trace-sample": "0.5", "otlp-header": "a=b" }).tracing).toBeUndefined();
  const ofOthers = { OTEL_EXPORTER_OTLP_ENDPOINT: "http://a", OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "http://a" };
  expect(read({}, ofOthers).tracing).toBeUndefined();
  expect(read({}, { CULVERT_OTLP_ENDPOINT: "http://a:4318" }).tracing?.url).toBe("http://a:4318/v1/traces");
});

test.each([
  ["http://localhost:4318", "http://localhost:4318/v1/traces"],
  ["http://localhost:4318/", "http://localhost:4318/v1/traces"],
  ["https://a.example/otlp", "https://a.example/otlp/v1/traces"],
  ["https://a.example/otlp/v1/traces", "https://a.example/otlp/v1/traces"],
  ["http://[::1]:4318/v1/traces/", "http://[::1]:4318/v1/traces"],
])("%p leads to %p", (endpoint, url) => {
  expect(read({ "otlp-endpoint": endpoint })).toEqual({
    tracing: { url, headers: [], sampleRatio: 1 },
    problems: [],
  });
});

test.each([
  "secret:4318",
  "grpc://secret",
  "http://secret:x",
  "http://a/?secret=1",
  "http://a/#secret",
  "http://u:secret@a",
])("%p is no collector, and is not quoted", (endpoint) => {
  const { tracing, problems } = read({ "otlp-endpoint": endpoint });
  expect(tracing).toBeUndefined();
  expect(problems).toHaveLength(1);
  expect(problems[0]).not.toContain("secret");
});

test("headers are names and values, and no wrong one is quoted", () => {
  const { tracing } = read({ "otlp-endpoint": "http://a", "otlp-header": ["Authorization=Bearer a=b==", "X-Empty="] });
  expect(tracing?.headers).toEqual([
    ["Authorization", "Bearer a=b=="],
    ["X-Empty", ""],
  ]);
  for (const wrong of ["secret-text", "=secret-text", "a b=secret-text", "a=secret-text\u00e9"]) {
    const { problems } = read({ "otlp-endpoint": "http://a", "otlp-header": wrong });
    expect(problems).toHaveLength(1);
    expect(problems[0]).not.toContain("secret-text");
  }
});

test.each(["0", "1", "0.25", ".5", "1.0"])("a ratio may be %p", (text) => {
  expect(read({ "otlp-endpoint": "http://a", "trace-sample": text }).tracing?.sampleRatio).toBe(Number(text));
});

test.each(["2", "-0.1", "1.5", "50%", "1e-3", "NaN", "half", "0x1"])("a ratio may not be %p", (text) => {
  expect(read({ "trace-sample": text }).problems).toHaveLength(1);
});
