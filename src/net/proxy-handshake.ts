import { TunnelError } from "../core/errors.ts";
import type { ProxySettings } from "./proxy-settings.ts";

/** Bytes a proxy may answer with before the connection is through. */
const MAX_ANSWER_BYTES = 16 * 1024;

/** What to do next in a conversation with a proxy. */
export type ProxyStep =
  | { readonly kind: "send"; readonly bytes: Uint8Array }
  | { readonly kind: "wait" }
  /** The way to the target is open; `rest` are its first bytes, if the proxy sent some along. */
  | { readonly kind: "open"; readonly rest: Uint8Array }
  | { readonly kind: "failed"; readonly error: TunnelError };

/** One conversation, sans-IO: `start` once, then `receive` for what the proxy says. */
export interface ProxyHandshake {
  start(): ProxyStep;
  receive(bytes: Uint8Array): ProxyStep;
}

export function createProxyHandshake(proxy: ProxySettings, host: string, port: number): ProxyHandshake {
  return proxy.kind === "http" ? new ConnectHandshake(proxy, host, port) : new Socks5Handshake(proxy, host, port);
}

/** HTTP CONNECT (RFC 9110 section 9.3.6) with basic authentication (RFC 7617). */
class ConnectHandshake implements ProxyHandshake {
  readonly #proxy: ProxySettings;
  readonly #target: string;
  #received: Uint8Array = new Uint8Array(0);

  constructor(proxy: ProxySettings, host: string, port: number) {
    this.#proxy = proxy;
    this.#target = host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
  }

  start(): ProxyStep {
    const { credentials } = this.#proxy;
    let head = `CONNECT ${this.#target} HTTP/1.1\r\nHost: ${this.#target}\r\n`;
    if (credentials !== undefined) {
      const pair = new TextEncoder().encode(`${credentials.username}:${credentials.password}`);
      head += `Proxy-Authorization: Basic ${btoa(String.fromCharCode(...pair))}\r\n`;
    }
    return { kind: "send", bytes: new TextEncoder().encode(`${head}\r\n`) };
  }

  receive(bytes: Uint8Array): ProxyStep {
    this.#received = concat(this.#received, bytes);
    const end = endOfHead(this.#received);
    if (end < 0) {
      return this.#received.length > MAX_ANSWER_BYTES ? failed("answered with an endless head") : { kind: "wait" };
    }
    const head = new TextDecoder().decode(this.#received.subarray(0, end));
    const status = /^HTTP\/1\.[01] ([0-9]{3})/.exec(head)?.[1];
    if (status === undefined) return failed("is no HTTP proxy");
    if (status.startsWith("2")) return { kind: "open", rest: this.#received.subarray(end) };
    if (status === "407") return failed("wants authentication: put user and password into its URL");
    return failed(`refused the connection to ${this.#target} with status ${status}`);
  }
}

const SOCKS_VERSION = 5;
const NO_AUTHENTICATION = 0;
const USER_PASSWORD = 2;
const SOCKS_REPLIES: Readonly<Record<number, string>> = {
  1: "failed for a reason of its own",
  2: "forbids this connection by its rules",
  3: "cannot reach the network",
  4: "cannot reach the host",
  5: "was refused by the target",
  6: "timed out on the way",
  7: "knows no CONNECT",
  8: "knows no such address type",
};

/** SOCKS5 (RFC 1928) with user name and password (RFC 1929). Names go to the proxy unresolved. */
class Socks5Handshake implements ProxyHandshake {
  readonly #proxy: ProxySettings;
  readonly #host: string;
  readonly #port: number;
  #phase: "method" | "password" | "reply" = "method";
  #received: Uint8Array = new Uint8Array(0);

  constructor(proxy: ProxySettings, host: string, port: number) {
    this.#proxy = proxy;
    this.#host = host;
    this.#port = port;
  }

  start(): ProxyStep {
    const methods = this.#proxy.credentials === undefined ? [NO_AUTHENTICATION] : [NO_AUTHENTICATION, USER_PASSWORD];
    return { kind: "send", bytes: Uint8Array.of(SOCKS_VERSION, methods.length, ...methods) };
  }

  receive(bytes: Uint8Array): ProxyStep {
    this.#received = concat(this.#received, bytes);
    switch (this.#phase) {
      case "method":
        return this.#method();
      case "password":
        return this.#password();
      case "reply":
        return this.#reply();
    }
  }

  #method(): ProxyStep {
    const [version, method] = this.#received;
    if (version !== undefined && version !== SOCKS_VERSION) return failed("is no SOCKS5 proxy");
    if (method === undefined) return { kind: "wait" };
    this.#received = this.#received.subarray(2);
    if (method === NO_AUTHENTICATION) return this.#connect();
    const { credentials } = this.#proxy;
    if (method !== USER_PASSWORD || credentials === undefined) {
      return failed("wants authentication: put user and password into its URL");
    }
    const user = new TextEncoder().encode(credentials.username);
    const password = new TextEncoder().encode(credentials.password);
    if (user.length > 255 || password.length > 255) return failed("takes user and password of at most 255 bytes");
    this.#phase = "password";
    return { kind: "send", bytes: Uint8Array.of(1, user.length, ...user, password.length, ...password) };
  }

  #password(): ProxyStep {
    const status = this.#received[1];
    if (status === undefined) return { kind: "wait" };
    if (status !== 0) return failed("refused user and password");
    this.#received = this.#received.subarray(2);
    return this.#connect();
  }

  #connect(): ProxyStep {
    this.#phase = "reply";
    const name = new TextEncoder().encode(this.#host);
    if (name.length > 255) return failed("takes host names of at most 255 bytes");
    const port = [this.#port >> 8, this.#port & 0xff];
    return { kind: "send", bytes: Uint8Array.of(SOCKS_VERSION, 1, 0, 3, name.length, ...name, ...port) };
  }

  #reply(): ProxyStep {
    const received = this.#received;
    const [version, reply, , type, nameLength] = received;
    if (version !== undefined && version !== SOCKS_VERSION) return failed("is no SOCKS5 proxy");
    if (reply !== undefined && reply !== 0) return failed(SOCKS_REPLIES[reply] ?? `answered with code ${reply}`);
    if (type === undefined || nameLength === undefined) return { kind: "wait" };
    const addressBytes = type === 1 ? 4 : type === 4 ? 16 : type === 3 ? 1 + nameLength : undefined;
    if (addressBytes === undefined) return failed("is no SOCKS5 proxy");
    const end = 4 + addressBytes + 2;
    return received.length < end ? { kind: "wait" } : { kind: "open", rest: received.subarray(end) };
  }
}

function failed(what: string): ProxyStep {
  return { kind: "failed", error: new TunnelError("dial.failed", `The proxy ${what}`, { retry: "elsewhere" }) };
}

/** Offset behind the empty line that ends a head, or -1. */
function endOfHead(bytes: Uint8Array): number {
  for (let i = 3; i < bytes.length; i++) {
    if (bytes[i] === 10 && bytes[i - 1] === 13 && bytes[i - 2] === 10 && bytes[i - 3] === 13) return i + 1;
  }
  return -1;
}

function concat(first: Uint8Array, second: Uint8Array): Uint8Array {
  const joined = new Uint8Array(first.length + second.length);
  joined.set(first);
  joined.set(second, first.length);
  return joined;
}
