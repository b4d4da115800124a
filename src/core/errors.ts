/**
 * Every failure that crosses a module boundary is a {@link TunnelError}: a closed code `area.reason` to decide on,
 * a retry class chosen where the cause is known, and a message for people. Nobody decides on message text.
 */
export type ErrorCode =
  // Work given up by ourselves.
  | "aborted"
  | "timeout"
  // Reaching and keeping an edge, seen from the connector.
  | "edge.discovery"
  | "edge.dial"
  | "edge.tls"
  | "edge.refused"
  | "edge.silent"
  // A transport session and its streams.
  | "session.lost"
  | "session.closed"
  | "session.protocol"
  | "stream.refused"
  | "stream.reset"
  | "stream.limit"
  | "stream.protocol"
  // The service behind the connector.
  | "origin.dial"
  | "origin.tls"
  | "origin.timeout"
  // It has the request and gives no answer in the time that `responseHeaderTimeout` allows.
  | "origin.slow"
  // `maxConnections` are in use, and nobody left in time.
  | "origin.busy"
  | "origin.reset"
  | "origin.malformed"
  | "origin.truncated"
  | "origin.unsupported"
  // The rule's own settings forbid it: the visitor gets 403.
  | "origin.forbidden"
  // A visitor's request.
  | "request.malformed"
  | "request.length"
  | "request.too-large"
  // Sockets and files of our own.
  | "dial.failed"
  | "dial.tls"
  | "listen.failed"
  | "channel.lost"
  | "channel.reset"
  | "config.invalid"
  // The management API, seen from a command.
  | "api.unreachable"
  | "api.unauthorized"
  | "api.missing"
  | "api.conflict"
  | "api.refused"
  | "api.failed"
  // What the edge keeps: a name that is taken, something that is not there, a disk without room, anything else.
  | "store.conflict"
  | "store.missing"
  | "store.full"
  | "store.failed"
  // Getting and trying a new version of this program.
  | "update.failed"
  // Installing or asking a service of this machine.
  | "service.failed";

/**
 * What the caller may do about it.
 * `never`: repeating cannot help. `same`: try again, the same way. `elsewhere`: try another address or connection;
 * nothing of the failed attempt can have taken effect.
 */
export type Retry = "never" | "same" | "elsewhere";

export class TunnelError extends Error {
  override readonly name = "TunnelError";
  readonly code: ErrorCode;
  readonly retry: Retry;

  constructor(code: ErrorCode, message: string, options: { retry?: Retry; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.retry = options.retry ?? "never";
  }
}

/** Turns anything thrown into a TunnelError; one that is already such an error passes unchanged. */
export function toTunnelError(thrown: unknown, code: ErrorCode, doing: string): TunnelError {
  if (thrown instanceof TunnelError) return thrown;
  return new TunnelError(code, `${doing}: ${describe(thrown)}`, { cause: thrown });
}

/** One line for a log or a terminal: the message of an error without its stack. */
export function describe(thrown: unknown): string {
  if (thrown instanceof Error) return thrown.message === "" ? (systemCode(thrown) ?? thrown.name) : thrown.message;
  return String(thrown);
}

/** The operating system's error code (`ECONNREFUSED`, …) that Node-style errors carry, if there is one. */
export function systemCode(thrown: unknown): string | undefined {
  if (typeof thrown !== "object" || thrown === null || !("code" in thrown)) return undefined;
  return typeof thrown.code === "string" ? thrown.code : undefined;
}

/** Ends a switch over a closed union; reaching it is a bug in this program. */
export function assertNever(value: never): never {
  throw new Error(`Unreachable value ${JSON.stringify(value)}`);
}
