import { describe, TunnelError } from "../../core/errors.ts";
import type { TunnelId } from "../../core/ids.ts";
import type { StreamRequest } from "../../transport/port.ts";
import type { RawHeaders } from "../../wire/headers.ts";
import type { Dispatch, DispatchEvents } from "../dispatcher/dispatcher.ts";

/** Bytes of a request's body that wait to be read. */
const MAX_WAITING_BYTES = 64 * 1024;
const NO_TRAILERS: RawHeaders = [];
/** Forms of a message on one hop, which the visitor's side decides on. */
const HOP_BY_HOP: ReadonlySet<string> = new Set(["connection", "keep-alive", "transfer-encoding", "upgrade"]);

/** The edge itself where a tunnel is named, in limits and in the access log: no tunnel has the id of all zeros. */
export const SITE_ID = "00000000-0000-0000-0000-000000000000" as TunnelId;

/** Answers a visitor's request as a web server does. `ip`: the visitor's address. */
export type SiteHandler = (request: Request, ip: string) => Response | Promise<Response>;

/** One visitor's request to the edge's own site, in the shape of one that goes to a tunnel. */
export class SiteDispatch implements Dispatch {
  readonly tunnelId = SITE_ID;
  /** No connector has it. */
  readonly connectorId = undefined;
  readonly #events: DispatchEvents;
  readonly #given = new AbortController();
  #body: ReadableStreamDefaultController<Uint8Array> | undefined;
  #resume: (() => void) | undefined;
  #paused = false;
  #held = false;
  #over = false;

  constructor(handler: SiteHandler, request: StreamRequest, events: DispatchEvents) {
    this.#events = events;
    const bodyless = request.bodyless || request.method === "GET" || request.method === "HEAD";
    const body = bodyless ? null : this.#openBody();
    // The call returns before anything is answered.
    queueMicrotask(() => {
      this.#answer(handler, request, body).catch((error: unknown) => {
        this.#fail(new TunnelError("stream.reset", `The edge's own site failed: ${describe(error)}`, { cause: error }));
      });
    });
  }

  write(chunk: Uint8Array): boolean {
    // The chunk is the reader's buffer, which is used again.
    this.#body?.enqueue(chunk.slice());
    this.#held = (this.#body?.desiredSize ?? 1) <= 0;
    return !this.#held;
  }

  end(): void {
    this.#body?.close();
    this.#body = undefined;
  }

  abort(error: TunnelError): void {
    this.#over = true;
    this.#given.abort(error);
    this.#body?.error(error);
    this.#body = undefined;
    this.resume();
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#resume?.();
    this.#resume = undefined;
  }

  #openBody(): ReadableStream<Uint8Array> {
    return new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          this.#body = controller;
        },
        pull: () => {
          if (!this.#held) return;
          this.#held = false;
          this.#events.onDrain();
        },
        cancel: () => {
          this.#body = undefined;
        },
      },
      new ByteLengthQueuingStrategy({ highWaterMark: MAX_WAITING_BYTES }),
    );
  }

  async #answer(handler: SiteHandler, request: StreamRequest, body: ReadableStream<Uint8Array> | null): Promise<void> {
    const headers = new Headers();
    for (let i = 0; i + 1 < request.headers.length; i += 2) {
      headers.append(request.headers[i] as string, request.headers[i + 1] as string);
    }
    const url = new URL(request.path, `http://${request.authority}`);
    const init = { method: request.method, headers, signal: this.#given.signal, body, duplex: "half" };
    const response = await handler(new Request(url.href, init as RequestInit), headers.get("cf-connecting-ip") ?? "");
    if (this.#over) return;
    this.#events.onResponse({ status: response.status, headers: fieldsOf(response), source: "origin" });
    for await (const chunk of response.body ?? []) {
      if (this.#over) return;
      this.#events.onData(chunk);
      if (this.#paused) await new Promise<void>((resolve) => (this.#resume = resolve));
    }
    if (this.#over) return;
    this.#over = true;
    this.#events.onEnd(NO_TRAILERS);
    this.#events.onClose(undefined);
  }

  #fail(error: TunnelError): void {
    if (this.#over) return;
    this.#over = true;
    this.#events.onClose(error);
  }
}

function fieldsOf(response: Response): string[] {
  const fields: string[] = [];
  for (const [name, value] of response.headers) {
    if (!HOP_BY_HOP.has(name)) fields.push(name, value);
  }
  return fields;
}
