import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  encodeVersionNegotiation,
  isLongHeader,
  MIN_INITIAL_BYTES,
  mayOpenConnection,
  parseLongHeader,
} from "../../../../src/wire/quic/packet-header.ts";
import { concat, hex } from "../vectors.ts";

const DCID = Uint8Array.of(0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08);
const SCID = Uint8Array.of(1, 2, 3);

function initial(options: {
  version?: number[];
  dcid?: Uint8Array;
  scid?: Uint8Array;
  token?: number[];
  first?: number;
}) {
  const dcid = options.dcid ?? DCID;
  const scid = options.scid ?? SCID;
  const head = concat([
    Uint8Array.from([options.first ?? 0xc3, ...(options.version ?? [0, 0, 0, 1]), dcid.length]),
    dcid,
    Uint8Array.of(scid.length),
    scid,
    Uint8Array.from(options.token ?? [0]),
  ]);
  return concat([head, new Uint8Array(MIN_INITIAL_BYTES - head.length)]);
}

describe("long headers", () => {
  test("the client's first packet of RFC 9001 appendix A.2 is read", () => {
    const packet = concat([
      Uint8Array.from([0xc0, 0, 0, 0, 1, 8]),
      DCID,
      Uint8Array.from([0, 0, 0x44, 0x9e]),
      new Uint8Array(1180),
    ]);
    const header = parseLongHeader(packet);
    expect(header).toMatchObject({ version: 1, initial: true });
    expect([hex(header?.dcid ?? DCID), header?.scid.length, header?.token.length]).toEqual([hex(DCID), 0, 0]);
  });

  test("a token is read and one of more than 256 bytes refused", () => {
    expect(parseLongHeader(initial({ token: [3, 7, 8, 9] }))?.token).toEqual(Uint8Array.of(7, 8, 9));
    expect(parseLongHeader(initial({ token: [0x41, 0x01] }))).toBeUndefined();
    expect(parseLongHeader(initial({ token: [0x80, 0, 0, 1] }))).toBeUndefined();
  });

  test.each([
    { name: "an Initial in a full datagram", packet: initial({}), want: true },
    { name: "a short datagram", packet: initial({}).subarray(0, MIN_INITIAL_BYTES - 1), want: false },
    { name: "a Handshake packet", packet: initial({ first: 0xe3 }), want: false },
    { name: "an id of 7 bytes", packet: initial({ dcid: DCID.subarray(1) }), want: false },
    { name: "another version", packet: initial({ version: [0x6b, 0x33, 0x43, 0xcf] }), want: false },
  ])("$name may open a connection: $want", ({ packet, want }) => {
    const header = parseLongHeader(packet);
    expect(header !== undefined && mayOpenConnection(header, packet.length)).toBe(want);
  });

  test("ids of more than 20 bytes are refused", () => {
    expect(parseLongHeader(initial({ dcid: new Uint8Array(21) }))).toBeUndefined();
    expect(parseLongHeader(initial({ scid: new Uint8Array(21) }))).toBeUndefined();
  });

  test("version negotiation swaps the ids and offers version 1", () => {
    const header = parseLongHeader(initial({ version: [0xff, 0, 0, 0x1d] }));
    if (header === undefined) throw new Error("not read");
    const packet = encodeVersionNegotiation(header);
    expect(isLongHeader(packet)).toBe(true);
    expect(hex(packet.subarray(1))).toBe(`0000000003010203088394c8f03e51570800000001`);
  });

  test("any prefix and any bytes are read without an exception", () => {
    const packet = initial({ token: [3, 7, 8, 9] });
    for (let cut = 0; cut < 40; cut += 1) parseLongHeader(packet.subarray(0, cut));
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        parseLongHeader(bytes);
      }),
    );
  });
});
