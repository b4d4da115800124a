import type { Clock } from "../../core/clock.ts";
import { TunnelError } from "../../core/errors.ts";
import type { TunnelId } from "../../core/ids.ts";
import type { Logger } from "../../core/log.ts";
import { NO_TRAILERS } from "../../net/channel.ts";
import { createMemoryChannelPair } from "../../net/memory-channel.ts";
import type { OriginEvents, OriginExchange, OriginRequest, OriginService } from "../../origin/port.ts";
import { handshakeAnswer } from "../../origin/tcp/exchange.ts";
import { headerValue, type RawHeaders } from "../../wire/headers.ts";
import { type ManagementToken, managementRefusal, parseManagementToken } from "../../wire/management-token.ts";
import { isWebSocketKey } from "../../wire/websocket/handshake.ts";
import type { LiveLog } from "./live-log.ts";
import { serveLogSession } from "./log-session.ts";

/** WebSockets of the live log at once, those of readers that wait included. */
const MAX_SESSIONS = 16;

/** An answer as a whole. */
export interface ManagementPage {
  readonly type: string;
  readonly body: string | Uint8Array;
}

export interface ManagementServiceOptions {
  readonly tunnelId: TunnelId;
  readonly live: LiveLog;
  /** Checks who signed a token; undefined = the edge's key is not known, and the edge is trusted to have done it. */
  readonly verify: ((signed: string, signature: Uint8Array) => boolean) | undefined;
  /** What `/host_details` says. */
  readonly hostDetails: () => Readonly<Record<string, string>>;
  /** `/metrics` and `/debug/pprof/…`; undefined = there is no such page, or it is switched off. */
  readonly diagnostics: (url: URL, signal: AbortSignal) => Promise<ManagementPage | undefined>;
}

/**
 * What the connector itself answers through the tunnel (protocol: section 8): GET and HEAD `/ping`, `/host_details`,
 * `/metrics` and `/debug/pprof/heap|goroutine|profile`, and the live log at `/logs`. Each needs a token.
 */
export function createManagementService(
  options: ManagementServiceOptions,
  deps: { readonly clock: Clock; readonly log: Logger },
): OriginService {
  let sessions = 0;
  const serve = async (request: OriginRequest, answer: Answer): Promise<void> => {
    const url = new URL(request.target, "http://management");
    const token = parseManagementToken(url.searchParams.get("access_token") ?? "");
    if (token === undefined) return answer.refuse(400, 1001, "missing access_token query parameter");
    const refusal = checkToken(token, url.pathname, options, deps.clock);
    if (refusal !== undefined) return answer.refuse(403, 1002, refusal);
    if (request.method !== "GET" && request.method !== "HEAD")
      return answer.send(405, TEXT, "", ["Allow", "GET, HEAD"]);
    if (url.pathname === "/ping") return answer.send(200, TEXT, "");
    if (url.pathname === "/host_details") {
      return answer.send(200, "application/json", `${JSON.stringify(options.hostDetails())}\n`);
    }
    if (url.pathname !== "/logs") {
      const page = await options.diagnostics(url, answer.given);
      return page === undefined
        ? answer.send(404, TEXT, "404 page not found\n")
        : answer.send(200, page.type, page.body);
    }
    if (request.kind !== "websocket" || !isWebSocketKey(headerValue(request.headers, "sec-websocket-key") ?? "")) {
      return answer.send(426, TEXT, "The live log is a WebSocket\n", ["Upgrade", "websocket"]);
    }
    if (!isAllowedOrigin(request.headers))
      return answer.refuse(403, 1003, "pages of other sites may not follow the log");
    if (sessions >= MAX_SESSIONS) return answer.refuse(503, 1004, "too many readers of the log");
    const [outside, inside] = createMemoryChannelPair();
    sessions += 1;
    const onEnd = (): void => {
      sessions -= 1;
    };
    serveLogSession(inside, { actor: token.actor, onEnd }, { ...deps, live: options.live });
    if (answer.isOver) outside.abort(new TunnelError("aborted", "The visitor left"));
    else answer.events.onUpgrade(handshakeAnswer(request.headers), outside);
  };
  return {
    label: "management",
    start: () => Promise.resolve(),
    close: () => Promise.resolve(),
    exchange: (request, events) => {
      const answer = new Answer(request, events);
      // The call returns before anything is answered.
      queueMicrotask(() => {
        serve(request, answer).catch((error: unknown) => {
          const busy = error instanceof TunnelError && error.code === "stream.limit";
          answer.send(busy ? 503 : 500, TEXT, busy ? `${error.message}\n` : "");
        });
      });
      return answer;
    },
  };
}

const TEXT = "text/plain; charset=utf-8";

function checkToken(
  token: ManagementToken,
  path: string,
  { tunnelId, verify }: ManagementServiceOptions,
  clock: Clock,
): string | undefined {
  if (token.tunnelId !== tunnelId) return "the access_token is for another tunnel";
  if (verify === undefined) return undefined;
  switch (managementRefusal(token, path, { verify, wallMs: clock.wallMs() })) {
    case "forged":
      return "the access_token is not signed by this tunnel's edge";
    case "expired":
      return "the access_token has expired";
    case "other-resource":
      return "the access_token is not for this";
    default:
      return undefined;
  }
}

const CLOUDFLARE_SITE = /^https:\/\/([a-z0-9-]+\.)+cloudflare\.com$/;

/** Tools send no Origin; pages of the same name, and Cloudflare's dashboard, may look (protocol: section 8). */
function isAllowedOrigin(headers: RawHeaders): boolean {
  const origin = headerValue(headers, "origin");
  if (origin === undefined || CLOUDFLARE_SITE.test(origin)) return true;
  return URL.canParse(origin) && new URL(origin).host === headerValue(headers, "host")?.toLowerCase();
}

/** One answer, and the exchange that it is part of: bodies of requests are passed over. */
class Answer implements OriginExchange {
  readonly events: OriginEvents;
  readonly #request: OriginRequest;
  readonly #given = new AbortController();
  isOver = false;

  constructor(request: OriginRequest, events: OriginEvents) {
    this.#request = request;
    this.events = events;
  }

  /** Aborts when the visitor leaves. */
  get given(): AbortSignal {
    return this.#given.signal;
  }

  send(status: number, type: string, body: string | Uint8Array, fields: RawHeaders = []): void {
    if (this.isOver) return;
    this.isOver = true;
    const bytes = typeof body === "string" ? new TextEncoder().encode(body) : body;
    const bodyless = this.#request.method === "HEAD" || bytes.length === 0;
    const length = ["Content-Length", String(bytes.length)];
    const headers = ["Content-Type", type, ...length, "Cache-Control", "no-store", ...this.#sharing(), ...fields];
    this.events.onResponse(status, headers, bodyless);
    if (!bodyless) this.events.onData(bytes);
    this.events.onEnd(NO_TRAILERS);
  }

  refuse(status: number, code: number, message: string): void {
    this.send(status, "application/json", `${JSON.stringify({ errors: [{ code, message }] })}\n`);
  }

  /** Cloudflare's dashboard reads answers from a page of its own. */
  #sharing(): RawHeaders {
    const origin = headerValue(this.#request.headers, "origin");
    if (origin === undefined || !CLOUDFLARE_SITE.test(origin)) return [];
    return ["Access-Control-Allow-Origin", origin, "Access-Control-Allow-Credentials", "true", "Vary", "Origin"];
  }

  write(): boolean {
    return true;
  }

  end(): void {}
  pause(): void {}
  resume(): void {}

  abort(): void {
    this.isOver = true;
    this.#given.abort();
  }
}
