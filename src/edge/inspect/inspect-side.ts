import { randomBytes } from "node:crypto";
import type { Clock } from "../../core/clock.ts";
import type { TunnelId } from "../../core/ids.ts";
import type { Logger } from "../../core/log.ts";
import { formatAddress } from "../../net/socket-errors.ts";
import { startApiServer } from "../api/server.ts";
import { createRaySource } from "../listener/listener.ts";
import type { FrontDoor } from "../site/own-site.ts";
import { createInspectApp } from "./app.ts";
import { type InspectedDoor, inspectedDoor } from "./inspected-door.ts";
import { Recordings } from "./recording.ts";
import { Replays } from "./replay.ts";

/** Requests that are kept, when nobody says. */
export const DEFAULT_KEPT = 100;
const KEY_BYTES = 16;
const GRACE_MS = 500;

/** Request inspection, for development. */
export interface InspectOptions {
  /** On loopback. */
  readonly host: string;
  /** 0 = any free port. */
  readonly port: number;
  /** Whose requests are kept. */
  readonly tunnels: readonly TunnelId[];
  /** @default 100 */
  readonly kept?: number;
}

export interface InspectSide {
  /** What visitors' requests go through instead of the door it was given. */
  readonly door: InspectedDoor;
  /** Address of the page, without its key. */
  readonly address: string;
  /** Address of the page with the key that opens it; a secret. */
  readonly url: string;
  close(): Promise<void>;
}

/** Keeps what goes to some tunnels, and shows it on a page of this machine. Rejects with `listen.failed`. */
export async function startInspectSide(
  options: InspectOptions,
  deps: { readonly door: FrontDoor; readonly clock: Clock; readonly log: Logger; readonly location: string },
): Promise<InspectSide> {
  const { kept = DEFAULT_KEPT } = options;
  const recordings = new Recordings(kept);
  const tunnels = new Set(options.tunnels);
  const door = inspectedDoor(deps.door, { ...deps, recordings, inspects: (tunnelId) => tunnels.has(tunnelId) });
  const replays = new Replays({ door, clock: deps.clock, nextRay: createRaySource(deps.location) });
  const key = randomBytes(KEY_BYTES).toString("hex");
  const app = createInspectApp({ recordings, replays, max: kept, key });
  const server = await startApiServer(app, { ...options, certificate: undefined }, { log: deps.log });
  const address = `http://${formatAddress(server)}/`;
  return { door, address, url: `${address}?key=${key}`, close: () => server.close(GRACE_MS) };
}
