import type { Clock } from "../../core/clock.ts";
import type { ConnectorId, TunnelId } from "../../core/ids.ts";
import type { RawHeaders } from "../../wire/headers.ts";
import type { Dispatcher } from "../dispatcher/dispatcher.ts";
import type { Admission } from "../policy/admission.ts";
import type { CountedLimit, Limits } from "../policy/limits.ts";
import type { ErrorPages } from "./error-page.ts";
import type { RequestPolicy } from "./request-policy.ts";

/** What is counted; one object for the whole listener. */
export interface ListenerCounters {
  connections: number;
  /** Those of them over TLS. */
  tlsConnections: number;
  /** TLS handshakes that failed or took too long. */
  handshakeFailures: number;
  requests: number;
  malformed: number;
  timeouts: number;
  retries: number;
  /** Requests sent from HTTP to HTTPS. */
  redirects: number;
  /** Requests that came over a connection whose certificate is not good for them. */
  misdirected: number;
  /** Bytes of bodies from and to visitors. */
  bytesIn: number;
  bytesOut: number;
  /** Requests and connections that a limit turned away. */
  readonly refused: Record<CountedLimit, number>;
  /** Answers by the first digit of their status; 0 = the visitor left without one. */
  readonly answers: Record<StatusClass, number>;
}

export type StatusClass = 0 | 1 | 2 | 3 | 4 | 5;

/** Follows visitors' requests for traces. Absent = nobody wants any, and nothing is done. */
export interface VisitorTracing {
  /** A request came; what is to be known of it is told at its end. */
  begin(headers: RawHeaders): VisitorTrace;
}

export interface VisitorTrace {
  /** It goes down a tunnel now: puts what the connector and the service go on from into its fields. */
  toTunnel(headers: string[]): void;
  ended(entry: AccessEntry): void;
}

/** What came over the socket, and how that changes what is done. */
export interface VisitorDeps {
  readonly dispatcher: Pick<Dispatcher, "find" | "open">;
  readonly clock: Clock;
  readonly scheme: "http" | "https";
  readonly policy: RequestPolicy;
  readonly limits: Limits["values"];
  readonly admission: Admission;
  readonly pages: ErrorPages;
  /** Value of Strict-Transport-Security on answers over HTTPS; undefined = the services' own affair. */
  readonly hsts: string | undefined;
  /** Port of the `https` that requests over plain HTTP are sent to; undefined = they are served. */
  readonly redirectPort: () => number | undefined;
  /** Whether a request for this hostname may come over a connection made for `serverName`. */
  readonly mayCarry: (serverName: string | undefined, hostname: string) => boolean;
  readonly counters: ListenerCounters;
  /** A new id for a request. */
  readonly nextRay: () => string;
  /** True once the listener takes no further requests: answers say `Connection: close`. */
  readonly closing: () => boolean;
  readonly tracing?: VisitorTracing | undefined;
  /** One line for each request, when it is over. */
  readonly onAccess: (entry: AccessEntry) => void;
}

/** One request and what became of it. */
export interface AccessEntry {
  readonly ray: string;
  /** The visitor's address; of a trusted proxy's visitor the one it vouches for. */
  readonly ip: string;
  readonly scheme: "http" | "https";
  readonly protocol: HttpVersion;
  /** Empty for what never became a request. */
  readonly method: string;
  readonly host: string;
  /** With the query. */
  readonly target: string;
  readonly headers: RawHeaders;
  readonly status: number | undefined;
  /** Bytes of the bodies, or of what followed a handshake. */
  readonly bytesIn: number;
  readonly bytesOut: number;
  /** From the head of the request to that of the answer; undefined = there was none. */
  readonly firstByteMs: number | undefined;
  readonly durationMs: number;
  readonly error: string | undefined;
  /** Connections that did not take the request before the one that answered. */
  readonly retries: number;
  readonly tunnelId: TunnelId | undefined;
  readonly connectorId: ConnectorId | undefined;
  readonly answeredBy: "origin" | "connector" | "edge" | undefined;
}

export type HttpVersion = "HTTP/1.0" | "HTTP/1.1" | "HTTP/2.0";

/** Counts and reports an answer to something that never became a request; `asked`: as far as it could be read. */
export function reportRefusal(
  deps: VisitorDeps,
  refusal: { readonly ray: string; readonly ip: string; readonly protocol: HttpVersion; readonly status: number },
  error: string,
  asked?: Pick<AccessEntry, "method" | "host" | "target" | "headers">,
): void {
  deps.counters.answers[4] += 1;
  deps.onAccess({
    ...refusal,
    scheme: deps.scheme,
    method: asked?.method ?? "",
    host: asked?.host ?? "",
    target: asked?.target ?? "",
    headers: asked?.headers ?? [],
    bytesIn: 0,
    bytesOut: 0,
    firstByteMs: undefined,
    durationMs: 0,
    error,
    retries: 0,
    tunnelId: undefined,
    connectorId: undefined,
    answeredBy: "edge",
  });
}
