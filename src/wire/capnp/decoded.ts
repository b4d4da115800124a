/** Bytes that no conforming peer sends. `reason` is for people and never quotes the bytes. */
export type Malformed = { readonly kind: "malformed"; readonly reason: string };

/** What became of a whole message. */
export type Decoded<T> = { readonly kind: "value"; readonly value: T } | Malformed;

/** How readers give up inside this folder; it never leaves {@link decodeTotally}. */
export class DecodeError extends Error {
  override readonly name = "DecodeError";
}

/** The boundary of the decoder: runs `read` and turns its DecodeError into a value. Other errors are bugs and pass. */
export function decodeTotally<T>(read: () => T): Decoded<T> {
  try {
    return { kind: "value", value: read() };
  } catch (thrown) {
    if (thrown instanceof DecodeError) return { kind: "malformed", reason: thrown.message };
    throw thrown;
  }
}
