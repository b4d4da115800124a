import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { DecodeError } from "../../../../src/wire/capnp/decoded.ts";
import {
  DEFAULT_MAX_QUESTIONS,
  type RpcCloseReason,
  RpcConnection,
  type RpcConnectionOptions,
} from "../../../../src/wire/rpc/connection.ts";
import {
  encodeAbort,
  encodeBootstrap,
  encodeCall,
  encodeFinish,
  encodeRelease,
  encodeReturnCapability,
  encodeReturnException,
  encodeReturnResults,
  encodeUnimplemented,
} from "../../../../src/wire/rpc/messages.ts";
import { handleMethod, type MethodHandler, type Responder } from "../../../../src/wire/rpc/method-handler.ts";
import type { Outcome } from "../../../../src/wire/rpc/questions.ts";
import { updateConfiguration } from "../../../../src/wire/schema/configuration-manager.ts";
import {
  type ConnectionResponse,
  registerConnection,
  unregisterConnection,
  updateLocalConfiguration,
} from "../../../../src/wire/schema/registration-server.ts";
import { registerUdpSession, unregisterUdpSession } from "../../../../src/wire/schema/session-manager.ts";
import { CONNECTED, LOCAL_CONFIGURATION, REGISTER } from "../schema/values.ts";
import { concat, hex, loadVector, wholeMessage } from "../vectors.ts";

/** One end whose peer is the test. */
class Harness {
  readonly sent: Uint8Array[] = [];
  readonly closed: RpcCloseReason[] = [];
  readonly rpc: RpcConnection;

  constructor(options: Partial<RpcConnectionOptions> = {}) {
    this.rpc = new RpcConnection({
      send: (message) => this.sent.push(message),
      onClosed: (reason) => this.closed.push(reason),
      ...options,
    });
  }

  /** What was sent since the last call, as hex. */
  take(): string[] {
    return this.sent.splice(0).map(hex);
  }
}

const vectors = (...names: string[]): string[] => names.map((name) => hex(loadVector(name)));
const BOOTSTRAP_PROMISE = { kind: "promisedAnswer", questionId: 0 } as const;
const IMPORTED = { kind: "importedCap", id: 0 } as const;

/** Kind of a message, and for a Return what it says. */
function summary(bytes: Uint8Array | undefined): unknown {
  if (bytes === undefined) return undefined;
  const root = wholeMessage(bytes).root();
  const body = root.struct(0);
  if (root.u16(0) !== 3) return { kind: root.u16(0) };
  const which = body.u16(6);
  if (which !== 1) return { kind: 3, id: body.u32(0), which };
  return { kind: 3, id: body.u32(0), which, type: body.struct(0).u16(4) };
}

const FAILED = 0;
const OVERLOADED = 1;
const UNIMPLEMENTED = 3;

describe("transcript of a control stream", () => {
  test("the connector's side is byte-identical with cloudflared", () => {
    const end = new Harness();
    const outcomes: unknown[] = [];
    const edge = end.rpc.bootstrap();
    end.rpc.call(edge, registerConnection, REGISTER, (outcome) => outcomes.push(outcome));
    expect(end.take()).toEqual(vectors("bootstrap", "register-call"));

    end.rpc.receive(loadVector("bootstrap-return"));
    end.rpc.receive(loadVector("register-return"));
    expect(end.take()).toEqual(vectors("finish-0", "finish-1"));
    expect(outcomes.splice(0)).toEqual([{ kind: "results", value: CONNECTED }]);

    end.rpc.call(edge, updateLocalConfiguration, LOCAL_CONFIGURATION, (outcome) => outcomes.push(outcome));
    expect(end.take()).toEqual(vectors("local-configuration-call"));
    end.rpc.receive(loadVector("empty-return"));
    expect(end.take()).toEqual(vectors("finish-1"));

    end.rpc.call(edge, unregisterConnection, undefined, (outcome) => outcomes.push(outcome));
    expect(end.take()).toEqual(vectors("unregister-call"));
    end.rpc.receive(loadVector("empty-return"));
    expect(end.take()).toEqual(vectors("finish-1"));
    expect(outcomes).toEqual([
      { kind: "results", value: undefined },
      { kind: "results", value: undefined },
    ]);

    end.rpc.close();
    expect(end.take()).toEqual(vectors("release", "abort-shutdown"));
    expect(end.closed).toEqual([{ kind: "shutdown" }]);
  });

  test.each([1, 3, 10_000])("the edge's side is byte-identical, bytes coming %d at a time", (size) => {
    const calls: unknown[] = [];
    const end = new Harness({
      methods: [
        handleMethod(registerConnection, (params, respond) => {
          calls.push(params);
          respond.results(CONNECTED);
        }),
        handleMethod(updateLocalConfiguration, (params, respond) => {
          calls.push(params);
          respond.results();
        }),
        handleMethod(unregisterConnection, (_, respond) => {
          calls.push("unregister");
          respond.results();
        }),
      ],
    });
    const fromConnector = concat(
      [
        "bootstrap",
        "register-call",
        "finish-0",
        "finish-1",
        "local-configuration-call",
        "finish-1",
        "unregister-call",
        "finish-1",
        "release",
        "abort-shutdown",
      ].map(loadVector),
    );
    for (let at = 0; at < fromConnector.length; at += size) end.rpc.receive(fromConnector.subarray(at, at + size));
    expect(end.take()).toEqual(vectors("bootstrap-return", "register-return", "empty-return", "empty-return"));
    expect(calls).toEqual([REGISTER, LOCAL_CONFIGURATION, "unregister"]);
    expect(end.closed).toEqual([{ kind: "aborted", type: "failed", reason: "rpc: shutdown" }]);
  });

  test("the connector's side of an RPC stream that the edge opened", () => {
    const end = new Harness({
      methods: [
        handleMethod(updateConfiguration, ({ version }, respond) =>
          respond.results(
            version === 1 ? { latestAppliedVersion: 1, error: "" } : { latestAppliedVersion: 3, error: "bad config" },
          ),
        ),
        handleMethod(registerUdpSession, (_, respond) => respond.results({ error: "", spans: new Uint8Array(0) })),
        handleMethod(unregisterUdpSession, (_, respond) => respond.results()),
      ],
    });
    for (const name of ["bootstrap", "update-configuration-call", "finish-0", "finish-1"]) {
      end.rpc.receive(loadVector(name));
    }
    expect(end.take()).toEqual(vectors("bootstrap-return", "update-configuration-return"));
    for (const name of ["update-configuration-rejected", "register-udp-session"]) {
      end.rpc.receive(loadVector(`${name}-call`));
      expect(end.take()).toEqual(vectors(`${name}-return`));
      end.rpc.receive(loadVector("finish-1"));
    }
    end.rpc.receive(loadVector("unregister-udp-session-call"));
    expect(end.take()).toEqual(vectors("empty-return"));
  });
});

describe("client", () => {
  function connected(options: Partial<RpcConnectionOptions> = {}) {
    const end = new Harness(options);
    const capability = end.rpc.bootstrap();
    end.rpc.receive(loadVector("bootstrap-return"));
    end.take();
    return { end, capability };
  }

  test("an exception reaches the caller with its type", () => {
    const { end, capability } = connected();
    const outcomes: Outcome<void>[] = [];
    end.rpc.call(capability, unregisterConnection, undefined, (outcome) => outcomes.push(outcome));
    end.rpc.receive(encodeReturnException(0, false, "overloaded", "busy"));
    expect(outcomes).toEqual([{ kind: "exception", type: "overloaded", reason: "busy" }]);
    expect(end.take()).toHaveLength(2);
  });

  test("a failed bootstrap fails calls made later without asking the peer", () => {
    const end = new Harness();
    const capability = end.rpc.bootstrap();
    end.rpc.receive(encodeReturnException(0, false, "failed", "no"));
    end.take();
    const outcomes: Outcome<void>[] = [];
    end.rpc.call(capability, unregisterConnection, undefined, (outcome) => outcomes.push(outcome));
    expect(outcomes).toEqual([{ kind: "exception", type: "failed", reason: "no" }]);
    expect(end.take()).toEqual([]);
  });

  test("a bootstrap answered with data is no capability", () => {
    const end = new Harness();
    const capability = end.rpc.bootstrap();
    end.rpc.receive(encodeReturnResults(0, false, registerConnection.results, CONNECTED));
    expect(end.take().at(-1)).toBe(hex(encodeFinish(0, true)));
    const outcomes: Outcome<void>[] = [];
    end.rpc.call(capability, unregisterConnection, undefined, (outcome) => outcomes.push(outcome));
    expect(outcomes).toMatchObject([{ kind: "exception" }]);
  });

  test("results that cannot be read", () => {
    const { end, capability } = connected();
    const outcomes: Outcome<ConnectionResponse>[] = [];
    end.rpc.call(capability, registerConnection, REGISTER, (outcome) => outcomes.push(outcome));
    const nonsense = {
      ...registerConnection.results,
      read: () => {
        throw new DecodeError("unused");
      },
      write: registerUdpSession.params.write,
      dataWords: 2,
      pointerWords: 3,
    };
    const session = {
      sessionId: Uint8Array.of(1),
      dstIp: Uint8Array.of(1),
      dstPort: 1,
      closeAfterIdleNs: 0n,
      traceContext: "",
    };
    end.rpc.receive(encodeReturnResults(0, false, nonsense, session));
    expect(outcomes).toMatchObject([{ kind: "malformed" }]);
    expect(end.closed).toEqual([]);
  });

  test("cancel sends Finish, and a late answer is swallowed before the id is used again", () => {
    const { end, capability } = connected();
    const outcomes: unknown[] = [];
    const call = end.rpc.call(capability, unregisterConnection, undefined, (outcome) => outcomes.push(outcome));
    end.take();
    call.cancel();
    call.cancel();
    expect(end.take()).toEqual([hex(encodeFinish(0, true))]);
    end.rpc.call(capability, unregisterConnection, undefined, () => {});
    expect(end.take()).toEqual([hex(encodeCall(1, IMPORTED, unregisterConnection, undefined))]);
    end.rpc.receive(encodeReturnResults(0, false, unregisterConnection.results, undefined));
    expect(end.take()).toEqual([]);
    expect(outcomes).toEqual([]);
    end.rpc.call(capability, unregisterConnection, undefined, () => {});
    expect(end.take()).toEqual([hex(encodeCall(0, IMPORTED, unregisterConnection, undefined))]);
  });

  test("calls over the limit are refused here", () => {
    const { end, capability } = connected({ maxQuestions: 2 });
    const outcomes: Outcome<void>[] = [];
    for (let i = 0; i < 3; i += 1) {
      end.rpc.call(capability, unregisterConnection, undefined, (outcome) => outcomes.push(outcome));
    }
    expect(end.take()).toHaveLength(2);
    expect(outcomes).toMatchObject([{ kind: "exception", type: "overloaded" }]);
  });

  test("a call that the peer did not understand", () => {
    const { end, capability } = connected();
    const outcomes: Outcome<void>[] = [];
    end.rpc.call(capability, unregisterConnection, undefined, (outcome) => outcomes.push(outcome));
    end.rpc.receive(encodeUnimplemented(2, 0n));
    expect(outcomes).toMatchObject([{ kind: "exception", type: "unimplemented" }]);
  });

  test.each([
    { how: "the bytes end", act: (end: Harness) => end.rpc.lose(), closed: { kind: "lost" } },
    {
      how: "the peer aborts",
      act: (end: Harness) => end.rpc.receive(encodeAbort("overloaded", "bye")),
      closed: { kind: "aborted", type: "overloaded", reason: "bye" },
    },
    { how: "we close", act: (end: Harness) => end.rpc.close(), closed: { kind: "shutdown" } },
  ])("open calls are lost when $how", ({ act, closed }) => {
    const { end, capability } = connected();
    const outcomes: Outcome<void>[] = [];
    const call = (): unknown =>
      end.rpc.call(capability, unregisterConnection, undefined, (outcome) => outcomes.push(outcome));
    call();
    act(end);
    call();
    expect(outcomes).toEqual([{ kind: "lost" }, { kind: "lost" }]);
    expect(end.closed).toEqual([closed as RpcCloseReason]);
    end.take();
    end.rpc.receive(loadVector("bootstrap"));
    end.rpc.close();
    end.rpc.lose();
    expect(end.take()).toEqual([]);
    expect(end.closed).toHaveLength(1);
  });
});

test("what a peer sends behind the end is not kept", () => {
  const held = (): number => {
    Bun.gc(true);
    return process.memoryUsage().heapUsed;
  };
  const end = new Harness();
  end.rpc.receive(loadVector("abort-shutdown"));
  const before = held();
  for (let i = 0; i < 64; i += 1) end.rpc.receive(new Uint8Array(1024 * 1024));
  expect(end.closed.map(({ kind }) => kind)).toEqual(["aborted"]);
  expect(held() - before).toBeLessThan(16 * 1024 * 1024);
});

describe("server", () => {
  /** A server whose one method waits for the test to answer. */
  function serving(options: Partial<RpcConnectionOptions> = {}) {
    const waiting: Responder<void>[] = [];
    const methods: MethodHandler[] = [handleMethod(unregisterConnection, (_, respond) => waiting.push(respond))];
    const end = new Harness({ methods, ...options });
    end.rpc.receive(loadVector("bootstrap"));
    end.take();
    return { end, waiting };
  }
  const call = (id: number, target: Parameters<typeof encodeCall>[1] = IMPORTED): Uint8Array =>
    encodeCall(id, target, unregisterConnection, undefined);

  test("answers later, in any order, once", () => {
    const { end, waiting } = serving();
    end.rpc.receive(call(1));
    end.rpc.receive(call(2, BOOTSTRAP_PROMISE));
    waiting[1]?.results();
    waiting[1]?.results();
    waiting[0]?.exception("failed", "no");
    expect(end.sent.splice(0).map(summary)).toEqual([
      { kind: 3, id: 2, which: 0 },
      { kind: 3, id: 1, which: 1, type: FAILED },
    ]);
  });

  test("Finish before the answer cancels it, and the id may be used again", () => {
    const { end, waiting } = serving();
    const canceled: string[] = [];
    end.rpc.receive(call(1));
    waiting[0]?.onCancel(() => canceled.push("first"));
    end.rpc.receive(encodeFinish(1, true));
    expect(canceled).toEqual(["first"]);
    expect(end.sent.splice(0).map(summary)).toEqual([{ kind: 3, id: 1, which: 2 }]);
    end.rpc.receive(call(1));
    waiting[0]?.results();
    expect(end.take()).toEqual([]);
    waiting[1]?.results();
    expect(end.sent.map(summary)).toEqual([{ kind: 3, id: 1, which: 0 }]);
  });

  test("the end of the connection cancels running calls", () => {
    const { end, waiting } = serving();
    const canceled: string[] = [];
    end.rpc.receive(call(1));
    waiting[0]?.onCancel(() => canceled.push("first"));
    end.rpc.lose();
    waiting[0]?.results();
    expect(canceled).toEqual(["first"]);
    expect(end.take()).toEqual([]);
  });

  test.each([
    {
      name: "unknown method",
      bytes: encodeCall(1, IMPORTED, { ...unregisterConnection, methodId: 9 }, undefined),
      type: UNIMPLEMENTED,
    },
    {
      name: "unknown interface",
      bytes: encodeCall(1, IMPORTED, { ...unregisterConnection, interfaceId: 1n }, undefined),
      type: UNIMPLEMENTED,
    },
    { name: "unknown export", bytes: call(1, { kind: "importedCap", id: 5 }), type: FAILED },
    { name: "promise of an unknown question", bytes: call(1, { kind: "promisedAnswer", questionId: 5 }), type: FAILED },
  ])("$name is answered with an exception", ({ bytes, type }) => {
    const { end } = serving();
    end.rpc.receive(bytes);
    expect(end.sent.map(summary)).toEqual([{ kind: 3, id: 1, which: 1, type }]);
    expect(end.closed).toEqual([]);
  });

  test("params that cannot be read are answered with an exception", () => {
    const end = new Harness({
      methods: [handleMethod(registerConnection, (_, respond) => respond.results(CONNECTED))],
    });
    end.rpc.receive(loadVector("bootstrap"));
    end.rpc.receive(encodeCall(1, BOOTSTRAP_PROMISE, { ...unregisterConnection, methodId: 0 }, undefined));
    expect(summary(end.sent[1])).toEqual({ kind: 3, id: 1, which: 1, type: FAILED });
  });

  test("without methods a bootstrap is answered with an exception", () => {
    const end = new Harness();
    end.rpc.receive(loadVector("bootstrap"));
    end.rpc.receive(call(1, BOOTSTRAP_PROMISE));
    expect(end.sent.map(summary)).toEqual([
      { kind: 3, id: 0, which: 1, type: FAILED },
      { kind: 3, id: 1, which: 1, type: FAILED },
    ]);
  });

  test("a released capability is gone", () => {
    const { end } = serving();
    end.rpc.receive(encodeFinish(0, false));
    end.rpc.receive(encodeRelease(0, 1));
    end.rpc.receive(call(1));
    expect(end.sent.map(summary)).toEqual([{ kind: 3, id: 1, which: 1, type: FAILED }]);
  });

  test("questions over the limit are refused and nothing is kept for them", () => {
    const { end, waiting } = serving();
    for (let id = 1; id <= DEFAULT_MAX_QUESTIONS + 5; id += 1) end.rpc.receive(call(id));
    expect(waiting).toHaveLength(DEFAULT_MAX_QUESTIONS - 1);
    const refused = end.sent.splice(0).map(summary);
    expect(refused).toHaveLength(6);
    expect(refused[0]).toEqual({ kind: 3, id: DEFAULT_MAX_QUESTIONS, which: 1, type: OVERLOADED });
    end.rpc.receive(encodeFinish(1, true));
    end.rpc.receive(call(200));
    expect(waiting).toHaveLength(DEFAULT_MAX_QUESTIONS);
  });

  test("an unknown message kind is echoed as unimplemented", () => {
    const { end } = serving();
    const resolve = encodeRelease(7, 3);
    resolve[16] = 5;
    end.rpc.receive(resolve);
    const echo = wholeMessage(end.sent[0]!).root();
    expect(echo.u16(0)).toBe(0);
    expect(echo.struct(0).u16(0)).toBe(5);
    expect(echo.struct(0).struct(0).u32(0)).toBe(7);
    expect(end.closed).toEqual([]);
  });

  test.each([
    { name: "question id in use", bytes: concat([call(1), call(1)]) },
    { name: "bootstrap id in use", bytes: encodeBootstrap(0) },
    { name: "release of more than held", bytes: encodeRelease(0, 2) },
    { name: "release of an unknown export", bytes: encodeRelease(3, 1) },
    { name: "bytes that are no message", bytes: new Uint8Array(64).fill(0xff) },
    { name: "a message over the size limit", bytes: Uint8Array.of(0, 0, 0, 0, 0, 0, 4, 0) },
  ])("$name ends the connection with Abort", ({ bytes }) => {
    const { end } = serving();
    end.rpc.receive(bytes);
    expect(end.closed).toMatchObject([{ kind: "violation" }]);
    expect(summary(end.sent.at(-1))).toEqual({ kind: 1 });
  });
});

describe("both ends", () => {
  test("any mix of messages, mutated, never throws and ends at most once", () => {
    const messages = [
      ...["bootstrap", "register-call", "finish-0", "finish-1", "release", "bootstrap-return", "register-return"].map(
        loadVector,
      ),
      encodeCall(3, BOOTSTRAP_PROMISE, unregisterConnection, undefined),
      encodeReturnCapability(0, 4),
      encodeUnimplemented(2, 1n),
    ];
    const step = fc.record({
      message: fc.constantFrom(...messages),
      mutations: fc.array(fc.record({ at: fc.nat(600), value: fc.nat(255) }), { maxLength: 2 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
        const end = new Harness({
          methods: [handleMethod(registerConnection, (_, respond) => respond.results(CONNECTED))],
          maxMessageBytes: 4096,
        });
        let outcomes = 0;
        const capability = end.rpc.bootstrap();
        end.rpc.call(capability, registerConnection, REGISTER, () => {
          outcomes += 1;
        });
        for (const { message, mutations } of steps) {
          const bytes = message.slice();
          for (const { at, value } of mutations) bytes[at % bytes.length] = value;
          end.rpc.receive(bytes);
        }
        end.rpc.lose();
        expect(outcomes).toBe(1);
        expect(end.closed).toHaveLength(1);
      }),
      { numRuns: 500 },
    );
  });
});
