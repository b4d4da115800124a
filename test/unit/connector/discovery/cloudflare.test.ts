import { beforeAll, describe, expect, test } from "bun:test";
import { type Answer, encode, type Packet, streamEncode, TRUNCATED_RESPONSE } from "dns-packet";
import { discoverCloudflare } from "../../../../src/connector/discovery/cloudflare.ts";
import { createSystemDns, type Dns } from "../../../../src/connector/discovery/dns.ts";
import type { EdgeRegion } from "../../../../src/connector/discovery/regions.ts";
import { systemClock } from "../../../../src/core/clock.ts";
import { TunnelError } from "../../../../src/core/errors.ts";
import { createLogger } from "../../../../src/core/log.ts";
import { makeTestCertificate, type TestCertificate } from "../../../support/certificate.ts";
import { leakCheck } from "../../../support/leak-check.ts";
import { pollUntil } from "../../../support/poll-until.ts";
import {
  addresses,
  answerFrom,
  cloudflareZone,
  framed,
  SERVICE,
  srv,
  startTlsNameServer,
  startUdpNameServer,
  type TlsNameServer,
  type Zone,
} from "./name-servers.ts";

const SERVER_NAME = "cloudflare-dns.com";
/** Long enough for loopback, short enough for a test that runs into it. */
const STEP_MS = 400;

let certificate: TestCertificate;
beforeAll(async () => {
  certificate = await makeTestCertificate([SERVER_NAME]);
});

/** A discovery that asks these two, and the lines it logs. */
function discovery(options: { dns: Dns; overTlsPort?: number; region?: string; serverName?: string; ca?: string }) {
  const lines: string[] = [];
  const discover = discoverCloudflare(
    {
      region: options.region,
      overTls: {
        host: "127.0.0.1",
        port: options.overTlsPort ?? 1,
        serverName: options.serverName ?? SERVER_NAME,
        ca: options.ca ?? certificate.cert,
      },
      systemStepMs: STEP_MS,
      overTlsStepMs: STEP_MS,
    },
    {
      clock: systemClock,
      random: Math.random,
      log: createLogger({
        level: "debug",
        format: "default",
        wallMs: Date.now,
        write: (line) => void lines.push(line),
      }),
      dns: options.dns,
    },
  );
  return { lines, discover: (signal = new AbortController().signal) => discover(signal) };
}

function hostsOf(regions: readonly EdgeRegion[]): unknown {
  return Object.fromEntries(regions.map(({ name, addresses }) => [name, addresses.map(({ host }) => host)]));
}

async function failureOf(promise: Promise<unknown>): Promise<TunnelError> {
  const outcome = await promise.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (outcome instanceof TunnelError) return outcome;
  throw new Error(`not a TunnelError: ${String(outcome)}`);
}

function overTls(zone: Zone): Promise<TlsNameServer> {
  return startTlsNameServer(certificate, (query) => streamEncode(answerFrom(zone, query)));
}

const BOTH = {
  "region1.example": ["192.0.2.1", "192.0.2.2", "2001:db8::1"],
  "region2.example": ["198.51.100.1", "2001:db8::2"],
};

describe("the system's resolver", () => {
  test("gives both regions, in order of priority, with the port of the record", async () => {
    await using system = await startUdpNameServer(cloudflareZone());
    const { discover, lines } = discovery({ dns: system.dns });
    const regions = await discover();
    expect(hostsOf(regions)).toEqual(BOTH);
    expect(regions.map(({ name }) => name)).toEqual(["region1.example", "region2.example"]);
    expect(regions[0]?.addresses[2]).toEqual({ host: "2001:db8::1", port: 7844, family: 6 });
    expect(lines).toEqual([]);
  });

  test("is asked for the records of the region, and anew at each call", async () => {
    const service = "_us-v2-origintunneld._tcp.argotunnel.com";
    const zone = cloudflareZone(service);
    await using system = await startUdpNameServer(zone);
    const { discover } = discovery({ dns: system.dns, region: "us" });
    expect(hostsOf(await discover())).toEqual(BOTH);
    for (const [key, records] of addresses("region2.example", "203.0.113.7")) zone.set(key, records);
    expect(hostsOf(await discover())).toEqual({ ...BOTH, "region2.example": ["203.0.113.7"] });
    expect(system.asked.filter((key) => key === `SRV ${service}`)).toHaveLength(2);
  });

  test("servers after the second are not asked for", async () => {
    const zone = cloudflareZone();
    zone.set(`SRV ${SERVICE}`, srv(SERVICE, ["region2.example", 1], ["region1.example", 2], ...moreTargets(500)));
    await using system = await startUdpNameServer(zone);
    // More than fits into a datagram: over TLS, where length is no obstacle.
    await using server = await overTls(zone);
    const { discover } = discovery({ dns: failing("down"), overTlsPort: server.port });
    const failure = await failureOf(discover());
    expect(failure.message).toMatch(/an answer of \d+ bytes, more than 16384/);
    zone.set(`SRV ${SERVICE}`, srv(SERVICE, ["region2.example", 1], ["region1.example", 2], ...moreTargets(9)));
    expect((await discovery({ dns: system.dns }).discover()).map(({ name }) => name)).toEqual([
      "region2.example",
      "region1.example",
    ]);
    expect(system.asked.filter((key) => !key.startsWith("SRV")).sort()).toEqual([
      ...["A region1.example", "A region2.example", "AAAA region1.example", "AAAA region2.example"],
    ]);
  });

  test("the real one knows this machine's names", async () => {
    const found = await createSystemDns().addresses("localhost", new AbortController().signal);
    expect(found.every((host) => host === "127.0.0.1" || host === "::1")).toBe(true);
    expect(found.length).toBeGreaterThan(0);
    // Whatever the name servers know.
    for (const name of ["edge.localhost", "a.b.LOCALHOST."]) {
      expect(await createSystemDns().addresses(name, new AbortController().signal)).toEqual(found);
    }
  });

  test("a name that is not there is no more than that in the message", async () => {
    await using system = await startUdpNameServer(new Map());
    const failure = await failureOf(system.dns.srv("gone.example", new AbortController().signal));
    expect([failure.code, failure.message]).toEqual(["edge.discovery", "no such name"]);
  });
});

describe("DNS over TLS", () => {
  test.each<[string, Zone]>([
    ["does not answer", new Map([["silent", []]])],
    ["knows no such name", new Map()],
    ["knows one server only", new Map([[`SRV ${SERVICE}`, srv(SERVICE, ["region1.example"])]])],
    ["says that there is no service", new Map([[`SRV ${SERVICE}`, srv(SERVICE, ["."])]])],
    ["blocks the names", blockedZone()],
  ])("helps when the system's resolver %s", async (_name, zone) => {
    await using _ = leakCheck();
    await using system = await startUdpNameServer(zone);
    await using server = await overTls(cloudflareZone());
    const { discover, lines } = discovery({ dns: system.dns, overTlsPort: server.port });
    expect(hostsOf(await discover())).toEqual(BOTH);
    expect(system.asked.length).toBeGreaterThan(0);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain("Edge found only with DNS over TLS at 127.0.0.1:");
  });

  test("answers may come in another order than the questions", async () => {
    const held = new Map<string, Uint8Array>();
    await using server = await startTlsNameServer(certificate, (query) => {
      const bytes = streamEncode(answerFrom(cloudflareZone(), query));
      const [question] = query.questions ?? [];
      if (question?.type !== "A") return Buffer.concat([bytes, held.get(question?.name ?? "") ?? Buffer.alloc(0)]);
      held.set(question.name, bytes);
      return "silence";
    });
    const { discover } = discovery({ dns: failing("down"), overTlsPort: server.port });
    expect(hostsOf(await discover())).toEqual(BOTH);
  });

  test("one region is better than none, and the log says so", async () => {
    const zone = cloudflareZone();
    for (const [key] of addresses("region2.example")) zone.delete(key);
    await using system = await startUdpNameServer(zone);
    await using server = await startTlsNameServer(certificate, () => "close");
    const { discover, lines } = discovery({ dns: system.dns, overTlsPort: server.port });
    expect(hostsOf(await discover())).toEqual({ "region1.example": BOTH["region1.example"] });
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain("Only one region of the edge has addresses");
    expect(lines[0]).toContain("region2.example: no usable address");
  });

  test("its certificate is checked, name and authority", async () => {
    await using server = await overTls(cloudflareZone());
    const other = await makeTestCertificate([SERVER_NAME]);
    for (const wrong of [{ serverName: "other.example" }, { ca: other.cert }]) {
      const { discover } = discovery({ dns: failing("down"), overTlsPort: server.port, ...wrong });
      const failure = await failureOf(discover());
      expect(failure.message).toContain("TLS handshake with 127.0.0.1");
    }
    expect(server.asked).toEqual([]);
  });

  const hostile: readonly (readonly [string, (query: Packet) => Uint8Array | "close" | "silence", RegExp])[] = [
    ["wrong id", (query) => altered(query, { id: ((query.id ?? 0) + 9) & 0xffff }), /another question/],
    [
      "other question",
      (query) => altered(query, { questions: [{ type: "SRV", name: "evil.example" }] }),
      /another question/,
    ],
    ["truncated", (query) => altered(query, { flags: TRUNCATED_RESPONSE }), /cut short/],
    ["failure", (query) => altered(query, { flags: 5 }), /error 5/],
    ["garbage", () => framed(new Uint8Array(300).fill(0xc0)), /malformed|another question/],
    ["compression loop", looped, /malformed/],
    ["huge", () => Buffer.concat([Buffer.of(0xff, 0xff), Buffer.alloc(65_535)]), /answer of 65535 bytes/],
    ["half an answer, then nothing", (query) => altered(query, {}).subarray(0, 30), /no answer within 400 ms/],
    ["nothing", () => "silence", /no answer within 400 ms/],
    ["a closed connection", () => "close", /closed/],
    [
      "servers without addresses",
      (query) => streamEncode(answerFrom(noAddresses(), query)),
      /region1.example: no usable/,
    ],
  ];
  test.each(hostile)("%s as an answer ends in a clear error", async (_name, answer, why) => {
    await using _ = leakCheck();
    await using server = await startTlsNameServer(certificate, answer);
    const { discover } = discovery({ dns: failing("down"), overTlsPort: server.port });
    const failure = await failureOf(discover());
    expect(failure.code).toBe("edge.discovery");
    expect(failure.message).toMatch(why);
  });
});

describe("when nobody answers", () => {
  test("the error comes within the bounds and says what to do", async () => {
    await using _ = leakCheck();
    await using system = await startUdpNameServer(new Map([["silent", []]]));
    await using server = await startTlsNameServer(certificate, () => "silence");
    const { discover } = discovery({ dns: system.dns, overTlsPort: server.port, region: "uss" });
    const startMs = performance.now();
    const failure = await failureOf(discover());
    expect(performance.now() - startMs).toBeLessThan(2 * STEP_MS + 1_000);
    expect([failure.code, failure.retry]).toEqual(["edge.discovery", "same"]);
    const service = "_uss-v2-origintunneld._tcp.argotunnel.com";
    expect(failure.message).toBe(
      `Cannot find Cloudflare's edge (the system's resolver: ${service}: no answer within 400 ms; ` +
        `DNS over TLS at 127.0.0.1:${server.port}: ${service}: no answer within 400 ms). ` +
        `Make DNS work, or allow TCP to 127.0.0.1:${server.port}; check that region "uss" is one of Cloudflare's`,
    );
  });

  test("a resolver that hangs and ignores its signal does not hold it up", async () => {
    const hang: Dns = { srv: () => new Promise(() => {}), addresses: () => new Promise(() => {}) };
    await using server = await overTls(cloudflareZone());
    expect(hostsOf(await discovery({ dns: hang, overTlsPort: server.port }).discover())).toEqual(BOTH);
  });

  test("addresses that hang cost their region only", async () => {
    await using system = await startUdpNameServer(cloudflareZone());
    const dns: Dns = {
      srv: system.dns.srv,
      addresses: (name, signal) =>
        name === "region1.example" ? new Promise(() => {}) : system.dns.addresses(name, signal),
    };
    const { discover, lines } = discovery({ dns });
    expect(hostsOf(await discover())).toEqual({ "region2.example": BOTH["region2.example"] });
    expect(lines[0]).toContain("region1.example: no answer within 400 ms");
  });

  test.each(["system", "over TLS"])("abort ends it at once: %s", async (phase) => {
    await using _ = leakCheck();
    await using system = await startUdpNameServer(new Map([["silent", []]]));
    await using server = await startTlsNameServer(certificate, () => "silence");
    const dns = phase === "system" ? system.dns : failing("down");
    const { discover, lines } = discovery({ dns, overTlsPort: server.port });
    const controller = new AbortController();
    const outcome = failureOf(discover(controller.signal));
    await pollUntil(() => system.asked.length + server.asked.length > 0, { what: "a question was asked" });
    const startMs = performance.now();
    controller.abort();
    expect((await outcome).code).toBe("aborted");
    expect(performance.now() - startMs).toBeLessThan(100);
    expect(lines).toEqual([]);
    expect((await failureOf(discover(controller.signal))).code).toBe("aborted");
  });
});

test("a region that cannot be part of a name is refused before anybody is asked", () => {
  expect(() => discovery({ dns: failing("down"), region: "us.evil.example" })).toThrow(
    /region "us.evil.example" is none/,
  );
});

function failing(message: string): Dns {
  return {
    srv: () => Promise.reject(new Error(message)),
    addresses: () => Promise.reject(new Error(message)),
  };
}

function moreTargets(count: number): [string, number][] {
  return Array.from({ length: count }, (_, i) => [`r${i}.a-longer-name-to-fill-the-answer.example`, 3]);
}

/** What filtering resolvers answer. */
function blockedZone(): Zone {
  return new Map<string, readonly Answer[]>([
    [`SRV ${SERVICE}`, srv(SERVICE, ["region1.example"], ["region2.example"])],
    ...addresses("region1.example", "0.0.0.0", "::"),
    ...addresses("region2.example", "0.0.0.0", "::"),
  ]);
}

function noAddresses(): Zone {
  return new Map([[`SRV ${SERVICE}`, srv(SERVICE, ["region1.example"], ["region2.example"])]]);
}

function altered(query: Packet, changes: Packet): Uint8Array {
  return framed(encode({ ...answerFrom(cloudflareZone(), query), ...changes }));
}

/** An answer whose record's name points at itself. */
function looped(query: Packet): Uint8Array {
  const head = encode({ ...answerFrom(cloudflareZone(), query), answers: [] });
  head.writeUInt16BE(1, 6);
  const pointer = 0xc000 | head.length;
  return framed(Buffer.concat([head, Buffer.of(pointer >> 8, pointer & 0xff, 0, 33, 0, 1, 0, 0, 0, 60, 0, 0)]));
}
