import { randomBytes } from "node:crypto";
import type { EdgeSession, StreamRequest, StreamResponse } from "../../src/transport/port.ts";
import type { RawHeaders } from "../../src/wire/headers.ts";
import { StreamConversation } from "./tunnel-client.ts";

export interface OpenedFlow {
  readonly response: StreamResponse;
  readonly stream: StreamConversation;
}

/** Opens a native TCP stream, as an edge does for a private network; resolves with the answer, whatever it is. */
export function openFlow(session: EdgeSession, destination: string, headers: RawHeaders = []): Promise<OpenedFlow> {
  return open(session, { kind: "tcp", method: "GET", authority: destination, path: "/", headers, bodyless: false });
}

/** Opens a WebSocket stream as an edge does for a visitor; the bytes are WebSocket frames. */
export function openVisit(session: EdgeSession, host: string, headers: RawHeaders): Promise<OpenedFlow> {
  const key = ["Sec-WebSocket-Key", randomBytes(16).toString("base64"), "Sec-WebSocket-Version", "13"];
  const request = { kind: "websocket", method: "GET", authority: host, path: "/", bodyless: false } as const;
  return open(session, { ...request, headers: [...key, ...headers] });
}

function open(session: EdgeSession, request: StreamRequest): Promise<OpenedFlow> {
  return new Promise((resolve, reject) => {
    const channel = session.open(request, {
      onInformational: () => {},
      onResponse: (response) => resolve({ response, stream: new StreamConversation(channel) }),
      onData: () => reject(new Error("Bytes before an answer")),
      onEnd: () => reject(new Error("An end before an answer")),
      onDrain: () => {},
      onClose: (error) => reject(error ?? new Error("Closed without an answer")),
    });
  });
}
