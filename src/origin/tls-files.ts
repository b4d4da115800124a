import { type Dirent, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { createSecureContext } from "node:tls";
import type { Clock } from "../core/clock.ts";
import { describe, systemCode, TunnelError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import { systemAuthorities } from "../net/authorities.ts";

/** Files are looked at when a connection is made, and at most this often, in ms. */
export const RECHECK_MS = 1_000;

/** Files of a folder that are read; the rest, by name, is left out. */
export const MAX_POOL_FILES = 512;

const CERTIFICATE_FILE = /\.(?:pem|crt|cer)$/i;
const CERTIFICATE = "-----BEGIN CERTIFICATE-----";

/** Where the PEM files of a service are; empty = none. */
export interface TlsPaths {
  /** A file, or a folder whose `.pem`, `.crt` and `.cer` files count. Trusted besides the system's authorities. */
  readonly caPool: string;
  /** Our own certificate and key, for services that ask who comes; both or neither. */
  readonly clientCert: string;
  readonly clientKey: string;
}

/** What a connection is made with, PEM. */
export interface TlsMaterial {
  /** Goes up whenever something changed. */
  readonly version: number;
  readonly ca: string | undefined;
  readonly cert: string | undefined;
  readonly key: string | undefined;
}

export interface TlsFilesDeps {
  readonly clock: Clock;
  /** Gives a file's text; throws as `node:fs` does. */
  readonly readFile: (path: string) => string;
  readonly log?: Logger | undefined;
}

/**
 * The PEM files of a service, read again when they change: renewals must not need a restart. Files that cannot be used
 * are reported, and what was read before stays in use. The constructor throws `config.invalid`.
 */
export class TlsFiles {
  readonly #paths: TlsPaths;
  readonly #deps: TlsFilesDeps;
  #material: TlsMaterial;
  #stamp: string;
  #nextCheckMs: number;

  constructor(paths: TlsPaths, deps: TlsFilesDeps) {
    this.#paths = paths;
    this.#deps = deps;
    this.#stamp = this.#stampNow();
    this.#material = { version: 1, ...this.#read() };
    this.#nextCheckMs = deps.clock.nowMs() + RECHECK_MS;
  }

  current(): TlsMaterial {
    const nowMs = this.#deps.clock.nowMs();
    if (nowMs < this.#nextCheckMs) return this.#material;
    this.#nextCheckMs = nowMs + RECHECK_MS;
    const stamp = this.#stampNow();
    if (stamp === this.#stamp) return this.#material;
    this.#stamp = stamp;
    try {
      this.#material = { version: this.#material.version + 1, ...this.#read() };
      this.#deps.log?.info("Certificates of an origin were read again", { ...this.#paths });
    } catch (error) {
      this.#deps.log?.warn(`${describe(error)}: those read before stay in use`);
    }
    return this.#material;
  }

  #read(): Omit<TlsMaterial, "version"> {
    const { caPool, clientCert, clientKey } = this.#paths;
    const pool = caPool === "" ? undefined : this.#readPool(caPool);
    const cert = clientCert === "" ? undefined : this.#readText("clientCert", clientCert);
    const key = clientKey === "" ? undefined : this.#readText("clientKey", clientKey);
    if (pool !== undefined) check(`caPool "${caPool}"`, { ca: pool });
    // The message of a key that does not fit says nothing about the key.
    if (cert !== undefined) check(`clientCert "${clientCert}" with clientKey "${clientKey}"`, { cert, key });
    return { ca: pool === undefined ? undefined : `${systemAuthorities()}\n${pool}`, cert, key };
  }

  #readPool(path: string): string {
    const files = certificateFiles(path) ?? [path];
    const text = files.map((file) => this.#readText("caPool", file)).join("\n");
    if (!text.includes(CERTIFICATE)) {
      throw new TunnelError("config.invalid", `Cannot use caPool "${path}": it holds no certificate in PEM`);
    }
    return text;
  }

  #readText(setting: string, path: string): string {
    try {
      return this.#deps.readFile(path);
    } catch (cause) {
      const why = systemCode(cause) === "ENOENT" ? "there is no such file" : "it cannot be read";
      throw new TunnelError("config.invalid", `Cannot read ${setting} "${path}": ${why}`, { cause });
    }
  }

  /** Changes when a file does, also when a link to it or to its folder is swapped. */
  #stampNow(): string {
    const { caPool, clientCert, clientKey } = this.#paths;
    const pool = caPool === "" ? [] : [caPool, ...(certificateFiles(caPool) ?? [])];
    return [...pool, clientCert, clientKey]
      .filter((path) => path !== "")
      .map((path) => {
        const { mtimeMs, size, ino } = statSync(path, { throwIfNoEntry: false }) ?? { mtimeMs: 0, size: 0, ino: 0 };
        return `${path}:${mtimeMs}:${size}:${ino}`;
      })
      .join("\n");
  }
}

/** Paths in a folder, sorted; undefined = not a folder. */
function certificateFiles(path: string): string[] | undefined {
  let entries: Dirent[];
  try {
    entries = readdirSync(path, { withFileTypes: true });
  } catch {
    return undefined;
  }
  return entries
    .filter((entry) => CERTIFICATE_FILE.test(entry.name) && !entry.isDirectory())
    .map((entry) => join(path, entry.name))
    .sort()
    .slice(0, MAX_POOL_FILES);
}

/** Lets TLS look at the texts once, since a connection would only say that it failed. */
function check(what: string, texts: { ca?: string; cert?: string; key?: string | undefined }): void {
  try {
    createSecureContext(texts);
  } catch {
    throw new TunnelError(
      "config.invalid",
      `Cannot use ${what}: ${texts.ca === undefined ? "they are no certificate and key that belong together, in PEM" : "it is not valid PEM"}`,
    );
  }
}
