import { describe, systemCode, TunnelError } from "../core/errors.ts";
import type { DialAddress } from "./sockets.ts";

/** TCP connect and TLS handshake together, in ms (protocol: section 1.5). */
export const DIAL_TIMEOUT_MS = 15_000;

/** TLS handshake of an accepted connection, in ms. */
export const HANDSHAKE_TIMEOUT_MS = 15_000;

/** The one place that turns runtimes' dial failures into our errors. */
export function dialError(address: DialAddress, cause: unknown, phase: "connect" | "tls"): TunnelError {
  const where = formatAddress(address);
  return phase === "tls"
    ? new TunnelError("dial.tls", `TLS handshake with ${where} failed: ${reason(cause)}`, { retry: "elsewhere", cause })
    : new TunnelError("dial.failed", `Cannot connect to ${where}: ${reason(cause)}`, { retry: "elsewhere", cause });
}

/** The one place that turns runtimes' listen failures into our errors. */
export function listenError(host: string, port: number, cause: unknown): TunnelError {
  const where = formatAddress({ host, port });
  const code = systemCode(cause);
  const why =
    code === "EADDRINUSE"
      ? "the port is in use; stop the program that holds it or choose another port"
      : code === "EACCES"
        ? "permission denied; ports below 1024 need root or CAP_NET_BIND_SERVICE"
        : reason(cause);
  return new TunnelError("listen.failed", `Cannot listen on ${where}: ${why}`, { cause });
}

/** A live connection that failed. */
export function closedByPeer(cause: unknown): TunnelError {
  const code = systemCode(cause);
  return code === "ECONNRESET" || code === "EPIPE"
    ? new TunnelError("channel.reset", "Connection reset by peer", { cause })
    : new TunnelError("channel.lost", `Connection failed: ${reason(cause)}`, { cause });
}

/** `host:port` with IPv6 in brackets, or the path of a unix socket. */
export function formatAddress(address: DialAddress): string {
  if ("path" in address) return address.path;
  return address.host.includes(":") ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}

const REASONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: "connection refused",
  ECONNRESET: "connection reset",
  EHOSTUNREACH: "no route to host",
  ENETUNREACH: "network unreachable",
  ENOENT: "no such socket file",
  ENOTFOUND: "host name not found",
  ETIMEDOUT: "timed out",
};

function reason(cause: unknown): string {
  const code = systemCode(cause);
  return (code === undefined ? undefined : REASONS[code]) ?? describe(cause);
}
