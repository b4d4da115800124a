import { TunnelError } from "../../core/errors.ts";

/** Numbers as Cloudflare's API has them. Where it has none that we know of, the nearest of these stands. */
export const CODE = {
  invalid: 1001,
  hostnameTaken: 1003,
  /** Also whatever else is there already or in use, unless it has a number of its own. */
  nameTaken: 1013,
  activeConnections: 1022,
  notFound: 1003,
  unroutable: 7003,
  routeTaken: 1014,
  routeMissing: 1015,
  networkInUse: 1016,
  forbidden: 9109,
  unauthorized: 10_000,
  tooLarge: 10_005,
  rateLimited: 971,
  failed: 10_013,
} as const;

export type ProblemStatus = 400 | 401 | 403 | 404 | 405 | 409 | 413 | 415 | 429 | 500 | 503 | 507;

/** What a call is refused with. The message is for whoever called, and holds no secret. */
export class Problem extends Error {
  override readonly name = "Problem";
  readonly status: ProblemStatus;
  readonly code: number;
  /** Header fields of the answer. */
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: ProblemStatus, code: number, message: string, headers: Readonly<Record<string, string>> = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.headers = headers;
  }
}

export function forbidden(message: string): Problem {
  return new Problem(403, CODE.forbidden, message);
}

export function notFound(what: string, code: number = CODE.notFound): Problem {
  return new Problem(404, code, `${what} not found`);
}

/** Does what may run into something else; that is told by this number then. */
export function withConflict<T>(code: number, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof TunnelError) || error.code !== "store.conflict") throw error;
    throw new Problem(409, code, error.message);
  }
}

/** Turns anything thrown into what the caller may know; undefined = a fault of our own, for the log. */
export function toProblem(thrown: unknown): Problem | undefined {
  if (thrown instanceof Problem) return thrown;
  if (!(thrown instanceof TunnelError)) return undefined;
  switch (thrown.code) {
    case "store.conflict":
      return new Problem(409, CODE.nameTaken, thrown.message);
    case "store.missing":
      return new Problem(404, CODE.notFound, thrown.message);
    case "store.full":
      return new Problem(507, CODE.failed, "The edge's disk is full: nothing was changed");
    case "config.invalid":
      return new Problem(400, CODE.invalid, thrown.message);
    case "store.failed":
      if (thrown.retry !== "same") return undefined;
      return new Problem(503, CODE.failed, "The edge's database is busy: try again", { "Retry-After": "1" });
    default:
      return undefined;
  }
}
