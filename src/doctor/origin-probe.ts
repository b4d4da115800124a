import type { Clock } from "../core/clock.ts";
import { describe, systemCode, TunnelError } from "../core/errors.ts";
import type { IngressRule } from "../ingress/rules.ts";
import type { ServiceSpec } from "../ingress/service.ts";
import { dial } from "../net/dial.ts";
import type { Connection, DialAddress, DialTls, SeenCertificate } from "../net/sockets.ts";
import { TlsFiles } from "../origin/tls-files.ts";

/** Bytes of an answer that are looked at: its head. */
const MAX_HEAD_BYTES = 16 * 1024;
/** Preface of HTTP/2 with an empty SETTINGS frame (RFC 9113 section 3.4). */
const H2_PREFACE = new TextEncoder().encode("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
const H2_SETTINGS = 4;

/** How far a request got. */
export type OriginEnd =
  /** It answered with this status; 0 = no HTTP is spoken there, and it takes connections. */
  | { readonly kind: "answered"; readonly status: number; readonly dateMs: number | undefined }
  | { readonly kind: "no-name" | "refused" | "unreachable"; readonly detail: string }
  /** TLS failed; `detail` says why. */
  | { readonly kind: "tls"; readonly detail: string }
  /** It spoke something else; `detail` is how that begins. */
  | { readonly kind: "no-http"; readonly detail: string }
  /** It took the connection and hung up, or said nothing in time. */
  | { readonly kind: "mute"; readonly detail: string };

export interface OriginProbe {
  readonly end: OriginEnd;
  /** Time to connect, in ms; undefined = it did not. */
  readonly connectMs: number | undefined;
  /** What it showed, where TLS was tried. */
  readonly certificate: SeenCertificate | undefined;
  /** Name that the certificate was compared with; empty = no TLS. */
  readonly serverName: string;
  /** What the other scheme gave, where this one did not work: an origin may be addressed as the wrong one. */
  readonly otherSchemeWorks: boolean;
}

export interface OriginProbeOptions {
  readonly clock: Clock;
  readonly readFile: (path: string) => string;
  /** Bound on one attempt, connecting and answering together, in ms; there are two at most. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** Where a service is; undefined = nothing has to be reached for it. */
export function originAddress(spec: ServiceSpec): DialAddress | undefined {
  switch (spec.kind) {
    case "http":
    case "https":
    case "h2c":
    case "tcp":
      return { host: spec.host, port: spec.port };
    case "unix":
    case "unix+tls":
      return { path: spec.path };
    default:
      return undefined;
  }
}

/**
 * Asks a service for `/` with HEAD, as its rule would reach it; services that are not HTTP are connected to only. When
 * that fails, the same is tried without or with TLS. Never rejects.
 */
export async function probeOrigin(
  spec: ServiceSpec,
  rule: Pick<IngressRule, "hostname" | "settings">,
  options: OriginProbeOptions,
): Promise<OriginProbe> {
  const address = originAddress(spec);
  if (address === undefined) throw new Error(`Nothing to reach for ${spec.kind}`);
  const secure = spec.kind === "https" || spec.kind === "unix+tls";
  const attempt = new Attempt(address, spec, rule, options);
  const first = await attempt.run(secure);
  const http = secure || spec.kind === "http" || spec.kind === "unix";
  const status = first.end.kind === "answered" ? first.end.status : undefined;
  const doubtful =
    first.end.kind === "tls" || first.end.kind === "no-http" || first.end.kind === "mute" || status === 400;
  if (!http || !doubtful) return { ...first, otherSchemeWorks: false };
  const { end } = await attempt.run(!secure);
  return { ...first, otherSchemeWorks: end.kind === "answered" && end.status !== 400 };
}

class Attempt {
  readonly #address: DialAddress;
  readonly #spec: ServiceSpec;
  readonly #rule: Pick<IngressRule, "hostname" | "settings">;
  readonly #options: OriginProbeOptions;

  constructor(
    address: DialAddress,
    spec: ServiceSpec,
    rule: Pick<IngressRule, "hostname" | "settings">,
    options: OriginProbeOptions,
  ) {
    this.#address = address;
    this.#spec = spec;
    this.#rule = rule;
    this.#options = options;
  }

  async run(secure: boolean): Promise<Omit<OriginProbe, "otherSchemeWorks">> {
    const { clock, signal } = this.#options;
    const timeoutMs = Math.max(1, Math.min(this.#options.timeoutMs, this.#rule.settings.connectTimeout));
    const startMs = clock.nowMs();
    let connectMs: number | undefined;
    let certificate: SeenCertificate | undefined;
    const serverName = secure ? this.#serverName() : "";
    const seen = (): Omit<OriginProbe, "otherSchemeWorks" | "end"> => ({ connectMs, certificate, serverName });
    try {
      const tls = secure
        ? this.#tls(serverName, (shown) => {
            certificate = shown;
          })
        : undefined;
      const onConnected = (): void => {
        connectMs = clock.nowMs() - startMs;
      };
      const connection = await dial(this.#address, { timeoutMs, signal, onConnected, ...(tls && { tls }) });
      connectMs ??= clock.nowMs() - startMs;
      const leftMs = Math.max(1, this.#options.timeoutMs - (clock.nowMs() - startMs));
      return { end: await this.#ask(connection, leftMs), ...seen() };
    } catch (error) {
      return { end: this.#endOf(error, connectMs !== undefined), ...seen() };
    }
  }

  #serverName(): string {
    const { hostname, settings } = this.#rule;
    if (settings.originServerName !== "") return settings.originServerName;
    if (settings.matchSNItoHost && hostname !== "" && !hostname.includes("*")) return hostname;
    return "path" in this.#address ? "localhost" : this.#address.host;
  }

  #tls(serverName: string, onCertificate: (seen: SeenCertificate) => void): DialTls {
    const { caPool, clientCert, clientKey, http2Origin } = this.#rule.settings;
    const { clock, readFile } = this.#options;
    const { ca, cert, key } = new TlsFiles({ caPool, clientCert, clientKey }, { clock, readFile }).current();
    const alpn = http2Origin === false ? {} : { alpn: ["h2", "http/1.1"] };
    return { serverName, ca, cert, key, verify: false, onCertificate, ...alpn };
  }

  /** A HEAD request, or the first words of HTTP/2, or nothing where another protocol is spoken. */
  #ask(connection: Connection, timeoutMs: number): Promise<OriginEnd> {
    const { kind } = this.#spec;
    const { hostname, settings } = this.#rule;
    const http2 = kind === "h2c" || settings.http2Origin === "h2c" || connection.alpn === "h2";
    // What comes first there is the visitor's address, which nobody has here.
    if (kind === "tcp" || settings.proxyProtocol !== "") {
      connection.channel.listen(QUIET);
      connection.channel.abort(new TunnelError("aborted", "Seen enough"));
      return Promise.resolve({ kind: "answered", status: 0, dateMs: undefined });
    }
    const wildcard = hostname === "" || hostname.includes("*");
    const own = "path" in this.#address ? "localhost" : this.#address.host;
    const host = settings.httpHostHeader !== "" ? settings.httpHostHeader : wildcard ? own : hostname;
    const request = `HEAD / HTTP/1.1\r\nHost: ${host}\r\nUser-Agent: culvert-doctor\r\nConnection: close\r\n\r\n`;
    return readHead(connection, http2 ? H2_PREFACE : new TextEncoder().encode(request), http2, {
      ...this.#options,
      timeoutMs,
    });
  }

  #endOf(error: unknown, connected: boolean): OriginEnd {
    const detail = describe(error);
    const code = systemCode(error instanceof TunnelError ? error.cause : error) ?? "";
    if (error instanceof TunnelError && error.code === "config.invalid") return { kind: "tls", detail };
    if (connected || (error instanceof TunnelError && error.code === "dial.tls")) return { kind: "tls", detail };
    if (/^(?:ENOTFOUND|EAI_|DNS_)/.test(code)) return { kind: "no-name", detail };
    return { kind: code === "ECONNREFUSED" || code === "ENOENT" ? "refused" : "unreachable", detail };
  }
}

const QUIET = { onData: () => {}, onEnd: () => {}, onDrain: () => {}, onClose: () => {} };

/** Sends, and reads until the head of an answer is there, the peer ends, or time is over. */
function readHead(
  { channel }: Connection,
  request: Uint8Array,
  http2: boolean,
  { clock, timeoutMs }: OriginProbeOptions,
): Promise<OriginEnd> {
  return new Promise((resolve) => {
    let bytes = new Uint8Array(0);
    let done = false;
    const finish = (end: OriginEnd): void => {
      if (done) return;
      done = true;
      cancel();
      channel.abort(new TunnelError("aborted", "Seen enough"));
      resolve(end);
    };
    const over = (why: string): void => {
      if (bytes.length > 0) finish(http2 ? ofHttp2(bytes) : ofHttp1(bytes));
      else finish({ kind: "mute", detail: why });
    };
    const cancel = clock.after(timeoutMs, () => over("it takes the connection and says nothing"));
    channel.listen({
      onData: (chunk) => {
        const joined = new Uint8Array(bytes.length + chunk.length);
        joined.set(bytes);
        joined.set(chunk, bytes.length);
        bytes = joined;
        const text = latin1(bytes);
        const isWhole = http2 ? bytes.length >= 9 : text.includes("\r\n\r\n") || !"HTTP/".startsWith(text.slice(0, 5));
        if (isWhole || bytes.length > MAX_HEAD_BYTES) over("");
      },
      onEnd: () => over("it hangs up without an answer"),
      onDrain: () => {},
      onClose: () => over("it hangs up without an answer"),
    });
    channel.write(request);
  });
}

function ofHttp1(bytes: Uint8Array): OriginEnd {
  const text = latin1(bytes);
  const status = /^HTTP\/1\.[01] ([1-9][0-9]{2})/.exec(text)?.[1];
  if (status === undefined) return { kind: "no-http", detail: firstWords(text) };
  const date = Date.parse(/^date: *(.+?) *\r?$/im.exec(text)?.[1] ?? "");
  return { kind: "answered", status: Number(status), dateMs: Number.isNaN(date) ? undefined : date };
}

function ofHttp2(bytes: Uint8Array): OriginEnd {
  if (bytes.length >= 9 && bytes[3] === H2_SETTINGS) return { kind: "answered", status: 200, dateMs: undefined };
  return { kind: "no-http", detail: firstWords(latin1(bytes)) };
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}

function firstWords(text: string): string {
  const line = (text.split(/[\r\n]/, 1)[0] ?? "").slice(0, 40);
  return /^[\x20-\x7e]+$/.test(line) ? `"${line}"` : "bytes that are no text";
}
