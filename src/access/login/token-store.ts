import { mkdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { systemCode, TunnelError } from "../../core/errors.ts";
import { replaceFile } from "../../core/whole-file.ts";
import type { AppAddress } from "../address.ts";
import { audiences, isCurrent, type KeySet, parseJwt, parseKeySet } from "./jwt.ts";

/** What an application behind Access says about itself. */
export interface AppInfo {
  /** Host of the organisation's login. */
  readonly authDomain: string;
  /** Audience of its tokens. */
  readonly audience: string;
  /** The hostname it is configured with, wildcards included. */
  readonly hostname: string;
}

/** A token is read by its owner alone. */
const TOKEN_MODE = 0o600;
const FOLDER_MODE = 0o700;
const MAX_NAME_CHARS = 255;

/** Tokens on disk, in cloudflared's folder, under its names and in its form, so that both share them (protocol: section 9). */
export class TokenStore {
  readonly #folder: string;
  readonly #wallMs: () => number;

  /** @param homeDir the user's home; tokens lie in `.cloudflared` there */
  constructor(homeDir: string, wallMs: () => number) {
    this.#folder = join(homeDir, ".cloudflared");
    this.#wallMs = wallMs;
  }

  appTokenPath(app: AppInfo): string {
    return this.#path(`${app.hostname}-${app.audience}-token`);
  }

  orgTokenPath(authDomain: string): string {
    return this.#path(`${authDomain}-org-token`);
  }

  /** The application's token, if there is one that has not run out and is meant for it; others are removed. */
  readAppToken(app: AppInfo): string | undefined {
    const path = this.appTokenPath(app);
    return this.#readToken(path, (aud) => aud.includes(app.audience));
  }

  readOrgToken(authDomain: string): string | undefined {
    return this.#readToken(this.orgTokenPath(authDomain), () => true);
  }

  removeAppToken(app: AppInfo): void {
    rmSync(this.appTokenPath(app), { force: true });
  }

  /** Where the SSH key for an application lies. */
  sshKeyPath(app: AppAddress): string {
    const path = app.target.replace(/\?.*$/, "").replace(/\/$/, "");
    return this.#path(`${app.host}${path}-cf_key`);
  }

  /** The text of a file of this folder; undefined when there is none. */
  read(path: string): string | undefined {
    return readText(path);
  }

  /** The keys of an organisation, and when they were written. */
  readKeys(authDomain: string): { readonly keys: KeySet; readonly writtenWallMs: number } | undefined {
    const path = this.#path(`${authDomain}-jwks`);
    const text = readText(path);
    const keys = text === undefined ? undefined : parseKeySet(text);
    return keys === undefined ? undefined : { keys, writtenWallMs: statSync(path).mtimeMs };
  }

  /** Keeps keys. Failing costs a request each time, and nothing else. */
  writeKeys(authDomain: string, keys: KeySet): void {
    try {
      this.write(this.#path(`${authDomain}-jwks`), JSON.stringify(keys));
    } catch (error) {
      if (!(error instanceof TunnelError)) throw error;
    }
  }

  #readToken(path: string, isMeant: (audiences: readonly string[]) => boolean): string | undefined {
    const text = readText(path)?.trim();
    if (text === undefined) return undefined;
    const token = parseJwt(text);
    if (token !== undefined && isCurrent(token.claims, this.#wallMs()) && isMeant(audiences(token.claims))) return text;
    rmSync(path, { force: true });
    return undefined;
  }

  /** A name from outside must stay one name in the folder. */
  #path(name: string): string {
    const file = name.replace(/[/*\\]/g, "-");
    if (file.length > MAX_NAME_CHARS || !/^[\x20-\x7e]+$/.test(file)) {
      throw new TunnelError("edge.refused", "The application has a name that no file can have");
    }
    return join(this.#folder, file);
  }

  /** Writes a file of this folder for its owner alone, all at once. Throws `store.failed`. */
  write(path: string, text: string): void {
    try {
      mkdirSync(this.#folder, { recursive: true, mode: FOLDER_MODE });
      replaceFile(path, text, { mode: TOKEN_MODE });
    } catch (cause) {
      throw new TunnelError("store.failed", `Cannot write ${path}: ${systemCode(cause) ?? "unknown error"}`, { cause });
    }
  }
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
