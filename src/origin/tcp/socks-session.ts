import type { CancelTimer, Clock } from "../../core/clock.ts";
import { systemCode, TunnelError, toTunnelError } from "../../core/errors.ts";
import type { ByteChannel, ChannelEvents } from "../../net/channel.ts";
import { pipe } from "../../net/pipe.ts";
import type { Connection } from "../../net/sockets.ts";
import {
  encodeMethodChoice,
  encodeReply,
  SOCKS_COMMAND,
  SOCKS_REPLY,
  type SocksMessage,
  SocksReader,
  type SocksReply,
} from "../../wire/socks5/server.ts";
import type { Destination } from "./reach.ts";

/** How long a client may take to say where it wants to go, in ms. */
export const SOCKS_HANDSHAKE_MS = 30_000;
/** How long a client that was refused may take to leave, in ms. */
const REFUSED_LINGER_MS = 5_000;

/** Reaches what a client asked for; rejects as `reach` does. */
export type SocksConnect = (to: Destination, signal: AbortSignal) => Promise<Connection>;

/** A SOCKS5 server for one client (RFC 1928): no authentication, CONNECT only; then bytes pass both ways. */
export class SocksSession implements ChannelEvents {
  readonly #client: ByteChannel;
  readonly #connect: SocksConnect;
  readonly #clock: Clock;
  readonly #reader = new SocksReader();
  readonly #gone = new AbortController();
  #cancelTimer: CancelTimer;
  #state: "handshake" | "connecting" | "refused" | "joined" = "handshake";

  constructor(client: ByteChannel, connect: SocksConnect, clock: Clock) {
    this.#client = client;
    this.#connect = connect;
    this.#clock = clock;
    this.#cancelTimer = this.#giveUpAfter(SOCKS_HANDSHAKE_MS);
    client.listen(this);
  }

  onData(chunk: Uint8Array): void {
    if (this.#state === "refused") return;
    this.#reader.receive(chunk);
    if (this.#state === "handshake") this.#proceed();
  }

  onEnd(): void {
    if (this.#state === "handshake") this.#client.end();
  }

  onDrain(): void {}

  onClose(): void {
    this.#cancelTimer();
    this.#gone.abort();
  }

  #proceed(): void {
    while (this.#state === "handshake") {
      const message = this.#reader.next();
      if (message === undefined) return;
      if (message.kind === "request") this.#request(message);
      else if (message.kind === "malformed") this.#refuse(message.reply);
      else {
        this.#client.write(encodeMethodChoice(message.open));
        if (!message.open) this.#refuse();
      }
    }
  }

  #request({ command, host, port }: Extract<SocksMessage, { kind: "request" }>): void {
    if (command !== SOCKS_COMMAND.connect) {
      this.#refuse(SOCKS_REPLY.commandUnknown);
      return;
    }
    this.#state = "connecting";
    this.#cancelTimer();
    // What the client sends ahead waits where it is; at most one read of it is here.
    this.#client.pause();
    this.#connect({ host, port }, this.#gone.signal).then(
      (connection) => this.#join(connection),
      (thrown: unknown) => this.#refuse(replyFor(thrown)),
    );
  }

  #join({ channel, localIp }: Connection): void {
    if (this.#gone.signal.aborted) {
      channel.abort(new TunnelError("aborted", "The SOCKS client left"));
      return;
    }
    this.#state = "joined";
    this.#client.write(encodeReply(SOCKS_REPLY.succeeded, localIp));
    const rest = this.#reader.takeRest();
    if (rest.length > 0) channel.write(rest);
    pipe(this.#client, channel, () => {});
    this.#client.resume();
  }

  #refuse(reply?: SocksReply): void {
    if (this.#gone.signal.aborted) return;
    this.#state = "refused";
    this.#cancelTimer();
    this.#cancelTimer = this.#giveUpAfter(REFUSED_LINGER_MS);
    if (reply !== undefined) this.#client.write(encodeReply(reply));
    this.#client.end();
    this.#client.resume();
  }

  #giveUpAfter(ms: number): CancelTimer {
    const giveUp = (): void => this.#client.abort(new TunnelError("timeout", "The SOCKS client did not go on"));
    return this.#clock.after(ms, giveUp, { background: true });
  }
}

const REPLIES: Readonly<Record<string, SocksReply>> = {
  ECONNREFUSED: SOCKS_REPLY.refused,
  ENETUNREACH: SOCKS_REPLY.networkUnreachable,
};

/** As cloudflared answers: whatever is neither refused nor out of the network is a host that cannot be reached. */
function replyFor(thrown: unknown): SocksReply {
  const error = toTunnelError(thrown, "origin.dial", "Cannot connect");
  if (error.code === "origin.forbidden") return SOCKS_REPLY.forbidden;
  return REPLIES[systemCode(error.cause) ?? ""] ?? SOCKS_REPLY.hostUnreachable;
}
