import type { CancelTimer, Clock } from "../../core/clock.ts";
import type { Logger } from "../../core/log.ts";
import type { ByteChannel } from "../../net/channel.ts";
import { TextSocket } from "../../net/text-socket.ts";
import { formatLogs, LIVE_CLOSE, type LiveLogLine, parseClientMessage } from "../../wire/management-events.ts";
import { CLOSE } from "../../wire/websocket/frame.ts";
import type { LiveLog, LogFollower, LogReader } from "./live-log.ts";

/** Time between our pings, in ms (protocol: section 8). */
export const PING_EVERY_MS = 15_000;
/** How long somebody may be here without following the log, in ms (protocol: section 8). */
export const IDLE_MS = 5 * 60_000;
/** How long somebody may leave pings unanswered, in ms: nobody else gets the log meanwhile. */
export const SILENCE_MS = 4 * PING_EVERY_MS;
/** Bytes of one message of a client; what cloudflared's reads at most. */
const MAX_MESSAGE_BYTES = 32 * 1024;

/** Chars of one line; cloudflared's client gives up at a message of more than 32 KiB. */
const MAX_LINE_CHARS = 8 * 1024;

/** Serves one WebSocket of a live log stream. `channel` has the WebSocket's own bytes; `onEnd`: it is over. */
export function serveLogSession(
  channel: ByteChannel,
  options: { readonly actor: string; readonly onEnd: () => void },
  deps: { readonly live: LiveLog; readonly clock: Clock; readonly log: Logger },
): void {
  const { live, clock, log } = deps;
  let follower: LogFollower | undefined;
  let cancelIdle: CancelTimer = () => {};
  const watchIdle = (): void => {
    cancelIdle();
    cancelIdle = clock.after(IDLE_MS, () => socket.close(LIVE_CLOSE.idle, "session was idle for too long"), {
      background: true,
    });
  };
  const reader: LogReader = {
    actor: options.actor,
    send: (lines) => lines.map((line) => socket.send(oneMessage(line))).every((room) => room),
    onTakenOver: () => {
      follower = undefined;
      socket.close(CLOSE.normal, "context closed");
    },
  };
  const start: (filters: Parameters<LiveLog["follow"]>[1]) => void = (filters) => {
    const taken = live.follow(reader, filters);
    if (taken === undefined) {
      log.warn("Somebody else follows the log already, so this one may not", { actor: options.actor });
      socket.close(LIVE_CLOSE.sessionLimit, "limit exceeded for streaming sessions");
      return;
    }
    cancelIdle();
    follower = taken;
  };
  const socket = new TextSocket(
    channel,
    {
      onMessage: (text) => {
        const message = text === undefined ? undefined : parseClientMessage(text);
        switch (message?.kind) {
          case "start":
            start(message.filters);
            break;
          case "stop":
            follower?.stop();
            follower = undefined;
            watchIdle();
            break;
          case "malformed-start":
            socket.close(LIVE_CLOSE.invalidCommand, "expected start streaming as first event");
            break;
          default:
            socket.close(CLOSE.unsupported, "invalid message type was provided");
        }
      },
      onDrain: () => follower?.resume(),
      onClose: () => {
        cancelIdle();
        follower?.stop();
        follower = undefined;
        options.onEnd();
      },
    },
    { role: "server", maxMessageBytes: MAX_MESSAGE_BYTES, pingEveryMs: PING_EVERY_MS, silenceMs: SILENCE_MS, clock },
  );
  watchIdle();
}

function oneMessage(line: LiveLogLine): string {
  const text = formatLogs([line]);
  if (text.length <= MAX_LINE_CHARS) return text;
  const { message } = line;
  const shown = message.length > MAX_LINE_CHARS / 2 ? `${message.slice(0, MAX_LINE_CHARS / 2)}…` : message;
  return formatLogs([{ ...line, message: shown, fields: { truncated: true } }]);
}
