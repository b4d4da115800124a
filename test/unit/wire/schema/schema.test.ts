import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { newConnectionId, newConnectorId, newTunnelId, uuidToBytes } from "../../../../src/core/ids.ts";
import { decodeTotally } from "../../../../src/wire/capnp/decoded.ts";
import { decodeMessage, encodeMessage, type StructCodec } from "../../../../src/wire/capnp/struct-codec.ts";
import { encodeCall, encodeReturnResults } from "../../../../src/wire/rpc/messages.ts";
import { updateConfiguration } from "../../../../src/wire/schema/configuration-manager.ts";
import { connectRequest, connectResponse } from "../../../../src/wire/schema/connect-request.ts";
import {
  registerConnection,
  unregisterConnection,
  updateLocalConfiguration,
} from "../../../../src/wire/schema/registration-server.ts";
import { registerUdpSession, unregisterUdpSession } from "../../../../src/wire/schema/session-manager.ts";
import { frameInChunks, hex, loadVector, wholeMessage } from "../vectors.ts";
import { CONNECTED, LOCAL_CONFIGURATION, REGISTER } from "./values.ts";

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);
const SESSION = uuidToBytes(REGISTER.tunnelId);

/** A vector of a Call: the params inside and how the whole is written again. */
const CALLS = [
  { name: "register-call", method: registerConnection, value: REGISTER, pipelined: true },
  { name: "unregister-call", method: unregisterConnection, value: undefined, pipelined: false },
  { name: "local-configuration-call", method: updateLocalConfiguration, value: LOCAL_CONFIGURATION, pipelined: false },
  {
    name: "update-configuration-call",
    method: updateConfiguration,
    value: {
      version: 1,
      config: utf8('{"ingress":[{"service":"http_status:404"}],"warp-routing":{}}'),
    },
    pipelined: true,
  },
  {
    name: "update-configuration-rejected-call",
    method: updateConfiguration,
    value: { version: 7, config: utf8("{}") },
    pipelined: false,
  },
  {
    name: "register-udp-session-call",
    method: registerUdpSession,
    value: {
      sessionId: SESSION,
      dstIp: Uint8Array.of(172, 16, 0, 1),
      dstPort: 8000,
      closeAfterIdleNs: 210_000_000_000n,
      traceContext: "",
    },
    pipelined: false,
  },
  {
    name: "unregister-udp-session-call",
    method: unregisterUdpSession,
    value: { sessionId: SESSION, message: "closed by eyeball" },
    pipelined: false,
  },
];

const RETURNS = [
  { name: "register-return", method: registerConnection, value: CONNECTED },
  { name: "register-return-managed", method: registerConnection, value: { ...CONNECTED, remotelyManaged: true } },
  {
    name: "register-return-duplicate",
    method: registerConnection,
    value: { kind: "error", cause: "EDUPCONN", retryAfterNs: 0n, shouldRetry: false },
  },
  {
    name: "register-return-later",
    method: registerConnection,
    value: { kind: "error", cause: "try later", retryAfterNs: 5_000_000_000n, shouldRetry: true },
  },
  {
    name: "register-return-unauthorized",
    method: registerConnection,
    value: { kind: "error", cause: "Unauthorized: Invalid tunnel secret", retryAfterNs: 0n, shouldRetry: false },
  },
  { name: "empty-return", method: unregisterConnection, value: undefined },
  { name: "update-configuration-return", method: updateConfiguration, value: { latestAppliedVersion: 1, error: "" } },
  {
    name: "update-configuration-rejected-return",
    method: updateConfiguration,
    value: { latestAppliedVersion: 3, error: "bad config" },
  },
  { name: "register-udp-session-return", method: registerUdpSession, value: { error: "", spans: new Uint8Array(0) } },
];

const HEADS = [
  {
    name: "connect-request-get",
    codec: connectRequest,
    value: {
      dest: "http://example.com/hello?x=1",
      type: "http",
      metadata: ["HttpMethod", "GET", "HttpHost", "example.com", "HttpHeader:Accept", "*/*"],
    },
  },
  {
    name: "connect-request-tcp",
    codec: connectRequest,
    value: { dest: "10.1.2.3:22", type: "tcp", metadata: ["FlowID", "f1"] },
  },
  {
    name: "connect-response-ok",
    codec: connectResponse,
    value: { error: "", metadata: ["HttpStatus", "200", "HttpHeader:Content-Type", "text/plain"] },
  },
  {
    name: "connect-response-limited",
    codec: connectResponse,
    value: { error: "boom", metadata: ["FlowConnectRateLimited", "true"] },
  },
];

// The tables hold codecs of several types; each row's value is of its own codec's type.
type AnyCodec = StructCodec<unknown>;

describe("golden vectors", () => {
  test.each(CALLS)("$name: params in both directions", ({ name, method, value, pipelined }) => {
    const bytes = loadVector(name);
    const params = wholeMessage(bytes).root().struct(0).struct(1).struct(0);
    expect((method.params as AnyCodec).read(params)).toEqual(value);
    const target = pipelined
      ? ({ kind: "promisedAnswer", questionId: 0 } as const)
      : ({ kind: "importedCap", id: 0 } as const);
    expect(hex(encodeCall(1, target, method as typeof registerConnection, value as typeof REGISTER))).toBe(hex(bytes));
  });

  test.each(RETURNS)("$name: results in both directions", ({ name, method, value }) => {
    const bytes = loadVector(name);
    const results = wholeMessage(bytes).root().struct(0).struct(0).struct(0);
    expect((method.results as AnyCodec).read(results)).toEqual(value);
    expect(hex(encodeReturnResults(1, false, method.results as AnyCodec, value))).toBe(hex(bytes));
  });

  test.each(HEADS)("$name: in both directions, whole and byte by byte", ({ name, codec, value }) => {
    const bytes = loadVector(name);
    expect(hex(encodeMessage(codec as AnyCodec, value))).toBe(hex(bytes));
    for (const size of [bytes.length, 1]) {
      const framed = frameInChunks(bytes, size);
      if (framed.kind !== "value") throw new Error(framed.kind);
      expect(decodeMessage(codec as AnyCodec, framed.value)).toEqual({ kind: "value", value });
    }
  });
});

describe("any value", () => {
  const byteString = fc.string({ unit: fc.nat(255).map((code) => String.fromCharCode(code)) });

  test("ConnectRequest round trip", () => {
    const request = fc.record({
      dest: byteString,
      type: fc.constantFrom("http" as const, "websocket" as const, "tcp" as const),
      metadata: fc.array(fc.tuple(byteString, byteString)).map((pairs) => pairs.flat()),
    });
    fc.assert(
      fc.property(request, (value) => {
        expect(decodeMessage(connectRequest, wholeMessage(encodeMessage(connectRequest, value)))).toEqual({
          kind: "value",
          value,
        });
      }),
      { numRuns: 200 },
    );
  });

  test("registration round trip", () => {
    const params = fc.record({
      auth: fc.record({ accountTag: fc.string(), tunnelSecret: fc.uint8Array() }),
      tunnelId: fc.constant(newTunnelId()),
      connIndex: fc.nat(255),
      options: fc.record({
        client: fc.record({
          clientId: fc.constant(newConnectorId()),
          features: fc.array(fc.string()),
          version: fc.string(),
          arch: fc.string(),
        }),
        originLocalIp: fc.uint8Array({ maxLength: 16 }),
        replaceExisting: fc.boolean(),
        compressionQuality: fc.nat(255),
        numPreviousAttempts: fc.nat(255),
      }),
    });
    fc.assert(
      fc.property(params, (value) => {
        const bytes = encodeMessage(registerConnection.params, value);
        expect(decodeMessage(registerConnection.params, wholeMessage(bytes))).toEqual({ kind: "value", value });
      }),
      { numRuns: 100 },
    );
    const details = { ...CONNECTED, connectionId: newConnectionId(), location: "" };
    const bytes = encodeMessage(registerConnection.results, details);
    expect(decodeMessage(registerConnection.results, wholeMessage(bytes))).toEqual({ kind: "value", value: details });
  });
});

describe("hostile bytes", () => {
  const codecs: readonly AnyCodec[] = [
    ...CALLS.map((call) => call.method.params as AnyCodec),
    ...RETURNS.map((ret) => ret.method.results as AnyCodec),
    connectRequest as AnyCodec,
    connectResponse as AnyCodec,
  ];
  const vectors = [...CALLS, ...RETURNS, ...HEADS].map((row) => loadVector(row.name));

  function readEverything(bytes: Uint8Array): void {
    const framed = frameInChunks(bytes, Math.max(1, bytes.length));
    if (framed.kind !== "value") return;
    for (const codec of codecs) {
      decodeMessage(codec, framed.value);
      decodeTotally(() => codec.read(framed.value.root().struct(0).struct(1).struct(0)));
    }
  }

  test("mutated vectors never throw", () => {
    const mutation = fc.record({ at: fc.nat(600), value: fc.nat(255) });
    fc.assert(
      fc.property(
        fc.constantFrom(...vectors),
        fc.array(mutation, { minLength: 1, maxLength: 6 }),
        (vector, mutations) => {
          const bytes = vector.slice();
          // The framing header stays: otherwise most cases would end there.
          for (const { at, value } of mutations) bytes[8 + (at % (bytes.length - 8))] = value;
          readEverything(bytes);
        },
      ),
      { numRuns: 1500 },
    );
  });

  test("random words never throw", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 256 }), (body) => {
        const words = body.length >>> 3;
        const bytes = new Uint8Array(8 + words * 8);
        bytes[4] = words;
        bytes.set(body.subarray(0, words * 8), 8);
        readEverything(bytes);
      }),
      { numRuns: 500 },
    );
  });

  test.each([
    { name: "tunnelId", lengthAt: 36 },
    { name: "clientId", lengthAt: 180 },
  ])("a $name of a wrong length is malformed", ({ name, lengthAt }) => {
    const bytes = encodeMessage(registerConnection.params, REGISTER);
    bytes[lengthAt] = (15 << 3) | 2;
    expect(decodeMessage(registerConnection.params, wholeMessage(bytes))).toMatchObject({
      kind: "malformed",
      reason: expect.stringContaining(name),
    });
  });
});
