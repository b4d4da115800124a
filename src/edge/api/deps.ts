import type { Clock } from "../../core/clock.ts";
import type { TunnelId } from "../../core/ids.ts";
import type { Logger } from "../../core/log.ts";
import type { Registry } from "../registry.ts";
import type { Store, StoredTunnel } from "../store/port.ts";

/** What the API works on. */
export interface ApiDeps {
  readonly store: Store;
  readonly registry: Registry;
  readonly clock: Clock;
  readonly log: Logger;
  /** Name of this place, as connectors are told. */
  readonly location: string;
  /** The text that `tunnel run --token` takes; undefined when the tunnel is gone. */
  tunnelToken(tunnel: StoredTunnel): string | undefined;
  /** A signed statement that its holder may see into a tunnel (protocol: section 8). */
  managementToken(tunnel: StoredTunnel, resources: readonly string[], actor: string): Promise<string>;
  /** PEM text of the authority that issued the certificate of this API; undefined = it is served in clear text. */
  readonly ca: string | undefined;
  /** Fires when the edge ends: calls that wait for something are answered then. */
  readonly stopping: AbortSignal;
  /** When the tunnel was last without any connection, or with one; wall clock. */
  lastChange(tunnel: TunnelId): { readonly activeAtMs?: number; readonly inactiveAtMs?: number };
}
