import { createHash, randomBytes } from "node:crypto";
import type { ByteChannel, ChannelEvents } from "../../src/net/channel.ts";
import { dial } from "../../src/net/dial.ts";
import { listen } from "../../src/net/listen.ts";
import { pipe } from "../../src/net/pipe.ts";
import { WebSocketChannel } from "../../src/net/websocket-channel.ts";
import { UpgradedChannel } from "../../src/origin/http/upgraded-channel.ts";
import { handshakeFields, handshakeProblem, webSocketKey } from "../../src/wire/websocket/handshake.ts";

/** Where a visitor of a stream service goes. */
export interface StreamVisit {
  /** Public port of the edge. */
  readonly port: number;
  readonly host: string;
  readonly fields?: readonly (readonly [name: string, value: string])[];
}

const sha1 = (text: string): string => createHash("sha1").update(text).digest("base64");

/** Opens a WebSocket through the edge; the channel has the bytes of the service. Throws what the edge answers instead. */
export async function openStream({ port, host, fields = [] }: StreamVisit): Promise<ByteChannel> {
  const { channel } = await dial({ host: "127.0.0.1", port });
  const key = webSocketKey(randomBytes(16));
  const lines = ["GET / HTTP/1.1", `Host: ${host}`];
  const handshake = handshakeFields(key);
  for (let i = 0; i < handshake.length; i += 2) lines.push(`${handshake[i]}: ${handshake[i + 1]}`);
  for (const [name, value] of fields) lines.push(`${name}: ${value}`);
  channel.write(new TextEncoder().encode(`${lines.join("\r\n")}\r\n\r\n`));
  const { head, rest } = await readHead(channel);
  const [start = "", ...given] = head.split("\r\n");
  const headers = given.flatMap((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).trim()]);
  const problem = handshakeProblem(Number(start.split(" ")[1]), headers, key, sha1);
  if (problem !== undefined) throw new Error(`No stream: ${problem}`);
  return new WebSocketChannel(new UpgradedChannel(channel, rest, () => {}), { role: "client" });
}

/** A local port whose connections each go through a WebSocket of their own, as with `access tcp`. */
export async function startStreamPort(visit: StreamVisit): Promise<{ readonly port: number } & AsyncDisposable> {
  const listener = await listen({
    host: "127.0.0.1",
    port: 0,
    maxConnections: 1_000,
    onConnection: ({ channel }) => {
      openStream(visit).then(
        (stream) => pipe(channel, stream, () => {}),
        (error) => channel.abort(error),
      );
    },
  });
  return { port: listener.port, [Symbol.asyncDispose]: () => listener.close() };
}

function readHead(channel: ByteChannel): Promise<{ head: string; rest: Uint8Array[] }> {
  return new Promise((resolve, reject) => {
    let received = Buffer.alloc(0);
    const events: ChannelEvents = {
      onData: (chunk) => {
        received = Buffer.concat([received, chunk]);
        const end = received.indexOf("\r\n\r\n");
        if (end < 0) return;
        channel.pause();
        const rest = received.subarray(end + 4);
        resolve({ head: received.subarray(0, end).toString("latin1"), rest: rest.length === 0 ? [] : [rest] });
      },
      onEnd: () => reject(new Error(`No answer: ${received.toString("latin1")}`)),
      onDrain: () => {},
      onClose: (error) => reject(error ?? new Error("Closed")),
    };
    channel.listen(events);
  });
}

/** A channel for tests that ask and wait. */
export class StreamConversation {
  readonly channel: ByteChannel;
  readonly #parts: Buffer[] = [];
  #bytes = 0;
  ended = false;
  closed: { readonly error: Error | undefined } | undefined;
  #room = Promise.withResolvers<void>();

  constructor(channel: ByteChannel) {
    this.channel = channel;
    channel.listen({
      onData: (chunk) => {
        this.#parts.push(Buffer.from(chunk));
        this.#bytes += chunk.length;
      },
      onEnd: () => {
        this.ended = true;
      },
      onDrain: () => this.#room.resolve(),
      onClose: (error) => {
        this.closed = { error };
        this.#room.resolve();
      },
    });
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Everything read so far. */
  get received(): Buffer {
    return Buffer.concat(this.#parts);
  }

  /** Waits where the channel asks to hold back. */
  async write(chunk: Uint8Array | string): Promise<void> {
    this.#room = Promise.withResolvers();
    if (!this.channel.write(typeof chunk === "string" ? new TextEncoder().encode(chunk) : chunk)) {
      await this.#room.promise;
    }
  }
}
