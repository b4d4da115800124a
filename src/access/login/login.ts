import type { Clock } from "../../core/clock.ts";
import { TunnelError } from "../../core/errors.ts";
import type { AppAddress } from "../address.ts";
import type { DialSettings } from "../dialler.ts";
import { isLoginRedirect, loginNeeded } from "../refusal.ts";
import type { AccessLogin } from "../stream.ts";
import { fetchAppInfo } from "./app-info.ts";
import { type Asking, ask } from "./ask.ts";
import { LockFile } from "./lock-file.ts";
import { exchangeOrgToken } from "./org-exchange.ts";
import { signKey } from "./sign-key.ts";
import { type AppInfo, TokenStore } from "./token-store.ts";
import { type TransferOptions, transferTokens } from "./transfer.ts";

const CHECK_TIMEOUT_MS = 5_000;

export interface LoginOptions extends Pick<TransferOptions, "fedramp" | "autoClose" | "hostOnly"> {
  readonly homeDir: string;
  readonly dialling: DialSettings;
  /** Tells the person what to do. */
  readonly say: (text: string) => void;
}

/** A login that several streams wait for: it ends when none of them does any more. */
interface SharedLogin {
  readonly token: Promise<string>;
  readonly stop: AbortController;
  waiting: number;
}

/** Tokens of applications behind Access: from disk, from the organisation's token, or from a login in a browser. */
export class Login implements AccessLogin {
  readonly #options: LoginOptions;
  readonly #clock: Clock;
  readonly #store: TokenStore;
  /** One login at a time for each application, however many streams wait for it. */
  readonly #running = new Map<string, SharedLogin>();

  constructor(options: LoginOptions, clock: Clock) {
    this.#options = options;
    this.#clock = clock;
    this.#store = new TokenStore(options.homeDir, () => clock.wallMs());
  }

  async token(app: AppAddress, signal: AbortSignal): Promise<string> {
    const key = app.authority + app.target;
    let shared = this.#running.get(key);
    if (shared === undefined) {
      const stop = new AbortController();
      const token = this.#obtain(app, stop.signal).finally(() => this.#running.delete(key));
      shared = { token, stop, waiting: 0 };
      this.#running.set(key, shared);
    }
    shared.waiting += 1;
    try {
      return await untilAborted(shared.token, signal);
    } finally {
      shared.waiting -= 1;
      if (shared.waiting === 0) shared.stop.abort();
    }
  }

  async forget(app: AppAddress, signal: AbortSignal): Promise<void> {
    this.#store.removeAppToken(await this.#info(app, signal));
  }

  /** The token on disk; undefined when there is none. Rejects as `fetchAppInfo`. */
  async stored(app: AppAddress, signal: AbortSignal): Promise<string | undefined> {
    return this.#store.readAppToken(await this.#info(app, signal));
  }

  /** A token that the application takes; one that it does not take is replaced once. */
  async verified(app: AppAddress, signal: AbortSignal): Promise<string> {
    const first = await this.token(app, signal);
    if (await this.#isTaken(app, first, signal)) return first;
    await this.forget(app, signal);
    const second = await this.token(app, signal);
    if (await this.#isTaken(app, second, signal)) return second;
    throw loginNeeded(app, "it does not take the token");
  }

  /**
   * A short-lived certificate for a public key in OpenSSH's form. A token that is not taken is replaced once. Rejects as
   * `signKey`.
   */
  async certificate(app: AppAddress, publicKey: string, signal: AbortSignal): Promise<string> {
    const info = await this.#info(app, signal);
    const sign = async () => await signKey(info, await this.token(app, signal), publicKey, this.#asking(signal));
    const first = await sign();
    if (first.kind === "signed") return first.certificate;
    this.#store.removeAppToken(info);
    const second = await sign();
    if (second.kind === "signed") return second.certificate;
    throw second.error;
  }

  #asking(signal: AbortSignal): Asking {
    return { dialling: this.#options.dialling, clock: this.#clock, signal };
  }

  #info(app: AppAddress, signal: AbortSignal): Promise<AppInfo> {
    return fetchAppInfo(app, this.#asking(signal), this.#store);
  }

  async #isTaken(app: AppAddress, token: string, signal: AbortSignal): Promise<boolean> {
    const target = `${app.target}${app.target.includes("?") ? "&" : "?"}cloudflared_token_check=true`;
    const answer = await ask(this.#asking(signal), {
      app: { ...app, target },
      method: "GET",
      headers: ["Cf-Access-Token", token],
      wantBody: false,
      timeoutMs: CHECK_TIMEOUT_MS,
    });
    return !isLoginRedirect(answer.status, answer.headers);
  }

  async #obtain(app: AppAddress, signal: AbortSignal): Promise<string> {
    const store = this.#store;
    const info = await this.#info(app, signal);
    const kept = store.readAppToken(info);
    if (kept !== undefined) return kept;
    const path = store.appTokenPath(info);
    using appLock = await this.#lock(path, signal);
    const other = store.readAppToken(info);
    if (other !== undefined) return other;

    const orgPath = store.orgTokenPath(info.authDomain);
    let orgToken = store.readOrgToken(info.authDomain);
    // A second application of the organisation waits here for the login of the first.
    using orgLock = orgToken === undefined ? await this.#lock(orgPath, signal) : undefined;
    if (orgLock !== undefined) orgToken = store.readOrgToken(info.authDomain);
    if (orgToken !== undefined) {
      const exchanged = await exchangeOrgToken(app, info, orgToken, this.#asking(signal)).catch((error: unknown) => {
        if (error instanceof TunnelError && error.code !== "aborted") return undefined;
        throw error;
      });
      if (exchanged !== undefined) {
        store.write(path, exchanged);
        return exchanged;
      }
    }
    const onUrl = (url: string): void => {
      appLock.publishUrl(url);
      orgLock?.publishUrl(url);
      this.#options.say(`Open this page in a browser and log in; culvert waits for the token:\n\n${url}\n`);
    };
    const tokens = await transferTokens(app, info, { ...this.#options, onUrl }, this.#asking(signal));
    if (tokens.orgToken !== undefined) store.write(orgPath, tokens.orgToken);
    store.write(path, tokens.appToken);
    return tokens.appToken;
  }

  #lock(path: string, signal: AbortSignal): Promise<LockFile> {
    const onOther = (url: string, pid: number): void => {
      this.#options.say(`Process ${pid} waits for the same login already. Log in at its page:\n\n${url}\n`);
    };
    return LockFile.acquire(path, { clock: this.#clock, onOther }, signal);
  }
}

function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(new TunnelError("aborted", "Given up"));
    if (signal.aborted) onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}
