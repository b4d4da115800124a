import { describe, expect, test } from "bun:test";
import {
  edgeServiceName,
  orderSrv,
  type SrvRecord,
  serviceTargets,
} from "../../../../src/connector/discovery/service.ts";

function record(target: string, priority: number, weight: number, port = 7844): SrvRecord {
  return { target, priority, weight, port };
}

describe("edgeServiceName", () => {
  test.each([
    [undefined, "_v2-origintunneld._tcp.argotunnel.com"],
    ["", "_v2-origintunneld._tcp.argotunnel.com"],
    ["us", "_us-v2-origintunneld._tcp.argotunnel.com"],
    ["FED", "_fed-v2-origintunneld._tcp.argotunnel.com"],
  ])("%p", (region, want) => {
    expect(edgeServiceName(region)).toBe(want);
  });

  test.each(["us.evil.example", "us ", "-", "a".repeat(64), "us\n"])("%p is no region", (region) => {
    expect(() => edgeServiceName(region)).toThrow(/^region ".*" is none: known are "us" and "fed"$/);
  });
});

describe("orderSrv", () => {
  test("priority decides before weight", () => {
    const records = [record("c", 20, 1000), record("a", 5, 0), record("b", 10, 1)];
    expect(orderSrv(records, () => 0.999).map(({ target }) => target)).toEqual(["a", "b", "c"]);
  });

  test("among equals chance decides in proportion to weight", () => {
    const records = [record("light", 1, 1), record("heavy", 1, 3)];
    const first = (draw: number) => orderSrv(records, () => draw)[0]?.target;
    expect([0, 0.24, 0.26, 0.99].map(first)).toEqual(["light", "light", "heavy", "heavy"]);
  });

  test("without weights all are equal, and none is lost", () => {
    const records = [record("a", 1, 0), record("b", 1, 0), record("c", 1, 0)];
    expect(orderSrv(records, () => 0.99).map(({ target }) => target)).toEqual(["c", "b", "a"]);
    expect(orderSrv(records, () => 0).map(({ target }) => target)).toEqual(["a", "b", "c"]);
    expect(orderSrv([], () => 0)).toEqual([]);
  });
});

describe("serviceTargets", () => {
  test("takes the first different servers", () => {
    const records = [record("R1.example.", 1, 1), record("r1.example", 1, 1, 8000), record("r2.example", 1, 1)];
    expect(serviceTargets([...records, record("r3.example", 1, 1)], 2)).toEqual([
      { host: "r1.example", port: 7844 },
      { host: "r2.example", port: 7844 },
    ]);
  });

  test.each([".", "", "a..b", "-a", "a b", "a\n.example", `${"a".repeat(64)}.x`, `${"a.".repeat(127)}aa`])(
    "%p is no server",
    (target) => {
      expect(serviceTargets([record(target, 1, 1)], 2)).toEqual([]);
    },
  );

  test("neither is port 0", () => {
    expect(serviceTargets([record("a.example", 1, 1, 0)], 2)).toEqual([]);
  });
});
