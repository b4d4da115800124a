import { closeSync, fstatSync, openSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "../../core/clock.ts";
import { describe, TunnelError } from "../../core/errors.ts";
import type { Logger } from "../../core/log.ts";
import { fileSignature, watchSignature } from "../../core/watch.ts";
import type { EdgeError, ErrorPages } from "./error-page.ts";

/** Size of one page as it lies in the folder. */
export const MAX_PAGE_BYTES = 256 * 1024;
/** Pages of one folder. */
const MAX_PAGES = 64;
/** Between two looks at the folder, in ms. */
const LOOK_MS = 2_000;

/** `404.html`, `5xx.html`, `error.html`. */
const PAGE_NAME = /^([45][0-9]{2}|[45]xx|error)\.html$/;
const PLACEHOLDER = /\{\{\s*(status|code|title|advice|ray)\s*\}\}/g;

/**
 * Error pages from a folder: the one of the status, else of its class, else `error.html`. `{{status}}`, `{{code}}`,
 * `{{title}}`, `{{advice}}` and `{{ray}}` are filled in, escaped for HTML. The folder is watched; a page that cannot be
 * read, or is too long, is logged and stays as it was.
 */
export class CustomPages implements ErrorPages {
  readonly #dir: string;
  readonly #log: Logger;
  readonly #endWatch: () => void;
  #pages = new Map<string, string>();

  /** Throws `config.invalid` when the folder cannot be read. */
  constructor(dir: string, deps: { readonly clock: Clock; readonly log: Logger }) {
    this.#dir = dir;
    this.#log = deps.log;
    try {
      readdirSync(dir);
    } catch (error) {
      throw new TunnelError("config.invalid", `Cannot read the error pages in "${dir}": ${describe(error)}`);
    }
    const known = this.#signature();
    this.reload();
    this.#endWatch = watchSignature(() => this.#signature(), {
      clock: deps.clock,
      lookMs: LOOK_MS,
      known,
      onChange: () => this.reload(),
    });
  }

  html(error: EdgeError, ray: string): string | undefined {
    // What is not an error of somebody's is not for their pages.
    if (error.status < 400) return undefined;
    const page =
      this.#pages.get(String(error.status)) ??
      this.#pages.get(`${String(error.status).charAt(0)}xx`) ??
      this.#pages.get("error");
    if (page === undefined) return undefined;
    const values = { status: String(error.status), code: String(error.code), title: error.title, advice: error.advice };
    return page.replace(PLACEHOLDER, (_all, name: string) => {
      return escapeHtml(name === "ray" ? ray : values[name as keyof typeof values]);
    });
  }

  reload(): void {
    const pages = new Map<string, string>();
    for (const name of this.#names()) {
      const key = name.slice(0, -".html".length);
      try {
        pages.set(key, readPage(join(this.#dir, name)));
      } catch (error) {
        const before = this.#pages.get(key);
        if (before !== undefined) pages.set(key, before);
        this.#log.error(`Cannot use the error page "${name}"`, { error: describe(error) });
      }
    }
    this.#pages = pages;
  }

  close(): void {
    this.#endWatch();
  }

  #names(): readonly string[] {
    try {
      return readdirSync(this.#dir)
        .filter((name) => PAGE_NAME.test(name))
        .sort()
        .slice(0, MAX_PAGES);
    } catch {
      return [];
    }
  }

  #signature(): string {
    return this.#names()
      .map((name) => `${name} ${fileSignature(join(this.#dir, name))}`)
      .join("\n");
  }
}

function readPage(path: string): string {
  const file = openSync(path, "r");
  try {
    const stat = fstatSync(file);
    if (!stat.isFile()) throw new TunnelError("config.invalid", "it is not a file");
    if (stat.size > MAX_PAGE_BYTES) {
      throw new TunnelError("config.invalid", `it has ${stat.size} bytes; ${MAX_PAGE_BYTES} are allowed`);
    }
    return readFileSync(file, "utf8");
  } finally {
    closeSync(file);
  }
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);
}
