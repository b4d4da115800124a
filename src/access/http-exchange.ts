import type { Clock } from "../core/clock.ts";
import { TunnelError, toTunnelError } from "../core/errors.ts";
import type { ByteChannel, ChannelEvents } from "../net/channel.ts";
import { UpgradedChannel } from "../origin/http/upgraded-channel.ts";
import { ResponseDecoder } from "../wire/h1/decoder.ts";
import { encodeRequestHead } from "../wire/h1/encoder.ts";
import type { ResponseHead } from "../wire/h1/message.ts";
import type { RawHeaders } from "../wire/headers.ts";
import { type AppAddress, originOf } from "./address.ts";
import { type DialSettings, dialApp } from "./dialler.ts";

/** Bytes an answer's body may have; keys of an organisation are the largest thing asked for. */
const MAX_BODY_BYTES = 1024 * 1024;

export interface HttpRequest {
  readonly app: AppAddress;
  readonly method: "GET" | "HEAD" | "POST";
  /** All fields but Host and Content-Length. */
  readonly headers: RawHeaders;
  /** @default none */
  readonly body?: Uint8Array;
  /** Asks for another protocol: an answer of 101 hands out the connection. */
  readonly upgrade: boolean;
  /** False = the answer is complete with its head. */
  readonly wantBody: boolean;
  /** Bound on everything from dialling to the end of the answer, in ms. */
  readonly timeoutMs: number;
}

export interface HttpAnswer {
  readonly status: number;
  readonly headers: RawHeaders;
  readonly body: Uint8Array;
  /** What is left of the connection after 101. */
  readonly upgraded: ByteChannel | undefined;
}

/**
 * One request on a connection of its own; redirects are answers. Rejects with what `dial` rejects with, `timeout`,
 * `aborted`, `request.malformed` for fields that cannot be sent, `edge.refused` for an answer that is no HTTP.
 */
export async function exchange(
  request: HttpRequest,
  deps: { readonly dialling: DialSettings; readonly clock: Clock },
  signal: AbortSignal,
): Promise<HttpAnswer> {
  const { app, method, timeoutMs, body } = request;
  const length = body === undefined ? [] : ["Content-Length", String(body.length)];
  const headers = ["Host", app.authority, ...request.headers, ...length];
  const head = encodeRequestHead({ method, target: app.target, headers }, body);
  if (!(head instanceof Uint8Array)) {
    throw new TunnelError("request.malformed", `The header field ${head.field ?? head.part} cannot be sent`);
  }
  const late = new AbortController();
  const cancel = deps.clock.after(timeoutMs, () => late.abort());
  const stop = AbortSignal.any([signal, late.signal]);
  try {
    const { channel } = await dialApp(app, deps.dialling, { signal: stop, timeoutMs });
    return await converse(channel, head, request, stop);
  } catch (error) {
    if (signal.aborted) throw new TunnelError("aborted", "Given up");
    if (!late.signal.aborted) throw toTunnelError(error, "dial.failed", `Cannot reach ${originOf(app)}`);
    const seconds = timeoutMs / 1_000;
    throw new TunnelError("timeout", `${originOf(app)} did not answer within ${seconds} s`, { retry: "same" });
  } finally {
    cancel();
  }
}

function converse(
  channel: ByteChannel,
  head: Uint8Array,
  request: HttpRequest,
  stop: AbortSignal,
): Promise<HttpAnswer> {
  return new Promise((resolve, reject) => {
    const body: Uint8Array[] = [];
    let bodyBytes = 0;
    let answer: ResponseHead | undefined;
    let settled = false;

    const settle = (): boolean => {
      if (settled) return false;
      settled = true;
      stop.removeEventListener("abort", onStop);
      decoder.stop();
      return true;
    };
    const fail = (error: TunnelError): void => {
      if (!settle()) return;
      channel.abort(error);
      reject(error);
    };
    const onStop = (): void => fail(new TunnelError("aborted", "Given up"));
    const finish = (): void => {
      const { status = 0, headers = [] } = answer ?? {};
      if (!settle()) return;
      channel.abort(new TunnelError("aborted", "The answer is complete"));
      resolve({ status, headers, body: join(body, bodyBytes), upgraded: undefined });
    };
    const decoder = new ResponseDecoder({
      onInformational: () => {},
      onHead: (received) => {
        answer = received;
        if (received.framing.kind !== "tunnel") {
          if (!request.wantBody) finish();
          return;
        }
        // Only at the end of this turn does the decoder hold all that came with the answer.
        channel.pause();
        queueMicrotask(() => {
          const rest = decoder.takeRest();
          if (!settle()) return;
          const { status, headers } = received;
          resolve({ status, headers, body: EMPTY, upgraded: new UpgradedChannel(channel, rest) });
        });
      },
      onData: (chunk) => {
        bodyBytes += chunk.length;
        if (bodyBytes <= MAX_BODY_BYTES) body.push(chunk);
        else fail(notHttp(request.app, "an answer that is too long"));
      },
      onEnd: finish,
      onMalformed: (fault) => fail(notHttp(request.app, `what is not HTTP (${fault.reason})`)),
    });
    decoder.next({ method: request.method, upgrade: request.upgrade });
    const events: ChannelEvents = {
      onData: (chunk) => decoder.feed(chunk),
      onEnd: () => {
        decoder.finish();
        fail(new TunnelError("channel.lost", `${originOf(request.app)} closed the connection`, { retry: "same" }));
      },
      onDrain: () => {},
      onClose: (cause) =>
        fail(new TunnelError("channel.lost", `${originOf(request.app)} cut the connection`, { retry: "same", cause })),
    };
    stop.addEventListener("abort", onStop, { once: true });
    channel.listen(events);
    if (stop.aborted) onStop();
    else channel.write(head);
  });
}

const EMPTY = new Uint8Array(0);

function notHttp(app: AppAddress, what: string): TunnelError {
  return new TunnelError("edge.refused", `${originOf(app)} sent ${what}`);
}

function join(chunks: readonly Uint8Array[], bytes: number): Uint8Array {
  const joined = new Uint8Array(bytes);
  let at = 0;
  for (const chunk of chunks) {
    joined.set(chunk, at);
    at += chunk.length;
  }
  return joined;
}
