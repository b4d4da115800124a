/**
 * Which edge address a connection uses: spread over regions, away from what failed (protocol: sections 1.3, 1.4). Pure.
 */

/** One address of an edge, as discovery gives it. */
export interface EdgeAddress {
  /** Tells addresses apart; the same host and port may be given several times, for as many connections. */
  readonly id: string;
  /** IP address, or a name where a proxy looks it up. */
  readonly host: string;
  readonly port: number;
  /** Connections are spread over regions. */
  readonly region: string;
  /** Undefined for a name. */
  readonly family: 4 | 6 | undefined;
}

/** How something did lately. `failures`: in a row, reset by a registration. */
export interface Health {
  readonly failures: number;
  readonly failedAtMs: number;
}

/** Every address with its health, and that of the regions and families they belong to. */
export interface AddressBook {
  readonly addresses: readonly EdgeAddress[];
  /** By id, region and family. */
  readonly health: ReadonlyMap<string, Health>;
}

/** An address that failed is avoided for this long, in ms, while there are others. */
export const ADDRESS_COOL_MS = 60_000;
/** A region that failed {@link BAD_AFTER} times in a row is avoided for this long, in ms. */
export const REGION_COOL_MS = 60_000;
/** The same for a family of addresses (protocol: section 1.3). */
export const FAMILY_COOL_MS = 600_000;
/** Failures in a row, without a success in between, that speak against a whole region or family. */
export const BAD_AFTER = 2;

const GOOD: Health = { failures: 0, failedAtMs: Number.NEGATIVE_INFINITY };

export function createAddressBook(addresses: readonly EdgeAddress[]): AddressBook {
  return { addresses, health: new Map() };
}

/** Notes that the network did not carry a connection to this address. */
export function noteFailure(book: AddressBook, address: EdgeAddress, nowMs: number): AddressBook {
  const health = new Map(book.health);
  for (const key of keysOf(address)) {
    health.set(key, { failures: (health.get(key) ?? GOOD).failures + 1, failedAtMs: nowMs });
  }
  return { ...book, health };
}

/** Notes that a connection registered at this address. */
export function noteSuccess(book: AddressBook, address: EdgeAddress): AddressBook {
  const keys = keysOf(address);
  if (!keys.some((key) => book.health.has(key))) return book;
  const health = new Map(book.health);
  for (const key of keys) health.delete(key);
  return { ...book, health };
}

export interface Wish {
  /** Addresses that other connections use; each carries one. */
  readonly taken: readonly EdgeAddress[];
  /** The one that was used last, if it should be left. */
  readonly leave?: EdgeAddress | undefined;
  /** The one that was used last, if it should be kept. */
  readonly keep?: EdgeAddress | undefined;
}

/** The best address that is free; undefined when all are taken. */
export function chooseAddress(book: AddressBook, wish: Wish, nowMs: number): EdgeAddress | undefined {
  const free = book.addresses.filter(({ id }) => !wish.taken.some((taken) => taken.id === id));
  const kept = free.find(({ id }) => id === wish.keep?.id);
  if (kept !== undefined) return kept;
  const load = new Map<string, number>();
  for (const { region } of wish.taken) load.set(region, (load.get(region) ?? 0) + 1);
  let best: { readonly address: EdgeAddress; readonly rank: readonly number[] } | undefined;
  for (const address of free) {
    const health = book.health.get(address.id) ?? GOOD;
    const rank = [
      address.id === wish.leave?.id ? 1 : 0,
      nowMs < regionBadUntil(book, address.region) ? 1 : 0,
      isFamilyBad(book, address.family, nowMs) ? 1 : 0,
      health.failures > 0 && nowMs - health.failedAtMs < ADDRESS_COOL_MS ? 1 : 0,
      load.get(address.region) ?? 0,
      health.failedAtMs,
    ];
    if (best === undefined || isLess(rank, best.rank)) best = { address, rank };
  }
  return best?.address;
}

/** Until when a region is avoided, in ms; in the past when it is not. */
export function regionBadUntil(book: AddressBook, region: string): number {
  const { failures, failedAtMs } = book.health.get(regionKey(region)) ?? GOOD;
  return failures >= BAD_AFTER ? failedAtMs + REGION_COOL_MS : Number.NEGATIVE_INFINITY;
}

function isFamilyBad(book: AddressBook, family: 4 | 6 | undefined, nowMs: number): boolean {
  const { failures, failedAtMs } = (family === undefined ? undefined : book.health.get(familyKey(family))) ?? GOOD;
  return failures >= BAD_AFTER && nowMs - failedAtMs < FAMILY_COOL_MS;
}

function keysOf(address: EdgeAddress): readonly string[] {
  const family = address.family === undefined ? [] : [familyKey(address.family)];
  return [address.id, regionKey(address.region), ...family];
}

function regionKey(region: string): string {
  return `region ${region}`;
}

function familyKey(family: 4 | 6): string {
  return `family ${family}`;
}

function isLess(a: readonly number[], b: readonly number[]): boolean {
  for (let i = 0; i < a.length; i++) {
    const difference = (a[i] as number) - (b[i] as number);
    if (difference !== 0 && !Number.isNaN(difference)) return difference < 0;
  }
  return false;
}
