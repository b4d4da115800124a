import type { TunnelError } from "../core/errors.ts";
import type { ByteChannel } from "../net/channel.ts";
import type { RawHeaders } from "../wire/headers.ts";

/** A request on its way to a service, after the proxy's header work. */
export interface OriginRequest {
  readonly kind: "http" | "websocket";
  readonly method: string;
  /** Origin-form target, byte for byte. */
  readonly target: string;
  /** All fields to send, Host first, framing fields not among them. */
  readonly headers: RawHeaders;
  /** `none`: no body. A number: exactly that many bytes follow. `chunked`: length unknown. */
  readonly body: "none" | "chunked" | number;
}

/** What a service answers with, in order: informational*, then response, data*, end. Or a failure at any point. */
export interface OriginEvents {
  onInformational(status: number, headers: RawHeaders): void;
  /** `bodyless`: nothing but `onEnd` follows. */
  onResponse(status: number, headers: RawHeaders, bodyless: boolean): void;
  /** The service switched protocols (101): from here on bytes pass both ways through `channel`. */
  onUpgrade(headers: RawHeaders, channel: ByteChannel): void;
  onData(chunk: Uint8Array): void;
  onEnd(trailers: RawHeaders): void;
  /** There is room for more of the request body after `write` returned false. */
  onDrain(): void;
  /** The exchange failed; nothing follows. Codes `origin.*`. */
  onError(error: TunnelError): void;
}

/** Use of a bound on connections (`maxConnections`). */
export interface OriginLoad {
  readonly limit: number;
  /** Connections there are, idle ones included. */
  readonly taken: number;
  /** Requests that wait for one. */
  readonly waiting: number;
}

/** A running exchange, driven by the proxy. */
export interface OriginExchange {
  /** Sends request body bytes; false = hold back until `onDrain`. */
  write(chunk: Uint8Array): boolean;
  end(trailers: RawHeaders): void;
  /** Stops `onData` until `resume`, holding back the service. */
  pause(): void;
  resume(): void;
  /** The visitor is gone: drop the exchange without further events. */
  abort(): void;
}

/** One of several services behind a rule, at this moment. */
export interface BackendStatus {
  /** Requests go to it. */
  readonly up: boolean;
  /** Requests it has not answered to the end. */
  readonly pending: number;
  /** Times it was left out because requests to it failed. */
  readonly ejections: number;
  /** Health checks it did not pass. */
  readonly failedChecks: number;
}

/** A service behind the connector: one rule of the ingress. Adding a kind is a file and a line in `origin/index.ts`. */
export interface OriginService {
  /** For logs, as the rule wrote it: `http://localhost:8080`, `http_status:404`. */
  readonly label: string;
  /** Acquires what the service needs before the first request. */
  start(): Promise<void>;
  exchange(request: OriginRequest, events: OriginEvents): OriginExchange;
  /** Lets idle resources go; running exchanges end on their own. */
  close(): Promise<void>;
  /** In the order of the rule; absent where there is one service only. */
  backends?(): readonly BackendStatus[];
  /** Absent or undefined where connections have no bound. */
  load?(): OriginLoad | undefined;
}
