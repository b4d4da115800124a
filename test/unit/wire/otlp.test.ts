import { expect, test } from "bun:test";
import { encodeExportRequest, encodeSpan, type Span } from "../../../src/wire/otlp.ts";
import { readExportRequest } from "../../support/otlp-collector.ts";

const SPAN: Span = {
  traceId: "4bf92f3577b34da6a3ce929d0e0e4736",
  spanId: "00f067aa0ba902b7",
  parentSpanId: "b7ad6b7169203331",
  traceState: "a=1",
  name: "GET",
  kind: "server",
  startUs: 1_767_225_600_123_456,
  endUs: 1_767_225_600_223_457,
  failed: true,
  attributes: [
    ["url.path", "/é"],
    ["http.response.status_code", 503],
    ["big", 2 ** 40],
    ["ratio", 0.25],
    ["neg", -1],
    ["yes", true],
  ],
};
const SOURCE = {
  resource: [["service.name", "culvert-edge"]],
  scope: { name: "culvert", version: "1.2.3" },
} as const;

/** The same request as Google's protobuf writes it from the published definitions. */
const WRITTEN_BY_OTHERS = [
  "CvgBCiAKHgoMc2VydmljZS5uYW1lEg4KDGN1bHZlcnQtZWRnZRLTAQoQCgdjdWx2ZXJ0EgUxLjIuMxK+AQoQS/kvNXezTaajzpKdDg5HNhIIAPBnqgup",
  "ArcaA2E9MSIIt61rcWkgMzEqA0dFVDACOQDKVfVRcoYYQeiuS/tRcoYYShEKCHVybC5wYXRoEgUKAy/DqUogChlodHRwLnJlc3BvbnNlLnN0YXR1c19j",
  "b2RlEgMY9wNKDgoDYmlnEgcYgICAgIAgShIKBXJhdGlvEgkhAAAAAAAA0D9KEAoDbmVnEgkhAAAAAAAA8L9KCQoDeWVzEgIQAXoCGAI=",
].join("");

test("a request is what others write, byte for byte", () => {
  const bytes = encodeExportRequest(SOURCE, [encodeSpan(SPAN)]);
  expect(Buffer.from(bytes).toString("base64")).toBe(WRITTEN_BY_OTHERS);
});

test("wherever the room ends, nothing is lost", () => {
  const short = Array.from({ length: 150 }, (_, i) => [`é${i}`, i % 3 === 0 ? i : "ü"] as const);
  for (let shift = 0; shift < 200; shift += 1) {
    const attributes = [["shift", "x".repeat(shift)], ...short] as const;
    const [read] = readExportRequest(encodeExportRequest(SOURCE, [encodeSpan({ ...SPAN, attributes })]));
    expect(read?.attributes).toEqual(Object.fromEntries(attributes));
    expect(read?.failed).toBe(true);
  }
});

test("what is not there is not written, and long texts get room", () => {
  const path = "x".repeat(5_000);
  const root = { ...SPAN, parentSpanId: undefined, traceState: "", failed: false, kind: "client" } as const;
  const bytes = encodeExportRequest(SOURCE, [encodeSpan(root), encodeSpan({ ...root, attributes: [["path", path]] })]);
  const [first, second] = readExportRequest(bytes);
  expect(first).toMatchObject({ parentSpanId: "", traceState: "", failed: false, kind: "client" });
  expect(first?.startNs).toBe(1_767_225_600_123_456_000n);
  expect(second?.attributes).toEqual({ path });
});
