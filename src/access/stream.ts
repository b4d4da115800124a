import { createHash, getRandomValues } from "node:crypto";
import type { Clock } from "../core/clock.ts";
import { TunnelError } from "../core/errors.ts";
import { VERSION } from "../core/version.ts";
import type { ByteChannel } from "../net/channel.ts";
import { WebSocketChannel } from "../net/websocket-channel.ts";
import { handshakeFields, handshakeProblem, webSocketKey } from "../wire/websocket/handshake.ts";
import { type AppAddress, originOf } from "./address.ts";
import type { DialSettings } from "./dialler.ts";
import { EndedCarrier } from "./ended-carrier.ts";
import { requestFields, type StreamFields } from "./header-fields.ts";
import { exchange } from "./http-exchange.ts";
import { isLoginRedirect, loginNeeded, refusedHandshake } from "./refusal.ts";

/** Name that this client goes by. */
export const USER_AGENT = `culvert/${VERSION}`;

/** Dialling and handshake together, in ms: a connector may take 30 s to reach its service. */
const HANDSHAKE_TIMEOUT_MS = 45_000;

/** One application and what its streams carry. */
export interface StreamOptions extends StreamFields {
  readonly app: AppAddress;
  readonly dialling: DialSettings;
  /** Gets tokens where Access asks for a login; undefined = such an answer is an error. */
  readonly login: AccessLogin | undefined;
}

/** Where tokens of Access come from. */
export interface AccessLogin {
  /** The stored token, or one of a new login. Rejects with `edge.refused`, `aborted` or a failure of its requests. */
  token(app: AppAddress, signal: AbortSignal): Promise<string>;
  /** Drops the stored token, which Access does not take any more. */
  forget(app: AppAddress, signal: AbortSignal): Promise<void>;
}

/**
 * Opens one byte stream to an application. A close frame ends one direction, the end of the connection both. Rejects with `dial.*`, `timeout`, `aborted`, `channel.lost`, or
 * `edge.refused` with the status and a hint; `retry` says whether trying again makes sense.
 */
export async function openStream(
  options: StreamOptions,
  deps: { readonly clock: Clock },
  signal: AbortSignal,
): Promise<ByteChannel> {
  const { app, login } = options;
  const first = await handshake(options, deps, undefined, signal);
  if (first !== "login") return first;
  if (login === undefined) throw loginNeeded(app, "this client may not ask for one");
  const again = await handshake(options, deps, await login.token(app, signal), signal);
  if (again !== "login") return again;
  await login.forget(app, signal);
  const last = await handshake(options, deps, await login.token(app, signal), signal);
  if (last === "login") throw loginNeeded(app, "it does not take the token");
  return last;
}

async function handshake(
  options: StreamOptions,
  deps: { readonly clock: Clock },
  token: string | undefined,
  signal: AbortSignal,
): Promise<ByteChannel | "login"> {
  const { app } = options;
  const key = webSocketKey(getRandomValues(new Uint8Array(16)));
  const headers = [...requestFields(options, USER_AGENT, token), ...handshakeFields(key)];
  // Why a handshake was refused stands in the head.
  const request = { app, method: "GET", headers, upgrade: true, wantBody: false } as const;
  const answer = await exchange(
    { ...request, timeoutMs: HANDSHAKE_TIMEOUT_MS },
    { dialling: options.dialling, clock: deps.clock },
    signal,
  );
  if (answer.upgraded === undefined) {
    if (isLoginRedirect(answer.status, answer.headers)) return "login";
    throw refusedHandshake(app, answer.status, answer.headers);
  }
  const problem = handshakeProblem(answer.status, answer.headers, key, sha1Base64);
  if (problem !== undefined) {
    const error = new TunnelError("edge.refused", `${originOf(app)} answered the handshake wrongly: ${problem}`);
    answer.upgraded.abort(error);
    throw error;
  }
  const carrier = new EndedCarrier(answer.upgraded);
  const channel = new WebSocketChannel(carrier, { role: "client", clock: deps.clock });
  carrier.onEnded = () => channel.end();
  return channel;
}

function sha1Base64(text: string): string {
  return createHash("sha1").update(text).digest("base64");
}
