import type { Clock } from "../../core/clock.ts";
import { TunnelError } from "../../core/errors.ts";
import type { ChannelEvents } from "../../net/channel.ts";
import { H2_ERROR } from "../../wire/h2/constants.ts";
import type { H2Stream } from "../../wire/h2/stream.ts";
import { META_CLOUDFLARED, RESPONSE_META_HEADER } from "../../wire/stream-kind.ts";
import {
  type ConfigurationAnswer,
  type ConfigurationHandler,
  type ConfigurationUpdate,
  MAX_CONFIGURATION_BYTES,
} from "../port.ts";
import { StreamChannel } from "./stream-channel.ts";

/**
 * A pushed configuration over HTTP/2: one request with a JSON body, one answer with another (protocol: section 2.9).
 */

/** Time for one push, at either end, in ms; as an RPC stream of QUIC has. */
const PUSH_TIMEOUT_MS = 5_000;
/** Version, key names and braces around a configuration. */
const MAX_BODY_BYTES = MAX_CONFIGURATION_BYTES + 1_024;
const MAX_ANSWER_BYTES = 64 * 1024;
/** Pushes under way at one connector. */
const MAX_PUSHES = 8;
/** Chars of an error told to the edge, or shown by it. */
const MAX_ERROR_CHARS = 4_096;
const INT32_MAX = 2 ** 31 - 1;

// ---- edge ----

/** `open` gives the stream for it; undefined = the connection takes none now. */
export function pushConfiguration(
  open: () => H2Stream | undefined,
  update: ConfigurationUpdate,
  clock: Clock,
): Promise<ConfigurationAnswer> {
  const body = new TextEncoder().encode(`{"version":${update.version},"config":${update.config}}`);
  if (body.length > MAX_BODY_BYTES) {
    return Promise.reject(new TunnelError("config.invalid", "The configuration is too large to be pushed"));
  }
  const stream = open();
  if (stream === undefined) {
    const message = "The connection takes no new stream now";
    return Promise.reject(new TunnelError("stream.limit", message, { retry: "elsewhere" }));
  }
  return new Promise((resolve, reject) => {
    const channel = new PushChannel(stream, H2_ERROR.cancel);
    const cancel = clock.after(PUSH_TIMEOUT_MS, () =>
      channel.abort(new TunnelError("timeout", "The connector did not answer to its configuration")),
    );
    const gather = new Gatherer(MAX_ANSWER_BYTES);
    channel.listen({
      onData: (chunk) => gather.add(chunk),
      onEnd: () => {},
      onDrain: () => {},
      onClose: (error) => {
        cancel();
        const answer = channel.status === 200 ? readAnswer(gather.text()) : undefined;
        if (error !== undefined) reject(error);
        else if (answer !== undefined) resolve(answer);
        else
          reject(new TunnelError("stream.protocol", `The connector answered ${channel.status} to its configuration`));
      },
    });
    channel.write(body);
    channel.end();
  });
}

/** cloudflared writes an error as an empty object; ours put its text into it. */
function readAnswer(text: string | undefined): ConfigurationAnswer | undefined {
  const answer = parseObject(text);
  const version = answer?.["lastAppliedVersion"];
  if (answer === undefined || typeof version !== "number" || !Number.isInteger(version)) return undefined;
  const { err } = answer;
  if (err === null || err === undefined) return { latestAppliedVersion: version, error: "" };
  const message = typeof err === "object" && "message" in err ? err.message : err;
  const told = typeof message === "string" && message !== "" ? message : "The connector refused it without a reason";
  return { latestAppliedVersion: version, error: told.slice(0, MAX_ERROR_CHARS) };
}

// ---- connector ----

/** Takes the configurations that come on one session. */
export class ConfigurationReceiver {
  handler: ConfigurationHandler | undefined;
  readonly #clock: Clock;
  #pushes = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  receive(stream: H2Stream): void {
    const { handler } = this;
    if (handler === undefined || this.#pushes >= MAX_PUSHES) {
      stream.reset(H2_ERROR.refusedStream);
      return;
    }
    this.#pushes += 1;
    const channel = new PushChannel(stream, H2_ERROR.internalError);
    const cancel = this.#clock.after(PUSH_TIMEOUT_MS, () =>
      channel.abort(new TunnelError("timeout", "The configuration took too long to arrive or to be applied")),
    );
    const gather = new Gatherer(MAX_BODY_BYTES);
    channel.listen({
      onData: (chunk) => gather.add(chunk),
      onEnd: () => {
        const update = readUpdate(gather.text());
        if (update === undefined) channel.answer(502, "");
        else void handler(update).then((answer) => channel.answer(200, writeAnswer(answer)));
      },
      onDrain: () => {},
      onClose: () => {
        cancel();
        this.#pushes -= 1;
      },
    });
  }
}

function readUpdate(text: string | undefined): ConfigurationUpdate | undefined {
  const body = parseObject(text);
  const version = body?.["version"] ?? 0;
  if (body === undefined || typeof version !== "number" || !Number.isInteger(version)) return undefined;
  if (Math.abs(version) > INT32_MAX) return undefined;
  return { version, config: JSON.stringify(body["config"] ?? null) };
}

function writeAnswer({ latestAppliedVersion, error }: ConfigurationAnswer): string {
  const err = error === "" ? null : { message: error.slice(0, MAX_ERROR_CHARS) };
  return JSON.stringify({ lastAppliedVersion: latestAppliedVersion, err });
}

// ---- both ----

class PushChannel extends StreamChannel<ChannelEvents> {
  /** Of the answer, at the edge; 0 = none came. */
  status = 0;

  constructor(stream: H2Stream, resetCode: number) {
    super(stream, resetCode, () => {});
    stream.pause();
    stream.listen(this);
  }

  answer(status: number, body: string): void {
    const meta = status === 200 ? [] : [RESPONSE_META_HEADER, META_CLOUDFLARED];
    this.stream.sendHeaders([":status", String(status), ...meta], body === "");
    if (body === "") return;
    this.write(new TextEncoder().encode(body));
    this.end();
  }

  onInformational(): void {}

  onHead(fields: string[]): void {
    this.status = Number(fields[1]);
  }
}

/** Bytes up to a limit; what is longer is dropped and has no text. */
class Gatherer {
  readonly #chunks: Uint8Array[] = [];
  readonly #maxBytes: number;
  #bytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  add(chunk: Uint8Array): void {
    this.#bytes += chunk.length;
    if (this.#bytes > this.#maxBytes) this.#chunks.length = 0;
    else this.#chunks.push(chunk.slice());
  }

  /** Undefined for what was too long, or is no UTF-8. */
  text(): string | undefined {
    if (this.#bytes > this.#maxBytes) return undefined;
    const whole = new Uint8Array(this.#bytes);
    let at = 0;
    for (const chunk of this.#chunks) {
      whole.set(chunk, at);
      at += chunk.length;
    }
    try {
      return new TextDecoder("utf-8", { fatal: true }).decode(whole);
    } catch {
      return undefined;
    }
  }
}

function parseObject(text: string | undefined): Record<string, unknown> | undefined {
  if (text === undefined) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}
