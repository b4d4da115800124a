import { WebSocketReader } from "../../../../src/wire/websocket/reader.ts";
import { concat } from "../vectors.ts";

export interface Recorded {
  readonly events: string[];
  /** Each message that ended, with whether it was text. */
  readonly messages: { readonly text: boolean; readonly bytes: Uint8Array }[];
  readonly done: boolean;
  readonly atBoundary: boolean;
}

/** Reads `bytes` in pieces of `size`; input memory is overwritten afterwards, so that a kept view would show. */
export function record(bytes: Uint8Array, masked: boolean, size = bytes.length || 1): Recorded {
  const reader = new WebSocketReader({ masked });
  const events: string[] = [];
  const messages: { text: boolean; bytes: Uint8Array }[] = [];
  let parts: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += size) {
    const chunk = bytes.slice(at, at + size);
    reader.receive(chunk, {
      onData: (part) => void parts.push(part.slice()),
      onMessageEnd: (text) => {
        messages.push({ text, bytes: concat(parts) });
        events.push(`${text ? "text" : "binary"} ${messages.at(-1)?.bytes.length}`);
        parts = [];
      },
      onPing: (payload) => void events.push(`ping ${new TextDecoder().decode(payload)}`),
      onPong: (payload) => void events.push(`pong ${new TextDecoder().decode(payload)}`),
      onClose: (code, reason) => void events.push(`close ${code} ${reason}`),
      onMalformed: (reason, code) => void events.push(`malformed ${code} ${reason}`),
    });
    chunk.fill(0xee);
  }
  return { events, messages, done: reader.done, atBoundary: reader.atBoundary };
}
