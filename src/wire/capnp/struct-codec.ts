import { MessageBuilder, type StructBuilder } from "./builder.ts";
import { type Decoded, decodeTotally } from "./decoded.ts";
import type { Message, StructReader } from "./message.ts";

/** How a typed value lies in a struct; one constant per struct of the schema. */
export interface StructCodec<T> {
  /** Words of the data section. */
  readonly dataWords: number;
  /** Pointers behind it. */
  readonly pointerWords: number;
  /** Reads a value; may throw DecodeError, so it runs inside `decodeTotally`. */
  read(view: StructReader): T;
  /** Fills a struct of this shape; cannot fail on a typed value. */
  write(target: StructBuilder, value: T): void;
}

/** A whole message, framing header included, whose root is `value`. */
export function encodeMessage<T>(codec: StructCodec<T>, value: T): Uint8Array {
  const message = new MessageBuilder();
  codec.write(message.root(codec.dataWords, codec.pointerWords), value);
  return message.finish();
}

/** Reads the root of a message. Never throws on what a peer sent. */
export function decodeMessage<T>(codec: StructCodec<T>, message: Message): Decoded<T> {
  return decodeTotally(() => codec.read(message.root()));
}
