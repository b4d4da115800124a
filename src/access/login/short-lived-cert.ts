import type { Clock } from "../../core/clock.ts";
import { TunnelError } from "../../core/errors.ts";
import type { AppAddress } from "../address.ts";
import { LockFile } from "./lock-file.ts";
import type { Login } from "./login.ts";
import { certificateFor, generateSshKey, parseSshKey, type SshKey } from "./ssh-key.ts";
import type { TokenStore } from "./token-store.ts";

/**
 * Fetches a short-lived SSH certificate for an application and keeps it where cloudflared does, beside the key that it
 * is for: `HOST-cf_key`, `HOST-cf_key.pub` and `HOST-cf_key-cert.pub` (surface: section 5). The key is made once.
 * Rejects as `Login.certificate`, with `store.failed`, and with `edge.refused` for a certificate of another key.
 */
export async function fetchShortLivedCert(
  app: AppAddress,
  deps: { readonly login: Pick<Login, "certificate">; readonly store: TokenStore; readonly clock: Clock },
  signal: AbortSignal,
): Promise<void> {
  const { login, store, clock } = deps;
  const path = store.sshKeyPath(app);
  // Two that begin together must not end with the key of one and the certificate of the other.
  using _lock = await LockFile.acquire(path, { clock, onOther: () => {} }, signal);
  const key = ownKey(path, store);
  const certificate = certificateFor(key, await login.certificate(app, key.publicKey, signal));
  if (certificate === undefined) throw new TunnelError("edge.refused", "What was given is no certificate for this key");
  store.write(`${path}-cert.pub`, certificate);
}

/** A key of another kind may be dear to somebody: it is not written over. */
function ownKey(path: string, store: TokenStore): SshKey {
  const pem = store.read(path);
  const kept = pem === undefined ? undefined : parseSshKey(pem);
  if (pem !== undefined && kept === undefined) {
    throw new TunnelError("store.failed", `${path} is not a P-256 key in PEM: remove it, and another one is made`);
  }
  const key = kept ?? generateSshKey();
  if (kept === undefined) store.write(path, key.privateKey);
  store.write(`${path}.pub`, key.publicKey);
  return key;
}
