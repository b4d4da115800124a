import { describe, expect, test } from "bun:test";
import {
  chooseFamilies,
  type EdgeRegion,
  edgeAddress,
  edgeAddresses,
} from "../../../../src/connector/discovery/regions.ts";
import { TunnelError } from "../../../../src/core/errors.ts";

function region(name: string, ...hosts: readonly string[]): EdgeRegion {
  return { name, addresses: edgeAddresses(hosts, 7844) };
}

function hostsOf(addresses: readonly { readonly host: string }[]): readonly string[] {
  return addresses.map(({ host }) => host);
}

describe("chooseFamilies", () => {
  const regions = [region("a", "2001:db8::1", "192.0.2.1", "2001:db8::2"), region("b", "192.0.2.9", "2001:db8::9")];
  test.each([
    {
      version: "auto" as const,
      want: [
        ["a", ["2001:db8::1", "2001:db8::2"], ["192.0.2.1"]],
        ["b", ["192.0.2.9"], ["2001:db8::9"]],
      ],
    },
    {
      version: "4" as const,
      want: [
        ["a", ["192.0.2.1"], []],
        ["b", ["192.0.2.9"], []],
      ],
    },
    {
      version: "6" as const,
      want: [
        ["a", ["2001:db8::1", "2001:db8::2"], []],
        ["b", ["2001:db8::9"], []],
      ],
    },
  ])("$version", ({ version, want }) => {
    const chosen = chooseFamilies(regions, version);
    expect<unknown>(
      chosen.map(({ name, preferred, fallback }) => [name, hostsOf(preferred), hostsOf(fallback)]),
    ).toEqual(want);
  });

  test("a region without the family is left out; when that is all, the error says what to set", () => {
    const mixed = [region("a", "192.0.2.1"), region("b", "2001:db8::1")];
    expect(chooseFamilies(mixed, "6").map(({ name }) => name)).toEqual(["b"]);
    const failure = catchError(() => chooseFamilies([region("a", "192.0.2.1")], "6"));
    expect(failure.code).toBe("edge.discovery");
    expect(failure.message).toBe("The edge has no IPv6 address: set edge-ip-version to auto or 4");
    expect(catchError(() => chooseFamilies([], "auto")).code).toBe("edge.discovery");
  });
});

describe("addresses", () => {
  test("literals know their family, names are none", () => {
    expect(edgeAddress("192.0.2.1", 1)).toEqual({ host: "192.0.2.1", port: 1, family: 4 });
    expect(edgeAddress("::1", 2)).toEqual({ host: "::1", port: 2, family: 6 });
    expect(edgeAddress("edge.example", 3)).toBeUndefined();
    expect(edgeAddress("192.0.2.256", 3)).toBeUndefined();
  });

  test("repeated, unspecified and senseless ones go, order stays, 64 are enough", () => {
    const hosts = ["192.0.2.2", "0.0.0.0", "::", "192.0.2.1", "192.0.2.2", "x", "2001:db8::1", "10.0.0.0"];
    expect(hostsOf(edgeAddresses(hosts, 7844))).toEqual(["192.0.2.2", "192.0.2.1", "2001:db8::1", "10.0.0.0"]);
    const many = Array.from({ length: 200 }, (_, i) => `10.0.0.${i}`);
    expect(edgeAddresses(many, 7844)).toHaveLength(64);
  });
});

function catchError(run: () => unknown): TunnelError {
  try {
    run();
  } catch (error) {
    if (error instanceof TunnelError) return error;
  }
  throw new Error("no TunnelError was thrown");
}
