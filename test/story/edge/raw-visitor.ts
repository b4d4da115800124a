import net from "node:net";
import { pollUntil } from "../../support/poll-until.ts";

/** A visitor that sends bytes as they are and keeps all it gets: what no HTTP client would let a test do. */
export class RawVisitor implements Disposable {
  readonly #socket: net.Socket;
  #received = "";
  /** `reset`: the edge cut the connection instead of ending it. */
  end: "open" | "ended" | "reset" = "open";

  private constructor(socket: net.Socket) {
    this.#socket = socket;
    socket.on("data", (chunk) => {
      this.#received += chunk.toString("latin1");
    });
    socket.on("end", () => {
      if (this.end === "open") this.end = "ended";
    });
    socket.on("error", () => {
      this.end = "reset";
    });
  }

  static async connect(port: number): Promise<RawVisitor> {
    const socket = net.connect({ host: "127.0.0.1", port, allowHalfOpen: true, noDelay: true });
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", reject);
    });
    return new RawVisitor(socket);
  }

  /** Everything received so far, one char per byte. */
  get received(): string {
    return this.#received;
  }

  send(text: string): void {
    this.#socket.write(Buffer.from(text, "latin1"));
  }

  /** Ends our direction only. */
  finish(): void {
    this.#socket.end();
  }

  /** Cuts the connection as a visitor that closes its tab. */
  reset(): void {
    this.#socket.resetAndDestroy();
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  /** Waits until the text was received and gives all that was. */
  async until(text: string): Promise<string> {
    await pollUntil(() => this.#received.includes(text), { what: `${JSON.stringify(text)} from the edge` });
    return this.#received;
  }

  /** Waits until the edge has ended or cut the connection and gives all that was received. */
  async untilOver(): Promise<string> {
    await pollUntil(() => this.end !== "open", { what: "the edge closes the connection" });
    return this.#received;
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }
}

export interface ParsedAnswer {
  readonly status: number;
  /** Lower-case names; repeated ones joined with `, `. */
  readonly headers: Readonly<Record<string, string>>;
  /** As framed on the wire: chunks are not taken apart. */
  readonly body: string;
}

/** Takes one answer apart that stands alone in the text. */
export function parseAnswer(text: string): ParsedAnswer {
  const split = text.indexOf("\r\n\r\n");
  if (split < 0) throw new Error(`No complete head in ${JSON.stringify(text)}`);
  const [statusLine = "", ...lines] = text.slice(0, split).split("\r\n");
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const name = line.slice(0, line.indexOf(":")).toLowerCase();
    const value = line.slice(line.indexOf(":") + 1).trim();
    headers[name] = headers[name] === undefined ? value : `${headers[name]}, ${value}`;
  }
  return { status: Number(statusLine.split(" ")[1]), headers, body: text.slice(split + 4) };
}
