import type { TunnelId } from "../../core/ids.ts";

/** A tunnel as the edge keeps it. */
export interface StoredTunnel {
  readonly id: TunnelId;
  readonly name: string;
  readonly accountTag: string;
  readonly createdAtMs: number;
}

/** What an edge must remember. A second backend is a file beside `sqlite.ts` and passes the same contract. */
export interface Store {
  /** Makes a tunnel with its hostnames. Throws `store.failed` when the name or a hostname is taken; then nothing is made. */
  addTunnel(tunnel: StoredTunnel, secret: Uint8Array, hostnames?: readonly string[]): void;
  /** Routes hostnames to a tunnel. Throws `store.failed` when another tunnel has one of them; then none is routed. */
  addHostnames(tunnel: TunnelId, hostnames: readonly string[]): void;
  tunnelByName(name: string): StoredTunnel | undefined;
  /** The tunnel with its secret in clear, for a registration. */
  credentials(id: TunnelId): { readonly tunnel: StoredTunnel; readonly secret: Uint8Array } | undefined;
  /** The tunnel a hostname belongs to: exact, else the longest `*.suffix`. Lower case, without port. */
  tunnelForHostname(hostname: string): TunnelId | undefined;
  tunnels(): ReadonlyArray<StoredTunnel & { readonly hostnames: readonly string[] }>;
  close(): void;
}
