import { TunnelError } from "../../core/errors.ts";
import { printable } from "../../core/printable.ts";
import { type Asking, ask } from "./ask.ts";
import { parseJwt, parseObject } from "./jwt.ts";
import type { AppInfo } from "./token-store.ts";

const TARGET = "/cdn-cgi/access/cert_sign";
const TIMEOUT_MS = 10_000;
/** Answers that another token may change. */
const TOKEN_STATUSES: ReadonlySet<number> = new Set([400, 401, 403]);
const MAX_MESSAGE_CHARS = 200;

export type Signed =
  | { readonly kind: "signed"; readonly certificate: string }
  /** The organisation does not take the token. */
  | { readonly kind: "refused"; readonly error: TunnelError };

/**
 * Asks an organisation for a short-lived certificate of a public key (surface: section 5). The token goes to the
 * organisation that vouches for the application and to nobody else, whatever issuer the token names. Rejects as
 * `exchange`, and with `edge.refused` for an answer that holds no certificate.
 */
export async function signKey(info: AppInfo, token: string, publicKey: string, asking: Asking): Promise<Signed> {
  const { authDomain } = info;
  const issuer = `https://${authDomain}`;
  const named = parseJwt(token)?.claims["iss"];
  if (named !== issuer) {
    throw new TunnelError(
      "edge.refused",
      `The token is not of ${issuer}, where the application's certificates come from`,
    );
  }
  const { status, body } = await ask(asking, {
    app: { secure: true, host: authDomain, port: 443, authority: authDomain, target: TARGET },
    method: "POST",
    headers: ["Content-Type", "application/json"],
    body: new TextEncoder().encode(JSON.stringify({ public_key: publicKey, jwt: token, issuer })),
    wantBody: true,
    timeoutMs: TIMEOUT_MS,
  });
  const answer = parseObject(new TextDecoder().decode(body)) ?? {};
  const certificate = answer["certificate"];
  if (status === 200 && typeof certificate === "string") return { kind: "signed", certificate };
  const text = typeof answer["message"] === "string" ? printable(answer["message"].slice(0, MAX_MESSAGE_CHARS)) : "";
  const why = text === "" ? `status ${status}` : `status ${status}, "${text}"`;
  const error = new TunnelError("edge.refused", `${issuer} gave no certificate (${why})`);
  if (TOKEN_STATUSES.has(status)) return { kind: "refused", error };
  throw error;
}
