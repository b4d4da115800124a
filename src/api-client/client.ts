import { z } from "zod";
import { systemCode, TunnelError } from "../core/errors.ts";
import { type JsonAnswer, sendJson } from "./http-json.ts";

/** Where Cloudflare's API is; `--api-url` names another one, such as that of an edge of one's own. */
export const CLOUDFLARE_API = "https://api.cloudflare.com/client/v4";
/** The same for accounts of the US government. */
export const FEDRAMP_API = "https://api.fed.cloudflare.com/client/v4";

/** Bound on one request, in ms (protocol: section 10). */
const TIMEOUT_MS = 15_000;
/** Pages of one list; whoever has more has a server that does not count. */
const MAX_PAGES = 1_000;

export interface ApiClientOptions {
  /** With the path in front of `/accounts`. */
  readonly baseUrl: string;
  readonly token: string;
  readonly accountId: string;
  readonly zoneId: string;
  /** PEM text of the authorities to trust; undefined = the system's. */
  readonly ca: string | undefined;
  readonly userAgent: string;
  readonly signal: AbortSignal;
  /** Entries of one page that are asked for. @default as the server likes */
  readonly pageSize?: number;
}

export type Query = Readonly<Record<string, string | number | boolean | undefined>>;

/** A list of the server's own problems, as Cloudflare's envelope has it. */
const Problems = z.array(z.object({ code: z.number().optional(), message: z.string() })).nullish();

const Envelope = z.object({
  success: z.boolean(),
  errors: Problems,
  messages: z.unknown(),
  result: z.unknown(),
  result_info: z.object({ count: z.number(), total_count: z.number() }).partial().nullish(),
});
type Envelope = z.infer<typeof Envelope>;

/** The management API of Cloudflare, or of an edge that answers as it does (protocol: section 10). */
export class ApiClient {
  readonly #options: ApiClientOptions;

  constructor(options: ApiClientOptions) {
    this.#options = options;
  }

  /** Path in front of everything an account owns. */
  get account(): string {
    return `/accounts/${encodeURIComponent(this.#options.accountId)}`;
  }

  /** False = it is that of an edge of somebody's own. */
  get isCloudflare(): boolean {
    return [CLOUDFLARE_API, FEDRAMP_API].includes(this.#options.baseUrl);
  }

  /** The authority that vouches for the API, in PEM; undefined = the system's. */
  get ca(): string | undefined {
    return this.#options.ca;
  }

  get zone(): string {
    return `/zones/${encodeURIComponent(this.#options.zoneId)}`;
  }

  /**
   * One call, and its result as `schema` has it. Rejects with `api.unauthorized`, `api.missing`, `api.conflict`,
   * `api.refused` for what the server says no to, `api.failed` for answers that mean nothing, and as `sendJson`.
   */
  async call<T>(
    method: string,
    path: string,
    schema: z.ZodType<T>,
    details: { readonly query?: Query; readonly body?: unknown } = {},
  ): Promise<T> {
    const { result } = await this.#send(method, path, details.query ?? {}, details.body);
    return this.#read(schema, result, path);
  }

  /** All pages of a list, to the last. */
  async list<T>(path: string, schema: z.ZodType<T>, query: Query = {}): Promise<readonly T[]> {
    const found: T[] = [];
    for (let page = 1; page <= MAX_PAGES; page += 1) {
      const paging = { page, per_page: this.#options.pageSize };
      const { result, result_info: info } = await this.#send("GET", path, { ...query, ...paging }, undefined);
      const items = this.#read(z.array(schema).nullable(), result, path) ?? [];
      found.push(...items);
      const total = info?.total_count ?? 0;
      // Cloudflare counts a page's entries in `count`; a server without either sends all at once.
      if (items.length === 0 || found.length >= total) return found;
    }
    throw new TunnelError("api.failed", `The API's list ${path} does not end`);
  }

  async #send(method: string, path: string, query: Query, body: unknown): Promise<Envelope> {
    const { baseUrl, token, ca, userAgent, signal } = this.#options;
    const url = new URL(baseUrl.replace(/\/+$/, "") + path);
    for (const [name, value] of Object.entries(query)) {
      if (value !== undefined) url.searchParams.set(name, String(value));
    }
    const answer = await sendJson({
      method,
      url,
      headers: {
        authorization: `Bearer ${token}`,
        accept: "application/json;version=1",
        "user-agent": userAgent,
        ...(body === undefined ? {} : { "content-type": "application/json" }),
      },
      body: body === undefined ? undefined : JSON.stringify(body),
      ca,
      timeoutMs: TIMEOUT_MS,
      signal,
    }).catch((error: unknown) => {
      throw withHint(error, url);
    });
    return readEnvelope(answer, url);
  }

  #read<T>(schema: z.ZodType<T>, value: unknown, path: string): T {
    const read = schema.safeParse(value);
    if (read.success) return read.data;
    const [issue] = read.error.issues;
    const where = issue === undefined || issue.path.length === 0 ? "" : ` at "${issue.path.join(".")}"`;
    throw new TunnelError("api.failed", `The API's answer to ${path} is not what was expected${where}`);
  }
}

/** Codes with which a server hangs up on clear text that speaks TLS, or is just being restarted; of Node and of Bun. */
const HUNG_UP = /^(?:ECONNRESET|EPIPE|HPE_|ConnectionClosed)/;

/** Servers with TLS hang up on clear text, which says nothing to anybody: an `http:` address in cert.pem may be out of date. */
function withHint(error: unknown, url: URL): unknown {
  if (!(error instanceof TunnelError) || error.code !== "api.unreachable" || url.protocol !== "http:") return error;
  if (!HUNG_UP.test(systemCode(error.cause) ?? "")) return error;
  const { code, message, retry, cause } = error;
  const renew = `culvert edge init --force --api-url https://${url.host}`;
  const hint = `see that the edge runs; if it does, it may speak TLS now, and ${renew} on its machine makes a cert.pem for that`;
  return new TunnelError(code, `${message}; ${hint}`, { retry, cause });
}

function readEnvelope(answer: JsonAnswer, url: URL): Envelope {
  const envelope = parse(answer);
  if (answer.status === 200 && envelope?.success === true && (envelope.errors ?? []).length === 0) return envelope;
  const said = (envelope?.errors ?? []).map(({ code, message }) =>
    code === undefined ? message : `${message} (code ${code})`,
  );
  const why = said.length === 0 ? "" : `: ${said.join("; ")}`;
  switch (answer.status) {
    case 401:
    case 403:
      throw new TunnelError(
        "api.unauthorized",
        `The API at ${url.origin} does not accept the token of cert.pem for this${why}. Log in again, or ask for a token that may do it`,
      );
    case 404:
      throw new TunnelError("api.missing", `Not found at the API${why}`);
    case 409:
      throw new TunnelError("api.conflict", `The API refuses${why === "" ? ": it exists already" : why}`);
    case 429:
      throw new TunnelError("api.refused", `The API at ${url.origin} has too many requests of yours: wait a minute`);
    default:
      if (said.length > 0) throw new TunnelError("api.refused", `The API refuses${why}`);
      throw new TunnelError(
        "api.failed",
        `The API at ${url.origin} answered ${answer.status} and nothing to go by${envelope === undefined ? ": it may be something else that listens there" : ""}`,
      );
  }
}

function parse(answer: JsonAnswer): Envelope | undefined {
  if (answer.contentType !== "application/json") return undefined;
  try {
    return Envelope.safeParse(JSON.parse(answer.text)).data;
  } catch {
    return undefined;
  }
}
