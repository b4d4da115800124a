// Heads of QUIC data streams (protocol: section 4.3). Texts are byte strings: they carry header fields as they are.
// This is the data path: metadata is a flat list as in RawHeaders, so that no object per entry is made.

import type { StructBuilder } from "../capnp/builder.ts";
import { DecodeError } from "../capnp/decoded.ts";
import type { StructReader } from "../capnp/message.ts";
import type { StructCodec } from "../capnp/struct-codec.ts";

const CONNECTION_TYPES = ["http", "websocket", "tcp"] as const;
export type ConnectionType = (typeof CONNECTION_TYPES)[number];

/** `[key, value, key, value, …]`; keys may repeat. */
export type Metadata = readonly string[];

export type ConnectRequest = {
  /** Absolute URL for http and websocket, `IP:port` for tcp. */
  readonly dest: string;
  readonly type: ConnectionType;
  readonly metadata: Metadata;
};

export type ConnectResponse = {
  /** "" = connected. */
  readonly error: string;
  readonly metadata: Metadata;
};

/** Key and value. */
const METADATA_SHAPE = { dataWords: 0, pointerWords: 2 } as const;

export const connectRequest: StructCodec<ConnectRequest> = {
  dataWords: 1,
  pointerWords: 2,
  read(view) {
    const type = CONNECTION_TYPES[view.u16(0)];
    if (type === undefined) throw new DecodeError("connection type unknown");
    return { dest: view.byteText(0), type, metadata: readMetadata(view, 1) };
  },
  write(target, request) {
    target.setByteText(0, request.dest);
    target.setU16(0, CONNECTION_TYPES.indexOf(request.type));
    writeMetadata(target, 1, request.metadata);
  },
};

export const connectResponse: StructCodec<ConnectResponse> = {
  dataWords: 0,
  pointerWords: 2,
  read: (view) => ({ error: view.byteText(0), metadata: readMetadata(view, 1) }),
  write(target, response) {
    target.setByteText(0, response.error);
    writeMetadata(target, 1, response.metadata);
  },
};

function readMetadata(view: StructReader, index: number): string[] {
  const flat: string[] = [];
  view.forEachStruct(index, (entry) => {
    flat.push(entry.byteText(0), entry.byteText(1));
  });
  return flat;
}

function writeMetadata(target: StructBuilder, index: number, metadata: Metadata): void {
  target.setStructList(index, METADATA_SHAPE, metadata.length >>> 1, (entry, i) => {
    entry.setByteText(0, metadata[2 * i] ?? "");
    entry.setByteText(1, metadata[2 * i + 1] ?? "");
  });
}
