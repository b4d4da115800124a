import { z } from "zod";
import type { Account, Actor, ApiToken, Page, TokenScope } from "../store/port.ts";

/** One call as an endpoint sees it: checked, and allowed. */
export interface Call<Q, B> {
  readonly token: ApiToken;
  /** For the audit log. */
  readonly actor: Actor;
  /** The account of the path, or the token's own where the path has none. */
  readonly account: Account;
  /** Variable parts of the path, by name. */
  readonly params: Readonly<Record<string, string>>;
  readonly query: Q;
  readonly body: B;
}

export interface Paging {
  /** From 1. */
  readonly page: number;
  readonly perPage: number;
  readonly total: number;
}

/** The `result` of the envelope, and how it was cut into pages. */
export interface Reply<R> {
  readonly result: R;
  readonly paging?: Paging;
}

/** An endpoint of the API: what it takes, who may call it, and what it does. The OpenAPI document is made of these. */
export interface Endpoint<Q = unknown, B = unknown, R = unknown> {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** With `{name}` for variable parts. `{account_id}` and `{zone_id}` are checked against the token. */
  readonly path: string;
  /** What the token must be allowed; undefined = any good token. */
  readonly scope: TokenScope | undefined;
  readonly summary: string;
  readonly query: z.ZodType<Q>;
  /** Undefined = a body is ignored. */
  readonly body: z.ZodType<B> | undefined;
  readonly result: z.ZodType<R>;
  handle(call: Call<Q, B>): Reply<R> | Promise<Reply<R>>;
}

/** Any endpoint, where its types do not matter. */
// biome-ignore lint/suspicious/noExplicitAny: each endpoint's handler only ever gets what its own schemas made
export type AnyEndpoint = Endpoint<any, any, any>;

type Definition<Q, B, R> = Omit<Endpoint<Q, B, R>, "query" | "body"> & {
  readonly query?: z.ZodType<Q>;
  readonly body?: z.ZodType<B>;
};

const NOTHING = z.object({});

/** Fills in what most endpoints do not have. */
export function endpoint<Q = Record<string, never>, B = undefined, R = unknown>(
  definition: Definition<Q, B, R>,
): Endpoint<Q, B, R> {
  return { ...definition, query: definition.query ?? (NOTHING as unknown as z.ZodType<Q>), body: definition.body };
}

const MAX_PER_PAGE = 1_000;
const DEFAULT_PER_PAGE = 100;

/** `page` and `per_page` as every list takes them. */
export const PAGING = {
  page: z.coerce.number().int().min(1).max(1_000_000).default(1),
  per_page: z.coerce.number().int().min(1).max(MAX_PER_PAGE).default(DEFAULT_PER_PAGE),
} as const;

interface PagingQuery {
  readonly page: number;
  readonly per_page: number;
}

export function pageOf(query: PagingQuery): Page {
  return { offset: (query.page - 1) * query.per_page, limit: query.per_page };
}

/** A page of a list whose rest is known. */
export function paged<R>(items: readonly R[], total: number, query: PagingQuery): Reply<R[]> {
  return { result: [...items], paging: { page: query.page, perPage: query.per_page, total } };
}

/** Cuts a page out of a whole list. */
export function pageFrom<R>(items: readonly R[], query: PagingQuery): Reply<R[]> {
  const { offset, limit } = pageOf(query);
  return paged(items.slice(offset, offset + limit), items.length, query);
}

/** `true` and `false` of a query string; anything else is refused. */
export const Flag = z.enum(["true", "false"]).transform((text) => text === "true");
export const Uuid = z
  .string()
  .regex(/^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$/, "Must be a UUID")
  .transform((text) => text.toLowerCase());
/** RFC 3339, as ms since 1970. */
export const Time = z.iso
  .datetime({ offset: true, message: "Must be a time such as 2026-11-21T10:00:00Z" })
  .transform((text) => Date.parse(text));

/** A time as the API shows it; null for what did not happen. */
export function formatTime(ms: number | undefined): string | null {
  return ms === undefined ? null : new Date(ms).toISOString();
}
