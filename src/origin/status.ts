import { NO_TRAILERS } from "../net/channel.ts";
import type { OriginEvents, OriginExchange, OriginRequest, OriginService } from "./port.ts";

/** `http_status:NNN`: the same empty answer to everything (surface: section 10.5). */
export function createStatusService(status: number): OriginService {
  return {
    label: `http_status:${status}`,
    start: () => Promise.resolve(),
    close: () => Promise.resolve(),
    exchange: (_request: OriginRequest, events: OriginEvents): OriginExchange => answerLater(events, status),
  };
}

/** Answers after the call that asked, as a service behind a socket would. */
function answerLater(events: OriginEvents, status: number): OriginExchange {
  let gone = false;
  queueMicrotask(() => {
    if (gone) return;
    events.onResponse(status, ["Content-Length", "0"], true);
    events.onEnd(NO_TRAILERS);
  });
  return {
    write: () => true,
    end: () => {},
    pause: () => {},
    resume: () => {},
    abort: () => {
      gone = true;
    },
  };
}
