import { encode } from "dns-packet";
import {
  AnswerReader,
  type DnsQuestion,
  MAX_ANSWER_BYTES,
  readAnswer,
} from "../../../src/connector/discovery/dns-message.ts";
import { TunnelError } from "../../../src/core/errors.ts";
import { joined, sameInPieces } from "../bytes.ts";
import { must, type Target } from "../target.ts";

const ASKED: readonly DnsQuestion[] = [
  { id: 1, name: "_srv._tcp.a.example", type: "SRV" },
  { id: 2, name: "a.example", type: "A" },
];

function answer(id: number, build: Parameters<typeof encode>[0]): Uint8Array {
  const message = Uint8Array.from(encode({ type: "response", id, ...build }));
  return joined(Uint8Array.of(message.length >> 8, message.length & 0xff), message);
}

const SEEDS = [
  answer(1, {
    questions: [{ type: "SRV", name: "_srv._tcp.a.example" }],
    answers: [
      { type: "SRV", name: "_srv._tcp.a.example", data: { port: 7844, target: "a.example", priority: 1, weight: 2 } },
    ],
  }),
  answer(2, {
    questions: [{ type: "A", name: "a.example" }],
    answers: [
      { type: "CNAME", name: "a.example", data: "b.example" },
      { type: "A", name: "b.example", data: "127.0.0.1" },
    ],
  }),
  answer(2, { questions: [{ type: "A", name: "a.example" }], flags: 3 }),
];

/** What name servers answer, as a stream of messages. */
export const dnsAnswers: Target = {
  name: "dns-answers",
  words: [Uint8Array.of(0xc0, 12), Uint8Array.of(0, 5, 0, 1), Uint8Array.of(0, 33, 0, 1), ...SEEDS],
  seeds: () => SEEDS,
  open() {
    const reader = new AnswerReader();
    let over = false;
    return (chunk) => {
      if (over) return;
      try {
        for (const message of reader.push(chunk)) must(message.length <= MAX_ANSWER_BYTES, "a message is bounded");
      } catch (error) {
        must(error instanceof TunnelError, "a refusal is a typed error");
        over = true;
      }
    };
  },
  run(input) {
    const found = sameInPieces(input, (chunks) => {
      const reader = new AnswerReader();
      const outcomes: string[] = [];
      try {
        for (const chunk of chunks) for (const message of reader.push(chunk)) outcomes.push(outcomeOf(message));
      } catch (error) {
        if (!(error instanceof TunnelError)) throw error;
        outcomes.push(error.message);
      }
      return outcomes;
    });
    return found.join(" ").replace(/[0-9]+/g, "#");
  },
};

function outcomeOf(message: Uint8Array): string {
  try {
    const { question, records } = readAnswer(message, ASKED);
    must(
      records.every(({ type }) => type === question.type),
      "records are of the type that was asked for",
    );
    return `${question.type} ${records.length}`;
  } catch (error) {
    if (!(error instanceof TunnelError)) throw error;
    must(error.code === "edge.discovery", "a refusal says that discovery failed");
    return error.message;
  }
}
