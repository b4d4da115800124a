// Shapes that several interfaces share (protocol: section 3.4).

import { DecodeError } from "../capnp/decoded.ts";
import type { StructCodec } from "../capnp/struct-codec.ts";

/** One method of an interface: its place on the wire and the structs that travel. */
export interface Method<P, R> {
  readonly interfaceId: bigint;
  readonly methodId: number;
  /** For logs and error texts. */
  readonly name: string;
  readonly params: StructCodec<P>;
  readonly results: StructCodec<R>;
}

/** Params or results without fields. */
export const emptyStruct: StructCodec<void> = {
  dataWords: 0,
  pointerWords: 0,
  read: () => undefined,
  write: () => {},
};

/** The results struct `(result :T)` that wraps most answers. */
export function resultStruct<T>(codec: StructCodec<T>): StructCodec<T> {
  return {
    dataWords: 0,
    pointerWords: 1,
    read: (view) => codec.read(view.struct(0)),
    write: (target, value) => codec.write(target.struct(0, codec.dataWords, codec.pointerWords), value),
  };
}

/** Refuses a field that is absent although the value has no meaning without it. */
export function requireField<T>(value: T | undefined, name: string): T {
  if (value === undefined) throw new DecodeError(`${name} missing or of a wrong length`);
  return value;
}
