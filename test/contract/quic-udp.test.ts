import { describe, expect, test } from "bun:test";
import { openUdp, type PacketList, type UdpSocket } from "../../src/transport/quic/udp.ts";
import { netlabMissing } from "../support/netlab/commands.ts";
import { pollUntil } from "../support/poll-until.ts";

const PACKET_BYTES = 1350;

async function withPair(
  host: string,
  senderHost: string,
  use: (sender: UdpSocket, port: number, received: Uint8Array[]) => Promise<void>,
): Promise<void> {
  const received: Uint8Array[] = [];
  const receiver = await openUdp(host, 0, { onPacket: (bytes) => received.push(bytes), onDrain: () => {} });
  const sender = await openUdp(senderHost, 0, { onPacket: () => {}, onDrain: () => {} });
  try {
    await use(sender, receiver.port, received);
  } finally {
    sender.close();
    receiver.close();
  }
}

/** Packets one behind another in memory, as a connection fills them; each begins with its number. */
function packetsOf(lengths: readonly number[], port: number, ip: string): { list: PacketList; copies: Uint8Array[] } {
  const room = new Uint8Array(lengths.length * PACKET_BYTES);
  const views = lengths.map((length, i) => room.subarray(i * PACKET_BYTES, i * PACKET_BYTES + length).fill(i));
  return { list: views.flatMap((view) => [view, port, ip]), copies: views.map((view) => view.slice()) };
}

const FULL = PACKET_BYTES;
const WHOLE = "each packet arrives on its own, whole and in order";
const missing = netlabMissing();
const ROWS: readonly (readonly [string, readonly number[]])[] = [
  ["one packet", [FULL]],
  ["a run with a shorter end", [FULL, FULL, FULL, 77]],
  ["more than one call takes", Array.from({ length: 64 }, () => FULL)],
  ["short ones in between", [FULL, 500, FULL, FULL, 30, 40, 50, FULL, FULL]],
  ["short ones only", [60, 60, 60]],
];

describe("UDP", () => {
  for (const [name, lengths] of ROWS) {
    test(`${name}: ${WHOLE}`, async () => {
      await withPair("127.0.0.1", "127.0.0.1", async (sender, port, received) => {
        const { list, copies } = packetsOf(lengths, port, "127.0.0.1");
        expect(sender.sendMany(list)).toBe(lengths.length);
        await pollUntil(() => received.length >= lengths.length, { what: "the packets" });
        expect(received.map((packet) => Buffer.from(packet).toString("hex"))).toEqual(
          copies.map((packet) => Buffer.from(packet).toString("hex")),
        );
      });
    });
  }

  for (const [name, host, senderHost, ip] of [
    ["IPv6", "::1", "::1", "::1"],
    ["IPv4 from a socket for both", "127.0.0.1", "::", "127.0.0.1"],
    ["mapped IPv4 from a socket for both", "127.0.0.1", "::", "::ffff:127.0.0.1"],
  ] as const) {
    test(`${name}: a run arrives`, async () => {
      await withPair(host, senderHost, async (sender, port, received) => {
        const { list } = packetsOf([FULL, FULL, 100], port, ip);
        expect(sender.sendMany(list)).toBe(3);
        await pollUntil(() => received.length >= 3, { what: "the packets" });
        expect(received.map((packet) => packet.length)).toEqual([FULL, FULL, 100]);
      });
    });
  }

  test("a run to two ports is no run", async () => {
    await withPair("127.0.0.1", "127.0.0.1", async (sender, port, received) => {
      const other: Uint8Array[] = [];
      const second = await openUdp("127.0.0.1", 0, { onPacket: (bytes) => other.push(bytes), onDrain: () => {} });
      const { list } = packetsOf([FULL, FULL, FULL, FULL], port, "127.0.0.1");
      list[7] = second.port;
      list[10] = second.port;
      expect(sender.sendMany(list)).toBe(4);
      await pollUntil(() => received.length >= 2 && other.length >= 2, { what: "the packets" });
      second.close();
      expect(received.map((packet) => packet[0])).toEqual([0, 1]);
      expect(other.map((packet) => packet[0])).toEqual([2, 3]);
    });
  });

  test("an address that nobody can reach counts as lost packets", async () => {
    await withPair("127.0.0.1", "127.0.0.1", async (sender) => {
      const { list } = packetsOf([FULL, FULL, FULL], 9, "::1");
      expect(sender.sendMany(list)).toBe(3);
    });
  });

  test.skipIf(missing !== undefined)(`a device that refuses runs of this length gets them one by one`, () => {
    // The kernel cuts no run into packets longer than the device takes, but it fragments a single one.
    const script = 'ip link set lo up mtu 1300 && exec "$@"';
    const again = [process.execPath, "test", "--timeout", "30000", import.meta.path, "-t", WHOLE];
    const run = Bun.spawnSync(["unshare", "--net", "sh", "-c", script, "sh", ...again]);
    expect(run.stderr.toString()).toContain(`${ROWS.length} pass`);
    expect(run.exitCode).toBe(0);
  });
});
