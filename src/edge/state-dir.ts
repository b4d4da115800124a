import { createPrivateKey, hkdfSync, randomBytes, X509Certificate } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, systemCode, TunnelError } from "../core/errors.ts";
import { writeBeside } from "../core/whole-file.ts";
import {
  type CertifiedKey,
  createAuthority,
  createAuthorityKey,
  createEdgeCertificate,
  needsRenewal,
} from "./certificates.ts";
import { refuseHalfRestored } from "./restore-journal.ts";
import { asOwnerOf } from "./store/folder-owner.ts";
import { placeFile, writeWhole } from "./store/place-file.ts";

const SEALING_KEY_BYTES = 32;

/** What an edge keeps in its state directory, beside the database. */
export interface EdgeState {
  readonly dir: string;
  readonly databasePath: string;
  readonly caPath: string;
  readonly authority: CertifiedKey;
  /** Seals tunnel secrets at rest (AES-256). */
  readonly sealingKey: Uint8Array;
  /** What was made just now, for people to read: empty when everything was there. */
  readonly created: readonly string[];
}

/**
 * Opens the state directory, making what is missing: the directory (0700), the authority, the sealing key. Files are
 * written whole or not at all, readable by the owner only (ca.pem excepted). Throws `store.failed` with one clear line.
 */
export function openStateDir(dir: string, nowMs: number): EdgeState {
  return asOwnerOf(dir, () => open(dir, nowMs));
}

function open(dir: string, nowMs: number): EdgeState {
  const created: string[] = [];
  try {
    if (!existsSync(dir)) {
      mkdirSync(dir, { recursive: true, mode: 0o700 });
      created.push(`state directory ${dir}`);
    } else if (!statSync(dir).isDirectory()) {
      throw new TunnelError("store.failed", `Cannot use state directory "${dir}": it is not a directory`);
    }
    const path = (name: string): string => join(dir, name);
    refuseHalfRestored(dir);
    refuseLosses(path);
    const key = keep(path("ca.key"), 0o600, createAuthorityKey).text;
    const ca = keep(path("ca.pem"), 0o644, () => createAuthority(nowMs, key).cert);
    if (ca.made) created.push(`certificate authority ${path("ca.pem")}`);
    const authority = { cert: ca.text, key };
    if (!matches(authority)) {
      throw new TunnelError("store.failed", `Cannot use "${path("ca.key")}": it is not the key of ca.pem beside it`);
    }
    const sealing = keep(path("seal.key"), 0o600, () => `${randomBytes(SEALING_KEY_BYTES).toString("base64")}\n`);
    if (sealing.made) created.push("sealing key");
    const sealingKey = Buffer.from(sealing.text.trim(), "base64");
    if (sealingKey.length !== SEALING_KEY_BYTES) {
      throw new TunnelError("store.failed", `Cannot use "${path("seal.key")}": it does not hold a key of 32 bytes`);
    }
    return { dir, databasePath: path("culvert.db"), caPath: path("ca.pem"), authority, sealingKey, created };
  } catch (error) {
    throw stateDirError(dir, error);
  }
}

/** What proves to connectors, after a restart, that their QUIC connections are gone (RFC 9000 section 10.3). */
export function resetKey(state: EdgeState): Uint8Array {
  return new Uint8Array(hkdfSync("sha256", state.sealingKey, "", "culvert quic stateless reset", SEALING_KEY_BYTES));
}

/** Makes what cookies call the tunnels of a load balancer: the same after a restart. */
export function cookieKey(state: EdgeState): Uint8Array {
  return new Uint8Array(hkdfSync("sha256", state.sealingKey, "", "culvert balancer cookies", SEALING_KEY_BYTES));
}

/** Signs what the edge tells webhooks; as text, which is what whoever checks it has. */
export function webhookSecret(state: EdgeState): string {
  return Buffer.from(hkdfSync("sha256", state.sealingKey, "", "culvert webhooks", SEALING_KEY_BYTES)).toString("hex");
}

/** Making anew what others depend on would cut them off without a word; its owner may still have a copy. */
function refuseLosses(path: (name: string) => string): void {
  for (const [lost, remains, use] of [
    ["ca.key", "ca.pem", "connectors trust the authority of"],
    ["seal.key", "culvert.db", "it seals the secrets in"],
  ] as const) {
    // In this order: another process that starts now makes the one that may be lost first.
    if (!existsSync(path(remains)) || existsSync(path(lost))) continue;
    const advice = `put it back, or remove ${remains} to start over`;
    throw new TunnelError("store.failed", `Cannot find "${path(lost)}", but ${use} ${remains}: ${advice}`);
  }
}

/**
 * The content of a file, which is made when it is missing. Of several processes that start on an empty directory one
 * makes it, and all use the same.
 */
function keep(path: string, mode: number, make: () => string): { text: string; made: boolean } {
  if (existsSync(path)) return { text: readFileSync(path, "utf8"), made: false };
  const text = make();
  if (placeFile(writeBeside(path, text, { mode }), path)) return { text, made: true };
  return { text: readFileSync(path, "utf8"), made: false };
}

/** The edge's certificate for these names, from the directory or made anew when it is missing or runs out. */
export function loadEdgeCertificate(
  state: EdgeState,
  names: readonly string[],
  nowMs: number,
): { certificate: CertifiedKey; renewed: boolean } {
  const certPath = join(state.dir, "edge.pem");
  const keyPath = join(state.dir, "edge.key");
  try {
    if (existsSync(certPath) && existsSync(keyPath)) {
      const current = { cert: readFileSync(certPath, "utf8"), key: readFileSync(keyPath, "utf8") };
      if (matches(current) && !needsRenewal(current, state.authority, names, nowMs)) {
        return { certificate: current, renewed: false };
      }
    }
    const certificate = createEdgeCertificate(state.authority, names, nowMs);
    writeWhole(keyPath, certificate.key, 0o600);
    writeWhole(certPath, certificate.cert, 0o644);
    return { certificate, renewed: true };
  } catch (error) {
    throw stateDirError(state.dir, error);
  }
}

/** Writes down where the running edge is reached, for tokens made by other processes. */
export function saveAdvertised(state: EdgeState, addresses: readonly string[]): void {
  try {
    writeWhole(join(state.dir, "advertised.json"), `${JSON.stringify(addresses)}\n`, 0o600);
  } catch (error) {
    throw stateDirError(state.dir, error);
  }
}

/** The addresses an edge on this directory was last reached at; empty when none has run yet. */
export function loadAdvertised(state: EdgeState): readonly string[] {
  try {
    const addresses: unknown = JSON.parse(readFileSync(join(state.dir, "advertised.json"), "utf8"));
    return Array.isArray(addresses) ? addresses.filter((address) => typeof address === "string") : [];
  } catch {
    return [];
  }
}

/** False for a pair of which only one half was replaced before a crash. */
function matches(pair: CertifiedKey): boolean {
  try {
    return new X509Certificate(pair.cert).checkPrivateKey(createPrivateKey(pair.key));
  } catch {
    return false;
  }
}

/** One clear line for whatever goes wrong in the state directory. */
export function stateDirError(dir: string, error: unknown): TunnelError {
  if (error instanceof TunnelError) return error;
  const code = systemCode(error);
  const why =
    code === "EACCES" || code === "EPERM"
      ? "permission denied; run as its owner or choose another directory"
      : code === "ENOSPC"
        ? "no space left on the device"
        : code === "EROFS"
          ? "the file system is read-only"
          : code === "ENOTDIR"
            ? "part of the path is not a directory"
            : describe(error);
  return new TunnelError("store.failed", `Cannot use state directory "${dir}": ${why}`, { cause: error });
}
