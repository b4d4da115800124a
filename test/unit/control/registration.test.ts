import { describe, expect, test } from "bun:test";
import { MAX_RETRY_AFTER_MS, type Refusal } from "../../../src/control/refusal.ts";
import {
  type Registered,
  RegistrationClient,
  type RegistrationRequest,
  RPC_TIMEOUT_MS,
} from "../../../src/control/registration-client.ts";
import {
  REFUSAL_LINGER_MS,
  REGISTRATION_DEADLINE_MS,
  type RegistrationHandlers,
  RegistrationServer,
} from "../../../src/control/registration-server.ts";
import type { Clock } from "../../../src/core/clock.ts";
import { TunnelError } from "../../../src/core/errors.ts";
import { parseConnectionId, parseConnectorId, parseTunnelId } from "../../../src/core/ids.ts";
import type { ByteChannel } from "../../../src/net/channel.ts";
import { createMemoryChannelPair } from "../../../src/net/memory-channel.ts";
import {
  encodeBootstrap,
  encodeFinish,
  encodeReturnCapability,
  encodeReturnException,
  encodeReturnResults,
} from "../../../src/wire/rpc/messages.ts";
import { type RegisterConnectionParams, registerConnection } from "../../../src/wire/schema/registration-server.ts";

/** Time that only the test moves. */
class ManualClock implements Clock {
  #now = 0;
  readonly #timers = new Map<() => void, number>();

  nowMs(): number {
    return this.#now;
  }

  wallMs(): number {
    return this.#now;
  }

  after(ms: number, callback: () => void): () => void {
    const run = (): void => callback();
    this.#timers.set(run, this.#now + ms);
    return () => void this.#timers.delete(run);
  }

  /** Timers not yet fired or cancelled. */
  get pending(): number {
    return this.#timers.size;
  }

  advance(ms: number): void {
    this.#now += ms;
    for (const [run, at] of [...this.#timers]) {
      if (at <= this.#now && this.#timers.delete(run)) run();
    }
  }
}

const REQUEST: RegistrationRequest = {
  accountTag: "acc",
  tunnelSecret: Uint8Array.of(1, 2, 3),
  tunnelId: parseTunnelId("01234567-89ab-cdef-0123-456789abcdef")!,
  connIndex: 2,
  connectorId: parseConnectorId("11111111-2222-3333-4444-555555555555")!,
  features: ["allow_remote_config"],
  version: "2026.8.2",
  arch: "linux_amd64",
  localIp: "192.0.2.10",
  numPreviousAttempts: 300,
};

const REGISTERED: Registered = {
  kind: "registered",
  connectionId: parseConnectionId("aabbccdd-0011-2233-4455-66778899aabb")!,
  location: "lis01",
  remotelyManaged: true,
};

const refusal = (change: Partial<Refusal>): Refusal => ({
  kind: "refused",
  code: "other",
  cause: "no",
  retryAfterMs: 0,
  shouldRetry: false,
  ...change,
});

function setup(handlers: Partial<RegistrationHandlers> = {}) {
  const clock = new ManualClock();
  const [near, far] = createMemoryChannelPair();
  const server = new RegistrationServer(
    far,
    {
      register: () => Promise.resolve(REGISTERED),
      unregister: () => Promise.resolve(),
      updateLocalConfiguration: () => Promise.resolve(),
      ...handlers,
    },
    { clock },
  );
  const client = new RegistrationClient(near, { clock });
  const abort = new AbortController();
  return { clock, server, client, abort, options: { signal: abort.signal } };
}

/** Lets everything under way in memory come to rest. */
async function settle(): Promise<void> {
  for (let i = 0; i < 50; i += 1) await Promise.resolve();
}

const codeOf = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => "no error",
    (error: unknown) => (error instanceof TunnelError ? error.code : error),
  );

describe("registration", () => {
  test("carries everything there and back, and leaves no timer", async () => {
    const seen: RegisterConnectionParams[] = [];
    const { client, clock, options } = setup({
      register: (params) => {
        seen.push(params);
        return Promise.resolve(REGISTERED);
      },
    });
    expect(await client.register(REQUEST, options)).toEqual(REGISTERED);
    expect(seen).toEqual([
      {
        auth: { accountTag: "acc", tunnelSecret: REQUEST.tunnelSecret },
        tunnelId: REQUEST.tunnelId,
        connIndex: 2,
        options: {
          client: {
            clientId: REQUEST.connectorId,
            features: REQUEST.features,
            version: "2026.8.2",
            arch: "linux_amd64",
          },
          originLocalIp: Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 192, 0, 2, 10),
          replaceExisting: false,
          compressionQuality: 0,
          numPreviousAttempts: 255,
        },
      },
    ]);
    expect(clock.pending).toBe(0);
  });

  test("the local configuration, then the farewell", async () => {
    const seen: string[] = [];
    const { client, server, options } = setup({
      updateLocalConfiguration: async (config) => void seen.push(new TextDecoder().decode(config)),
      unregister: async () => void seen.push("unregister"),
    });
    await client.register(REQUEST, options);
    await client.updateLocalConfiguration('{"ingress":[]}', options);
    await client.unregister(options);
    client.close();
    expect(seen).toEqual(['{"ingress":[]}', "unregister"]);
    expect(await client.closed).toEqual({ kind: "shutdown" });
    expect(await server.ended).toEqual({
      kind: "closed",
      reason: { kind: "aborted", type: "failed", reason: "rpc: shutdown" },
    });
  });

  test.each([
    {
      given: refusal({ code: "duplicate", cause: "whatever" }),
      want: refusal({ code: "duplicate", cause: "EDUPCONN" }),
    },
    {
      given: refusal({ code: "unauthorized", cause: "Invalid tunnel secret" }),
      want: refusal({ code: "unauthorized", cause: "Unauthorized: Invalid tunnel secret" }),
    },
    {
      given: refusal({ shouldRetry: true, retryAfterMs: 5000 }),
      want: refusal({ shouldRetry: true, retryAfterMs: 5000 }),
    },
    { given: refusal({ retryAfterMs: 1e12 }), want: refusal({ retryAfterMs: MAX_RETRY_AFTER_MS }) },
    { given: refusal({ retryAfterMs: -5 }), want: refusal({ retryAfterMs: 0 }) },
  ])("refusal $given.code after $given.retryAfterMs ms, and both ends close", async ({ given, want }) => {
    const { client, server, clock, options } = setup({ register: () => Promise.resolve(given) });
    expect(await client.register(REQUEST, options)).toEqual(want);
    expect(await server.ended).toEqual({ kind: "refused" });
    expect(clock.pending).toBe(0);
  });

  test("a handler that fails is a refusal that tells nothing and may be tried again", async () => {
    const { client, server, options } = setup({ register: () => Promise.reject(new Error("database password")) });
    expect(await client.register(REQUEST, options)).toEqual(
      refusal({ cause: "registration failed", shouldRetry: true }),
    );
    expect(await server.ended).toEqual({ kind: "refused" });
  });

  test("a second registration on the same stream is refused", async () => {
    const { client, options } = setup();
    await client.register(REQUEST, options);
    expect(await client.register(REQUEST, options)).toMatchObject({ kind: "refused", cause: "already registered" });
  });

  test("nothing else is allowed before it", async () => {
    const { client, options } = setup();
    expect(await codeOf(client.unregister(options))).toBe("edge.refused");
    expect(await codeOf(client.updateLocalConfiguration("{}", options))).toBe("edge.refused");
  });
});

describe("an edge that does not answer", () => {
  const never = <T>(): Promise<T> => new Promise(() => {});

  test("times out, and the edge learns that nobody waits", async () => {
    let aborted = false;
    const { client, clock, options } = setup({
      register: (_, { signal }) => {
        signal.addEventListener("abort", () => {
          aborted = true;
        });
        return never();
      },
    });
    const result = codeOf(client.register(REQUEST, options));
    await settle();
    clock.advance(RPC_TIMEOUT_MS - 1);
    await settle();
    expect(aborted).toBe(false);
    clock.advance(1);
    expect(await result).toBe("timeout");
    await settle();
    expect(aborted).toBe(true);
  });

  test("unregister keeps to the time it is given", async () => {
    const { client, clock, options } = setup({ unregister: never });
    await client.register(REQUEST, options);
    const result = codeOf(client.unregister({ ...options, timeoutMs: 30_000 }));
    await settle();
    clock.advance(29_999);
    await settle();
    expect(clock.pending).toBe(1);
    clock.advance(1);
    expect(await result).toBe("timeout");
  });

  test.each([
    { name: "a plain reason", reason: undefined, want: "aborted" },
    { name: "a reason of ours", reason: new TunnelError("session.closed", "over"), want: "session.closed" },
  ])("aborting with $name", async ({ reason, want }) => {
    const { client, clock, abort, options } = setup({ unregister: never });
    await client.register(REQUEST, options);
    const result = codeOf(client.unregister(options));
    abort.abort(reason);
    expect(await result).toBe(want);
    expect(await codeOf(client.unregister(options))).toBe(want);
    expect(clock.pending).toBe(0);
  });

  test("the end of the channel ends the call", async () => {
    const { client, server, options } = setup({ register: never });
    const result = codeOf(client.register(REQUEST, options));
    await settle();
    server.close();
    expect(await result).toBe("channel.lost");
    expect(await client.closed).toMatchObject({ kind: "aborted" });
  });
});

describe("a connector that does not behave", () => {
  function serve(handlers: Partial<RegistrationHandlers> = {}): {
    clock: ManualClock;
    server: RegistrationServer;
    peer: ByteChannel;
    received: Uint8Array[];
  } {
    const clock = new ManualClock();
    const [peer, far] = createMemoryChannelPair();
    const received: Uint8Array[] = [];
    peer.listen({
      onData: (chunk) => void received.push(chunk),
      onEnd: () => {},
      onDrain: () => {},
      onClose: () => {},
    });
    const unused = (): Promise<never> => Promise.reject(new Error("not expected"));
    const server = new RegistrationServer(
      far,
      { register: unused, unregister: unused, updateLocalConfiguration: unused, ...handlers },
      { clock },
    );
    return { clock, server, peer, received };
  }

  test("silence ends at the deadline", async () => {
    const { clock, server, peer } = serve();
    peer.write(encodeBootstrap(0));
    await settle();
    clock.advance(REGISTRATION_DEADLINE_MS);
    expect(await server.ended).toEqual({ kind: "silent" });
    expect(clock.pending).toBe(0);
  });

  test("a refused one that stays is not waited for", async () => {
    const clock = new ManualClock();
    const [near, far] = createMemoryChannelPair();
    const unused = (): Promise<never> => Promise.reject(new Error("not expected"));
    const register = (): Promise<Refusal> => Promise.resolve(refusal({}));
    const server = new RegistrationServer(
      far,
      { register, unregister: unused, updateLocalConfiguration: unused },
      { clock },
    );
    // Its calls go out, but what comes back is never read.
    new RegistrationClient(deafTo(near), { clock: new ManualClock() })
      .register(REQUEST, { signal: new AbortController().signal })
      .catch(() => {});
    await settle();
    let ended = false;
    void server.ended.then(() => {
      ended = true;
    });
    clock.advance(REFUSAL_LINGER_MS - 1);
    await settle();
    expect(ended).toBe(false);
    clock.advance(1);
    expect(await server.ended).toEqual({ kind: "refused" });
  });

  test.each([
    { name: "nonsense", bytes: new Uint8Array(16).fill(0xff) },
    { name: "a message over the limit", bytes: Uint8Array.of(0, 0, 0, 0, 0, 0, 4, 0) },
  ])("$name ends the stream", async ({ bytes }) => {
    const { server, peer, clock } = serve();
    peer.write(bytes);
    expect(await server.ended).toMatchObject({ kind: "closed", reason: { kind: "violation" } });
    expect(clock.pending).toBe(0);
  });

  test("questions it floods without reading the answers do not pile up", async () => {
    const { peer, received } = serve();
    peer.pause();
    const flood = encodeBootstrap(0);
    const finish = encodeFinish(0, true);
    let writes = 0;
    let room = true;
    while (room && writes < 100_000) {
      peer.write(flood);
      room = peer.write(finish);
      writes += 1;
      if (writes % 100 === 0) await settle();
    }
    expect(room).toBe(false);
    expect(writes).toBeLessThan(10_000);
    expect(received).toEqual([]);
  });
});

describe("an edge that does not behave", () => {
  test.each([
    {
      name: "an exception",
      answer: encodeReturnException(1, false, "failed", "boom"),
      want: refusal({ cause: "boom" }),
    },
    {
      name: "an exception for lack of room",
      answer: encodeReturnException(1, false, "overloaded", "busy"),
      want: refusal({ cause: "busy", shouldRetry: true }),
    },
    {
      name: "a wait without end",
      answer: encodeReturnResults(1, false, registerConnection.results, {
        kind: "error",
        cause: "no",
        retryAfterNs: 2n ** 63n - 1n,
        shouldRetry: true,
      }),
      want: refusal({ shouldRetry: true, retryAfterMs: MAX_RETRY_AFTER_MS }),
    },
  ])("$name instead of an answer is a refusal", async ({ answer, want }) => {
    const [near, far] = createMemoryChannelPair();
    const client = new RegistrationClient(near, { clock: new ManualClock() });
    far.write(encodeReturnCapability(0, 0));
    far.write(answer);
    const result = client.register(REQUEST, { signal: new AbortController().signal });
    expect(await result).toEqual(want);
  });
});

/** A channel whose owner is told nothing. */
function deafTo(channel: ByteChannel): ByteChannel {
  return {
    write: (chunk) => channel.write(chunk),
    end: (trailers) => channel.end(trailers),
    abort: (error) => channel.abort(error),
    pause: () => channel.pause(),
    resume: () => channel.resume(),
    listen: () => {},
  };
}
