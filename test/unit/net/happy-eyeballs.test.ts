import { describe, expect, test } from "bun:test";
import net from "node:net";
import { systemClock } from "../../../src/core/clock.ts";
import { TunnelError } from "../../../src/core/errors.ts";
import { ATTEMPT_DELAY_MS, alternateFamilies, dialName, MAX_ADDRESSES } from "../../../src/net/happy-eyeballs.ts";
import { createMemoryChannelPair } from "../../../src/net/memory-channel.ts";
import type { Connection, DialAddress, DialOptions } from "../../../src/net/sockets.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

/** One address that was dialled; the test says what comes of it. */
interface Attempt {
  readonly host: string;
  readonly options: DialOptions;
  readonly atMs: number;
  /** The peer took the connection; TLS may follow. */
  taken(): void;
  succeed(): Promise<void>;
  fail(reason: string): Promise<void>;
  /** How our end of the connection was closed. */
  closed: TunnelError | undefined;
}

class Network {
  readonly clock = new VirtualClock();
  readonly attempts: Attempt[] = [];
  readonly abort = new AbortController();
  outcome: Connection | unknown;

  start(addresses: readonly string[], options: { race?: boolean; timeoutMs?: number } = {}): Promise<void> {
    const { race = true, timeoutMs = 60_000 } = options;
    const dialled = dialName(
      { host: "name.test", port: 80 },
      { race, timeoutMs, signal: this.abort.signal },
      { clock: this.clock, lookup: () => Promise.resolve(addresses), dial: (to, how) => this.#dial(to, how) },
    );
    dialled.then(
      (connection) => {
        this.outcome = connection;
      },
      (error: unknown) => {
        this.outcome = error;
      },
    );
    return settle();
  }

  get hosts(): string[] {
    return this.attempts.map(({ host }) => host);
  }

  at(index: number): Attempt {
    const attempt = this.attempts[index];
    if (attempt === undefined) throw new Error(`no attempt ${index}`);
    return attempt;
  }

  #dial(to: DialAddress, options: DialOptions): Promise<Connection> {
    const host = "path" in to ? to.path : to.host;
    const done = Promise.withResolvers<Connection>();
    const [ours] = createMemoryChannelPair();
    const attempt: Attempt = {
      host,
      options,
      atMs: this.clock.nowMs(),
      closed: undefined,
      taken: () => options.onConnected?.(),
      succeed: () => {
        done.resolve({ channel: ours, remoteIp: host, remotePort: 80, localIp: undefined });
        return settle();
      },
      fail: (reason) => {
        done.reject(new TunnelError("dial.failed", reason));
        return settle();
      },
    };
    ours.listen({
      onData: () => {},
      onEnd: () => {},
      onDrain: () => {},
      onClose: (error) => {
        attempt.closed = error;
      },
    });
    options.signal?.addEventListener("abort", () => done.reject(new TunnelError("aborted", "Dial aborted")));
    this.attempts.push(attempt);
    return done.promise;
  }
}

async function settle(): Promise<void> {
  for (let i = 0; i < 10; i += 1) await Promise.resolve();
}

test.each<{ found: string[]; want: string[] }>([
  { found: ["::1", "::2", "1.1.1.1", "1.1.1.2"], want: ["::1", "1.1.1.1", "::2", "1.1.1.2"] },
  { found: ["1.1.1.1", "1.1.1.2", "::1"], want: ["1.1.1.1", "::1", "1.1.1.2"] },
  { found: ["1.1.1.1"], want: ["1.1.1.1"] },
  { found: [], want: [] },
])("families take turns: $found", ({ found, want }) => {
  expect(alternateFamilies(found)).toEqual(want);
});

describe("a race of addresses", () => {
  test("the next one starts when the first lets us wait, and the first to connect wins", async () => {
    const network = new Network();
    await network.start(["::1", "::2", "1.1.1.1"]);
    expect(network.hosts).toEqual(["::1"]);
    await network.clock.advance(ATTEMPT_DELAY_MS);
    expect(network.hosts).toEqual(["::1", "1.1.1.1"]);
    await network.at(1).succeed();
    expect(network.outcome).toMatchObject({ remoteIp: "1.1.1.1" });
    expect(network.at(0).options.signal?.aborted).toBe(true);
    expect(network.clock.pending).toBe(0);
    await network.clock.advance(10_000);
    expect(network.hosts).toHaveLength(2);
  });

  test("a failure starts the next one at once; the first failure is told when all fail", async () => {
    const network = new Network();
    await network.start(["::1", "1.1.1.1"]);
    await network.at(0).fail("first");
    expect(network.hosts).toEqual(["::1", "1.1.1.1"]);
    expect(network.clock.nowMs()).toBe(0);
    await network.at(1).fail("second");
    expect(network.outcome).toMatchObject({ code: "dial.failed", message: "first" });
  });

  test("TLS is the winner's alone: the others are given up, and nobody takes its place", async () => {
    const network = new Network();
    await network.start(["::1", "1.1.1.1", "::2"]);
    await network.clock.advance(ATTEMPT_DELAY_MS);
    network.at(1).taken();
    expect(network.at(0).options.signal?.aborted).toBe(true);
    await network.clock.advance(10_000);
    expect(network.attempts).toHaveLength(2);
    await network.at(1).fail("bad certificate");
    expect(network.outcome).toMatchObject({ message: "bad certificate" });
  });

  test("two that connect in one turn: the slower one is closed", async () => {
    const network = new Network();
    await network.start(["::1", "1.1.1.1"]);
    await network.clock.advance(ATTEMPT_DELAY_MS);
    const both = [network.at(0).succeed(), network.at(1).succeed()];
    await Promise.all(both);
    expect(network.outcome).toMatchObject({ remoteIp: "::1" });
    expect(network.at(1).closed?.code).toBe("aborted");
  });

  test("is given up with the request: nothing runs on", async () => {
    const network = new Network();
    await network.start(["::1", "1.1.1.1"]);
    network.abort.abort();
    await settle();
    expect(network.outcome).toMatchObject({ code: "aborted" });
    expect(network.at(0).options.signal?.aborted).toBe(true);
    expect(network.clock.pending).toBe(0);
  });

  test("has an end for a name with very many addresses", async () => {
    const network = new Network();
    await network.start(Array.from({ length: 100 }, (_, i) => `10.0.0.${i}`));
    await network.clock.advance(60_000);
    expect(network.attempts).toHaveLength(MAX_ADDRESSES);
  });
});

describe("one after another (noHappyEyeballs)", () => {
  test("in the system's order, each with its share of the time", async () => {
    const network = new Network();
    await network.start(["::1", "::2", "1.1.1.1"], { race: false, timeoutMs: 30_000 });
    await network.clock.advance(9_999);
    expect(network.hosts).toEqual(["::1"]);
    expect(network.at(0).options.timeoutMs).toBe(10_000);
    await network.at(0).fail("timed out");
    expect(network.at(1)).toMatchObject({ host: "::2", options: { timeoutMs: 10_000.5 } });
    await network.at(1).fail("refused");
    expect(network.at(2).options.timeoutMs).toBe(20_001);
    await network.at(2).succeed();
    expect(network.outcome).toMatchObject({ remoteIp: "1.1.1.1" });
  });
});

describe("over real sockets", () => {
  async function listening(): Promise<{ port: number; close: () => void }> {
    const server = net.createServer((socket) => socket.on("error", () => {}));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return { port: (server.address() as net.AddressInfo).port, close: () => server.close() };
  }

  test.each([true, false])("an address that refuses is passed over (race: %p)", async (race) => {
    const { port, close } = await listening();
    const lookup = () => Promise.resolve(["127.0.0.2", "127.0.0.1"]);
    const { channel, remoteIp } = await dialName({ host: "two.test", port }, { race }, { clock: systemClock, lookup });
    expect(remoteIp).toBe("127.0.0.1");
    channel.abort(new TunnelError("aborted", "done"));
    close();
  });

  test("localhost is found by the system", async () => {
    const { port, close } = await listening();
    const { channel } = await dialName({ host: "localhost", port }, { race: true }, { clock: systemClock });
    channel.abort(new TunnelError("aborted", "done"));
    close();
  });

  test("a name that does not exist says so", async () => {
    const failing = dialName({ host: "nowhere.invalid", port: 1 }, { race: true }, { clock: systemClock });
    await expect(failing).rejects.toMatchObject({
      code: "dial.failed",
      message: "Cannot connect to nowhere.invalid:1: host name not found",
    });
  });
});
