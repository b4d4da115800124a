import { singleRule } from "../../../src/ingress/rules.ts";
import type { Transport } from "../../../src/transport/port.ts";
import { FRAME } from "../../../src/wire/h2/constants.ts";
import { HpackDecoder } from "../../../src/wire/h2/hpack-decoder.ts";
import { headerValue } from "../../../src/wire/headers.ts";
import { pollUntil } from "../../support/poll-until.ts";
import { type RecordedRequest, startRecordingOrigin } from "../../support/recording-origin.ts";
import { compareWith, type Refusal, type SecondParser } from "../../support/second-parsers.ts";
import { readAnswers, readRequests, type StrictAnswer } from "../../support/strict-http.ts";
import { startWholePath } from "../../support/whole-path.ts";
import { FrameVisitor } from "./h2-visitor.ts";
import { RawVisitor } from "./raw-visitor.ts";

/** What is compared of a request. */
type Meaning = Pick<RecordedRequest, "method" | "target" | "body">;

/** What became of a request of HTTP/2: an answer, of the service when `seq` is there, or a reset or GOAWAY. */
export type H2Outcome =
  | { readonly kind: "answered"; readonly status: number; readonly seq: number | undefined }
  | { readonly kind: "broken" };

/**
 * An edge, a connector and a service that keeps every byte. Whatever a visitor is answered is traced to the one request
 * that the service read, and in the end every request to the one visitor that was answered for it.
 */
export class DesyncRig implements AsyncDisposable {
  readonly #owned: AsyncDisposableStack;
  readonly #port: number;
  readonly #origin: Awaited<ReturnType<typeof startRecordingOrigin>>;
  /** Requests whose answer a visitor has got. */
  readonly #claimed = new Set<number>();

  private constructor(
    owned: AsyncDisposableStack,
    port: number,
    origin: Awaited<ReturnType<typeof startRecordingOrigin>>,
  ) {
    this.#owned = owned;
    this.#port = port;
    this.#origin = origin;
  }

  static async start(transport: Transport): Promise<DesyncRig> {
    await using stack = new AsyncDisposableStack();
    const origin = stack.use(await startRecordingOrigin());
    const path = stack.use(await startWholePath());
    const rules = singleRule({ kind: "http", host: "127.0.0.1", port: origin.port });
    await path.connect({ rules, transports: [transport], connections: 2 });
    await pollUntil(() => path.edge.registry.size === 2, { what: "two tunnel connections", deadlineMs: 10_000 });
    return new DesyncRig(stack.move(), path.publicPort, origin);
  }

  /**
   * Sends the bytes on a connection of their own and waits for the edge to close it; with `ends` the visitor ends its
   * direction behind them. Every answer of the service must be to the request that the strict reader finds in its
   * place, and nothing may follow an answer that closes.
   */
  async converse(text: string, options: { readonly ends: boolean }): Promise<readonly StrictAnswer[]> {
    using visitor = await RawVisitor.connect(this.#port);
    visitor.send(text);
    if (options.ends) visitor.finish();
    const received = await visitor.untilOver();
    if (visitor.end === "reset") throw new Error("The edge cut the connection");
    const asked = readRequests(text, { leadingLine: true }).messages;
    const { messages: answers, rest } = readAnswers(
      received,
      asked.map(({ method }) => method),
    );
    if (rest !== "none") throw new Error(`Behind ${answers.length} answers: ${JSON.stringify(received.slice(-300))}`);
    for (const [i, answer] of answers.entries()) {
      const seq = answer.fields.get("x-seq");
      if (seq !== undefined) this.claim(Number(seq), asked[i]);
      if (answer.fields.get("connection") === "close" && i < answers.length - 1) {
        throw new Error(`${answers.length - 1 - i} answers behind one that closes`);
      }
    }
    return answers;
  }

  /** Sends frames, and says what became of stream 1; and, unless the connection ended, that stream 3 is served. */
  async converseH2(frames: string, next: (streamId: number) => string): Promise<H2Outcome> {
    using visitor = await FrameVisitor.connect(this.#port);
    visitor.raw.send(frames);
    const takenBack = frames.includes("\x03\x00\x00\x00\x00\x01\x00\x00\x00\x08");
    const outcome = takenBack ? ({ kind: "broken" } as const) : await this.#outcomeOf(visitor, 1);
    if (visitor.goaway !== undefined) return outcome;
    visitor.raw.send(next(3));
    const after = await this.#outcomeOf(visitor, 3);
    if (after.kind !== "answered" || after.seq === undefined) throw new Error("The next stream was not served");
    this.claim(after.seq, undefined);
    return outcome;
  }

  async #outcomeOf(visitor: FrameVisitor, id: number): Promise<H2Outcome> {
    const over = await pollUntil(
      () =>
        visitor.goaway !== undefined || visitor.raw.end !== "open"
          ? "broken"
          : visitor.frames.find(
              ({ streamId, type, flags }) =>
                streamId === id && (type === FRAME.rstStream || (type < 2 && (flags & 1) !== 0)),
            ),
      { what: `the end of stream ${id}` },
    );
    if (over === "broken" || over.type === FRAME.rstStream) return { kind: "broken" };
    const heads = visitor.frames
      .filter(({ streamId, type }) => streamId === id && type === FRAME.headers)
      .map(({ payload }) => new HpackDecoder(100_000).decode(payload, 0, payload.length))
      .map((decoded) => (decoded.kind === "headers" ? decoded.fields : []));
    const head = heads.find((fields) => Number(headerValue(fields, ":status")) >= 200) ?? [];
    const seq = headerValue(head, "x-seq");
    return {
      kind: "answered",
      status: Number(headerValue(head, ":status")),
      seq: seq === undefined ? undefined : Number(seq),
    };
  }

  /** A visitor was answered for this request; nobody else may be, and it must mean what that visitor asked. */
  claim(seq: number, asked: Meaning | undefined): RecordedRequest {
    const request = this.#origin.requests[seq];
    if (request === undefined) throw new Error(`No request ${seq} came to the service`);
    if (this.#claimed.has(seq)) throw new Error(`Two visitors were answered for request ${seq}`);
    this.#claimed.add(seq);
    if (asked !== undefined) {
      const [meant, read] = [asked, request].map(({ method, target, body }) => JSON.stringify([method, target, body]));
      if (meant !== read) throw new Error(`The visitor asked ${meant}, the service read ${read}`);
    }
    return request;
  }

  /** Requests that the service read whole and whose target begins so. */
  arrived(prefix: string): readonly RecordedRequest[] {
    return this.#origin.requests.filter(({ target }) => target.startsWith(prefix));
  }

  get requests(): number {
    return this.#origin.requests.length;
  }

  /**
   * When all visitors are gone: the service has read requests and nothing else, each answered to one visitor, and what
   * was cut off was cut off with its connection.
   */
  async settle(): Promise<void> {
    const unclaimed = this.#origin.requests.filter(({ seq }) => !this.#claimed.has(seq));
    if (unclaimed.length > 0) {
      throw new Error(`Requests that no visitor was answered for: ${JSON.stringify(unclaimed[0]?.target)}`);
    }
    await pollUntil(
      () =>
        this.#origin.connections.every(({ text, closed }) => {
          const { rest } = readRequests(text, { leadingLine: false });
          if (rest === "malformed") throw new Error(`Not a request: ${JSON.stringify(text.slice(-300))}`);
          return rest === "none" || closed;
        }),
      { what: "connections with half a request are closed" },
    );
  }

  /** What another parser understands of everything the service got. */
  async compare(parser: SecondParser): Promise<readonly Refusal[]> {
    const refusals: Refusal[] = [];
    for (const { text } of this.#origin.connections) refusals.push(...(await compareWith(parser, text)));
    return refusals;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#owned.disposeAsync();
  }
}
