import { randomBytes } from "node:crypto";
import type { CancelTimer, Clock } from "../../core/clock.ts";
import { describe, TunnelError } from "../../core/errors.ts";
import type { TunnelId } from "../../core/ids.ts";
import type { Logger } from "../../core/log.ts";
import { ipGroup } from "../../wire/ip-bytes.ts";
import type { Registry } from "../registry.ts";
import { newTunnel } from "../store/new-tunnel.ts";
import type { Actor, Store, StoredTunnel } from "../store/port.ts";
import { quickName } from "./names.ts";

/** Quick tunnels that live at once, all and of one address. */
export const MAX_QUICK_TUNNELS = 1_000;
export const MAX_QUICK_TUNNELS_PER_IP = 10;
/** Quick tunnels that one address may make in an hour. */
export const MAX_QUICK_TUNNELS_PER_HOUR = 30;
const HOUR_MS = 3_600_000;
/** How long one lives at most, in ms. */
const LIFETIME_MS = 24 * HOUR_MS;
/** How long one without a connector stays, in ms. */
const ABSENCE_MS = 10 * 60_000;
/** How often it is looked which are over, in ms. */
const SWEEP_MS = 30_000;
/** Addresses remembered for the limits; beyond it those whose hour is over are forgotten. */
const MAX_ADDRESSES = 10_000;
const SECRET_BYTES = 32;
const NAME_TRIES = 5;

/** Quick tunnels belong to an account of their own, which has no API token. */
const ACCOUNT_TAG = "9".repeat(32);

/** What `POST /tunnel` answers (protocol: section 5). */
export interface QuickTunnel {
  readonly id: TunnelId;
  readonly name: string;
  readonly hostname: string;
  readonly account_tag: string;
  /** Base64. */
  readonly secret: string;
  /** All of it as a token, with where the edge is; cloudflared does not look at it. */
  readonly token: string | undefined;
}

interface Living {
  readonly group: string;
  /** When it was last without a connector; undefined = it has one. */
  absentSinceMs: number | undefined;
  readonly endsAtMs: number;
}

export interface QuickTunnelsDeps {
  readonly store: Store;
  readonly registry: Registry;
  readonly clock: Clock;
  readonly log: Logger;
  /** Hostnames are made below it; undefined = it gives out none, and only ends those that there are. */
  readonly domain: string | undefined;
  readonly tunnelToken: (tunnel: StoredTunnel) => string | undefined;
}

/** Tunnels with a random hostname for whoever asks, which go away by themselves. */
export class QuickTunnels {
  readonly #deps: QuickTunnelsDeps;
  readonly #living = new Map<TunnelId, Living>();
  /** Times at which an address made one, within the last hour. */
  readonly #made = new Map<string, number[]>();
  readonly #place: { readonly domain: string; readonly zoneId: string } | undefined;
  readonly #unwatch: () => void;
  #cancelSweep: CancelTimer;

  constructor(deps: QuickTunnelsDeps) {
    this.#deps = deps;
    const { store, clock, registry, domain } = deps;
    this.#place = domain === undefined ? undefined : { domain, zoneId: this.#account(domain) };
    const nowMs = clock.wallMs();
    // Those of an earlier run get their time to come back.
    for (const tunnel of store.tunnels.find({ accountTag: ACCOUNT_TAG, deleted: false }).items) {
      this.#living.set(tunnel.id, { group: "", absentSinceMs: nowMs, endsAtMs: tunnel.expiresAtMs ?? nowMs });
    }
    this.#unwatch = registry.watch({
      onServed: (tunnel) => this.#seen(tunnel, undefined),
      onAbsent: (tunnel) => this.#seen(tunnel, clock.wallMs()),
    });
    this.#cancelSweep = clock.after(SWEEP_MS, () => this.#sweep(), { background: true });
  }

  /** Whether it gives out any. */
  get open(): boolean {
    return this.#place !== undefined;
  }

  /**
   * Makes one for a visitor. Throws `config.invalid` when it is not open, `stream.limit` when there are too many, else as
   * the store.
   */
  create(ip: string): QuickTunnel {
    const { store, clock, log } = this.#deps;
    if (this.#place === undefined) throw new TunnelError("config.invalid", "This edge gives out no quick tunnels");
    const { domain, zoneId } = this.#place;
    const nowMs = clock.wallMs();
    const group = ipGroup(ip);
    this.#admit(group, nowMs);
    for (let tries = NAME_TRIES; ; tries -= 1) {
      const name = quickName((bytes) => randomBytes(bytes));
      const hostname = `${name}.${domain}`;
      if (store.hostnames.get(hostname) !== undefined && tries > 0) continue;
      const secret = randomBytes(SECRET_BYTES);
      const expiresAtMs = nowMs + LIFETIME_MS;
      const tunnel: StoredTunnel = { ...newTunnel(name, ACCOUNT_TAG, nowMs), expiresAtMs };
      const target = { kind: "tunnel", tunnelId: tunnel.id } as const;
      const actor: Actor = { kind: "system", id: "quick tunnels", from: ip };
      store.tunnels.add(tunnel, secret, actor, [{ hostname, target, zoneId, createdAtMs: nowMs }]);
      this.#living.set(tunnel.id, { group, absentSinceMs: nowMs, endsAtMs: expiresAtMs });
      this.#made.set(group, [...(this.#made.get(group) ?? []), nowMs]);
      log.info("Made a quick tunnel", { tunnelID: tunnel.id, hostname, ip });
      const token = this.#deps.tunnelToken(tunnel);
      return { id: tunnel.id, name, hostname, account_tag: ACCOUNT_TAG, secret: secret.toString("base64"), token };
    }
  }

  stop(): void {
    this.#unwatch();
    this.#cancelSweep();
  }

  #admit(group: string, nowMs: number): void {
    if (this.#living.size >= MAX_QUICK_TUNNELS) {
      throw new TunnelError("stream.limit", "There are too many quick tunnels on this edge: try again later");
    }
    let own = 0;
    for (const living of this.#living.values()) if (living.group === group) own += 1;
    if (own >= MAX_QUICK_TUNNELS_PER_IP) {
      throw new TunnelError("stream.limit", `You have ${own} quick tunnels already: stop some, or wait until they end`);
    }
    const recent = (this.#made.get(group) ?? []).filter((atMs) => nowMs - atMs < HOUR_MS);
    if (recent.length >= MAX_QUICK_TUNNELS_PER_HOUR) {
      throw new TunnelError("stream.limit", `You made ${recent.length} quick tunnels within an hour: wait`);
    }
    if (!this.#made.has(group) && this.#made.size >= MAX_ADDRESSES) this.#forgetOld(nowMs);
    if (recent.length === 0) this.#made.delete(group);
    else this.#made.set(group, recent);
  }

  #forgetOld(nowMs: number): void {
    for (const [group, times] of this.#made) {
      if (nowMs - (times.at(-1) ?? 0) >= HOUR_MS) this.#made.delete(group);
    }
    if (this.#made.size >= MAX_ADDRESSES) {
      throw new TunnelError("stream.limit", "Too many quick tunnels were made within an hour: try again later");
    }
  }

  #seen(tunnel: TunnelId, absentSinceMs: number | undefined): void {
    const living = this.#living.get(tunnel);
    if (living !== undefined) living.absentSinceMs = absentSinceMs;
  }

  #sweep(): void {
    const { clock, store, registry, log } = this.#deps;
    const nowMs = clock.wallMs();
    for (const [id, { absentSinceMs, endsAtMs }] of this.#living) {
      if (this.#wasDeleted(id)) {
        this.#living.delete(id);
        continue;
      }
      const gone = absentSinceMs !== undefined && nowMs - absentSinceMs >= ABSENCE_MS;
      if (!gone && nowMs < endsAtMs) continue;
      try {
        store.tunnels.remove(id, { kind: "system", id: "quick tunnels", from: "" });
        this.#living.delete(id);
        for (const { session } of registry.connections(id)) session.close();
        log.info("A quick tunnel is over", { tunnelID: id, why: gone ? "no connector" : "age" });
      } catch (error) {
        const known = error instanceof TunnelError ? error : undefined;
        if (known?.code === "store.missing") {
          this.#living.delete(id);
          continue;
        }
        log.error("Cannot end a quick tunnel", { tunnelID: id, error: describe(error) });
        // The database is busy: each further one would hold up the edge as long as this one did.
        if (known?.retry === "same") break;
      }
    }
    this.#cancelSweep = clock.after(SWEEP_MS, () => this.#sweep(), { background: true });
  }

  /** By the edge's operator; its place is free then. */
  #wasDeleted(id: TunnelId): boolean {
    try {
      const tunnel = this.#deps.store.tunnels.get(id);
      return tunnel === undefined || tunnel.deletedAtMs !== undefined;
    } catch {
      return false;
    }
  }

  /** The account that has them, made at the first start; gives its zone. */
  #account(domain: string): string {
    const { store, clock } = this.#deps;
    const actor: Actor = { kind: "system", id: "quick tunnels", from: "" };
    if (store.accounts.get(ACCOUNT_TAG) === undefined) {
      store.accounts.add({ tag: ACCOUNT_TAG, name: "Quick tunnels", createdAtMs: clock.wallMs() }, actor);
    }
    const known = store.accounts.zones(ACCOUNT_TAG).find(({ name }) => name === domain);
    if (known !== undefined) return known.id;
    const zone = { id: randomBytes(16).toString("hex"), accountTag: ACCOUNT_TAG, name: domain };
    store.accounts.addZone(zone, actor);
    return zone.id;
  }
}
