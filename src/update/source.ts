import { createReadStream } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { Clock } from "../core/clock.ts";
import { systemCode, TunnelError, toTunnelError } from "../core/errors.ts";

/** A server that says nothing for this long has gone, in ms. */
export const SILENCE_LIMIT_MS = 30_000;

export interface OpenFile {
  /** Where `chunks` begin: what was asked for, or 0 when that was not possible. */
  readonly offset: number;
  readonly chunks: AsyncIterable<Uint8Array>;
}

/** A folder of releases: manifests, binaries and their signatures side by side. */
export interface ReleaseFolder {
  /** For people, without credentials. */
  readonly name: string;
  /** A file as a whole. Throws a TunnelError; one above the limit is an error. */
  read(name: string, maxBytes: number): Promise<Uint8Array>;
  /** A file from an offset on. Throws a TunnelError, whose `retry` is `same` when trying again can help. */
  open(name: string, offset: number): Promise<OpenFile>;
}

export type Source =
  | { readonly kind: "folder"; readonly folder: ReleaseFolder }
  /** One binary, with its signature beside it. */
  | { readonly kind: "file"; readonly folder: ReleaseFolder; readonly name: string };

export interface SourceDeps {
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** Authorities, PEM, that a server's certificate is checked with. @default those of the system */
  readonly ca?: string | undefined;
}

/** What `--from` names: an http(s) address, a folder, or a binary. Throws a TunnelError when there is nothing. */
export async function openSource(from: string, deps: SourceDeps): Promise<Source> {
  if (/^https?:\/\//i.test(from)) return { kind: "folder", folder: new HttpFolder(from, deps) };
  const path = from.startsWith("file://") ? new URL(from).pathname : from;
  const found = await stat(path).catch((error: unknown) => {
    throw toTunnelError(error, "update.failed", `Cannot read "${path}"`);
  });
  if (found.isDirectory()) return { kind: "folder", folder: new DiskFolder(path) };
  return { kind: "file", folder: new DiskFolder(dirname(path)), name: basename(path) };
}

class DiskFolder implements ReleaseFolder {
  readonly name: string;

  constructor(path: string) {
    this.name = path;
  }

  async read(name: string, maxBytes: number): Promise<Uint8Array> {
    const path = join(this.name, name);
    try {
      if ((await stat(path)).size > maxBytes) throw tooLarge(path, maxBytes);
      return await readFile(path);
    } catch (error) {
      throw toTunnelError(error, "update.failed", `Cannot read "${path}"`);
    }
  }

  async open(name: string, offset: number): Promise<OpenFile> {
    const path = join(this.name, name);
    await stat(path).catch((error: unknown) => {
      throw toTunnelError(error, "update.failed", `Cannot read "${path}"`);
    });
    return { offset, chunks: createReadStream(path, { start: offset }) };
  }
}

class HttpFolder implements ReleaseFolder {
  readonly name: string;
  readonly #base: URL;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #clock: Clock;
  readonly #signal: AbortSignal;
  readonly #tls: { readonly tls?: { readonly ca: string } };

  constructor(address: string, { clock, signal, ca }: SourceDeps) {
    if (!URL.canParse(address)) throw new TunnelError("update.failed", `"${address}" is not an address`);
    const url = new URL(address);
    const { username, password } = url;
    url.username = "";
    url.password = "";
    url.hash = "";
    url.search = "";
    if (!url.pathname.endsWith("/")) url.pathname += "/";
    this.#base = url;
    this.name = url.href;
    this.#clock = clock;
    this.#signal = signal;
    this.#tls = ca === undefined ? {} : { tls: { ca } };
    const login = btoa(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`);
    this.#headers = {
      // Compressed bytes could not be resumed, and which version asks is nobody's business.
      "accept-encoding": "identity",
      "user-agent": "culvert",
      ...(username === "" ? {} : { authorization: `Basic ${login}` }),
    };
  }

  async read(name: string, maxBytes: number): Promise<Uint8Array> {
    const { chunks } = await this.open(name, 0);
    const parts: Uint8Array[] = [];
    let size = 0;
    for await (const chunk of chunks) {
      size += chunk.length;
      if (size > maxBytes) throw tooLarge(new URL(name, this.#base).href, maxBytes);
      parts.push(chunk);
    }
    return Buffer.concat(parts);
  }

  async open(name: string, offset: number): Promise<OpenFile> {
    const url = new URL(name, this.#base).href;
    const silence = new SilenceWatch(this.#clock, this.#signal);
    try {
      const headers = { ...this.#headers, ...(offset > 0 ? { range: `bytes=${offset}-` } : {}) };
      const response = await fetch(url, { headers, signal: silence.signal, ...this.#tls });
      const start = startOf(response, offset);
      if (typeof start !== "number") {
        await response.body?.cancel();
        throw new TunnelError("update.failed", `"${url}" answered ${response.status}`, { retry: start.retry });
      }
      return { offset: start, chunks: silence.watch(response.body ?? new ReadableStream(), url) };
    } catch (error) {
      silence.stop();
      throw lost(error, url, this.#signal);
    }
  }
}

/** Where a response begins, or whether another try can help (RFC 9110, section 14). */
function startOf(response: Response, asked: number): number | { readonly retry: "same" | "never" } {
  if (response.status === 200) return 0;
  if (response.status === 206) {
    const start = Number(/^bytes (\d+)-/.exec(response.headers.get("content-range") ?? "")?.[1]);
    return start === asked ? start : { retry: "never" };
  }
  return { retry: response.status >= 500 || response.status === 429 || response.status === 408 ? "same" : "never" };
}

/** Gives up when nothing comes for {@link SILENCE_LIMIT_MS}: a total limit would cut a slow line off. */
class SilenceWatch {
  readonly signal: AbortSignal;
  readonly #clock: Clock;
  readonly #outer: AbortSignal;
  readonly #abort = new AbortController();
  #cancel: () => void;

  constructor(clock: Clock, outer: AbortSignal) {
    this.#clock = clock;
    this.#outer = outer;
    this.signal = this.#abort.signal;
    outer.addEventListener("abort", this.#giveUp, { once: true });
    this.#cancel = clock.after(SILENCE_LIMIT_MS, this.#giveUp);
    if (outer.aborted) this.#giveUp();
  }

  async *watch(body: ReadableStream<Uint8Array>, url: string): AsyncGenerator<Uint8Array> {
    try {
      for await (const chunk of body) {
        this.#cancel();
        yield chunk;
        this.#cancel = this.#clock.after(SILENCE_LIMIT_MS, this.#giveUp);
      }
    } catch (error) {
      throw lost(error, url, this.#outer);
    } finally {
      this.stop();
      this.#abort.abort();
    }
  }

  stop(): void {
    this.#cancel();
    this.#outer.removeEventListener("abort", this.#giveUp);
  }

  readonly #giveUp = (): void => this.#abort.abort();
}

function lost(error: unknown, url: string, outer: AbortSignal): TunnelError {
  if (error instanceof TunnelError) return error;
  if (outer.aborted) return new TunnelError("aborted", "Stopped", { cause: error });
  const reason = systemCode(error) ?? (error instanceof Error ? error.name : String(error));
  return new TunnelError("update.failed", `Cannot get "${url}": ${reason}`, { retry: "same", cause: error });
}

function tooLarge(what: string, maxBytes: number): TunnelError {
  return new TunnelError("update.failed", `"${what}" is larger than ${maxBytes} bytes`);
}
