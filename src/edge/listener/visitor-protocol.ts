import type { TunnelError } from "../../core/errors.ts";
import type { ChannelEvents } from "../../net/channel.ts";

/** A version of HTTP on one connection of a visitor. It is told what its channel is told, from the first byte on. */
export interface VisitorProtocol extends ChannelEvents {
  /** Called about once a second. */
  checkDeadline(nowMs: number): void;
  /** Takes no further request: ends an idle connection, and one that carries requests after them. */
  retire(): void;
  abort(error: TunnelError): void;
}
