import { createECDH, createPrivateKey, hkdfSync, type KeyObject } from "node:crypto";
import { SignJWT } from "jose";
import type { StoredTunnel } from "./store/port.ts";

/** How long a token for looking into a tunnel is good, in s. */
const LIFETIME_S = 3_600;

/** The key that signs management tokens, the same after each restart: it is derived from the edge's sealing key. */
export function managementKey(sealingKey: Uint8Array): KeyObject {
  const curve = createECDH("prime256v1");
  for (let turn = 0; ; turn += 1) {
    const seed = Buffer.from(hkdfSync("sha256", sealingKey, "", `culvert management token ${turn}`, 32));
    try {
      curve.setPrivateKey(seed);
    } catch {
      // One seed in 2^32 is no number of the curve.
      continue;
    }
    const point = curve.getPublicKey();
    const jwk = { kty: "EC", crv: "P-256", d: url(seed), x: url(point.subarray(1, 33)), y: url(point.subarray(33)) };
    return createPrivateKey({ key: jwk, format: "jwk" });
  }
}

/**
 * A token with which its holder may see into one tunnel (protocol: section 8). `actor`: who asked for it.
 * `managementUrl`: where it is taken, for clients of ours.
 */
export function signManagementToken(
  key: KeyObject,
  of: {
    readonly tunnel: StoredTunnel;
    readonly resources: readonly string[];
    readonly actor: string;
    readonly nowMs: number;
    readonly managementUrl?: string | undefined;
  },
): Promise<string> {
  const { tunnel, resources, actor, nowMs, managementUrl } = of;
  const nowS = Math.floor(nowMs / 1_000);
  return new SignJWT({
    tun: { id: tunnel.id, account_tag: tunnel.accountTag },
    actor: { id: actor, support: false },
    res: [...resources],
    ...(managementUrl === undefined ? {} : { mgmt: managementUrl }),
  })
    .setProtectedHeader({ alg: "ES256", typ: "JWT" })
    .setIssuer("tunnelstore")
    .setIssuedAt(nowS)
    .setExpirationTime(nowS + LIFETIME_S)
    .sign(key);
}

function url(bytes: Buffer): string {
  return bytes.toString("base64url");
}
