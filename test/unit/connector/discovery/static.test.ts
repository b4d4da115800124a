import { describe, expect, test } from "bun:test";
import type { Dns } from "../../../../src/connector/discovery/dns.ts";
import { discoverStatic, type StaticEdge } from "../../../../src/connector/discovery/static.ts";
import { systemClock } from "../../../../src/core/clock.ts";
import { toTunnelError } from "../../../../src/core/errors.ts";
import { createLogger } from "../../../../src/core/log.ts";
import { addresses, startUdpNameServer, type Zone } from "./name-servers.ts";

const NO_DNS: Dns = {
  srv: () => Promise.reject(new Error("asked for SRV")),
  addresses: () => Promise.reject(new Error("asked for a name")),
};

function discovery(edges: readonly StaticEdge[], dns: Dns = NO_DNS) {
  const lines: string[] = [];
  const log = createLogger({
    level: "debug",
    format: "default",
    wallMs: Date.now,
    write: (line) => void lines.push(line),
  });
  const discover = discoverStatic(edges, { clock: systemClock, log, dns }, { lookupMs: 300 });
  return {
    lines,
    async regions(signal = new AbortController().signal): Promise<unknown> {
      const regions = await discover(signal);
      return Object.fromEntries(
        regions.map(({ name, addresses: found }) => [name, found.map(({ host, port }) => `${host} ${port}`)]),
      );
    },
  };
}

describe("discoverStatic", () => {
  test("addresses need no DNS and alternate between two regions; one given twice counts twice", async () => {
    const hosts = ["192.0.2.1", "192.0.2.2", "2001:db8::3", "192.0.2.2"];
    const { regions, lines } = discovery(hosts.map((host, i) => ({ host, port: 7844 + (i % 2) })));
    expect(await regions()).toEqual({
      region1: ["192.0.2.1 7844", "2001:db8::3 7844"],
      region2: ["192.0.2.2 7845", "192.0.2.2 7845"],
    });
    expect(lines).toEqual([]);
    expect(await discovery([{ host: "::1", port: 1 }]).regions()).toEqual({ region1: ["::1 1"] });
  });

  test("edges that name their region stand there", async () => {
    const { regions } = discovery([
      { host: "192.0.2.1", port: 1, region: "east" },
      { host: "192.0.2.2", port: 1, region: "east" },
      { host: "192.0.2.3", port: 1, region: "west" },
    ]);
    expect(await regions()).toEqual({ east: ["192.0.2.1 1", "192.0.2.2 1"], west: ["192.0.2.3 1"] });
  });

  test("names give all their addresses, looked up again at each call", async () => {
    const zone: Zone = new Map([
      ...addresses("a.example", "192.0.2.1", "192.0.2.2", "2001:db8::1"),
      ...addresses("b.example", "192.0.2.9"),
    ]);
    await using server = await startUdpNameServer(zone);
    const edges = ["a.example", "b.example"].map((host) => ({ host, port: 7844 }));
    const { regions } = discovery(edges, server.dns);
    expect(await regions()).toEqual({
      region1: ["192.0.2.1 7844", "192.0.2.2 7844", "2001:db8::1 7844"],
      region2: ["192.0.2.9 7844"],
    });
    for (const [key, records] of addresses("a.example", "203.0.113.1")) zone.set(key, records);
    expect(await regions()).toEqual({ region1: ["203.0.113.1 7844"], region2: ["192.0.2.9 7844"] });
  });

  test("a name without an answer is left out with a warning, and keeps the others' regions", async () => {
    const hang: Dns = { ...NO_DNS, addresses: () => new Promise(() => {}) };
    const { regions, lines } = discovery(
      [
        { host: "gone.example", port: 7844 },
        { host: "192.0.2.2", port: 7844 },
      ],
      hang,
    );
    expect(await regions()).toEqual({ region2: ["192.0.2.2 7844"] });
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain(
      'WRN An edge cannot be looked up and is left out error="gone.example: no answer within 300 ms"',
    );
  });

  test("when none has an answer, the error says which and what to do", async () => {
    await using server = await startUdpNameServer(new Map(addresses("blocked.example", "0.0.0.0")));
    // Four connections to one edge are one failure.
    const names = ["blocked.example", "gone.example", "gone.example", "gone.example"].map((host) => ({
      host,
      port: 7844,
    }));
    const failure = await caught(discovery(names, server.dns).regions());
    expect([failure.code, failure.retry]).toEqual(["edge.discovery", "same"]);
    expect(failure.message).toBe(
      "No edge has an address: blocked.example: no usable address; gone.example: no usable address. " +
        "Check the names given with --edge, or give IP addresses",
    );
    expect((await caught(discovery([]).regions())).code).toBe("edge.discovery");
  });

  test("abort ends it at once", async () => {
    const hang: Dns = { ...NO_DNS, addresses: () => new Promise(() => {}) };
    const controller = new AbortController();
    const outcome = caught(discovery([{ host: "a.example", port: 1 }], hang).regions(controller.signal));
    controller.abort();
    expect((await outcome).code).toBe("aborted");
  });
});

async function caught(promise: Promise<unknown>) {
  const outcome: unknown = await promise.then(
    () => new Error("nothing was thrown"),
    (error: unknown) => error,
  );
  return toTunnelError(outcome, "store.failed", "unexpected");
}
