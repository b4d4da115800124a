import { randomBytes } from "node:crypto";
import type { Clock } from "../../core/clock.ts";
import { TunnelError } from "../../core/errors.ts";
import type { ByteChannel, ChannelEvents } from "../../net/channel.ts";
import { TextSocket } from "../../net/text-socket.ts";
import type { StreamResponse } from "../../transport/port.ts";
import type { RawHeaders } from "../../wire/headers.ts";
import { formatStart, type LiveLogLine, parseLogs, type StreamFilters } from "../../wire/management-events.ts";
import { webSocketKey } from "../../wire/websocket/handshake.ts";
import type { Dispatch, DispatchEvents } from "../dispatcher/dispatcher.ts";
import type { FrontDoor } from "../site/own-site.ts";

/** Bytes of one message of a connector. */
const MAX_MESSAGE_BYTES = 1024 * 1024;
const PING_MS = 15_000;
const SILENCE_MS = 45_000;
const KEY_BYTES = 16;
const MAX_REFUSAL_BYTES = 4 * 1024;

export interface TunnelLogEvents {
  onOpen(): void;
  onLine(line: LiveLogLine): void;
  /** Last event. */
  onEnd(why: string): void;
}

/** The way to connectors themselves: a door, and the hostname to ask of it. */
export interface ManagementDoor {
  readonly door: FrontDoor;
  readonly host: string;
}

/** Opens the log of a tunnel's connector; gives what closes it. */
export type OpenTunnelLogs = (
  asked: { readonly token: string; readonly connectorId: string | undefined; readonly filters: StreamFilters },
  events: TunnelLogEvents,
) => () => void;

/** Logs by the edge's own management host, as `culvert tail` reads them from outside (protocol: section 8). */
export function tunnelLogs({ door, host }: ManagementDoor, clock: Clock): OpenTunnelLogs {
  return ({ token, connectorId, filters }, events) => {
    const query = new URLSearchParams({ access_token: token });
    if (connectorId !== undefined) query.set("connector_id", connectorId);
    const found = door.find(host);
    if (found.kind !== "tunnel") {
      queueMicrotask(() => events.onEnd("This edge does not reach its connectors' logs."));
      return () => {};
    }
    let socket: TextSocket | undefined;
    let over = false;
    const end = (why: string): void => {
      if (over) return;
      over = true;
      events.onEnd(why);
    };
    const channel = new DispatchChannel((refusal) => {
      if (refusal !== undefined) {
        end(refusal);
        return;
      }
      socket = new TextSocket(
        channel,
        {
          onMessage: (text) => {
            for (const line of parseLogs(text ?? "") ?? []) if (!over) events.onLine(line);
          },
          onDrain: () => {},
          onClose: (code, reason) => end(reason === "" ? `The connector closed its log (${code}).` : reason),
        },
        { role: "client", maxMessageBytes: MAX_MESSAGE_BYTES, pingEveryMs: PING_MS, silenceMs: SILENCE_MS, clock },
      );
      socket.send(formatStart(filters));
      events.onOpen();
    });
    channel.dispatch = door.open(
      found.tunnelId,
      {
        ...{ kind: "websocket", method: "GET", authority: host, path: `/logs?${query}`, bodyless: false },
        headers: ["Sec-WebSocket-Key", webSocketKey(randomBytes(KEY_BYTES)), "Sec-WebSocket-Version", "13"],
      },
      channel,
    );
    return () => {
      over = true;
      if (socket === undefined) channel.abort(new TunnelError("aborted", "Nobody reads the log any more"));
      else socket.close();
    };
  };
}

/** A handshake's stream as a channel, once it is accepted. */
class DispatchChannel implements ByteChannel, DispatchEvents {
  readonly #answered: (refusal: string | undefined) => void;
  #events: ChannelEvents | undefined;
  #refusal: string | undefined;
  #decided = false;
  /** Set at once, before anything is reported. */
  dispatch: Dispatch | undefined;

  /** `answered`: told once, why the handshake was refused or undefined. */
  constructor(answered: (refusal: string | undefined) => void) {
    this.#answered = answered;
  }

  write(chunk: Uint8Array): boolean {
    return this.dispatch?.write(chunk) ?? true;
  }

  end(): void {
    this.dispatch?.end([]);
  }

  abort(error: TunnelError): void {
    this.dispatch?.abort(error);
  }

  pause(): void {
    this.dispatch?.pause();
  }

  resume(): void {
    this.dispatch?.resume();
  }

  listen(events: ChannelEvents): void {
    this.#events = events;
  }

  onRetry(): void {}

  onInformational(): void {}

  onResponse({ status }: StreamResponse): void {
    if (status === 101) this.#decide(undefined);
    else this.#refusal = `The connector does not show its log (${status}).`;
  }

  onData(chunk: Uint8Array): void {
    if (this.#refusal === undefined) this.#events?.onData(chunk);
    else if (this.#refusal.length < MAX_REFUSAL_BYTES) this.#refusal += ` ${reasonIn(chunk)}`;
  }

  onEnd(trailers: RawHeaders): void {
    if (this.#refusal !== undefined) this.#decide(this.#refusal.trim());
    else this.#events?.onEnd(trailers);
  }

  onDrain(): void {
    this.#events?.onDrain();
  }

  onClose(error: TunnelError | undefined): void {
    if (this.#decided) this.#events?.onClose(error);
    else this.#decide(this.#refusal ?? error?.message ?? "The connector is gone.");
  }

  #decide(refusal: string | undefined): void {
    if (this.#decided) return;
    this.#decided = true;
    this.#answered(refusal);
  }
}

/** The message of a refusal's JSON (protocol: section 8). */
function reasonIn(chunk: Uint8Array): string {
  const text = Buffer.from(chunk.subarray(0, MAX_REFUSAL_BYTES)).toString("utf8");
  return /"message":"([^"]{1,300})"/.exec(text)?.[1] ?? "";
}
