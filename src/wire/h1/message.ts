import type { RawHeaders } from "../headers.ts";
import type { Malformed } from "./malformed.ts";

/** Where the body of a message ends (RFC 9112 section 6.3). `tunnel`: what follows is not HTTP any more. */
export type BodyFraming =
  | { readonly kind: "none" }
  | { readonly kind: "length"; readonly bytes: number }
  | { readonly kind: "chunked" }
  | { readonly kind: "until-close" }
  | { readonly kind: "tunnel" };

export const NO_BODY: BodyFraming = { kind: "none" };
export const CHUNKED: BodyFraming = { kind: "chunked" };
export const UNTIL_CLOSE: BodyFraming = { kind: "until-close" };
export const TUNNEL: BodyFraming = { kind: "tunnel" };

export const NO_TRAILERS: RawHeaders = [];

/** A request head that passed every check. */
export interface RequestHead {
  readonly method: string;
  /** Origin form (`/path?query`), or `*` of OPTIONS. Bytes as they came, not normalised. */
  readonly target: string;
  /** The target as it stood on the wire; differs from `target` only in absolute form. */
  readonly rawTarget: string;
  readonly minorVersion: 0 | 1;
  /** All fields, framing and connection-specific ones included. */
  readonly headers: RawHeaders;
  readonly framing: BodyFraming;
  /** The peer wants to send another request on this connection. */
  readonly keepAlive: boolean;
  /** Value of Upgrade, when Connection lists it; otherwise undefined, whatever Upgrade says. */
  readonly upgrade: string | undefined;
  /** The peer waits for 100 before it sends the body. */
  readonly expectContinue: boolean;
  /** Host with port as sent; undefined only in HTTP/1.0. */
  readonly host: string | undefined;
}

/** A final response head, or an interim one (then `framing` is `none`). */
export interface ResponseHead {
  readonly status: number;
  /** Reason phrase, may be empty. */
  readonly reason: string;
  readonly minorVersion: 0 | 1;
  readonly headers: RawHeaders;
  readonly framing: BodyFraming;
  /** The connection may carry another request once this message has ended. */
  readonly keepAlive: boolean;
  readonly upgrade: string | undefined;
}

/** What a decoder tells its owner, in order. Handlers must not throw; they may call the decoder. */
export interface BodyEvents {
  /** A view on the chunk that was fed; its bytes are not copied. Never empty. */
  onData(chunk: Uint8Array): void;
  /** The message is complete. The decoder stops here until `next`. */
  onEnd(trailers: RawHeaders): void;
  /** Last event: the message is refused, or was cut short. */
  onMalformed(fault: Malformed): void;
}

export interface RequestEvents extends BodyEvents {
  onHead(head: RequestHead): void;
}

export interface ResponseEvents extends BodyEvents {
  /** An interim answer: 1xx other than 101. */
  onInformational(head: ResponseHead): void;
  onHead(head: ResponseHead): void;
}
