import { createPrivateKey, randomBytes, X509Certificate } from "node:crypto";
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { describe, systemCode, TunnelError } from "../core/errors.ts";
import { type CertifiedKey, createAuthority, createEdgeCertificate, needsRenewal } from "./certificates.ts";

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
  const created: string[] = [];
  try {
    if (!existsSync(dir)) {
      mkdirSync(dir, { recursive: true, mode: 0o700 });
      created.push(`state directory ${dir}`);
    } else if (!statSync(dir).isDirectory()) {
      throw new TunnelError("store.failed", `Cannot use state directory "${dir}": it is not a directory`);
    }
    const path = (name: string): string => join(dir, name);
    if (!existsSync(path("ca.pem")) || !existsSync(path("ca.key"))) {
      const authority = createAuthority(nowMs);
      writeWhole(path("ca.key"), authority.key, 0o600);
      writeWhole(path("ca.pem"), authority.cert, 0o644);
      created.push(`certificate authority ${path("ca.pem")}`);
    }
    if (!existsSync(path("seal.key"))) {
      writeWhole(path("seal.key"), `${randomBytes(SEALING_KEY_BYTES).toString("base64")}\n`, 0o600);
      created.push("sealing key");
    }
    const sealingKey = Buffer.from(readFileSync(path("seal.key"), "utf8").trim(), "base64");
    if (sealingKey.length !== SEALING_KEY_BYTES) {
      throw new TunnelError("store.failed", `Cannot use "${path("seal.key")}": it does not hold a key of 32 bytes`);
    }
    const authority = { cert: readFileSync(path("ca.pem"), "utf8"), key: readFileSync(path("ca.key"), "utf8") };
    createPrivateKey(authority.key);
    return { dir, databasePath: path("culvert.db"), caPath: path("ca.pem"), authority, sealingKey, created };
  } catch (error) {
    throw readable(dir, error);
  }
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
    throw readable(state.dir, error);
  }
}

/** Writes down where the running edge is reached, for tokens made by other processes. */
export function saveAdvertised(state: EdgeState, addresses: readonly string[]): void {
  try {
    writeWhole(join(state.dir, "advertised.json"), `${JSON.stringify(addresses)}\n`, 0o600);
  } catch (error) {
    throw readable(state.dir, error);
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

function writeWhole(path: string, text: string, mode: number): void {
  const temporary = `${path}.${process.pid}.tmp`;
  const file = openSync(temporary, "w", mode);
  try {
    writeSync(file, text);
    fsyncSync(file);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  } finally {
    closeSync(file);
  }
  renameSync(temporary, path);
}

function readable(dir: string, error: unknown): TunnelError {
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
