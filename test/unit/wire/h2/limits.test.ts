import { describe, expect, test } from "bun:test";
import { H2Connection } from "../../../../src/wire/h2/connection.ts";
import { CLIENT_PREFACE, FRAME, H2_ERROR } from "../../../../src/wire/h2/constants.ts";
import { encodeHpack, hpackBoundBytes } from "../../../../src/wire/h2/hpack-encoder.ts";
import { type H2Limits, TUNNEL_LIMITS } from "../../../../src/wire/h2/limits.ts";
import type { H2Stream } from "../../../../src/wire/h2/stream.ts";
import type { RawHeaders } from "../../../../src/wire/headers.ts";

const REQUEST = [":method", "GET", ":scheme", "http", ":authority", "a.example", ":path", "/"];

interface Server {
  readonly h2: H2Connection;
  readonly requests: { stream: H2Stream; fields: string[] | undefined }[];
  readonly fatal: number[];
  /** Frames sent since the last call, as `[type, stream, payload]`. */
  sent(): [number, number, Uint8Array][];
}

function server(limits: Partial<H2Limits> = {}): Server {
  const requests: Server["requests"] = [];
  const fatal: number[] = [];
  const take = (stream: H2Stream, fields: string[] | undefined): void => {
    requests.push({ stream, fields });
    const nothing = (): void => {};
    stream.listen({
      onInformational: nothing,
      onHead: nothing,
      onData: nothing,
      onEnd: nothing,
      onDrain: nothing,
      onReset: nothing,
      onComplete: nothing,
    });
  };
  const h2 = new H2Connection(
    "server",
    {
      onRequest: take,
      onOversizedRequest: (stream) => take(stream, undefined),
      onGoaway: () => {},
      onPingAck: () => {},
      onReady: () => {},
      onOutput: () => {},
      onFatal: (code) => fatal.push(code),
    },
    (bytes) => new Uint8Array(bytes),
    { ...TUNNEL_LIMITS, ...limits },
  );
  const sent: Server["sent"] = () => {
    const bytes = Buffer.concat(h2.takeOutput());
    const frames: [number, number, Uint8Array][] = [];
    for (let at = 0; at < bytes.length; ) {
      const length = bytes.readUIntBE(at, 3);
      frames.push([bytes[at + 3] as number, bytes.readUInt32BE(at + 5), bytes.subarray(at + 9, at + 9 + length)]);
      at += 9 + length;
    }
    return frames;
  };
  h2.receive(Buffer.from(CLIENT_PREFACE));
  h2.receive(frame(FRAME.settings, 0, 0));
  sent();
  return { h2, requests, fatal, sent };
}

function frame(type: number, flags: number, streamId: number, payload: Uint8Array | number[] = []): Uint8Array {
  const bytes = Buffer.alloc(9 + payload.length);
  bytes.writeUIntBE(payload.length, 0, 3);
  bytes[3] = type;
  bytes[4] = flags;
  bytes.writeUInt32BE(streamId, 5);
  bytes.set(payload, 9);
  return bytes;
}

function request(streamId: number, fields: RawHeaders, end: boolean): Uint8Array {
  const block = new Uint8Array(hpackBoundBytes(fields));
  return frame(FRAME.headers, end ? 5 : 4, streamId, block.subarray(0, encodeHpack(fields, block, 0)));
}

describe("what a connection lets its peer do", () => {
  test("streams over the limit are refused", () => {
    const { h2, requests, sent } = server({ streams: 2 });
    for (const id of [1, 3, 5]) h2.receive(request(id, REQUEST, false));
    expect(requests).toHaveLength(2);
    expect(sent()).toEqual([[FRAME.rstStream, 5, Buffer.from([0, 0, 0, H2_ERROR.refusedStream])]]);
  });

  test("a list over the limit reaches its handler, and the next request is served", () => {
    const { h2, requests, fatal } = server({ headerListBytes: 500 });
    h2.receive(request(1, [...REQUEST, "x", "a".repeat(600)], true));
    h2.receive(request(3, REQUEST, true));
    expect(requests.map(({ stream, fields }) => [stream.id, fields === undefined])).toEqual([
      [1, true],
      [3, false],
    ]);
    expect(fatal).toEqual([]);
  });

  test("a frame, or a block of several, over the limit ends the connection", () => {
    const one = server({ frameBytes: 16_384 });
    one.h2.receive(frame(FRAME.headers, 4, 1, new Uint8Array(16_385)));
    expect(one.fatal).toEqual([H2_ERROR.frameSizeError]);
    const several = server({ headerBlockBytes: 1_000 });
    several.h2.receive(frame(FRAME.headers, 0, 1, new Uint8Array(600)));
    expect(several.fatal).toEqual([]);
    several.h2.receive(frame(FRAME.continuation, 0, 1, new Uint8Array(600)));
    expect(several.fatal).toEqual([H2_ERROR.enhanceYourCalm]);
  });

  test("a stream gets no more than its window", () => {
    const { h2, requests, sent } = server({ streamWindowBytes: 65_535, maxStreamWindowBytes: 65_535 });
    h2.receive(request(1, REQUEST, false));
    requests[0]?.stream.pause();
    for (let i = 0; i < 4; i += 1) h2.receive(frame(FRAME.data, 0, 1, new Uint8Array(16_384)));
    expect(sent().at(-1)).toEqual([FRAME.rstStream, 1, Buffer.from([0, 0, 0, H2_ERROR.flowControlError])]);
  });

  test("CONNECT passes where it may, in both forms, and nowhere else", () => {
    const plain = [":method", "CONNECT", ":authority", "a:443"];
    const extended = [...REQUEST.slice(2), ":method", "CONNECT", ":protocol", "websocket"];
    for (const [connect, expected] of [
      [true, [1, 3]],
      [false, []],
    ] as const) {
      const { h2, requests } = server({ connect });
      h2.receive(request(1, plain, true));
      h2.receive(request(3, extended, false));
      h2.receive(request(5, [...plain, ":path", "/"], true));
      h2.receive(request(7, [...REQUEST, ":protocol", "websocket"], true));
      h2.receive(request(9, [":method", "CONNECT"], true));
      expect(requests.map(({ stream }) => stream.id)).toEqual([...expected]);
    }
  });

  test("more settings in a frame than there are ends the connection", () => {
    const { h2, fatal } = server();
    h2.receive(frame(FRAME.settings, 0, 0, new Uint8Array(6 * 32)));
    expect(fatal).toEqual([]);
    h2.receive(frame(FRAME.settings, 0, 0, new Uint8Array(6 * 33)));
    expect(fatal).toEqual([H2_ERROR.enhanceYourCalm]);
  });

  test.each([
    { name: "ENABLE_PUSH of 2", bytes: frame(FRAME.settings, 0, 0, [0, 2, 0, 0, 0, 2]) },
    { name: "PRIORITY of no stream", bytes: frame(FRAME.priority, 0, 0, [0, 0, 0, 0, 0]) },
  ])("$name breaks the protocol", ({ bytes }) => {
    const { h2, fatal } = server();
    h2.receive(bytes);
    expect(fatal).toEqual([H2_ERROR.protocolError]);
  });
});

describe("stopPeer", () => {
  test("the reset follows our end, at once or when the window lets it out", () => {
    const { h2, requests, sent } = server();
    h2.receive(frame(FRAME.settings, 0, 0, [0, 4, 0, 0, 0, 2]));
    h2.receive(request(1, REQUEST, false));
    sent();
    const stream = requests[0]?.stream;
    stream?.sendHeaders([":status", "403"], false);
    stream?.write(Buffer.from("abcd"));
    stream?.end([]);
    stream?.stopPeer();
    expect(sent().map(([type]) => type)).toEqual([FRAME.headers, FRAME.data]);
    h2.receive(frame(FRAME.windowUpdate, 0, 1, [0, 0, 0, 2]));
    const rest = sent();
    expect(rest.map(([type]) => type)).toEqual([FRAME.data, FRAME.rstStream]);
    expect(rest[1]?.[2]).toEqual(Buffer.from([0, 0, 0, H2_ERROR.noError]));
    expect(h2.streamCount).toBe(0);
  });

  test("a peer that has ended is not told", () => {
    const { h2, requests, sent } = server();
    h2.receive(request(1, REQUEST, true));
    const stream = requests[0]?.stream;
    stream?.stopPeer();
    stream?.sendHeaders([":status", "200"], true);
    expect(sent().map(([type]) => type)).toEqual([FRAME.headers]);
    expect(h2.streamCount).toBe(0);
  });
});

test("midFrame tells an unfinished frame or block, but not unfinished DATA", () => {
  const { h2 } = server();
  const head = request(1, REQUEST, false);
  h2.receive(head.subarray(0, 12));
  expect(h2.midFrame).toBe(true);
  h2.receive(head.subarray(12));
  expect(h2.midFrame).toBe(false);
  h2.receive(frame(FRAME.data, 0, 1, new Uint8Array(100)).subarray(0, 50));
  expect(h2.midFrame).toBe(false);
  h2.receive(new Uint8Array(59));
  h2.receive(frame(FRAME.headers, 1, 3));
  expect(h2.midFrame).toBe(true);
});

test("giveUp ends every stream and says why", () => {
  const { h2, fatal, sent } = server();
  h2.receive(request(1, REQUEST, false));
  h2.giveUp(H2_ERROR.enhanceYourCalm, "enough");
  expect([fatal, h2.streamCount]).toEqual([[H2_ERROR.enhanceYourCalm], 0]);
  expect(sent().at(-1)).toEqual([FRAME.goaway, 0, Buffer.from([0, 0, 0, 1, 0, 0, 0, 11])]);
});
