import { readdirSync, readFileSync, statSync } from "node:fs";
import { extname, join } from "node:path";
import type { Clock } from "../../core/clock.ts";
import { describe, systemCode, TunnelError } from "../../core/errors.ts";
import type { Logger } from "../../core/log.ts";
import { fileSignature, watchSignature } from "../../core/watch.ts";
import { CertificateIndex } from "./names.ts";
import { holdsKey, isAuthority, readPair } from "./pair.ts";
import type { CertificateSource, ServedCertificate } from "./source.ts";

/** Certificates of one folder. */
export const MAX_PAIRS = 5_000;
const MAX_FILE_BYTES = 1024 * 1024;
/** Between two looks at the files, in ms. */
const LOOK_MS = 2_000;

/** Where a certificate and its key lie; the same path twice = both in one file. */
export interface PairPaths {
  readonly cert: string;
  readonly key: string;
}

/** What was read of a pair of files, and from which state of them. */
interface Loaded {
  readonly signature: string;
  readonly certificate: ServedCertificate;
}

/**
 * Certificates from files: pairs that are named, and those found in folders. A folder holds `NAME.pem` or `NAME.crt`
 * beside `NAME.key`, or `fullchain.pem` beside `privkey.pem` in itself and in its subfolders (certbot's layout). Files
 * are watched: what changed is read anew, a pair that is broken is logged and what it was before stays, and a pair that
 * is gone from a folder is forgotten.
 */
export class FileCertificates implements CertificateSource {
  readonly #pairs: readonly PairPaths[];
  readonly #dirs: readonly string[];
  readonly #deps: { readonly clock: Clock; readonly log: Logger };
  readonly #endWatch: () => void;
  #loaded = new Map<string, Loaded>();
  #index = new CertificateIndex([], 0);
  #listener: () => void = () => {};
  /** Troubles that were told, by pair: each once for each state of its files. */
  #told = new Map<string, string>();

  /** Throws `config.invalid` when a named pair cannot be used, or a folder not be read. */
  constructor(
    options: { readonly pairs: readonly PairPaths[]; readonly dirs: readonly string[] },
    deps: { readonly clock: Clock; readonly log: Logger },
  ) {
    this.#pairs = options.pairs;
    this.#dirs = options.dirs;
    this.#deps = deps;
    for (const dir of options.dirs) {
      try {
        readdirSync(dir);
      } catch (error) {
        throw new TunnelError("config.invalid", `Cannot read the certificates in "${dir}": ${reason(error)}`);
      }
    }
    const known = this.#signature();
    this.#load(true);
    this.#endWatch = watchSignature(() => this.#signature(), {
      clock: deps.clock,
      lookMs: LOOK_MS,
      known,
      onChange: () => this.reload(),
    });
  }

  find(serverName: string): ServedCertificate | undefined {
    return this.#index.find(serverName);
  }

  /** The first that was named, else the first of the folders by path. */
  fallback(): ServedCertificate | undefined {
    return this.all()[0];
  }

  all(): readonly ServedCertificate[] {
    return [...this.#loaded.values()].map(({ certificate }) => certificate);
  }

  reload(): void {
    this.#load(false);
    this.#listener();
  }

  watch(listener: () => void): void {
    this.#listener = listener;
  }

  close(): void {
    this.#endWatch();
  }

  #load(strict: boolean): void {
    const { log } = this.#deps;
    const before = this.#loaded;
    const loaded = new Map<string, Loaded>();
    const told = new Map<string, string>();
    const found = this.#dirs.flatMap(pairsIn).slice(0, MAX_PAIRS);
    for (const [i, paths] of [...this.#pairs, ...found].entries()) {
      const id = `${paths.cert}\0${paths.key}`;
      if (loaded.has(id)) continue;
      const old = before.get(id);
      const signature = pairSignature(paths);
      if (old?.signature === signature) {
        loaded.set(id, old);
        continue;
      }
      const result = readFiles(paths);
      if (typeof result !== "string") {
        loaded.set(id, { signature, certificate: result });
        if (!strict) log.info("Loaded a certificate", { file: paths.cert, names: result.names.join(",") });
        continue;
      }
      const problem = `Cannot use the certificate "${paths.cert}": ${result}`;
      if (strict && i < this.#pairs.length) throw new TunnelError("config.invalid", problem);
      if (old !== undefined) loaded.set(id, { ...old });
      told.set(id, signature);
      if (this.#told.get(id) !== signature) log.error(old === undefined ? problem : `${problem}; the one before stays`);
    }
    this.#told = told;
    for (const [id, { certificate }] of before) {
      if (!loaded.has(id)) log.info("A certificate is gone", { file: certificate.origin });
    }
    this.#loaded = loaded;
    this.#index = new CertificateIndex(this.all(), this.#deps.clock.wallMs());
  }

  #signature(): string {
    return [...this.#pairs, ...this.#dirs.flatMap(pairsIn).slice(0, MAX_PAIRS)].map(pairSignature).join("\n");
  }
}

function pairSignature({ cert, key }: PairPaths): string {
  return `${cert} ${fileSignature(cert)} ${key} ${fileSignature(key)}`;
}

/** The certificate, or why it cannot be used. */
function readFiles({ cert, key }: PairPaths): ServedCertificate | string {
  try {
    return readPair(readBounded(cert), readBounded(key), cert);
  } catch (error) {
    return error instanceof TunnelError ? describe(error) : reason(error);
  }
}

function readBounded(path: string): string {
  if (statSync(path).size > MAX_FILE_BYTES) throw new TunnelError("config.invalid", `"${path}" is far too long`);
  return readFileSync(path, "utf8");
}

/** The pairs of a folder by path; none when it cannot be read just now. */
function pairsIn(dir: string): readonly PairPaths[] {
  const entries = entriesOf(dir);
  const names = new Set(entries.map(({ name }) => name));
  if (names.has("fullchain.pem") && names.has("privkey.pem")) return [certbotPair(dir)];
  const pairs: PairPaths[] = [];
  for (const { name, isFolder } of entries) {
    const path = join(dir, name);
    if (isFolder) {
      const inside = new Set(entriesOf(path).map((entry) => entry.name));
      if (inside.has("fullchain.pem") && inside.has("privkey.pem")) pairs.push(certbotPair(path));
      continue;
    }
    const extension = extname(name);
    if (extension !== ".pem" && extension !== ".crt") continue;
    const key = `${name.slice(0, -extension.length)}.key`;
    if (names.has(key)) pairs.push({ cert: path, key: join(dir, key) });
    else if (standsAlone(path)) pairs.push({ cert: path, key: path });
  }
  return pairs;
}

function certbotPair(dir: string): PairPaths {
  return { cert: join(dir, "fullchain.pem"), key: join(dir, "privkey.pem") };
}

/** A file with both halves in it, or one that should be told to lack its key; an authority lies there for others. */
function standsAlone(path: string): boolean {
  try {
    const text = readBounded(path);
    return holdsKey(text) || !isAuthority(text);
  } catch {
    return false;
  }
}

function entriesOf(dir: string): readonly { readonly name: string; readonly isFolder: boolean }[] {
  try {
    return readdirSync(dir)
      .filter((name) => !name.startsWith("."))
      .sort()
      .map((name) => ({
        name,
        isFolder: statSync(join(dir, name), { throwIfNoEntry: false })?.isDirectory() === true,
      }));
  } catch {
    return [];
  }
}

function reason(error: unknown): string {
  switch (systemCode(error)) {
    case "ENOENT":
      return "there is no such file";
    case "EACCES":
    case "EPERM":
      return "permission denied; the edge's user must be able to read it";
    case "EISDIR":
    case "ENOTDIR":
      return "it is of the wrong kind";
    default:
      return describe(error);
  }
}
