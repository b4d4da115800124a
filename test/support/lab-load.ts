import { HOST } from "./lab.ts";
import { pollUntil } from "./poll-until.ts";
import { visit } from "./visitors.ts";

/** Between two requests of one visitor, in ms: connectors share the machine with their visitors. */
const PAUSE_MS = 4;

/** One request of the load as its visitor saw it. */
export interface LoadRequest {
  /** What the origin saw as its target; no other request has it. */
  readonly target: string;
  readonly method: string;
  /** As `performance.now()` says. */
  readonly startMs: number;
  readonly tookMs: number;
  /** Why it is no whole and right answer; absent when it is one. */
  readonly failure?: string;
}

/** Visitors that ask for an echo again and again, each request on a connection of its own. */
export class LabLoad implements AsyncDisposable {
  readonly requests: LoadRequest[] = [];
  readonly #visitors: readonly Promise<void>[];
  #nextId = 1;
  #stopped = false;

  constructor(port: number, methods: readonly ("GET" | "POST")[], visitors = 6) {
    this.#visitors = Array.from({ length: visitors }, async () => {
      for (let turn = 0; !this.#stopped; turn += 1) {
        await this.#ask(port, methods[turn % methods.length] ?? "GET");
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      }
    });
  }

  get failed(): readonly LoadRequest[] {
    return this.requests.filter(({ failure }) => failure !== undefined);
  }

  /** Resolves once so many requests are over that began from now on. */
  async more(count: number, deadlineMs = 10_000): Promise<void> {
    const fromMs = performance.now();
    const begun = (): number => this.requests.filter(({ startMs }) => startMs >= fromMs).length;
    await pollUntil(() => begun() >= count, { what: `${count} more requests of the load`, deadlineMs, everyMs: 20 });
  }

  /** Begins nothing new; resolves with the last answer. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#visitors);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #ask(port: number, method: "GET" | "POST"): Promise<void> {
    const id = this.#nextId;
    this.#nextId += 1;
    const target = `/echo?id=${id}`;
    const body = method === "POST" ? `body of ${id} `.repeat(50) : "";
    const startMs = performance.now();
    const failure = await visit(port, { host: HOST, method, target, ...(body === "" ? {} : { body }) }).then(
      (answer) => {
        if (answer.status !== 200) return `status ${answer.status}`;
        const echo = JSON.parse(answer.body.toString()) as { readonly startLine: string; readonly body: string };
        const right = echo.startLine === `${method} ${target} HTTP/1.1` && echo.body === body;
        return right ? undefined : `the origin got ${echo.startLine} and ${echo.body.length} bytes`;
      },
      (error: unknown) => (error instanceof Error ? error.message : String(error)),
    );
    const tookMs = performance.now() - startMs;
    this.requests.push({ target, method, startMs, tookMs, ...(failure === undefined ? {} : { failure }) });
  }
}
