import { createPublicKey, type KeyObject } from "node:crypto";
import type { Clock } from "../core/clock.ts";
import { describe, type TunnelError } from "../core/errors.ts";
import { es256Verifier } from "../core/es256.ts";
import { type ConnectorId, parseConnectorId, type TunnelId } from "../core/ids.ts";
import type { Logger } from "../core/log.ts";
import { type ByteChannel, NO_TRAILERS } from "../net/channel.ts";
import type { RequestEvents, StreamRequest, StreamResponse } from "../transport/port.ts";
import type { RawHeaders } from "../wire/headers.ts";
import {
  type ManagementRefusal,
  type ManagementToken,
  managementRefusal,
  parseManagementToken,
} from "../wire/management-token.ts";
import type { Dispatch, DispatchEvents } from "./dispatcher/dispatcher.ts";
import { readDomain } from "./hostname.ts";
import { isDoubtful, type LiveConnection, type Registry } from "./registry.ts";
import type { FrontDoor } from "./site/own-site.ts";
import type { Store } from "./store/port.ts";

/** What connectors, cloudflared's too, take for their own (protocol: section 8). */
export const MANAGEMENT_HOST = "management.argotunnel.com";

/** The management host where a tunnel is named before its token has named one: no tunnel has this id. */
const MANAGEMENT_ID = "00000000-0000-0000-0000-000000000001" as TunnelId;

/** Connections that one request is offered to. */
const MAX_TRIES = 4;

export interface ManagementHostOptions {
  /** Name beside {@link MANAGEMENT_HOST}. @default none */
  readonly hostname: string | undefined;
  /** Where that is reached, as an origin. @default the address that visitors come to */
  readonly url?: string | undefined;
  /** Signs tokens. */
  readonly key: KeyObject;
}

interface ManagementHostDeps {
  readonly store: Pick<Store, "hostnames" | "tunnels" | "watch">;
  readonly registry: Pick<Registry, "connections">;
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * A way in to the connectors themselves (protocol: section 8): what is asked of {@link MANAGEMENT_HOST}, or of
 * `hostname` unless somebody has routed just that name, goes to a connector of the tunnel that the request's
 * `access_token` is for, to the one that `connector_id` names if it does. Only what `key` has signed gets there.
 * `stop`: ends what it does besides.
 */
export function withManagementHost(
  door: FrontDoor,
  host: ManagementHostOptions,
  deps: ManagementHostDeps,
): FrontDoor & { readonly stop: () => void } {
  const { hostname: own } = host;
  const verify = es256Verifier(createPublicKey(host.key));
  let isRouted: boolean | undefined;
  const stop = deps.store.watch(() => {
    isRouted = undefined;
  });
  const isManagement = (hostname: string): boolean => {
    // Never by a route: connectors would take it for a request that this edge has checked.
    if (hostname === MANAGEMENT_HOST) return true;
    if (own === undefined || hostname !== own) return false;
    try {
      isRouted ??= deps.store.hostnames.get(own) !== undefined;
    } catch {
      // The dispatcher says that the store is broken.
      return false;
    }
    return !isRouted;
  };
  return {
    find: (hostname, ...rest) =>
      isManagement(hostname) ? { kind: "tunnel", tunnelId: MANAGEMENT_ID } : door.find(hostname, ...rest),
    open: (tunnelId, request, events, ...rest) => {
      if (tunnelId !== MANAGEMENT_ID) return door.open(tunnelId, request, events, ...rest);
      const dispatch = new ManagementDispatch(request, events);
      dispatch.start(admit(request, verify, deps));
      return dispatch;
    },
    stop,
  };
}

/** The name in a text of `--management-hostname`, a name or a URL; undefined for what is neither. */
export function readManagementHost(text: string): { readonly hostname: string; readonly url?: string } | undefined {
  const given = text.includes("://") ? URL.parse(text) : undefined;
  if (given === null || (given !== undefined && !/^https?:$/.test(given.protocol))) return undefined;
  const hostname = readDomain(given?.hostname ?? text);
  if (hostname === undefined) return undefined;
  return given === undefined ? { hostname } : { hostname, url: given.origin };
}

/** Where the management host is reached when nobody says: at the address that visitors come to. */
export function managementUrl(
  hostname: string,
  addresses: { readonly http: string; readonly https?: string | undefined },
): string {
  const { http, https } = addresses;
  const port = (https ?? http).replace(/^.*:/, "");
  return new URL(`${https === undefined ? "http" : "https"}://${hostname}:${port}`).origin;
}

/** Where a request may go, or what its sender is told. */
type Admitted =
  | { readonly kind: "to"; readonly tunnelId: TunnelId; readonly connections: readonly LiveConnection[] }
  | { readonly kind: "refused"; readonly status: number; readonly code: number; readonly message: string };

function admit(
  request: StreamRequest,
  verify: Parameters<typeof managementRefusal>[2]["verify"],
  { store, registry, clock, log }: ManagementHostDeps,
): Admitted {
  const url = URL.parse(request.path, "http://management");
  const token = parseManagementToken(url?.searchParams.get("access_token") ?? "");
  if (url === null || token === undefined) return refused(400, 1001, "missing access_token query parameter");
  const refusal = managementRefusal(token, url.pathname, { verify, wallMs: clock.wallMs() });
  if (refusal !== undefined) return refused(403, 1002, REFUSALS[refusal]);
  try {
    if (!isTokenOfLiveTunnel(token, store)) return refused(404, 1003, "the tunnel of the access_token is gone");
  } catch (error) {
    log.error("Cannot look up a tunnel", { error: describe(error) });
    return refused(503, 1005, "the edge's database cannot be read");
  }
  const asked = url.searchParams.get("connector_id");
  const connectorId = asked === null ? undefined : parseConnectorId(asked);
  if (asked !== null && connectorId === undefined) return refused(400, 1004, "connector_id is not a UUID");
  const connections = registry
    .connections(token.tunnelId)
    .filter((live) => !live.draining && (connectorId === undefined || live.connectorId === connectorId));
  if (connections.length > 0) return { kind: "to", tunnelId: token.tunnelId, connections };
  const who = connectorId === undefined ? "no connector of the tunnel" : "the connector that was asked for";
  return refused(530, 1033, `${who} is connected`);
}

const REFUSALS: Readonly<Record<ManagementRefusal, string>> = {
  forged: "the access_token is not signed by this edge",
  expired: "the access_token has expired",
  "other-resource": "the access_token is not for this",
};

function refused(status: number, code: number, message: string): Admitted {
  return { kind: "refused", status, code, message };
}

function isTokenOfLiveTunnel(token: ManagementToken, store: Pick<Store, "tunnels">): boolean {
  const tunnel = store.tunnels.get(token.tunnelId);
  return tunnel !== undefined && tunnel.deletedAtMs === undefined && tunnel.accountTag === token.accountTag;
}

/** One request to the management host. */
class ManagementDispatch implements Dispatch, RequestEvents {
  tunnelId: TunnelId | undefined;
  readonly #request: StreamRequest;
  readonly #events: DispatchEvents;
  #left: LiveConnection[] = [];
  #live: LiveConnection | undefined;
  #channel: ByteChannel | undefined;
  #tries = 0;
  #answered = false;
  #over = false;
  #paused = false;

  constructor(request: StreamRequest, events: DispatchEvents) {
    // Connectors refuse the pages of all sites but Cloudflare's. Here the token answers for whoever has it.
    const headers = request.headers.filter((_text, i, all) => all[i - (i % 2)]?.toLowerCase() !== "origin");
    this.#request = { ...request, headers, authority: MANAGEMENT_HOST };
    this.#events = events;
  }

  get connectorId(): ConnectorId | undefined {
    return this.#live?.connectorId;
  }

  start(admitted: Admitted): void {
    // The call that opens it returns before anything is answered.
    if (admitted.kind === "refused") {
      queueMicrotask(() => this.#refuse(admitted));
      return;
    }
    this.tunnelId = admitted.tunnelId;
    this.#left = [...admitted.connections].sort((a, b) => rank(a) - rank(b));
    this.#next();
  }

  write(chunk: Uint8Array): boolean {
    return this.#channel?.write(chunk) ?? true;
  }

  end(trailers: RawHeaders): void {
    if (!this.#request.bodyless) this.#channel?.end(trailers);
  }

  abort(error: TunnelError): void {
    this.#over = true;
    this.#channel?.abort(error);
  }

  pause(): void {
    this.#paused = true;
    this.#channel?.pause();
  }

  resume(): void {
    this.#paused = false;
    this.#channel?.resume();
  }

  onInformational(status: number, headers: RawHeaders): void {
    this.#events.onInformational(status, headers);
  }

  onResponse(response: StreamResponse): void {
    this.#answered = true;
    this.#events.onResponse(response);
  }

  onData(chunk: Uint8Array): void {
    this.#events.onData(chunk);
  }

  onEnd(trailers: RawHeaders): void {
    this.#events.onEnd(trailers);
  }

  onDrain(): void {
    this.#events.onDrain();
  }

  onClose(error: TunnelError | undefined): void {
    const again = error?.retry === "elsewhere" && !this.#answered && !this.#over && this.#isHarmless;
    if (again && this.#left.length > 0 && this.#tries < MAX_TRIES) {
      this.#events.onRetry();
      this.#next();
    } else this.#events.onClose(error);
  }

  /** Nothing of it would be missing the second time. */
  get #isHarmless(): boolean {
    return this.#request.bodyless || this.#request.kind === "websocket";
  }

  #next(): void {
    const live = this.#left.shift();
    if (live === undefined) return;
    this.#tries += 1;
    this.#live = live;
    this.#channel = live.session.open(this.#request, this);
    if (this.#paused) this.#channel.pause();
  }

  #refuse({ status, code, message }: Extract<Admitted, { kind: "refused" }>): void {
    if (this.#over) return;
    this.#over = true;
    const body = new TextEncoder().encode(`${JSON.stringify({ errors: [{ code, message }] })}\n`);
    const length = ["Content-Length", String(body.length)];
    const headers = ["Content-Type", "application/json", ...length, "Cache-Control", "no-store"];
    this.#events.onResponse({ status, headers, source: "origin" });
    if (this.#request.method !== "HEAD") this.#events.onData(body);
    this.#events.onEnd(NO_TRAILERS);
    this.#events.onClose(undefined);
  }
}

/** Ones that are silent or failed come last, then the busy ones. */
function rank(live: LiveConnection): number {
  return live.session.streamCount + (isDoubtful(live) ? Number.MAX_SAFE_INTEGER / 2 : 0);
}
