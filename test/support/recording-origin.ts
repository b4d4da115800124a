import { readRequests, type StrictRequest } from "./strict-http.ts";
import { startTcpOrigin } from "./tcp-origin.ts";

/** One connection of a connector, as bytes. */
export interface RecordedConnection {
  /** All that came, a char for each byte. */
  text: string;
  closed: boolean;
}

export interface RecordedRequest extends StrictRequest {
  /** Counts the requests of all connections; the answer carries it as `X-Seq`. */
  readonly seq: number;
  readonly connection: RecordedConnection;
}

export interface RecordingOrigin extends AsyncDisposable {
  readonly port: number;
  readonly connections: readonly RecordedConnection[];
  /** Whole requests, in the order in which they were complete. */
  readonly requests: readonly RecordedRequest[];
}

/**
 * A service that keeps every byte, reads requests with the strict reader alone, and answers each once it is whole.
 * Bytes that are no request are left to stand: the test looks at what is behind the last request.
 */
export async function startRecordingOrigin(): Promise<RecordingOrigin> {
  const connections: RecordedConnection[] = [];
  const requests: RecordedRequest[] = [];
  const server = await startTcpOrigin((socket) => {
    const connection: RecordedConnection = { text: "", closed: false };
    connections.push(connection);
    let readTo = 0;
    socket.on("data", (chunk) => {
      connection.text += chunk.toString("latin1");
      const { messages } = readRequests(connection.text.slice(readTo), { leadingLine: false });
      for (const message of messages) {
        const request = { ...message, start: message.start + readTo, end: message.end + readTo };
        const seq = requests.length;
        requests.push({ ...request, seq, connection });
        const body = `request ${seq}`;
        const head = `HTTP/1.1 200 OK\r\nX-Seq: ${seq}\r\nContent-Length: ${body.length}\r\n\r\n`;
        socket.write(request.method === "HEAD" ? head : head + body);
      }
      readTo += messages.at(-1)?.end ?? 0;
    });
    socket.on("end", () => socket.end());
    socket.on("close", () => {
      connection.closed = true;
    });
  });
  return {
    port: server.port,
    connections,
    requests,
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}
