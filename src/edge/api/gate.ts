import type { Clock } from "../../core/clock.ts";
import type { Logger } from "../../core/log.ts";
import { ipGroup } from "../../wire/ip-bytes.ts";
import type { ApiToken, Store } from "../store/port.ts";
import { authenticate } from "./access.ts";
import { Problem } from "./problem.ts";
import { type CallBudget, callLimit, failureLimit, refreshLimit } from "./rate-limit.ts";

/** Lets callers in by their tokens, and counts what they ask. */
export class Gate {
  readonly #deps: { readonly store: Store; readonly clock: Clock; readonly log: Logger };
  readonly #budgets = { calls: callLimit(), refreshes: refreshLimit() } as const;
  readonly #failures = failureLimit();

  constructor(deps: { readonly store: Store; readonly clock: Clock; readonly log: Logger }) {
    this.#deps = deps;
  }

  /**
   * Whose token this `Authorization` is. Throws a Problem of 401, or of 429 for a token that asks too much and for an
   * address that has been wrong too often. A good token passes from there all the same: secrets are too long to be
   * guessed, and somebody's forgotten script must not lock its whole network out.
   */
  caller(authorization: string | undefined, ip: string, budget: CallBudget = "calls"): ApiToken {
    const { store, clock, log } = this.#deps;
    const nowMs = clock.wallMs();
    let token: ApiToken;
    try {
      token = authenticate(store, authorization, nowMs);
    } catch (error) {
      if (error instanceof Problem) {
        const left = this.#failures.count(ipGroup(ip), nowMs);
        if (left === 0) log.warn("An address keeps asking the API with wrong tokens", { ip });
      }
      throw error;
    }
    this.#budgets[budget].count(token.id, nowMs);
    return token;
  }
}
