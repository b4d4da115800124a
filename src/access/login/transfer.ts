import nacl from "tweetnacl";
import { delay } from "../../core/clock.ts";
import { TunnelError } from "../../core/errors.ts";
import { decodeBytes, encodeBytes } from "../../wire/base64.ts";
import { headerValue } from "../../wire/headers.ts";
import { type AppAddress, originOf } from "../address.ts";
import { type Asking, ask } from "./ask.ts";
import { parseJwt, parseObject } from "./jwt.ts";
import type { AppInfo } from "./token-store.ts";

const STORE_HOST = "login.cloudflareaccess.org";
const FEDRAMP_STORE_HOST = "login.fed.cloudflareaccess.org";
/** The service holds a question for up to a minute, in ms. */
const POLL_TIMEOUT_MS = 75_000;
/** Wait between questions that were answered at once, in ms. */
const POLL_PAUSE_MS = 1_000;
/** How long somebody may take to log in, in ms. */
const LOGIN_MS = 10 * 60_000;

/** What a login gives: a token of the application, and one of the organisation for its others. */
export interface Tokens {
  readonly appToken: string;
  readonly orgToken: string | undefined;
}

export interface TransferOptions {
  /** FedRAMP has a service of its own. */
  readonly fedramp: boolean;
  /** The browser's window closes itself after the login. */
  readonly autoClose: boolean;
  /** True = the login leads back to the application's first page. */
  readonly hostOnly: boolean;
  /** Gets the page to open. */
  readonly onUrl: (url: string) => void;
}

/**
 * Lets a person log in with a browser anywhere, and waits for the tokens, which the transfer service holds sealed for
 * our key alone (protocol: section 9). Rejects with `timeout`, `aborted`, `edge.refused` or as `exchange`.
 */
export async function transferTokens(
  app: AppAddress,
  info: AppInfo,
  options: TransferOptions,
  asking: Asking,
): Promise<Tokens> {
  // A key is a name as well: whoever knew it could fetch what is meant for us. So it is fresh each time, and never kept.
  const pair = nacl.box.keyPair();
  const name = toBase64Url(pair.publicKey);
  options.onUrl(loginUrl(app, info.audience, name, options));
  const host = options.fedramp ? FEDRAMP_STORE_HOST : STORE_HOST;
  const store: AppAddress = { secure: true, host, port: 443, authority: host, target: `/transfer/${name}` };
  const { sealed, senderKey } = await poll(store, asking);
  const opened =
    sealed.length <= nacl.box.nonceLength || senderKey?.length !== nacl.box.publicKeyLength
      ? null
      : nacl.box.open(
          sealed.subarray(nacl.box.nonceLength),
          sealed.subarray(0, nacl.box.nonceLength),
          senderKey,
          pair.secretKey,
        );
  const tokens = opened === null ? undefined : parseObject(new TextDecoder().decode(opened));
  const appToken = tokens?.["app_token"];
  const orgToken = tokens?.["org_token"];
  if (typeof appToken !== "string" || parseJwt(appToken) === undefined) {
    throw new TunnelError("edge.refused", `${host} sent tokens that cannot be read`);
  }
  return {
    appToken,
    orgToken: typeof orgToken === "string" && parseJwt(orgToken) !== undefined ? orgToken : undefined,
  };
}

/** The page where a person logs in. */
export function loginUrl(
  app: AppAddress,
  audience: string,
  key: string,
  options: Pick<TransferOptions, "autoClose" | "hostOnly">,
): string {
  const back = new URL(originOf(app) + app.target);
  back.searchParams.set("token", key);
  back.searchParams.set("aud", audience);
  if (options.hostOnly) back.pathname = "";
  const url = new URL(back);
  url.pathname = "/cdn-cgi/access/cli";
  url.searchParams.set("redirect_url", back.href);
  url.searchParams.set("send_org_token", "true");
  url.searchParams.set("edge_token_transfer", "true");
  if (options.autoClose) url.searchParams.set("close_interstitial", "true");
  url.searchParams.sort();
  return url.href;
}

async function poll(
  store: AppAddress,
  asking: Asking,
): Promise<{ readonly sealed: Uint8Array; readonly senderKey: Uint8Array | undefined }> {
  const endMs = asking.clock.nowMs() + LOGIN_MS;
  while (asking.clock.nowMs() < endMs) {
    const request = { app: store, method: "GET", headers: [], wantBody: true, timeoutMs: POLL_TIMEOUT_MS } as const;
    const answer = await ask(asking, request).catch((error: unknown) => {
      if (error instanceof TunnelError && error.code === "timeout") return undefined;
      throw error;
    });
    if (answer !== undefined && answer.status >= 500) {
      throw new TunnelError("edge.refused", `${store.host} answered ${answer.status}`);
    }
    if (answer?.status === 200 && answer.body.length > 0) {
      const sealed = decodeBytes(new TextDecoder().decode(answer.body).trim());
      return {
        sealed: sealed ?? new Uint8Array(0),
        senderKey: fromBase64Url(headerValue(answer.headers, "service-public-key") ?? ""),
      };
    }
    if (!(await delay(asking.clock, POLL_PAUSE_MS, asking.signal))) throw new TunnelError("aborted", "Given up");
  }
  throw new TunnelError("timeout", "Nobody logged in within ten minutes");
}

/** With padding, as Go's `base64.URLEncoding` writes it. */
function toBase64Url(bytes: Uint8Array): string {
  return encodeBytes(bytes).replaceAll("+", "-").replaceAll("/", "_");
}

function fromBase64Url(text: string): Uint8Array | undefined {
  return decodeBytes(text.replaceAll("-", "+").replaceAll("_", "/"));
}
