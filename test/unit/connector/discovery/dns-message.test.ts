import { describe, expect, test } from "bun:test";
import { type Answer, decode, encode, type Packet, TRUNCATED_RESPONSE } from "dns-packet";
import fc from "fast-check";
import {
  AnswerReader,
  type DnsQuestion,
  encodeQuery,
  MAX_ANSWER_BYTES,
  readAnswer,
} from "../../../../src/connector/discovery/dns-message.ts";
import { TunnelError } from "../../../../src/core/errors.ts";
import { framed } from "./name-servers.ts";

const QUESTION: DnsQuestion = { id: 77, name: "edge.example", type: "A" };

function answer(changes: Packet = {}): Uint8Array {
  return encode({
    type: "response",
    id: QUESTION.id,
    questions: [{ type: "A", name: "edge.example", class: "IN" }],
    answers: [a("edge.example", "192.0.2.1")],
    ...changes,
  });
}

function a(name: string, data: string): Answer {
  return { type: "A", name, data };
}

function dataOf(message: Uint8Array): readonly unknown[] {
  return readAnswer(message, [QUESTION]).records.map((record) => ("data" in record ? record.data : undefined));
}

describe("encodeQuery", () => {
  test("asks one question, with the length in front", () => {
    const bytes = encodeQuery(QUESTION);
    expect(Buffer.from(bytes).readUInt16BE(0)).toBe(bytes.length - 2);
    const packet = decode(Buffer.from(bytes.subarray(2)));
    expect([packet.id, packet.type, packet.questions]).toEqual([
      77,
      "query",
      [{ type: "A", name: "edge.example", class: "IN" }],
    ]);
  });
});

describe("readAnswer", () => {
  test("gives the records of the name and of what it is an alias of, and no others", () => {
    const answers: Answer[] = [
      a("other.example", "192.0.2.66"),
      { type: "CNAME", name: "two.example", data: "three.example" },
      { type: "CNAME", name: "EDGE.example", data: "Two.example" },
      a("three.EXAMPLE", "192.0.2.3"),
      { type: "AAAA", name: "three.example", data: "2001:db8::1" },
    ];
    expect(dataOf(answer({ answers }))).toEqual(["192.0.2.3"]);
  });

  test("aliases in a circle or without end come to an end", () => {
    const circle: Answer[] = [
      { type: "CNAME", name: "edge.example", data: "b.example" },
      { type: "CNAME", name: "b.example", data: "edge.example" },
    ];
    expect(dataOf(answer({ answers: circle }))).toEqual([]);
    const chain = Array.from(
      { length: 50 },
      (_, i): Answer => ({
        type: "CNAME",
        name: i === 0 ? "edge.example" : `c${i}.example`,
        data: `c${i + 1}.example`,
      }),
    );
    expect(dataOf(answer({ answers: [...chain, a("c50.example", "192.0.2.5")] }))).toEqual([]);
  });

  test("a name that does not exist has no records", () => {
    expect(dataOf(answer({ flags: 3, answers: [] }))).toEqual([]);
  });

  test.each<[string, Uint8Array, RegExp]>([
    ["wrong id", answer({ id: 78 }), /answer to another question/],
    ["wrong name", answer({ questions: [{ type: "A", name: "evil.example" }] }), /another question/],
    ["wrong type", answer({ questions: [{ type: "AAAA", name: "edge.example" }] }), /another question/],
    ["wrong class", answer({ questions: [{ type: "A", name: "edge.example", class: "CH" }] }), /another question/],
    ["no question", answer({ questions: [] }), /another question/],
    ["a query", answer({ type: "query" }), /another question/],
    ["truncated flag", answer({ flags: TRUNCATED_RESPONSE }), /cut short/],
    ["server failure", answer({ flags: 2 }), /error 2/],
    ["truncated bytes", answer().subarray(0, 40), /malformed/],
    [
      "header only, counting records",
      Uint8Array.of(0, 77, 0x80, 0, 255, 255, 255, 255, 255, 255, 255, 255),
      /malformed/,
    ],
    ["compression loop", loopedAnswer(), /malformed/],
    ["compression pointing on", pointingOnAnswer(), /malformed/],
    ["empty", new Uint8Array(0), /malformed/],
  ])("%s is refused", (_name, message, why) => {
    expect(() => readAnswer(message, [QUESTION])).toThrow(why);
  });

  test("any bytes are either read or refused, with one kind of error", () => {
    fc.assert(
      fc.property(fc.nat(400), fc.uint8Array({ minLength: 1, maxLength: 24 }), (at, noise) => {
        const message = Uint8Array.from(answer());
        message.set(noise.subarray(0, Math.max(0, message.length - at)), Math.min(at, message.length));
        try {
          readAnswer(message, [QUESTION]);
        } catch (error) {
          expect(error).toBeInstanceOf(TunnelError);
        }
      }),
      { numRuns: 2_000 },
    );
  });
});

describe("AnswerReader", () => {
  test("finds messages however they are cut", () => {
    const messages = [answer(), new Uint8Array(12).fill(7), new Uint8Array(MAX_ANSWER_BYTES).fill(1)];
    const stream = Buffer.concat(messages.map(framed));
    for (const step of [1, 2, 3, 500, stream.length]) {
      const reader = new AnswerReader();
      const found: Uint8Array[] = [];
      for (let at = 0; at < stream.length; at += step) found.push(...reader.push(stream.subarray(at, at + step)));
      expect(found.map((message) => Buffer.from(message).toString("hex"))).toEqual(
        messages.map((message) => Buffer.from(message).toString("hex")),
      );
    }
  });

  test.each([
    [0, /0 bytes/],
    [11, /11 bytes/],
    [MAX_ANSWER_BYTES + 1, /more than 16384/],
    [65_535, /more than 16384/],
  ])("a length of %p is refused before anything is kept for it", (length, why) => {
    expect(() => [...new AnswerReader().push(Uint8Array.of(length >> 8, length & 0xff))]).toThrow(why);
  });
});

/** The name of the answer's record points at itself. */
function loopedAnswer(): Uint8Array {
  return withNamePointer((at) => at);
}

/** The name of the answer's record points at what comes after it. */
function pointingOnAnswer(): Uint8Array {
  return withNamePointer((at) => at + 2);
}

function withNamePointer(target: (at: number) => number): Uint8Array {
  const head = answer({ answers: [] });
  const pointer = 0xc000 | target(head.length);
  const record = [pointer >> 8, pointer & 0xff, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1];
  const message = Uint8Array.from([...head, ...record]);
  message[7] = 1;
  return message;
}
