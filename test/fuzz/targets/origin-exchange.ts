import type { TunnelError } from "../../../src/core/errors.ts";
import type { ByteChannel } from "../../../src/net/channel.ts";
import { createMemoryChannelPair } from "../../../src/net/memory-channel.ts";
import { OriginConnection } from "../../../src/origin/http/connection.ts";
import { HttpExchange } from "../../../src/origin/http/exchange.ts";
import type { OriginEvents, OriginRequest } from "../../../src/origin/port.ts";
import { ResponseDecoder } from "../../../src/wire/h1/decoder.ts";
import { bytesOf, chanceOf, pieces } from "../bytes.ts";
import { must, mustEqual, type Target } from "../target.ts";
import { generateResponse, RESPONSE_SEEDS, RESPONSE_WORDS } from "./http-messages.ts";

const REQUESTS: readonly OriginRequest[] = [
  { kind: "http", method: "GET", target: "/", headers: ["Host", "a"], body: "none" },
  { kind: "http", method: "HEAD", target: "/", headers: ["Host", "a"], body: "none" },
  { kind: "http", method: "POST", target: "/", headers: ["Host", "a"], body: 5 },
  { kind: "http", method: "POST", target: "/", headers: ["Host", "a"], body: "chunked" },
  { kind: "websocket", method: "GET", target: "/", headers: ["Host", "a", "Connection", "Upgrade"], body: "none" },
];

/** Turns of the microtask queue in which everything that was put into a channel has arrived. */
const SETTLE_TURNS = 24;
const ORIGIN_CODES: ReadonlySet<string> = new Set(["origin.malformed", "origin.truncated", "origin.reset"]);

type Ended = "end" | "error" | "upgrade" | undefined;

class Answer implements OriginEvents {
  status = 0;
  body: number[] = [];
  trailers: readonly string[] = [];
  error: TunnelError | undefined;
  ended: Ended;
  upgraded: ByteChannel | undefined;

  onInformational(status: number): void {
    this.#open();
    must(this.status === 0 && status >= 100 && status < 200, "interim answers come in front of the final one");
  }

  onResponse(status: number, headers: readonly string[]): void {
    this.#open();
    must(this.status === 0, "there is one answer");
    must(headers.length % 2 === 0, "fields are pairs");
    this.status = status;
  }

  onUpgrade(_: readonly string[], channel: ByteChannel): void {
    this.#finish("upgrade");
    this.upgraded = channel;
  }

  onData(chunk: Uint8Array): void {
    this.#open();
    must(this.status !== 0, "a body comes behind its head");
    this.body.push(...chunk);
  }

  onEnd(trailers: readonly string[]): void {
    this.#finish("end");
    this.trailers = trailers;
  }

  onDrain(): void {
    this.#open();
  }

  onError(error: TunnelError): void {
    this.#finish("error");
    this.error = error;
  }

  #open(): void {
    must(this.ended === undefined, "nothing comes behind the last event");
  }

  #finish(how: Ended): void {
    this.#open();
    this.ended = how;
  }
}

async function settle(): Promise<void> {
  for (let i = 0; i < SETTLE_TURNS; i += 1) await Promise.resolve();
}

/** What the bare decoder makes of the same bytes. */
function decoded(input: Uint8Array, request: OriginRequest) {
  const seen = { status: 0, body: [] as number[], ended: undefined as Ended };
  const decoder = new ResponseDecoder({
    onInformational: () => {},
    onHead: (head) => {
      if (head.framing.kind === "tunnel") seen.ended = "upgrade";
      else seen.status = head.status;
    },
    onData: (chunk) => void seen.body.push(...chunk),
    onEnd: () => {
      seen.ended = "end";
    },
    onMalformed: () => {
      seen.ended = "error";
    },
  });
  decoder.next({ method: request.method, upgrade: request.kind === "websocket" });
  decoder.feed(input);
  decoder.finish();
  return { ...seen, ended: seen.ended ?? "error" };
}

/** A whole exchange with an origin that answers with the input and then ends. */
export const originExchange: Target = {
  name: "origin-exchange",
  words: RESPONSE_WORDS,
  seeds: () => RESPONSE_SEEDS.map(bytesOf),
  generate: generateResponse,
  async run(input) {
    const chance = chanceOf(input);
    const request = chance.pick(REQUESTS);
    const [ours, origins] = createMemoryChannelPair();
    const answer = new Answer();
    let gone = 0;
    const connection = new OriginConnection(ours, {
      onIdle: () => {},
      onClosing: () => {},
      onGone: () => {
        gone += 1;
      },
      onUpgraded: () => {},
    });
    let dials = 0;
    const exchange = new HttpExchange(request, answer, (one) => {
      dials += 1;
      one.run(connection);
      return () => {};
    });
    must(exchange.problem === undefined, "the request can be sent");
    origins.listen({ onData: () => {}, onEnd: () => origins.end(), onDrain: () => {}, onClose: () => {} });
    exchange.connect();
    if (request.body === 5) exchange.write(bytesOf("hello"));
    else if (request.body === "chunked") {
      exchange.write(bytesOf("hello"));
      exchange.end(["x-a", "b"]);
    }
    for (const piece of pieces(input, chance, chance.pick([1, 7, 64, 5000]))) {
      origins.write(piece);
      if (chance.once(4)) {
        exchange.pause();
        await settle();
        exchange.resume();
      } else if (chance.once(2)) await settle();
    }
    origins.end();
    await settle();
    must(answer.ended !== undefined, "an exchange is over once the origin has ended");
    must(dials === 1, "an answer on a fresh connection is not asked for again");
    const wanted = decoded(input, request);
    mustEqual(
      { status: answer.status, body: answer.body, ended: answer.ended },
      wanted,
      "the exchange tells what the decoder reads",
    );
    if (answer.error !== undefined)
      must(ORIGIN_CODES.has(answer.error.code), `${answer.error.code} is the origin's doing`);
    if (answer.upgraded !== undefined) {
      const { upgraded } = answer;
      upgraded.listen({ onData: () => {}, onEnd: () => upgraded.end(), onDrain: () => {}, onClose: () => {} });
      await settle();
    }
    must(gone > 0, "a connection whose origin has ended is given back");
    return `${request.method} ${request.kind} ${answer.status} ${answer.ended} ${answer.error?.code ?? ""}`;
  },
};
