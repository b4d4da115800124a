import { decodeTotally } from "../../../src/wire/capnp/decoded.ts";
import { FrameDecoder } from "../../../src/wire/capnp/frame-decoder.ts";
import { MAX_NESTING, Message } from "../../../src/wire/capnp/message.ts";
import { decodeMessage, encodeMessage, type StructCodec } from "../../../src/wire/capnp/struct-codec.ts";
import { type RpcCloseReason, RpcConnection } from "../../../src/wire/rpc/connection.ts";
import { encodeBootstrap, encodeCall, encodeFinish, encodeRelease } from "../../../src/wire/rpc/messages.ts";
import { handleMethod } from "../../../src/wire/rpc/method-handler.ts";
import { updateConfiguration } from "../../../src/wire/schema/configuration-manager.ts";
import { connectRequest, connectResponse } from "../../../src/wire/schema/connect-request.ts";
import {
  registerConnection,
  unregisterConnection,
  updateLocalConfiguration,
} from "../../../src/wire/schema/registration-server.ts";
import { registerUdpSession, unregisterUdpSession } from "../../../src/wire/schema/session-manager.ts";
import { loadVector } from "../../unit/wire/vectors.ts";
import { joined, sameInPieces } from "../bytes.ts";
import { type Chance, must, mustEqual, type Target } from "../target.ts";

const MAX_MESSAGE_BYTES = 2048;
const VECTORS = [
  "abort-shutdown",
  "bootstrap",
  "bootstrap-return",
  "connect-request-get",
  "connect-request-tcp",
  "connect-response-ok",
  "finish-0",
  "register-call",
  "register-return",
  "register-return-duplicate",
  "register-udp-session-call",
  "release",
  "unregister-call",
  "update-configuration-call",
  "local-configuration-call",
] as const;

/** Methods whose structs stand anywhere in a message; a root of the wrong kind is as good as any. */
const CODECS: readonly StructCodec<unknown>[] = [
  erased(connectRequest),
  erased(connectResponse),
  erased(registerConnection.params),
  erased(registerConnection.results),
  erased(updateConfiguration.params),
  erased(updateConfiguration.results),
  erased(registerUdpSession.params),
  erased(registerUdpSession.results),
  erased(updateLocalConfiguration.params),
  erased(unregisterUdpSession.params),
];

function erased<T>(codec: StructCodec<T>): StructCodec<unknown> {
  return { ...codec, write: (target, value) => codec.write(target, value as T) };
}

/** One message of words that look like pointers. */
function randomMessage(chance: Chance): Uint8Array {
  const segments = chance.once(4) ? 2 + chance.below(2) : 1;
  const words = Array.from({ length: segments }, () => 1 + chance.below(12));
  const header = new Uint8Array(Math.ceil((4 + 4 * segments) / 8) * 8);
  const view = new DataView(header.buffer);
  view.setUint32(0, segments - 1, true);
  words.forEach((count, i) => {
    view.setUint32(4 + 4 * i, count, true);
  });
  const body = words.map((count) => {
    const segment = new Uint8Array(count * 8);
    const target = new DataView(segment.buffer);
    for (let i = 0; i < count; i += 1) {
      const offset = chance.below(count + 2) - i - 1;
      const small = chance.below(5);
      switch (chance.below(6)) {
        case 0:
          target.setInt32(8 * i, offset << 2, true);
          target.setUint32(8 * i + 4, small | (chance.below(4) << 16), true);
          break;
        case 1:
          target.setInt32(8 * i, (offset << 2) | 1, true);
          target.setUint32(8 * i + 4, (chance.below(20) << 3) | chance.below(8), true);
          break;
        case 2:
          target.setUint32(8 * i, (chance.below(count + 1) << 3) | (chance.below(2) << 2) | 2, true);
          target.setUint32(8 * i + 4, chance.below(segments + 1), true);
          break;
        case 3:
          target.setUint32(8 * i, (small << 2) | chance.below(2), true);
          target.setUint32(8 * i + 4, chance.below(3) | (chance.below(3) << 16), true);
          break;
        default:
          segment.set(chance.bytes(8), 8 * i);
      }
    }
    return segment;
  });
  return joined(header, ...body);
}

function decodeAll(message: Message): string {
  // Each codec walks the message anew and may spend all of what it allows.
  return CODECS.map((codec) => {
    const decoded = decodeMessage(codec, new Message(message.segments.map(({ bytes }) => bytes)));
    if (decoded.kind === "malformed") return decoded.reason;
    const bytes = encodeMessage(codec, decoded.value);
    const again = new FrameDecoder();
    again.push(bytes);
    const framed = again.next();
    must(framed.kind === "value", "what is sent is one message");
    const copy = decodeMessage(codec, framed.value);
    mustEqual(copy, decoded, "a value that was read can be sent and is read the same");
    return "ok";
  }).join(",");
}

export const capnp: Target = {
  name: "capnp",
  words: [
    Uint8Array.of(0, 0, 0, 0, 0, 0, 1, 0),
    Uint8Array.of(1, 0, 0, 0, 0x47, 0, 0, 0),
    Uint8Array.of(2, 0, 0, 0, 0, 0, 0, 0),
    Uint8Array.of(6, 0, 0, 0, 1, 0, 0, 0),
    Uint8Array.of(0xfc, 0xff, 0xff, 0xff, 0, 0, 1, 0),
  ],
  seeds: () => [
    ...VECTORS.map(loadVector),
    encodeMessage(connectRequest, { dest: "http://a/", type: "http", metadata: ["a", "b", "", "\xff"] }),
    encodeMessage(connectResponse, { error: "no", metadata: [] }),
  ],
  generate: (chance) => joined(...chance.some(3, () => randomMessage(chance))),
  open() {
    const decoder = new FrameDecoder({ maxMessageBytes: 1024 * 1024 });
    return (chunk) => {
      decoder.push(chunk);
      while (decoder.next().kind === "value");
    };
  },
  run(input) {
    const found = sameInPieces(input, (chunks) => {
      const decoder = new FrameDecoder({ maxMessageBytes: MAX_MESSAGE_BYTES });
      const outcomes: string[] = [];
      for (const chunk of chunks) {
        decoder.push(chunk);
        for (let next = decoder.next(); next.kind === "value"; next = decoder.next())
          outcomes.push(decodeAll(next.value));
        const end = decoder.next();
        chunk.fill(0xee);
        if (end.kind !== "malformed") continue;
        must(decoder.takeRest().length === 0, "nothing is kept of a stream that is malformed");
        outcomes.push(end.reason);
        break;
      }
      return { outcomes, rest: decoder.takeRest().slice() };
    });
    must(found.rest.length <= MAX_MESSAGE_BYTES, "no more than one message is kept");
    deepest(input);
    return found.outcomes.join(" ");
  },
};

/** Follows first pointers down: there must be an end to it. */
function deepest(input: Uint8Array): void {
  const decoder = new FrameDecoder();
  decoder.push(input);
  const framed = decoder.next();
  if (framed.kind !== "value") return;
  decodeTotally(() => {
    let view = framed.value.root();
    for (let depth = 0; ; depth += 1) {
      must(depth <= MAX_NESTING, "nesting has a limit");
      const inner = view.struct(0);
      if (inner.dataBytes === 0 && inner.capability(0) === undefined) return;
      view = inner;
    }
  });
}

/** Our half of a connection, with every method there is and a call of its own under way. */
function talk(chunks: readonly Uint8Array[]): {
  sent: Uint8Array[];
  events: string[];
  closed: RpcCloseReason | undefined;
} {
  const sent: Uint8Array[] = [];
  const events: string[] = [];
  const ended: RpcCloseReason[] = [];
  const rpc = new RpcConnection({
    send: (message) => {
      must(ended.length === 0, "nothing is sent once it is over");
      sent.push(message.slice());
    },
    onClosed: (reason) => void ended.push(reason),
    methods: [
      handleMethod(registerConnection, ({ connIndex }, respond) => {
        events.push(`register ${connIndex}`);
        respond.onCancel(() => void events.push("cancelled"));
        if (connIndex % 2 === 0) respond.exception("failed", "no");
      }),
      handleMethod(unregisterConnection, (_, respond) => respond.results(undefined)),
      handleMethod(updateConfiguration, ({ version }, respond) =>
        respond.results({ latestAppliedVersion: version, error: "" }),
      ),
    ],
    maxMessageBytes: MAX_MESSAGE_BYTES,
    maxQuestions: 4,
  });
  const capability = rpc.bootstrap();
  rpc.call(capability, unregisterConnection, undefined, ({ kind }) => void events.push(`outcome ${kind}`));
  for (const chunk of chunks) rpc.receive(chunk);
  const { closed } = rpc;
  rpc.lose();
  must(ended.length === 1, "a connection ends once");
  must(events.filter((event) => event.startsWith("outcome")).length === 1, "a call has one outcome");
  return { sent, events, closed };
}

export const rpc: Target = {
  name: "rpc",
  words: VECTORS.map(loadVector),
  seeds: () => [
    ...VECTORS.map(loadVector),
    joined(...["bootstrap", "register-call", "unregister-call", "finish-0", "release"].map(loadVector)),
    joined(...["bootstrap-return", "register-return", "abort-shutdown"].map(loadVector)),
  ],
  generate: (chance) =>
    joined(
      ...chance.some(6, () => {
        const id = chance.below(3);
        switch (chance.below(6)) {
          case 0:
            return encodeBootstrap(id);
          case 1:
            return encodeFinish(id, chance.once(2));
          case 2:
            return encodeRelease(id, chance.below(3));
          case 3: {
            const target = chance.once(2)
              ? ({ kind: "importedCap", id } as const)
              : ({ kind: "promisedAnswer", questionId: id } as const);
            return encodeCall(chance.below(6), target, unregisterConnection, undefined);
          }
          case 4:
            return randomMessage(chance);
          default:
            return loadVector(chance.pick(VECTORS));
        }
      }),
    ),
  open() {
    const connection = new RpcConnection({ send: () => {}, onClosed: () => {} });
    return (chunk) => connection.receive(chunk);
  },
  run(input) {
    const { sent, events, closed } = sameInPieces(input, talk);
    const decoder = new FrameDecoder();
    decoder.push(joined(...sent));
    let messages = 0;
    while (decoder.next().kind === "value") messages += 1;
    must(messages === sent.length && decoder.takeRest().length === 0, "what is sent is whole messages");
    return `${sent.length} ${events.join(" ")} ${closed?.kind ?? ""} ${closed?.kind === "violation" ? closed.reason : ""}`;
  },
};
