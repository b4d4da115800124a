import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { describe, TunnelError } from "../core/errors.ts";
import { answerLocal } from "../net/local-names.ts";
import { isLocalName } from "../net/loopback.ts";

/** Bytes of an answer that are read; the longest lists are cut into pages far below it. */
const MAX_ANSWER_BYTES = 16 * 1024 * 1024;

export interface JsonRequest {
  readonly method: string;
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | undefined;
  /** PEM text of the authorities to trust; undefined = the system's. */
  readonly ca: string | undefined;
  /** From dialling to the last byte, in ms. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

export interface JsonAnswer {
  readonly status: number;
  /** Without parameters, lower case. */
  readonly contentType: string;
  readonly text: string;
}

/**
 * One request with a whole answer. Redirects are answers: an API does not move, and a token must not follow one.
 * Rejects with `api.unreachable`, whose cause is what the system said, `timeout` or `aborted`.
 */
export function sendJson(request: JsonRequest): Promise<JsonAnswer> {
  const { url, timeoutMs } = request;
  const send = url.protocol === "https:" ? httpsRequest : httpRequest;
  const unreachable = (why: string, cause?: unknown): TunnelError =>
    new TunnelError("api.unreachable", `Cannot reach the API at ${url.origin}: ${why}`, { retry: "same", cause });
  return new Promise((resolve, reject) => {
    const late = AbortSignal.timeout(timeoutMs);
    const outgoing = send(
      url,
      {
        method: request.method,
        headers: {
          ...request.headers,
          ...(request.body === undefined ? {} : { "content-length": String(Buffer.byteLength(request.body)) }),
        },
        signal: AbortSignal.any([request.signal, late]),
        ...(request.ca === undefined ? {} : { ca: request.ca }),
        ...(isLocalName(url.hostname) ? { lookup: answerLocal } : {}),
      },
      (answer) => {
        const chunks: Buffer[] = [];
        let bytes = 0;
        answer.on("data", (chunk: Buffer) => {
          bytes += chunk.length;
          if (bytes > MAX_ANSWER_BYTES) outgoing.destroy(unreachable("its answer is too long"));
          else chunks.push(chunk);
        });
        answer.on("error", fail);
        answer.on("end", () => {
          const contentType = (answer.headers["content-type"] ?? "").split(";", 1)[0] ?? "";
          resolve({
            status: answer.statusCode ?? 0,
            contentType: contentType.trim().toLowerCase(),
            text: Buffer.concat(chunks).toString("utf8"),
          });
        });
      },
    );
    const fail = (error: unknown): void => {
      if (request.signal.aborted) reject(new TunnelError("aborted", "Given up"));
      else if (late.aborted)
        reject(new TunnelError("timeout", `The API at ${url.origin} did not answer in time`, { retry: "same" }));
      else reject(error instanceof TunnelError ? error : unreachable(describe(error), error));
    };
    outgoing.on("error", fail);
    outgoing.end(request.body);
  });
}
