import { type Answer, decode, type Packet, RECURSION_DESIRED, streamEncode } from "dns-packet";
import { describe, TunnelError } from "../../core/errors.ts";

/** One question of ours; the id tells its answer from others on the same connection. */
export interface DnsQuestion {
  readonly id: number;
  readonly name: string;
  readonly type: "SRV" | "A" | "AAAA";
}

/** Our questions have answers of about 300 bytes; 65,535 would be allowed. */
export const MAX_ANSWER_BYTES = 16_384;

const HEADER_BYTES = 12;
const TRUNCATED = 0x0200;
const RCODE_MASK = 0x000f;
const NO_SUCH_NAME = 3;
/** Aliases followed from one name, all within the one answer. */
const MAX_ALIASES = 8;

/** A query with its length in front, as streams carry it (RFC 1035 section 4.2.2). */
export function encodeQuery({ id, name, type }: DnsQuestion): Uint8Array {
  return streamEncode({ type: "query", id, flags: RECURSION_DESIRED, questions: [{ type, name, class: "IN" }] });
}

/** Reads the messages of a stream, each after its length. Throws `edge.discovery` at a length no answer should have. */
export class AnswerReader {
  readonly #length = new Uint8Array(2);
  #filled = 0;
  #message: Uint8Array | undefined;

  /** Takes bytes as they come, and gives the messages that they complete. */
  *push(chunk: Uint8Array): Generator<Uint8Array> {
    let offset = 0;
    while (offset < chunk.length) {
      const into = this.#message ?? this.#length;
      const part = chunk.subarray(offset, offset + into.length - this.#filled);
      into.set(part, this.#filled);
      this.#filled += part.length;
      offset += part.length;
      if (this.#filled < into.length) return;
      this.#filled = 0;
      if (this.#message === undefined) {
        this.#message = new Uint8Array(messageLength(this.#length));
      } else {
        this.#message = undefined;
        yield into;
      }
    }
  }
}

/**
 * Decodes one message and finds the question that it answers. Throws `edge.discovery` when it is malformed, cut short,
 * a failure, or an answer to something else. A name that does not exist has no records.
 */
export function readAnswer(
  message: Uint8Array,
  asked: readonly DnsQuestion[],
): { readonly question: DnsQuestion; readonly records: readonly Answer[] } {
  const packet = decodePacket(message);
  const [repeated, ...more] = packet.questions ?? [];
  const question = asked.find(({ id }) => id === packet.id);
  if (
    packet.type !== "response" ||
    question === undefined ||
    more.length > 0 ||
    repeated?.type !== question.type ||
    repeated.class !== "IN" ||
    canonical(repeated.name) !== canonical(question.name)
  ) {
    throw refused("an answer to another question");
  }
  const flags = packet.flags ?? 0;
  if ((flags & TRUNCATED) !== 0) throw refused("an answer that was cut short");
  const rcode = flags & RCODE_MASK;
  if (rcode === NO_SUCH_NAME) return { question, records: [] };
  if (rcode !== 0) throw refused(`error ${rcode}`);
  return { question, records: recordsFor(question, packet.answers ?? []) };
}

function messageLength([high = 0, low = 0]: Uint8Array): number {
  const length = high * 256 + low;
  if (length < HEADER_BYTES) throw refused(`a message of ${length} bytes`);
  if (length > MAX_ANSWER_BYTES) throw refused(`an answer of ${length} bytes, more than ${MAX_ANSWER_BYTES}`);
  return length;
}

function decodePacket(message: Uint8Array): Packet {
  try {
    return decode(Buffer.from(message.buffer, message.byteOffset, message.byteLength));
  } catch (error) {
    throw refused(`a malformed answer: ${describe(error)}`);
  }
}

/** Records of the asked type that belong to the asked name or to one it is an alias of. */
function recordsFor({ name, type }: DnsQuestion, answers: readonly Answer[]): readonly Answer[] {
  const owners = new Set([canonical(name)]);
  for (let followed = 0; followed < MAX_ALIASES; followed += 1) {
    const alias = answers.find(
      (answer) => answer.type === "CNAME" && owners.has(canonical(answer.name)) && !owners.has(canonical(answer.data)),
    );
    if (alias?.type !== "CNAME") break;
    owners.add(canonical(alias.data));
  }
  return answers.filter((answer) => answer.type === type && owners.has(canonical(answer.name)));
}

function canonical(name: string): string {
  return name.replace(/\.$/, "").toLowerCase();
}

function refused(what: string): TunnelError {
  return new TunnelError("edge.discovery", `the name server sent ${what}`, { retry: "same" });
}
