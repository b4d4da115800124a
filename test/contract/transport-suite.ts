import { afterEach, describe, expect, test } from "bun:test";
import { TunnelError } from "../../src/core/errors.ts";
import type { ByteChannel } from "../../src/net/channel.ts";
import {
  type ConfigurationUpdate,
  type ConnectorSession,
  type EdgeSession,
  FEATURE_EDGE_LEAVING,
  type IncomingStream,
  MAX_CONFIGURATION_BYTES,
  type RequestEvents,
  type StreamRequest,
  type StreamResponse,
} from "../../src/transport/port.ts";
import type { RawHeaders } from "../../src/wire/headers.ts";

/** Two connected ends, and a way to cut them apart as a dead network would. */
export interface SessionPair {
  readonly edge: EdgeSession;
  readonly connector: ConnectorSession;
  cut(): void;
  dispose(): Promise<void>;
}

export interface TransportUnderTest {
  readonly name: string;
  open(): Promise<SessionPair>;
  /** Bytes for the bulk tests: 1 GiB where bytes are cheap. */
  readonly bulkBytes: number;
}

const MIB = 1024 * 1024;
/** What may sit in buffers of both ends together while a reader is stopped. */
const MAX_IN_FLIGHT_BYTES = 24 * MIB;

const GET: StreamRequest = {
  kind: "http",
  method: "GET",
  authority: "app.example.com",
  path: "/hello%2Fa?x=1",
  headers: ["Accept", "*/*", "X-Twice", "one", "X-Twice", "two"],
  bodyless: true,
};
const POST: StreamRequest = { ...GET, method: "POST", bodyless: false };
const OK: StreamResponse = { status: 200, headers: ["Content-Type", "text/plain"], source: "origin" };

/** What every transport must do; run over each of them. */
export function transportContract(transport: TransportUnderTest): void {
  describe(`transport contract: ${transport.name}`, () => {
    const open: SessionPair[] = [];
    const pair = async (): Promise<SessionPair> => {
      const made = await transport.open();
      open.push(made);
      return made;
    };
    afterEach(async () => {
      for (const made of open.splice(0)) await made.dispose();
    });

    test("a request arrives as it was sent and its answer comes back", async () => {
      const { edge, connector } = await pair();
      connector.serve((stream) => {
        collect(stream);
        expect(stream.request).toMatchObject({ method: "GET", authority: "app.example.com", path: "/hello%2Fa?x=1" });
        expect(stream.request.headers).toEqual(["Accept", "*/*", "X-Twice", "one", "X-Twice", "two"]);
        stream.respond({ ...OK, headers: ["X-a", "1", "x-A", "2", "Set-Cookie", "ü"] });
        stream.write(text("hello"));
        stream.end();
      });
      const answer = await ask(edge, GET).done;
      expect(answer.response).toMatchObject({ status: 200, source: "origin" });
      expect(answer.response?.headers).toEqual(["X-a", "1", "x-A", "2", "Set-Cookie", "ü"]);
      expect(answer.body).toBe("hello");
      expect(answer.error).toBeUndefined();
    });

    test("an answer without a body is over with its head", async () => {
      const { edge, connector } = await pair();
      connector.serve((stream) => {
        collect(stream);
        stream.respond({ status: 304, headers: ["ETag", '"x"'], source: "origin" }, { bodyless: true });
      });
      const answer = await ask(edge, GET).done;
      expect(answer).toMatchObject({ body: "", error: undefined });
      expect(answer.response?.status).toBe(304);
      await until(() => edge.streamCount === 0 && connector.streamCount === 0, "both ends forget the stream");
    });

    test("both bodies stream, with trailers behind the answer", async () => {
      const { edge, connector } = await pair();
      connector.serve((stream) => {
        stream.respond(OK);
        stream.listen({
          onData: (chunk) => void stream.write(chunk),
          onEnd: () => stream.end(["x-sum", "42"]),
          onDrain: () => {},
          onClose: () => {},
        });
      });
      const request = ask(edge, POST);
      request.channel.write(text("one "));
      await until(() => request.soFar() === "one ", "the first part comes back while the request is still open");
      request.channel.write(text("two"));
      request.channel.end();
      const answer = await request.done;
      expect(answer.body).toBe("one two");
      expect([...answer.trailers]).toEqual(["x-sum", "42"]);
    });

    test("500 streams at once do not mix", async () => {
      const { edge, connector } = await pair();
      connector.serve((stream) => {
        stream.respond(OK);
        const parts: string[] = [];
        stream.listen({
          onData: (chunk) => void parts.push(new TextDecoder().decode(chunk)),
          onEnd: () => {
            stream.write(text(`${stream.request.path}:${parts.join("")}`));
            stream.end();
          },
          onDrain: () => {},
          onClose: () => {},
        });
      });
      const answers = await Promise.all(
        Array.from({ length: 500 }, (_, i) => {
          const request = ask(edge, { ...POST, path: `/${i}` });
          request.channel.write(text(`body ${i}`));
          request.channel.end();
          return request.done;
        }),
      );
      answers.forEach((answer, i) => {
        expect(answer.body).toBe(`/${i}:body ${i}`);
      });
    });

    test("64 KiB of headers pass both ways", async () => {
      const { edge, connector } = await pair();
      const big: string[] = [];
      for (let i = 0; i < 64; i++) big.push(`X-Big-${i}`, "v".repeat(1000));
      connector.serve((stream) => {
        collect(stream);
        stream.respond({ ...OK, headers: stream.request.headers }, { bodyless: true });
      });
      const answer = await ask(edge, { ...GET, headers: big }).done;
      expect(answer.response?.headers).toEqual(big);
    });

    test("one header of 64 KiB passes both ways", async () => {
      const { edge, connector } = await pair();
      const big = ["X-Big", "v".repeat(64 * 1024)];
      connector.serve((stream) => {
        collect(stream);
        stream.respond({ ...OK, headers: stream.request.headers }, { bodyless: true });
      });
      expect((await ask(edge, { ...GET, headers: big }).done).response?.headers).toEqual(big);
    });

    test("the connector's reset ends the request with an error", async () => {
      const { edge, connector } = await pair();
      connector.serve((stream) => {
        collect(stream);
        stream.respond(OK);
        stream.write(text("part"));
        setImmediate(() => stream.abort(new TunnelError("origin.reset", "origin went away")));
      });
      const answer = await ask(edge, GET).done;
      expect(answer.error).toBeInstanceOf(TunnelError);
      expect(answer.error?.retry).toBe("never");
      expect(edge.streamCount).toBe(0);
    });

    test("the visitor's abort reaches the connector", async () => {
      const { edge, connector } = await pair();
      const seen = Promise.withResolvers<TunnelError | undefined>();
      connector.serve((stream) => {
        stream.respond(OK);
        stream.listen({
          onData: () => {},
          onEnd: () => {},
          onDrain: () => {},
          onClose: (error) => seen.resolve(error),
        });
      });
      const request = ask(edge, POST);
      request.channel.write(text("x"));
      await until(() => request.response() !== undefined, "the answer's head");
      request.channel.abort(new TunnelError("aborted", "visitor left"));
      expect((await seen.promise)?.code).toMatch(/reset/);
      expect((await request.done).error?.code).toBe("aborted");
      await until(() => connector.streamCount === 0, "the connector forgets the stream");
    });

    test.each([GET, POST])("a visitor who leaves is noticed before there is an answer: $method", async (request) => {
      const { edge, connector } = await pair();
      const arrived = Promise.withResolvers<void>();
      const closed = Promise.withResolvers<TunnelError | undefined>();
      connector.serve((stream) => {
        const onEnd = (): void => arrived.resolve();
        stream.listen({ onData: () => {}, onEnd, onDrain: () => {}, onClose: closed.resolve });
        if (request.bodyless) arrived.resolve();
        else stream.resume();
      });
      const asked = ask(edge, request);
      if (!request.bodyless) asked.channel.end();
      await arrived.promise;
      asked.channel.abort(new TunnelError("aborted", "the visitor left"));
      expect(await closed.promise).toBeInstanceOf(TunnelError);
    });

    test("an edge that will leave says so, and goes on being served", async () => {
      const { edge, connector } = await pair();
      connector.serve((stream) => {
        collect(stream);
        stream.respond(OK);
        stream.end();
      });
      edge.usePeerFeatures([FEATURE_EDGE_LEAVING]);
      edge.announceLeaving();
      await connector.leaving;
      expect((await ask(edge, GET).done).response?.status).toBe(200);
    });

    test("a stream that ends before anybody listens tells whoever comes", async () => {
      const { edge, connector } = await pair();
      const offered = Promise.withResolvers<IncomingStream>();
      connector.serve(offered.resolve);
      const request = ask(edge, POST);
      const stream = await offered.promise;
      request.channel.abort(new TunnelError("aborted", "visitor left"));
      await until(() => connector.streamCount === 0 || transport.name === "memory", "the abort arrives");
      const closed = Promise.withResolvers<TunnelError | undefined>();
      stream.listen({ onData: () => {}, onEnd: () => {}, onDrain: () => {}, onClose: closed.resolve });
      expect(await closed.promise).toBeInstanceOf(TunnelError);
    });

    test("a request body nobody reads is held back, and the rest of the session goes on", async () => {
      const { edge, connector } = await pair();
      let stuck: IncomingStream | undefined;
      connector.serve((stream) => {
        if (stream.request.path === "/stuck") stuck = stream;
        else {
          collect(stream);
          stream.respond(OK);
          stream.write(text("fine"));
          stream.end();
        }
      });
      const request = ask(edge, { ...POST, path: "/stuck" });
      const sent = fill(request.channel, transport.bulkBytes);
      await until(() => request.blocked(), "the writer is told to hold back");
      expect(sent.bytes).toBeLessThan(MAX_IN_FLIGHT_BYTES);
      expect((await ask(edge, GET).done).body).toBe("fine");
      // Early answer: the connector replies and never reads the body.
      stuck?.respond({ status: 413, headers: [], source: "origin" }, { bodyless: true });
      await until(() => request.response()?.status === 413, "the early answer arrives");
      request.channel.abort(new TunnelError("aborted", "done"));
      await request.done;
    });

    test("bulk upload passes whole, with bounded memory behind a slow reader", async () => {
      const { edge, connector } = await pair();
      let received = 0;
      connector.serve((stream) => {
        const slow = slowReader(stream, (bytes) => {
          received += bytes;
        });
        stream.listen({
          onData: slow,
          onEnd: () => {
            stream.respond(OK);
            stream.end();
          },
          onDrain: () => {},
          onClose: () => {},
        });
      });
      const request = ask(edge, POST);
      const sent = fill(request.channel, transport.bulkBytes);
      request.onDrain(() => sent.go());
      let peak = 0;
      const watch = setInterval(() => {
        peak = Math.max(peak, sent.bytes - received);
      }, 5);
      const answer = await request.done;
      clearInterval(watch);
      expect(answer.error).toBeUndefined();
      expect(received).toBe(transport.bulkBytes);
      expect(peak).toBeLessThan(MAX_IN_FLIGHT_BYTES);
    }, 60_000);

    test("bulk download passes whole, with bounded memory behind a slow reader", async () => {
      const { edge, connector } = await pair();
      let sentBytes = (): number => 0;
      connector.serve((stream) => {
        stream.respond(OK);
        const sent = fill(stream, transport.bulkBytes);
        sentBytes = () => sent.bytes;
        stream.listen({ onData: () => {}, onEnd: () => {}, onDrain: () => sent.go(), onClose: () => {} });
      });
      let received = 0;
      let peak = 0;
      const request = ask(edge, GET, (chunk, channel) => {
        slowReader(channel, (bytes) => {
          received += bytes;
          peak = Math.max(peak, sentBytes() - received);
        })(chunk);
      });
      const answer = await request.done;
      expect(answer.error).toBeUndefined();
      expect(received).toBe(transport.bulkBytes);
      expect(peak).toBeLessThan(MAX_IN_FLIGHT_BYTES);
    }, 60_000);

    test("64 stalled readers do not stall the 65th", async () => {
      const { edge, connector } = await pair();
      connector.serve((stream) => {
        collect(stream);
        stream.respond(OK);
        const sent = fill(stream, stream.request.path === "/stall" ? 64 * MIB : 32 * MIB);
        stream.listen({ onData: () => {}, onEnd: () => {}, onDrain: () => sent.go(), onClose: () => {} });
      });
      const stalled = Array.from({ length: 64 }, () =>
        ask(edge, { ...GET, path: "/stall" }, (_chunk, channel) => channel.pause()),
      );
      await until(() => stalled.every((request) => request.response() !== undefined), "all stalled streams answered");
      let received = 0;
      const answer = await ask(edge, GET, (chunk) => {
        received += chunk.length;
      }).done;
      expect(answer.error).toBeUndefined();
      expect(received).toBe(32 * MIB);
    }, 60_000);

    test("1000 idle streams cost nothing to the one that moves", async () => {
      const { edge, connector } = await pair();
      connector.serve((stream) => {
        collect(stream);
        if (stream.request.path === "/idle") return;
        stream.respond(OK);
        stream.write(text("moving"));
        stream.end();
      });
      const idle = Array.from({ length: 1000 }, () => ask(edge, { ...POST, path: "/idle" }));
      await until(() => connector.streamCount === 1000, "all idle streams are open");
      expect((await ask(edge, GET).done).body).toBe("moving");
      for (const request of idle) request.channel.abort(new TunnelError("aborted", "enough"));
      await until(() => connector.streamCount === 0 && edge.streamCount === 0, "all idle streams are gone");
      expect((await ask(edge, GET).done).body).toBe("moving");
    });

    test("5000 aborts in a row leave the session alive", async () => {
      const { edge, connector } = await pair();
      connector.serve((stream) => collect(stream));
      for (let round = 0; round < 50; round++) {
        const requests = Array.from({ length: 100 }, () => ask(edge, POST));
        for (const request of requests) request.channel.abort(new TunnelError("aborted", "visitor left"));
        await Promise.all(requests.map((request) => request.done));
      }
      await until(() => connector.streamCount === 0, "the connector has no stream left");
      await edge.ping();
    });

    test("the control channel carries bytes both ways", async () => {
      const { edge, connector } = await pair();
      const [edgeSide, connectorSide] = await Promise.all([edge.control, connector.control]);
      const atEdge: string[] = [];
      const atConnector: string[] = [];
      listenText(edgeSide, atEdge);
      listenText(connectorSide, atConnector);
      connectorSide.write(text("bootstrap"));
      edgeSide.write(text("return"));
      await until(() => atEdge.join("") === "bootstrap" && atConnector.join("") === "return", "bytes crossed");
    });

    test("ping answers, and not after the end", async () => {
      const { edge, connector } = await pair();
      expect(await edge.ping()).toBeGreaterThanOrEqual(0);
      expect(await connector.ping()).toBeGreaterThanOrEqual(0);
      edge.close();
      await edge.closed;
      expect(edge.ping()).rejects.toBeInstanceOf(TunnelError);
    });

    test("drain lets the running request finish and takes no new one", async () => {
      const { edge, connector } = await pair();
      let running: IncomingStream | undefined;
      connector.serve((stream) => {
        collect(stream);
        running = stream;
        stream.respond(OK);
      });
      const request = ask(edge, GET);
      await until(() => request.response() !== undefined, "the request is running");
      edge.drain();
      const refused = await ask(edge, GET).done;
      expect(refused.error?.retry).toBe("elsewhere");
      running?.write(text("to the end"));
      running?.end();
      expect((await request.done).body).toBe("to the end");
      expect(await edge.closed).toEqual({ kind: "drained" });
      expect((await connector.closed).kind).not.toBe("lost");
    });

    test("the connector's drain works the same way", async () => {
      const { edge, connector } = await pair();
      let running: IncomingStream | undefined;
      connector.serve((stream) => {
        collect(stream);
        running = stream;
        stream.respond(OK);
      });
      const request = ask(edge, GET);
      await until(() => request.response() !== undefined, "the request is running");
      connector.drain();
      running?.write(text("to the end"));
      running?.end();
      expect((await request.done).body).toBe("to the end");
      expect(await connector.closed).toEqual({ kind: "drained" });
      await edge.closed;
    });

    test("a cut is seen by both ends and by every stream", async () => {
      const { edge, connector, cut } = await pair();
      const ended = Promise.withResolvers<TunnelError | undefined>();
      connector.serve((stream) => {
        stream.respond(OK);
        stream.listen({
          onData: () => {},
          onEnd: () => {},
          onDrain: () => {},
          onClose: (error) => ended.resolve(error),
        });
      });
      const request = ask(edge, POST);
      await until(() => request.response() !== undefined, "the request is running");
      cut();
      expect((await request.done).error).toBeInstanceOf(TunnelError);
      expect(await ended.promise).toBeInstanceOf(TunnelError);
      expect((await edge.closed).kind).toBe("lost");
      expect((await connector.closed).kind).toBe("lost");
    });

    test("a configuration is pushed beside streams and answered", async () => {
      const { edge, connector } = await pair();
      const config = '{"ingress":[{"service":"http_status:404","note":"ü"}]}';
      const seen: ConfigurationUpdate[] = [];
      connector.onConfiguration(async (update) => {
        seen.push(update);
        return { latestAppliedVersion: update.version, error: "" };
      });
      connector.serve((stream) => {
        collect(stream);
        stream.respond(OK);
        stream.write(text("hello"));
        stream.end();
      });
      const push = edge.pushConfiguration({ version: 7, config });
      expect((await ask(edge, GET).done).body).toBe("hello");
      expect(await push).toEqual({ latestAppliedVersion: 7, error: "" });
      expect(seen.map(({ version }) => version)).toEqual([7]);
      expect(JSON.parse(seen[0]?.config ?? "")).toEqual(JSON.parse(config));
      await until(() => edge.streamCount === 0 && connector.streamCount === 0, "both ends forget the streams");
    });

    test("a refused configuration comes back with the reason and the version in force", async () => {
      const { edge, connector } = await pair();
      connector.onConfiguration(() => Promise.resolve({ latestAppliedVersion: -1, error: "Rule #1 needs a service" }));
      expect(await edge.pushConfiguration({ version: 0, config: '{"ingress":[{}]}' })).toEqual({
        latestAppliedVersion: -1,
        error: "Rule #1 needs a service",
      });
    });

    test("40 pushes in a row, the last as large as may be, find room", async () => {
      const { edge, connector } = await pair();
      connector.onConfiguration(({ version }) => Promise.resolve({ latestAppliedVersion: version, error: "" }));
      const config = (bytes: number): string => JSON.stringify({ x: "a".repeat(bytes - 8) });
      for (let version = 0; version < 40; version += 1) {
        const bytes = version === 39 ? MAX_CONFIGURATION_BYTES : 100;
        const answer = await edge.pushConfiguration({ version, config: config(bytes) });
        expect(answer).toEqual({ latestAppliedVersion: version, error: "" });
      }
    });

    test("a connector that takes no configuration says so at once", async () => {
      const { edge } = await pair();
      const failed = edge.pushConfiguration({ version: 0, config: "{}" }).catch((error: unknown) => error);
      expect(await failed).toBeInstanceOf(TunnelError);
      expect(await failed).toMatchObject({ code: expect.stringMatching(/^stream\./) });
    });

    test("a push ends with its session", async () => {
      const { edge, connector } = await pair();
      const asked = Promise.withResolvers<void>();
      connector.onConfiguration(() => {
        asked.resolve();
        return new Promise(() => {});
      });
      const failed = edge.pushConfiguration({ version: 0, config: "{}" }).catch((error: unknown) => error);
      await asked.promise;
      edge.close();
      expect(await failed).toBeInstanceOf(TunnelError);
    });

    test("a stream opened on a closed session says to go elsewhere", async () => {
      const { edge } = await pair();
      edge.close();
      await edge.closed;
      const answer = await ask(edge, GET).done;
      expect(answer.error?.retry).toBe("elsewhere");
    });
  });
}

interface Answer {
  readonly response: StreamResponse | undefined;
  readonly body: string;
  readonly trailers: RawHeaders;
  readonly error: TunnelError | undefined;
}

/** Opens a stream and gathers what comes back. `onChunk` takes the body instead of gathering it. */
function ask(edge: EdgeSession, request: StreamRequest, onChunk?: (chunk: Uint8Array, channel: ByteChannel) => void) {
  const done = Promise.withResolvers<Answer>();
  let response: StreamResponse | undefined;
  let body = "";
  let trailers: RawHeaders = [];
  let drained = (): void => {};
  let room = true;
  const decoder = new TextDecoder();
  const events: RequestEvents = {
    onInformational: () => {},
    onResponse: (head) => {
      response = head;
    },
    onData: (chunk) => {
      if (onChunk === undefined) body += decoder.decode(chunk, { stream: true });
      else onChunk(chunk, wrapped);
    },
    onEnd: (received) => {
      trailers = received;
    },
    onDrain: () => {
      room = true;
      drained();
    },
    onClose: (error) => done.resolve({ response, body, trailers, error }),
  };
  const channel = edge.open(request, events);
  const wrapped: ByteChannel = {
    write: (chunk) => {
      room = channel.write(chunk);
      return room;
    },
    end: (given) => channel.end(given),
    abort: (error) => channel.abort(error),
    pause: () => channel.pause(),
    resume: () => channel.resume(),
    listen: () => {},
  };
  return {
    channel: wrapped,
    done: done.promise,
    response: () => response,
    soFar: () => body,
    blocked: () => !room,
    onDrain: (callback: () => void) => {
      drained = callback;
    },
  };
}

/** Writes until told to hold back; `go` continues. Ends the channel behind the last byte. */
function fill(channel: ByteChannel, total: number): { readonly bytes: number; go(): void } {
  const block = new Uint8Array(64 * 1024).fill(0x61);
  const state = {
    bytes: 0,
    ended: false,
    go(): void {
      while (state.bytes < total) {
        const chunk = total - state.bytes >= block.length ? block : block.subarray(0, total - state.bytes);
        state.bytes += chunk.length;
        if (!channel.write(chunk)) return;
      }
      if (!state.ended) {
        state.ended = true;
        channel.end();
      }
    },
  };
  state.go();
  return state;
}

/** Pauses for a turn of the loop after every 4 MiB. */
function slowReader(channel: ByteChannel, count: (bytes: number) => void): (chunk: Uint8Array) => void {
  let sincePause = 0;
  return (chunk) => {
    count(chunk.length);
    sincePause += chunk.length;
    if (sincePause < 4 * MIB) return;
    sincePause = 0;
    channel.pause();
    setImmediate(() => channel.resume());
  };
}

function collect(stream: IncomingStream): void {
  stream.listen({ onData: () => {}, onEnd: () => {}, onDrain: () => {}, onClose: () => {} });
}

function listenText(channel: ByteChannel, into: string[]): void {
  channel.listen({
    onData: (chunk) => void into.push(new TextDecoder().decode(chunk)),
    onEnd: () => {},
    onDrain: () => {},
    onClose: () => {},
  });
}

function text(value: string): Uint8Array {
  return new TextEncoder().encode(value);
}

async function until(condition: () => boolean, what: string, deadlineMs = 10_000): Promise<void> {
  const giveUpAt = performance.now() + deadlineMs;
  while (!condition()) {
    if (performance.now() > giveUpAt) throw new Error(`Waited ${deadlineMs} ms in vain: ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}
