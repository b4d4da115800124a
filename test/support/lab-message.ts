import type { LabSocket } from "./lab-socket.ts";

/** A message head as it came: names in their case, values untouched, in order. */
export interface Head {
  readonly startLine: string;
  readonly fields: readonly (readonly [name: string, value: string])[];
}

/** The first value of a field, whatever its case. */
export function field(head: { readonly fields: Head["fields"] }, name: string): string | undefined {
  const wanted = name.toLowerCase();
  return head.fields.find(([each]) => each.toLowerCase() === wanted)?.[1];
}

/** Every value of a field, whatever its case. */
export function fieldValues(head: { readonly fields: Head["fields"] }, name: string): string[] {
  const wanted = name.toLowerCase();
  return head.fields.filter(([each]) => each.toLowerCase() === wanted).map(([, value]) => value);
}

function parseHead(text: string): Head {
  const [startLine = "", ...lines] = text.slice(0, -4).split("\r\n");
  return { startLine, fields: parseFields(lines) };
}

function parseFields(lines: readonly string[]): [string, string][] {
  return lines.map((line) => {
    const colon = line.indexOf(":");
    return [line.slice(0, colon), line.slice(colon + 1).trim()];
  });
}

/** Reads one message head; undefined when the peer is done instead. */
export async function readHead(socket: LabSocket): Promise<Head | undefined> {
  const text = await socket.readThrough("\r\n\r\n");
  return text === undefined ? undefined : parseHead(text);
}

export type BodyFraming =
  | { readonly kind: "none" }
  | { readonly kind: "length"; readonly bytes: number }
  | { readonly kind: "chunked" }
  | { readonly kind: "until-end" };

/** How the body after this head is delimited. Only as strict as peers that speak HTTP/1.1 well need it. */
export function framingOf(head: Head, side: { response: boolean; bodiless?: boolean }): BodyFraming {
  if (side.bodiless) return { kind: "none" };
  if (field(head, "transfer-encoding")?.toLowerCase() === "chunked") return { kind: "chunked" };
  const length = field(head, "content-length");
  if (length !== undefined) return { kind: "length", bytes: Number(length) };
  return side.response ? { kind: "until-end" } : { kind: "none" };
}

/**
 * The body's bytes as they arrive, and the trailers as the generator's result. Throws when the peer stops before the
 * end that its framing promised: this is how a test sees a cut message.
 */
export async function* bodyChunks(
  socket: LabSocket,
  framing: BodyFraming,
): AsyncGenerator<Buffer, readonly (readonly [string, string])[]> {
  switch (framing.kind) {
    case "none":
      return [];
    case "length":
      for (let left = framing.bytes; left > 0; ) {
        const chunk = await socket.readSome(left);
        if (chunk === undefined) throw new CutMessage(`${left} of ${framing.bytes} bytes missing (${socket.end})`);
        left -= chunk.length;
        yield chunk;
      }
      return [];
    case "chunked":
      for (;;) {
        const line = await socket.readThrough("\r\n");
        if (line === undefined) throw new CutMessage(`no last chunk (${socket.end})`);
        const size = Number.parseInt(line, 16);
        if (!/^[0-9a-fA-F]+/.test(line)) throw new CutMessage(`"${line.trim()}" is no chunk size`);
        if (size === 0) return parseFields(await trailerLines(socket));
        for (let left = size; left > 0; ) {
          const chunk = await socket.readSome(left);
          if (chunk === undefined) throw new CutMessage(`${left} bytes of a chunk missing (${socket.end})`);
          left -= chunk.length;
          yield chunk;
        }
        if ((await socket.readThrough("\r\n")) === undefined) throw new CutMessage(`no end of chunk (${socket.end})`);
      }
    case "until-end":
      for (;;) {
        const chunk = await socket.readSome();
        if (chunk !== undefined) yield chunk;
        else if (socket.end === "reset") throw new CutMessage("reset");
        else return [];
      }
  }
}

async function trailerLines(socket: LabSocket): Promise<string[]> {
  const lines: string[] = [];
  for (;;) {
    const line = await socket.readThrough("\r\n");
    if (line === undefined) throw new CutMessage(`no end of trailers (${socket.end})`);
    if (line === "\r\n") return lines;
    lines.push(line.slice(0, -2));
  }
}

/** The message ended before its framing said so. */
export class CutMessage extends Error {
  override readonly name = "CutMessage";
}

/** A body in one piece, with its trailers. */
export async function readBody(
  socket: LabSocket,
  framing: BodyFraming,
): Promise<{ body: Buffer; trailers: readonly (readonly [string, string])[] }> {
  const parts: Buffer[] = [];
  const chunks = bodyChunks(socket, framing);
  for (;;) {
    const next = await chunks.next();
    if (next.done) return { body: Buffer.concat(parts), trailers: next.value };
    parts.push(next.value);
  }
}
