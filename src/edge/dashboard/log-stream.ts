import type { CancelTimer, Clock } from "../../core/clock.ts";
import type { ConnectorId } from "../../core/ids.ts";
import { type LiveLogLine, NO_FILTERS } from "../../wire/management-events.ts";
import type { OpenTunnelLogs } from "./tunnel-logs.ts";

/** Bytes that wait for a browser that does not keep up; further lines are counted instead. */
const MAX_WAITING_BYTES = 256 * 1024;
/** Between signs of life, which show a browser that is gone, in ms. */
const BEAT_MS = 10_000;
const MAX_LINE_CHARS = 4_000;

/** A connector's log as server-sent events (HTML standard, section 9.2): `line` for each, and `gone` at its end. */
export function logStream(
  asked: { readonly open: OpenTunnelLogs; readonly token: string; readonly connectorId: ConnectorId | undefined },
  deps: { readonly clock: Clock; readonly stopping: AbortSignal; readonly signal: AbortSignal },
): Response {
  const { clock } = deps;
  const ended = AbortSignal.any([deps.stopping, deps.signal]);
  let close = (): void => {};
  const body = new ReadableStream<Uint8Array>(
    {
      start: (controller) => {
        let over = false;
        let lost = 0;
        let cancelBeat: CancelTimer = () => {};
        const send = (text: string): void => controller.enqueue(Buffer.from(text));
        const isFull = (): boolean => (controller.desiredSize ?? 0) <= 0;
        const line = (text: string): void => {
          if (over) return;
          if (isFull()) {
            lost += 1;
            return;
          }
          if (lost > 0) send(event("line", `(${lost} lines were left out: this page did not keep up)`));
          lost = 0;
          send(event("line", text));
        };
        const beat = (): void => {
          if (!isFull()) send(":\n\n");
          cancelBeat = clock.after(BEAT_MS, beat, { background: true });
        };
        const finish = (why: string | undefined): void => {
          if (over) return;
          over = true;
          cancelBeat();
          ended.removeEventListener("abort", stop);
          closeLog();
          try {
            if (why !== undefined) send(event("gone", why));
            controller.close();
          } catch {
            // The browser went first.
          }
        };
        const stop = (): void => finish(deps.stopping.aborted ? "The edge stops." : undefined);
        const closeLog = asked.open(
          { token: asked.token, connectorId: asked.connectorId, filters: NO_FILTERS },
          { onOpen: () => {}, onLine: (one) => line(lineText(one)), onEnd: finish },
        );
        close = stop;
        // Else the browser knows that it is connected only when there is a line.
        beat();
        if (ended.aborted) stop();
        else ended.addEventListener("abort", stop, { once: true });
      },
      cancel: () => close(),
    },
    new ByteLengthQueuingStrategy({ highWaterMark: MAX_WAITING_BYTES }),
  );
  return new Response(body, {
    headers: {
      "Content-Type": "text/event-stream",
      "Cache-Control": "no-store",
      "Content-Security-Policy": "default-src 'none'",
      "X-Accel-Buffering": "no",
    },
  });
}

function event(name: string, data: string): string {
  return `event: ${name}\ndata: ${data.replaceAll(/[\r\n]+/g, " ")}\n\n`;
}

/** One line for people, with what else it says behind. */
function lineText({ time, level, message, fields }: LiveLogLine): string {
  const more = Object.entries(fields).map(
    ([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`,
  );
  return [time, level.toUpperCase().padEnd(5), message, ...more].join(" ").slice(0, MAX_LINE_CHARS);
}
