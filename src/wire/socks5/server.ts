import { formatIp, ipToBytes } from "../ip-bytes.ts";

const VERSION = 5;
const NO_AUTHENTICATION = 0;
const NONE_ACCEPTABLE = 0xff;

export const SOCKS_COMMAND = { connect: 1, bind: 2, associate: 3 } as const;

/** Answers to a request (RFC 1928 section 6). */
export const SOCKS_REPLY = {
  succeeded: 0,
  failure: 1,
  forbidden: 2,
  networkUnreachable: 3,
  hostUnreachable: 4,
  refused: 5,
  commandUnknown: 7,
  addressUnknown: 8,
} as const;
export type SocksReply = (typeof SOCKS_REPLY)[keyof typeof SOCKS_REPLY];

/** What a client says, in this order (RFC 1928 sections 3 and 4). */
export type SocksMessage =
  /** `open`: it offers to go without authentication. */
  | { readonly kind: "greeting"; readonly open: boolean }
  /** `host` is a literal address or a name, as the client wrote it. */
  | { readonly kind: "request"; readonly command: number; readonly host: string; readonly port: number }
  /** `reply` is what to answer, where the protocol has an answer for it. */
  | { readonly kind: "malformed"; readonly reason: string; readonly reply?: SocksReply };

const ADDRESS = { ipv4: 1, name: 3, ipv6: 4 } as const;
const REQUEST_HEAD_BYTES = 4;
/** Letters, digits, hyphens, underscores and dots, as in names that resolvers take; no bytes that logs would have to fear. */
const NAME = /^[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?$/;

/**
 * Reads the client's half of a SOCKS5 conversation up to its one request. Holds what has not been read: a client may
 * send its next message, and the first bytes of its stream, without waiting. Every message is bounded by its own
 * length bytes, so at most 262 bytes wait for the rest of one.
 */
export class SocksReader {
  #buffer: Uint8Array = new Uint8Array(0);
  #expects: "greeting" | "request" | "nothing" = "greeting";

  receive(chunk: Uint8Array): void {
    if (this.#buffer.length === 0) {
      this.#buffer = chunk;
      return;
    }
    const joined = new Uint8Array(this.#buffer.length + chunk.length);
    joined.set(this.#buffer);
    joined.set(chunk, this.#buffer.length);
    this.#buffer = joined;
  }

  /** The next message; undefined = it is not complete, or was the last. */
  next(): SocksMessage | undefined {
    if (this.#expects === "nothing" || this.#buffer.length === 0) return undefined;
    if (this.#buffer[0] !== VERSION) return this.#malformed("not SOCKS version 5");
    return this.#expects === "greeting" ? this.#greeting() : this.#request();
  }

  /** Takes what came behind the request. */
  takeRest(): Uint8Array {
    const rest = this.#buffer;
    this.#buffer = new Uint8Array(0);
    return rest;
  }

  #greeting(): SocksMessage | undefined {
    const count = this.#buffer[1];
    if (count === undefined || this.#buffer.length < 2 + count) return undefined;
    const open = this.#buffer.subarray(2, 2 + count).includes(NO_AUTHENTICATION);
    this.#buffer = this.#buffer.subarray(2 + count);
    this.#expects = "request";
    return { kind: "greeting", open };
  }

  #request(): SocksMessage | undefined {
    const buffer = this.#buffer;
    const [, command, reserved, type] = buffer;
    if (reserved !== undefined && reserved !== 0) return this.#malformed("reserved byte is set", SOCKS_REPLY.failure);
    if (command === undefined || type === undefined) return undefined;
    let start = REQUEST_HEAD_BYTES;
    let length: number | undefined;
    if (type === ADDRESS.ipv4) length = 4;
    else if (type === ADDRESS.ipv6) length = 16;
    else if (type === ADDRESS.name) {
      length = buffer[start];
      start += 1;
      if (length === 0) return this.#malformed("empty name", SOCKS_REPLY.failure);
    } else return this.#malformed(`address type ${type}`, SOCKS_REPLY.addressUnknown);
    if (length === undefined || buffer.length < start + length + 2) return undefined;
    const address = buffer.subarray(start, start + length);
    const end = start + length;
    const host = type === ADDRESS.name ? nameText(address) : formatIp(address);
    if (host === undefined) return this.#malformed("no host name", SOCKS_REPLY.hostUnreachable);
    const port = ((buffer[end] as number) << 8) | (buffer[end + 1] as number);
    this.#buffer = buffer.subarray(end + 2);
    this.#expects = "nothing";
    return { kind: "request", command, host, port };
  }

  #malformed(reason: string, reply?: SocksReply): SocksMessage {
    this.#expects = "nothing";
    this.#buffer = new Uint8Array(0);
    return { kind: "malformed", reason, ...(reply === undefined ? {} : { reply }) };
  }
}

/** The server's choice of authentication: none, or that nothing offered is acceptable (RFC 1928 section 3). */
export function encodeMethodChoice(open: boolean): Uint8Array {
  return Uint8Array.of(VERSION, open ? NO_AUTHENTICATION : NONE_ACCEPTABLE);
}

/** The server's answer; `bound` is its own address towards the target, 0.0.0.0 where nobody knows. */
export function encodeReply(reply: SocksReply, bound = "", port = 0): Uint8Array {
  const bytes = ipToBytes(bound);
  const ipv6 = bytes.length === 16 && bound.includes(":");
  const address = ipv6 ? bytes : bytes.length === 16 ? bytes.subarray(12) : new Uint8Array(4);
  const type = ipv6 ? ADDRESS.ipv6 : ADDRESS.ipv4;
  return Uint8Array.of(VERSION, reply, 0, type, ...address, port >> 8, port & 0xff);
}

function nameText(bytes: Uint8Array): string | undefined {
  const text = String.fromCharCode(...bytes);
  return NAME.test(text) ? text : undefined;
}
