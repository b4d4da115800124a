import { hostname } from "node:os";
import type { Clock } from "../core/clock.ts";
import { NO_TRAILERS } from "../net/channel.ts";
import type { RawHeaders } from "../wire/headers.ts";
import type { OriginEvents, OriginExchange, OriginRequest, OriginService } from "./port.ts";

/** Bounds on `/sse?freq=…`, in ms. */
const SSE_DEFAULT_MS = 10_000;
const SSE_MIN_MS = 10;
const SSE_MAX_MS = 60_000;

/**
 * `hello_world`: the built-in demonstration service. `/` shows the request as a page, `/uptime` answers JSON,
 * `/sse?freq=MS` counts in server-sent events, `/_health` says ok (surface: section 13).
 */
export function createHelloService(clock: Clock): OriginService {
  const startedAtMs = clock.nowMs();
  const startedAt = new Date(clock.wallMs()).toISOString();
  return {
    label: "hello_world",
    start: () => Promise.resolve(),
    close: () => Promise.resolve(),
    exchange(request: OriginRequest, events: OriginEvents): OriginExchange {
      const answer = new HelloExchange(events);
      const [path, query] = splitTarget(request.target);
      switch (path) {
        case "/_health":
          answer.send(200, "text/plain; charset=utf-8", "ok", request.method);
          break;
        case "/uptime":
          answer.send(
            200,
            "application/json",
            JSON.stringify({ startTime: startedAt, uptime: `${((clock.nowMs() - startedAtMs) / 1000).toFixed(3)}s` }),
            request.method,
          );
          break;
        case "/sse":
          answer.count(clock, sseInterval(query));
          break;
        default:
          answer.send(200, "text/html; charset=utf-8", page(request), request.method);
      }
      return answer;
    },
  };
}

class HelloExchange implements OriginExchange {
  readonly #events: OriginEvents;
  #stop: () => void = () => {};
  #gone = false;
  #paused = false;

  constructor(events: OriginEvents) {
    this.#events = events;
  }

  send(status: number, contentType: string, body: string, method: string): void {
    const bytes = new TextEncoder().encode(body);
    const headers: RawHeaders = ["Content-Type", contentType, "Content-Length", String(bytes.length)];
    queueMicrotask(() => {
      if (this.#gone) return;
      const bodyless = method === "HEAD";
      this.#events.onResponse(status, headers, bodyless);
      if (!bodyless) this.#events.onData(bytes);
      this.#events.onEnd(NO_TRAILERS);
    });
  }

  count(clock: Clock, intervalMs: number): void {
    let number = 0;
    const tick = (): void => {
      if (this.#gone) return;
      // A reader that does not keep up misses numbers instead of growing a queue.
      if (!this.#paused) this.#events.onData(new TextEncoder().encode(`id: ${number}\ndata: ${number}\n\n`));
      number += 1;
      this.#stop = clock.after(intervalMs, tick, { background: true });
    };
    queueMicrotask(() => {
      if (this.#gone) return;
      this.#events.onResponse(200, ["Content-Type", "text/event-stream", "Cache-Control", "no-cache"], false);
      tick();
    });
  }

  /** The service has no use for request bodies: they are read and dropped. */
  write(): boolean {
    return true;
  }

  end(): void {}

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
  }

  abort(): void {
    this.#gone = true;
    this.#stop();
  }
}

function splitTarget(target: string): [path: string, query: string] {
  const mark = target.indexOf("?");
  return mark < 0 ? [target, ""] : [target.slice(0, mark), target.slice(mark + 1)];
}

function sseInterval(query: string): number {
  const given = Number(new URLSearchParams(query).get("freq")?.replace(/ms$/, "") ?? SSE_DEFAULT_MS);
  return Number.isFinite(given) ? Math.min(Math.max(given, SSE_MIN_MS), SSE_MAX_MS) : SSE_DEFAULT_MS;
}

function page(request: OriginRequest): string {
  const rows: string[] = [];
  for (let i = 0; i + 1 < request.headers.length; i += 2) {
    rows.push(
      `<tr><th>${escapeHtml(request.headers[i] ?? "")}</th><td>${escapeHtml(request.headers[i + 1] ?? "")}</td></tr>`,
    );
  }
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Culvert works</title>
<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 46rem; margin: 3rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; padding: .3rem .6rem; vertical-align: top }
th { font-weight: 500; white-space: nowrap; opacity: .75 } td { overflow-wrap: anywhere; font-family: ui-monospace, monospace }
tr + tr { border-top: 1px solid color-mix(in srgb, currentColor 15%, transparent) }
</style></head><body>
<h1>The tunnel works</h1>
<p>This page is Culvert's built-in demonstration service on <b>${escapeHtml(hostname())}</b>. Your request came through
the edge and down the tunnel to here. Point a rule at a service of your own to replace it.</p>
<p><code>${escapeHtml(request.method)} ${escapeHtml(request.target)}</code></p>
<table>${rows.join("\n")}</table>
</body></html>
`;
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);
}
