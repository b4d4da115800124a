import { type FileHandle, open, stat } from "node:fs/promises";
import { join } from "node:path";
import { systemCode, TunnelError } from "../core/errors.ts";
import type { MinisignPublicKey } from "../wire/minisign.ts";
import { type InstallScriptOptions, renderInstallScript, renderPowerShellInstaller } from "./install-script.ts";

const CHUNK_BYTES = 64 * 1024;
/** As in a manifest: a name and no path, so that nothing outside the folder can be asked for. */
const FILE_NAME = /^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$/;
/** A longer list of tags, or of anything, is no request of an installer. */
const MAX_FIELD_CHARS = 1024;

export interface DownloadsOptions {
  /** Folder that releases are published in; need not exist. */
  readonly folder: string;
  /** What the installer trusts; none = its user must name one. */
  readonly keys: readonly MinisignPublicKey[];
}

/** What `curl | sh`, `culvert update` and `culvert bundle` ask a server for: the installer and a folder of releases. */
export class Downloads {
  readonly #folder: string;
  readonly #keys: readonly MinisignPublicKey[];

  constructor({ folder, keys }: DownloadsOptions) {
    this.#folder = folder;
    this.#keys = keys;
  }

  /**
   * The installer for Linux and its like, which takes releases from where it came from.
   *
   * @param request its URL has the name the visitor used, `x-forwarded-proto` the scheme, as our own listener sets it
   */
  script(request: Request): Response {
    return this.#installer(request, renderInstallScript);
  }

  /** The same for Windows. */
  powerShellScript(request: Request): Response {
    return this.#installer(request, renderPowerShellInstaller);
  }

  #installer({ url, method, headers }: Request, render: (options: InstallScriptOptions) => string): Response {
    if (method !== "GET" && method !== "HEAD") return notAllowed();
    const { protocol, host } = new URL(url);
    const scheme = headers.get("x-forwarded-proto") ?? protocol.slice(0, -1);
    const baseUrl = `${scheme === "https" ? "https" : "http"}://${host}`;
    const body = render({ baseUrl, keys: this.#keys });
    return new Response(method === "HEAD" ? null : body, {
      headers: { ...COMMON, "content-type": TEXT, "content-length": `${body.length}` },
    });
  }

  /** One file of a release: whole, a range of it, or that the asker has it already (RFC 9110, sections 13 and 14). */
  async file(name: string, { method, headers, signal }: Request): Promise<Response> {
    if (method !== "GET" && method !== "HEAD") return notAllowed();
    const found = FILE_NAME.test(name) ? await findRegular(join(this.#folder, name)) : undefined;
    if (found === undefined) return missing(name);
    const { sizeBytes, modifiedMs } = found;
    const etag = `"${sizeBytes.toString(36)}-${Math.floor(modifiedMs * 1000).toString(36)}"`;
    const fields = {
      ...COMMON,
      ...{ etag, "last-modified": new Date(modifiedMs).toUTCString(), "accept-ranges": "bytes" },
    };
    if (isKnown(headers, etag, modifiedMs)) return new Response(null, { status: 304, headers: fields });
    const range = readRange(headers, { etag, modifiedMs, sizeBytes });
    if (range === "unsatisfiable") {
      const contentRange = `bytes */${sizeBytes}`;
      return new Response(null, { status: 416, headers: { ...fields, "content-range": contentRange } });
    }
    const { start, end } = range ?? { start: 0, end: sizeBytes };
    const partial = range === undefined ? {} : { "content-range": `bytes ${start}-${end - 1}/${sizeBytes}` };
    const described = { ...fields, ...partial, "content-type": typeOf(name), "content-length": `${end - start}` };
    const body = method === "HEAD" ? null : streamOf(found, { start, end, signal });
    return new Response(body, { status: range === undefined ? 200 : 206, headers: described });
  }
}

const TEXT = "text/plain; charset=utf-8";
/** A name such as manifest.json has new content with each release: a cache must ask. */
const COMMON = { "cache-control": "no-cache", "x-content-type-options": "nosniff" } as const;

function typeOf(name: string): string {
  if (name.endsWith(".json")) return "application/json";
  return /(SHA256SUMS|\.minisig|\.txt|\.sh|\.ps1)$/.test(name) ? TEXT : "application/octet-stream";
}

function notAllowed(): Response {
  return new Response("Only GET and HEAD.\n", { status: 405, headers: { ...COMMON, allow: "GET, HEAD" } });
}

function missing(name: string): Response {
  const what = FILE_NAME.test(name) ? `no file "${name}"` : "no such file";
  const text = [
    `This edge has ${what} to download.`,
    "Whoever runs it puts releases into its folder of releases: all that scripts/build --all --sign KEY writes to dist.",
    "Where there is no edge with releases, install.sh --offline BUNDLE and --binary FILE need none.",
  ];
  return new Response(`${text.join("\n")}\n`, { status: 404, headers: { ...COMMON, "content-type": TEXT } });
}

interface Found {
  readonly path: string;
  readonly sizeBytes: number;
  readonly modifiedMs: number;
}

/** Undefined when there is no such regular file. */
async function findRegular(path: string): Promise<Found | undefined> {
  try {
    const found = await stat(path);
    return found.isFile() ? { path, sizeBytes: found.size, modifiedMs: found.mtimeMs } : undefined;
  } catch (error) {
    if (["ENOENT", "ENOTDIR", "EACCES", "ELOOP"].includes(systemCode(error) ?? "")) return undefined;
    throw error;
  }
}

/** The file that was found, and not one that has taken its place since. */
async function openFound({ path, sizeBytes, modifiedMs }: Found): Promise<FileHandle> {
  const handle = await open(path, "r");
  const { size, mtimeMs } = await handle.stat();
  if (size === sizeBytes && mtimeMs === modifiedMs) return handle;
  await handle.close();
  throw new TunnelError("update.failed", `"${path}" was replaced while it was asked for`, { retry: "same" });
}

/**
 * Opened when the first part is taken, because what nobody takes would stay open; closed at the end, or when it is
 * cancelled or the signal says that its taker has gone.
 */
function streamOf(
  file: Found,
  { start, end, signal }: { readonly start: number; readonly end: number; readonly signal: AbortSignal },
): ReadableStream<Uint8Array> {
  let handle: FileHandle | undefined;
  let at = start;
  const close = (): void => {
    signal.removeEventListener("abort", close);
    handle?.close().catch(() => undefined);
    handle = undefined;
  };
  return new ReadableStream<Uint8Array>(
    {
      pull: async (controller) => {
        try {
          if (handle === undefined && at === start) {
            handle = await openFound(file);
            signal.addEventListener("abort", close);
            if (signal.aborted) close();
          }
          if (handle === undefined) throw new TunnelError("aborted", "Whoever asked has gone");
          const buffer = new Uint8Array(Math.min(CHUNK_BYTES, end - at));
          const { bytesRead } =
            buffer.length === 0 ? { bytesRead: 0 } : await handle.read(buffer, 0, buffer.length, at);
          at += bytesRead;
          if (bytesRead > 0) controller.enqueue(buffer.subarray(0, bytesRead));
          if (at < end && bytesRead > 0) return;
          close();
          // Shorter than said: it must not be taken for whole.
          if (at < end) throw new TunnelError("update.failed", `"${file.path}" was cut while it was sent`);
          controller.close();
        } catch (error) {
          close();
          controller.error(error);
        }
      },
      cancel: close,
    },
    { highWaterMark: 0 },
  );
}

/** RFC 9110, section 13.2.2: the tag decides where there is one. */
function isKnown(headers: Headers, etag: string, modifiedMs: number): boolean {
  const tags = field(headers, "if-none-match");
  if (tags !== undefined) return tags.split(",").some((tag) => ["*", etag, `W/${etag}`].includes(tag.trim()));
  const since = Date.parse(field(headers, "if-modified-since") ?? "");
  return !Number.isNaN(since) && Math.floor(modifiedMs / 1000) * 1000 <= since;
}

/** One range as bytes from `start` up to, not with, `end`; undefined = all of it, also where several were asked for. */
function readRange(
  headers: Headers,
  { etag, modifiedMs, sizeBytes }: { etag: string; modifiedMs: number; sizeBytes: number },
): { readonly start: number; readonly end: number } | "unsatisfiable" | undefined {
  const condition = field(headers, "if-range");
  if (condition !== undefined && condition !== etag) {
    if (Date.parse(condition) !== Math.floor(modifiedMs / 1000) * 1000) return undefined;
  }
  const [, first = "", last = ""] = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(field(headers, "range") ?? "") ?? [];
  if (first === "" && last === "") return undefined;
  if (first === "") {
    const start = Math.max(0, sizeBytes - Number(last));
    return start < sizeBytes ? { start, end: sizeBytes } : "unsatisfiable";
  }
  const start = Number(first);
  if (last !== "" && Number(last) < start) return undefined;
  if (start >= sizeBytes) return "unsatisfiable";
  return { start, end: last === "" ? sizeBytes : Math.min(sizeBytes, Number(last) + 1) };
}

function field(headers: Headers, name: string): string | undefined {
  const value = headers.get(name);
  return value === null || value.length > MAX_FIELD_CHARS ? undefined : value;
}
