import { systemClock } from "../../../src/core/clock.ts";
import { TunnelError } from "../../../src/core/errors.ts";
import { createMemoryChannelPair } from "../../../src/net/memory-channel.ts";
import { SocksSession } from "../../../src/origin/tcp/socks-session.ts";
import { ipToBytes } from "../../../src/wire/ip-bytes.ts";
import { SOCKS_COMMAND, SOCKS_REPLY, type SocksMessage, SocksReader } from "../../../src/wire/socks5/server.ts";
import { bytesOf, chanceOf, joined, pieces, sameInPieces } from "../bytes.ts";
import { type Chance, must, mustEqual, type Target } from "../target.ts";

/** A reader holds a greeting or a request at most: each is bounded by its own length bytes. */
const MAX_MESSAGE_BYTES = 262;
const GREETING = Uint8Array.of(5, 1, 0);

/** What a client sends to reach a host. */
function encodeRequest(host: string, port: number, command: number): Uint8Array {
  const ip = ipToBytes(host);
  const address =
    ip.length === 0
      ? joined(Uint8Array.of(3, host.length), bytesOf(host))
      : host.includes(":")
        ? joined(Uint8Array.of(4), ip)
        : joined(Uint8Array.of(1), ip.subarray(12));
  return joined(Uint8Array.of(5, command, 0), address, Uint8Array.of(port >> 8, port & 0xff));
}

function conversation(chance: Chance): Uint8Array {
  const hosts = [
    "127.0.0.1",
    "::1",
    "a.example",
    "_srv._tcp.a",
    "2001:db8::1",
    "::ffff:10.0.0.1",
    "x".repeat(255),
    "a-",
  ];
  const methods = chance.some(4, () => chance.below(256));
  const greeting = Uint8Array.of(5, methods.length + 1, ...methods, chance.once(4) ? 2 : 0);
  const request = encodeRequest(chance.pick(hosts), chance.below(65536), chance.pick([1, 1, 1, 2, 3, 9]));
  return joined(greeting, request, chance.bytes(chance.below(20)));
}

const SEEDS = [
  joined(GREETING, encodeRequest("127.0.0.1", 80, SOCKS_COMMAND.connect), bytesOf("GET /")),
  joined(GREETING, encodeRequest("a.example", 443, SOCKS_COMMAND.connect)),
  joined(GREETING, encodeRequest("2001:db8::1", 1, SOCKS_COMMAND.bind)),
  Uint8Array.of(5, 1, 2),
  Uint8Array.of(4, 1, 0, 80, 127, 0, 0, 1, 0),
];
const WORDS = [
  GREETING,
  Uint8Array.of(5, 1, 0, 1),
  Uint8Array.of(5, 1, 0, 3, 9),
  Uint8Array.of(5, 1, 0, 4),
  "a.example",
];

interface Read {
  readonly messages: readonly SocksMessage[];
  readonly rest: Uint8Array;
}

/** Reads as a session does: behind its last message nothing is given to the reader. */
function read(chunks: readonly Uint8Array[]): Read {
  const reader = new SocksReader();
  const messages: SocksMessage[] = [];
  const behind: Uint8Array[] = [];
  for (const chunk of chunks) {
    const last = messages.at(-1)?.kind ?? "greeting";
    if (last !== "greeting") {
      behind.push(chunk);
      continue;
    }
    reader.receive(chunk);
    for (let next = reader.next(); next !== undefined; next = reader.next()) messages.push(next);
  }
  const refused = messages.at(-1)?.kind === "malformed";
  return { messages, rest: refused ? new Uint8Array(0) : joined(reader.takeRest(), ...behind) };
}

function nameOf(message: SocksMessage): string {
  if (message.kind === "malformed") return message.reason;
  return message.kind === "request" ? `request ${message.command}` : `greeting ${message.open}`;
}

export const socks5: Target = {
  name: "socks5",
  words: WORDS,
  seeds: () => SEEDS,
  generate: conversation,
  run(input) {
    const { messages, rest } = sameInPieces(input, read);
    for (const message of messages) {
      if (message.kind !== "request") continue;
      const { host, port, command } = message;
      must(/^[\x21-\x7e]{1,255}$/.test(host), "a host is a name or an address");
      const again = read([joined(GREETING, encodeRequest(host, port, command), rest)]);
      mustEqual(again.messages[1], message, "a request for what was read is read the same");
      mustEqual(again.rest, rest, "what comes behind a request is left as it is");
    }
    const last = messages.at(-1)?.kind;
    if (last === undefined || last === "greeting") {
      must(rest.length <= MAX_MESSAGE_BYTES, `no more than ${MAX_MESSAGE_BYTES} bytes wait for the rest of a message`);
    }
    return messages.map(nameOf).join(" ");
  },
};

const REFUSALS = [
  undefined,
  new TunnelError("origin.forbidden", "no"),
  new TunnelError("origin.dial", "no", { cause: Object.assign(new Error("no"), { code: "ECONNREFUSED" }) }),
  new Error("no"),
] as const;

/** A server over channels in memory: what a client sends behind its request must reach the destination. */
export const socks5Session: Target = {
  name: "socks5-session",
  words: WORDS,
  seeds: () => SEEDS,
  generate: conversation,
  async run(input) {
    const chance = chanceOf(input);
    const [servers, client] = createMemoryChannelPair();
    const [dialled, destination] = createMemoryChannelPair();
    const refusal = chance.once(2) ? undefined : chance.pick(REFUSALS);
    const answered: Uint8Array[] = [];
    const arrived: Uint8Array[] = [];
    const closed: string[] = [];
    let asked = 0;
    new SocksSession(
      servers,
      () => {
        asked += 1;
        if (refusal !== undefined) return Promise.reject(refusal);
        return Promise.resolve({ channel: dialled, remoteIp: "127.0.0.1", remotePort: 1, localIp: "127.0.0.1" });
      },
      systemClock,
    );
    client.listen({
      onData: (chunk) => void answered.push(chunk.slice()),
      onEnd: () => client.end(),
      onDrain: () => {},
      onClose: () => void closed.push("client"),
    });
    destination.listen({
      onData: (chunk) => void arrived.push(chunk.slice()),
      onEnd: () => destination.end(),
      onDrain: () => {},
      onClose: () => void closed.push("destination"),
    });
    for (const piece of pieces(input, chance, chance.pick([1, 9, 5000]))) {
      client.write(piece);
      if (chance.once(2)) await Promise.resolve();
    }
    client.end();
    for (let i = 0; i < 40; i += 1) await Promise.resolve();
    const wanted = read([input]);
    const replies = joined(...answered);
    const last = wanted.messages.at(-1);
    const connects = last?.kind === "request" && last.command === SOCKS_COMMAND.connect && opened(wanted);
    must(asked === (connects ? 1 : 0), "each CONNECT is tried once, and nothing else is");
    must(closed.includes("client"), "a session whose client has ended is over");
    if (wanted.messages[0]?.kind === "greeting") {
      mustEqual(replies.subarray(0, 2), Uint8Array.of(5, opened(wanted) ? 0 : 255), "a greeting is answered");
    }
    if (connects && refusal === undefined) {
      must(replies[3] === SOCKS_REPLY.succeeded, "a connection is announced");
      mustEqual(joined(...arrived), wanted.rest, "what the client sends behind its request arrives");
      must(closed.includes("destination"), "the destination hears of the end");
    } else must(arrived.length === 0, "nothing reaches a destination that was not connected");
    return `${wanted.messages.map(nameOf).join(" ")} ${replies.subarray(0, 4).join(" ")} ${wanted.rest.length > 0}`;
  },
};

/** The client offers to go without authentication. */
function opened({ messages: [first] }: Read): boolean {
  return first?.kind === "greeting" && first.open;
}
