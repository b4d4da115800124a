import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { H2Connection, type H2Handler } from "../../../../src/wire/h2/connection.ts";
import { CLIENT_PREFACE, H2_ERROR } from "../../../../src/wire/h2/constants.ts";
import { MAX_IDLE_CONTROL_FRAMES, STREAM_WINDOW_BYTES } from "../../../../src/wire/h2/limits.ts";
import type { H2Stream, H2StreamEvents } from "../../../../src/wire/h2/stream.ts";

const REQUEST = [":method", "GET", ":scheme", "http", ":authority", "a.example", ":path", "/"];
const allocate = (bytes: number): Uint8Array => new Uint8Array(bytes);

interface Seen {
  readonly requests: { stream: H2Stream; fields: string[]; endStream: boolean; log: string[] }[];
  readonly fatal: { code: number; reason: string }[];
}

/** A server-role connection that answers nothing by itself and writes down what happens to its streams. */
function server(onRequest?: (stream: H2Stream) => void): { h2: H2Connection; seen: Seen } {
  const seen: Seen = { requests: [], fatal: [] };
  const handler: H2Handler = {
    onRequest: (stream, fields, endStream) => {
      const log: string[] = [];
      seen.requests.push({ stream, fields, endStream, log });
      stream.listen(logger(log));
      onRequest?.(stream);
    },
    onGoaway: () => {},
    onPingAck: () => {},
    onReady: () => {},
    onOutput: () => {},
    onFatal: (code, reason) => seen.fatal.push({ code, reason }),
  };
  return { h2: new H2Connection("server", handler, allocate), seen };
}

function logger(log: string[]): H2StreamEvents {
  return {
    onInformational: (fields) => log.push(`1xx ${fields.join(" ")}`),
    onHead: (fields) => log.push(`head ${fields.join(" ")}`),
    onData: (chunk) => log.push(`data ${chunk.length}`),
    onEnd: (trailers) => log.push(`end ${trailers.join(" ")}`.trim()),
    onDrain: () => log.push("drain"),
    onReset: (code, byPeer, processed) => log.push(`reset ${code} ${byPeer ? "peer" : "us"} ${processed}`),
    onComplete: () => log.push("complete"),
  };
}

const preface = (): Uint8Array => new TextEncoder().encode(CLIENT_PREFACE);

function frame(type: number, flags: number, streamId: number, payload: Uint8Array | number[] = []): Uint8Array {
  const body = Uint8Array.from(payload);
  const bytes = new Uint8Array(9 + body.length);
  bytes.set([body.length >> 16, body.length >> 8, body.length, type, flags]);
  new DataView(bytes.buffer).setUint32(5, streamId);
  bytes.set(body, 9);
  return bytes;
}

/** GET / over plain http, by static table indexes. */
const HEAD_BLOCK = [0x82, 0x86, 0x84, 0x41, 1, 0x61];
const SETTINGS = frame(4, 0, 0);

function hello(h2: H2Connection): void {
  h2.receive(preface());
  h2.receive(SETTINGS);
}

describe("hostile frames end the connection with the code RFC 9113 gives", () => {
  const huge = new Uint8Array(256 * 1024 + 1);
  test.each<[string, Uint8Array[], number]>([
    ["DATA on stream 0", [frame(0, 0, 0, [1])], H2_ERROR.protocolError],
    ["DATA on an idle stream", [frame(0, 0, 1, [1])], H2_ERROR.protocolError],
    ["padding as long as the frame", [frame(1, 4, 1, HEAD_BLOCK), frame(0, 8, 1, [3, 0, 0])], H2_ERROR.protocolError],
    ["HEADERS on stream 0", [frame(1, 4, 0, HEAD_BLOCK)], H2_ERROR.protocolError],
    ["HEADERS on an even stream", [frame(1, 4, 2, HEAD_BLOCK)], H2_ERROR.protocolError],
    [
      "a frame between HEADERS and CONTINUATION",
      [frame(1, 0, 1, HEAD_BLOCK), frame(6, 0, 0, new Uint8Array(8))],
      H2_ERROR.protocolError,
    ],
    ["CONTINUATION out of nowhere", [frame(9, 4, 1)], H2_ERROR.protocolError],
    ["PUSH_PROMISE", [frame(5, 4, 1, [0, 0, 0, 2])], H2_ERROR.protocolError],
    ["RST_STREAM on an idle stream", [frame(3, 0, 1, [0, 0, 0, 8])], H2_ERROR.protocolError],
    ["RST_STREAM of the wrong length", [frame(3, 0, 1, [0])], H2_ERROR.frameSizeError],
    ["PING of the wrong length", [frame(6, 0, 0, [0])], H2_ERROR.frameSizeError],
    ["SETTINGS of the wrong length", [frame(4, 0, 0, [0])], H2_ERROR.frameSizeError],
    ["SETTINGS ack with a payload", [frame(4, 1, 0, new Uint8Array(6))], H2_ERROR.frameSizeError],
    ["initial window above 2^31-1", [frame(4, 0, 0, [0, 4, 0x80, 0, 0, 0])], H2_ERROR.flowControlError],
    ["frame size setting below 16384", [frame(4, 0, 0, [0, 5, 0, 0, 0, 1])], H2_ERROR.protocolError],
    ["a frame longer than we allow", [frame(0, 0, 1, huge)], H2_ERROR.frameSizeError],
    ["WINDOW_UPDATE of zero on the connection", [frame(8, 0, 0, [0, 0, 0, 0])], H2_ERROR.protocolError],
    ["connection window past 2^31-1", [frame(8, 0, 0, [0x7f, 0xff, 0xff, 0xff])], H2_ERROR.flowControlError],
    ["an undecodable header block", [frame(1, 4, 1, [0x80])], H2_ERROR.compressionError],
    ["GOAWAY too short", [frame(7, 0, 0, [0])], H2_ERROR.frameSizeError],
  ])("%s", (_name, frames, code) => {
    const { h2, seen } = server();
    hello(h2);
    for (const bytes of frames) h2.receive(bytes);
    expect(seen.fatal.map((fatal) => fatal.code)).toEqual([code]);
  });

  test("anything but the preface", () => {
    const { h2, seen } = server();
    h2.receive(new TextEncoder().encode("GET / HTTP/1.1\r\n\r\n"));
    expect(seen.fatal[0]?.code).toBe(H2_ERROR.protocolError);
  });

  test("a first frame that is not SETTINGS", () => {
    const { h2, seen } = server();
    h2.receive(preface());
    h2.receive(frame(6, 0, 0, new Uint8Array(8)));
    expect(seen.fatal[0]?.code).toBe(H2_ERROR.protocolError);
  });

  test("CONTINUATION without end", () => {
    const { h2, seen } = server();
    hello(h2);
    h2.receive(frame(1, 0, 1, HEAD_BLOCK));
    for (let i = 0; i < 200_000 && seen.fatal.length === 0; i++) h2.receive(frame(9, 0, 1));
    expect(seen.fatal[0]?.code).toBe(H2_ERROR.enhanceYourCalm);
  });

  test("control frames without end", () => {
    const { h2, seen } = server();
    hello(h2);
    for (let i = 0; i <= MAX_IDLE_CONTROL_FRAMES; i++) {
      h2.receive(frame(6, 0, 0, new Uint8Array(8)));
      h2.takeOutput();
    }
    expect(seen.fatal[0]?.code).toBe(H2_ERROR.enhanceYourCalm);
  });

  test("but a peer that credits every byte it reads may do so for ever", () => {
    const { h2, seen } = server();
    hello(h2);
    h2.receive(frame(1, 5, 1, HEAD_BLOCK));
    const stream = seen.requests[0]?.stream;
    stream?.sendHeaders([":status", "200"], false);
    for (let i = 0; i <= MAX_IDLE_CONTROL_FRAMES; i++) {
      stream?.write(Uint8Array.of(1));
      h2.takeOutput();
      h2.receive(frame(8, 0, 0, [0, 0, 0, 1]));
      h2.receive(frame(8, 0, 1, [0, 0, 0, 1]));
    }
    expect(seen.fatal).toEqual([]);
  });

  test("a reader that keeps up gets a window of several MiB, one that waits does not", () => {
    const credited = (paused: boolean): number => {
      const { h2, seen } = server();
      hello(h2);
      h2.receive(frame(1, 4, 1, HEAD_BLOCK));
      h2.takeOutput();
      const stream = seen.requests[0]?.stream;
      if (paused) stream?.pause();
      const block = frame(0, 0, 1, new Uint8Array(16_384));
      for (let sent = 0; sent < STREAM_WINDOW_BYTES; sent += 16_384) h2.receive(block);
      return (stream?.receiveWindow ?? 0) + (paused ? STREAM_WINDOW_BYTES : 0);
    };
    expect(credited(true)).toBe(STREAM_WINDOW_BYTES);
    expect(credited(false)).toBeGreaterThan(STREAM_WINDOW_BYTES);
  });

  test("a stream that overruns its window is reset, the others live", () => {
    const { h2, seen } = server((stream) => {
      if (stream.id === 1) stream.pause();
    });
    hello(h2);
    h2.receive(frame(1, 4, 1, HEAD_BLOCK));
    const block = frame(0, 0, 1, new Uint8Array(16_384));
    for (let sent = 0; sent <= STREAM_WINDOW_BYTES; sent += 16_384) h2.receive(block);
    expect(seen.requests[0]?.log).toEqual([`reset ${H2_ERROR.flowControlError} us true`]);
    h2.receive(frame(1, 5, 3, HEAD_BLOCK));
    expect(seen.requests[1]?.log).toEqual(["end"]);
    expect(seen.fatal).toEqual([]);
  });
});

describe("malformed requests are reset and never seen", () => {
  const literal = (name: string, value: string): number[] => [
    ...[0, name.length, ...Buffer.from(name), value.length, ...Buffer.from(value)],
  ];
  test.each<[string, number[]]>([
    ["no path", [0x82, 0x86]],
    ["two methods", [0x82, 0x82, 0x86, 0x84]],
    ["empty path", [0x82, 0x86, ...literal(":path", "")]],
    ["unknown pseudo-header", [...HEAD_BLOCK, ...literal(":foo", "x")]],
    ["pseudo-header behind a field", [0x82, 0x86, ...literal("a", "b"), 0x84]],
    ["upper-case name", [...HEAD_BLOCK, ...literal("Accept", "x")]],
    ["connection header", [...HEAD_BLOCK, ...literal("connection", "close")]],
    ["transfer-encoding", [...HEAD_BLOCK, ...literal("transfer-encoding", "chunked")]],
    ["te other than trailers", [...HEAD_BLOCK, ...literal("te", "gzip")]],
    ["line break in a value", [...HEAD_BLOCK, ...literal("x", "a\r\nb: c")]],
    ["NUL in a value", [...HEAD_BLOCK, ...literal("x", "a\0b")]],
    ["space in a name", [...HEAD_BLOCK, ...literal("x y", "a")]],
  ])("%s", (_name, block) => {
    const { h2, seen } = server();
    hello(h2);
    h2.takeOutput();
    h2.receive(frame(1, 5, 1, block));
    expect(seen.requests).toEqual([]);
    expect(h2.takeOutput().map((bytes) => [...bytes])).toEqual([
      [...frame(3, 0, 1, [0, 0, 0, H2_ERROR.protocolError])],
    ]);
  });
});

describe("a conversation", () => {
  /** Client and server wired together; `chop` splits what passes between them. */
  function wire(chop: (bytes: Uint8Array) => Uint8Array[]) {
    const { h2: serverSide, seen } = server((stream) => {
      stream.sendHeaders([":status", "103", "link", "</a>"], false);
      stream.sendHeaders([":status", "200", "x-long", "v".repeat(40_000)], false);
      stream.write(new Uint8Array(100_000).fill(7));
      stream.end(["x-trailer", "yes"]);
    });
    const clientSide = new H2Connection(
      "client",
      {
        onRequest: () => {},
        onGoaway: () => {},
        onPingAck: () => {},
        onReady: () => {},
        onOutput: () => {},
        onFatal: () => {},
      },
      allocate,
    );
    const drive = (): void => {
      for (let moved = true; moved; ) {
        moved = false;
        for (const [from, to] of [
          [clientSide, serverSide],
          [serverSide, clientSide],
        ] as const) {
          for (const bytes of from.takeOutput()) {
            for (const part of chop(bytes)) to.receive(part);
            moved = true;
          }
          from.flushed();
        }
      }
    };
    return { clientSide, serverSide, seen, drive };
  }

  const run = (chop: (bytes: Uint8Array) => Uint8Array[]): string[] => {
    const { clientSide, seen, drive } = wire(chop);
    drive();
    const log: string[] = [];
    const stream = clientSide.open([...REQUEST, "x-long", "w".repeat(50_000)], false);
    let bytes = 0;
    stream?.listen({
      ...logger(log),
      onData: (chunk) => {
        bytes += chunk.length;
      },
    });
    stream?.write(new Uint8Array(70_000));
    stream?.end([]);
    drive();
    const received = seen.requests[0]?.log.filter((line) => line.startsWith("data")) ?? [];
    const upload = received.reduce((sum, line) => sum + Number(line.slice(5)), 0);
    return [
      ...log.map((line) => line.slice(0, 40)),
      `down ${bytes}`,
      `up ${upload}`,
      ...(seen.requests[0]?.log.slice(-2) ?? []),
    ];
  };

  test("is the same whole and byte by byte", () => {
    const whole = run((bytes) => [bytes]);
    expect(whole).toEqual([
      "1xx :status 103 link </a>",
      "head :status 200 x-long vvvvvvvvvvvvvvvv",
      "end x-trailer yes",
      "complete",
      "down 100000",
      "up 70000",
      "end",
      "complete",
    ]);
    expect(run((bytes) => Array.from(bytes, (byte) => Uint8Array.of(byte)))).toEqual(whole);
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 5000 }), (size) => {
        const chop = (bytes: Uint8Array): Uint8Array[] => {
          const parts: Uint8Array[] = [];
          for (let at = 0; at < bytes.length; at += size) parts.push(bytes.subarray(at, at + size));
          return parts;
        };
        expect(run(chop)).toEqual(whole);
      }),
      { numRuns: 30 },
    );
  });

  test("streams behind a GOAWAY were never processed; the others go on", () => {
    const { clientSide, drive } = wire((bytes) => [bytes]);
    drive();
    const first: string[] = [];
    const second: string[] = [];
    clientSide.open(REQUEST, true)?.listen(logger(first));
    clientSide.open(REQUEST, true)?.listen(logger(second));
    clientSide.receive(frame(7, 0, 0, [0, 0, 0, 1, 0, 0, 0, 0]));
    expect(first).toEqual([]);
    expect(second).toEqual([`reset ${H2_ERROR.refusedStream} peer false`]);
    expect(clientSide.canOpen).toBe(false);
    expect(clientSide.open(REQUEST, true)).toBeUndefined();
  });

  test("a stream whose head never left is told so when the link is lost", () => {
    const { clientSide, drive } = wire((bytes) => [bytes]);
    drive();
    const sent: string[] = [];
    const unsent: string[] = [];
    clientSide.open(REQUEST, true)?.listen(logger(sent));
    clientSide.takeOutput();
    clientSide.open(REQUEST, true)?.listen(logger(unsent));
    clientSide.abandon();
    expect(sent).toEqual([`reset ${H2_ERROR.internalError} us true`]);
    expect(unsent).toEqual([`reset ${H2_ERROR.internalError} us false`]);
  });

  test("the peer's limit on streams is kept", () => {
    const { clientSide } = wire((bytes) => [bytes]);
    clientSide.receive(frame(4, 0, 0, [0, 3, 0, 0, 0, 1]));
    expect(clientSide.open(REQUEST, true)).toBeDefined();
    expect(clientSide.open(REQUEST, true)).toBeUndefined();
  });
});

test("random bytes behind a good start never throw", () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 60 }), { maxLength: 10 }),
      fc.nat(9),
      fc.nat(7),
      (parts, type, id) => {
        const { h2 } = server();
        hello(h2);
        for (const part of parts) {
          h2.receive(frame(type, part[0] ?? 0, id, part));
          h2.receive(part);
        }
        h2.takeOutput();
      },
    ),
    { numRuns: 1000 },
  );
});
