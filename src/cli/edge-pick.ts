import { TunnelError } from "../core/errors.ts";
import { parseTunnelId } from "../core/ids.ts";
import { normaliseHostname } from "../edge/hostname.ts";
import type { Pool, Store, StoredTunnel } from "../edge/store/port.ts";

/** A living tunnel of the edge's own account, by id or name. Throws `store.missing`. */
export function pickTunnel(store: Store, asked: string): StoredTunnel {
  const { tag } = store.accounts.own();
  const id = parseTunnelId(asked);
  const byId = id === undefined ? undefined : store.tunnels.get(id);
  const tunnel =
    byId !== undefined && byId.deletedAtMs === undefined && byId.accountTag === tag
      ? byId
      : store.tunnels.byName(tag, asked);
  if (tunnel !== undefined) return tunnel;
  throw new TunnelError(
    "store.missing",
    `There is no tunnel "${asked}": see those there are with culvert edge tunnel list`,
  );
}

/** A living tunnel of any account, quick tunnels too, by id or name; one of the edge's own account first. Throws as above. */
export function pickAnyTunnel(store: Store, asked: string): StoredTunnel {
  const id = parseTunnelId(asked);
  const byId = id === undefined ? undefined : store.tunnels.get(id);
  if (byId !== undefined && byId.deletedAtMs === undefined) return byId;
  const own = store.tunnels.byName(store.accounts.own().tag, asked);
  const tunnel = own ?? store.tunnels.find({ name: asked, deleted: false }).items[0];
  if (tunnel !== undefined) return tunnel;
  throw new TunnelError(
    "store.missing",
    `There is no tunnel "${asked}": see those there are with culvert edge tunnel list --all`,
  );
}

/** A pool of the edge's own account, by name or id. Throws `store.missing`. */
export function pickPool(store: Store, asked: string): Pool {
  const pools = store.balancers.pools(store.accounts.own().tag);
  const pool = pools.find(({ name }) => name === asked) ?? pools.find(({ id }) => id === asked);
  if (pool !== undefined) return pool;
  throw new TunnelError("store.missing", `There is no pool "${asked}": see those there are with culvert edge lb list`);
}

/** The hostname as the edge keeps it, `*.` in front for a wildcard; undefined = it is none, or `*` alone. */
export function readHostname(text: string): string | undefined {
  return text === "*" ? undefined : normaliseHostname(text);
}
