import { createSocket } from "node:dgram";
import { isIPv6 } from "node:net";
import { listenError } from "../../net/socket-errors.ts";
import { linuxUdp, type SegmentSender } from "./udp-linux.ts";

/**
 * UDP as QUIC wants it: many packets a call, and kernel buffers that hold a burst. Bun has the first and libc the rest;
 * elsewhere node:dgram sends one packet a call.
 */

/** `[bytes, port, ip, bytes, port, ip, …]` */
export type PacketList = (Uint8Array | number | string)[];

export interface UdpSocket {
  readonly host: string;
  readonly port: number;
  /**
   * Sends packets and answers how many the system took; after fewer than all wait for `onDrain`. What cannot be sent
   * for good is dropped, as the network would. Packets of one length that lie one behind another in memory may leave as
   * one, the last of which may be shorter.
   */
  sendMany(packets: PacketList): number;
  close(): void;
}

export interface UdpEvents {
  /** The bytes belong to the receiver. */
  onPacket(bytes: Uint8Array, port: number, ip: string): void;
  onDrain(): void;
}

/** Asked for; the system may cap it (`net.core.rmem_max`). Its usual default holds 94 packets. */
const KERNEL_BUFFER_BYTES = 4 * 1024 * 1024;

export async function openUdp(host: string, port: number, events: UdpEvents): Promise<UdpSocket> {
  try {
    return await (typeof Bun === "undefined" ? openNodeUdp(host, port, events) : openBunUdp(host, port, events));
  } catch (error) {
    throw listenError(host, port, error);
  }
}

async function openBunUdp(host: string, port: number, events: UdpEvents): Promise<UdpSocket> {
  const socket = await Bun.udpSocket({
    hostname: host,
    port,
    socket: {
      data: (_socket, bytes, fromPort, fromIp, flags) => {
        if (flags?.truncated !== true) events.onPacket(bytes, fromPort, fromIp);
      },
      drain: () => events.onDrain(),
      // ICMP errors: anybody on the way can make them, so only silence ends a connection.
      error: () => {},
    },
  });
  const fd = "fd" in socket && typeof socket.fd === "number" ? socket.fd : -1;
  const linux = await linuxUdp(fd, isIPv6(host) ? "IPv6" : "IPv4");
  // Best effort: without it bursts are lost in our own kernel and sent again.
  linux?.growKernelBuffers(KERNEL_BUFFER_BYTES);
  const send = (packets: PacketList): number => sendEach(socket, packets);
  const sendOpen = linux?.segments === undefined ? send : joining(linux.segments, send);
  let closed = false;
  return {
    host,
    port: socket.port,
    sendMany(packets) {
      // The number of a closed socket may already be that of another file.
      return closed ? packets.length / 3 : sendOpen(packets);
    },
    close() {
      closed = true;
      socket.close();
    },
  };
}

function sendEach(socket: { sendMany(packets: PacketList): number }, packets: PacketList): number {
  let refused = -1;
  for (let at = 0; ; ) {
    try {
      return at / 3 + socket.sendMany(at === 0 ? packets : packets.slice(at));
    } catch {
      // An earlier packet's ICMP error shows up at any later one, so each gets a second chance. One that is refused
      // again cannot be sent at all (no route, too long): it counts as lost.
      if (refused !== at) {
        refused = at;
        continue;
      }
      at += 3;
      if (at >= packets.length) return packets.length / 3;
    }
  }
}

/** Calls that send packets apart after a run was refused: a device that cannot cut packets refuses them all. */
const CALLS_APART = 1_000;

/** Sends runs of packets as one, and what is between them with `sendEach`. */
function joining(segments: SegmentSender, sendEach: (packets: PacketList) => number): (packets: PacketList) => number {
  let apart = 0;
  const sendRun = (packets: PacketList, at: number, bytes: number): boolean => {
    const first = packets[at] as Uint8Array;
    const together = new Uint8Array(first.buffer, first.byteOffset, bytes);
    const send = () => segments.send(together, first.length, packets[at + 1] as number, packets[at + 2] as string);
    // The second chance is for the ICMP error of an earlier packet, as in `sendEach`.
    return send() || send();
  };
  return (packets) => {
    if (apart > 0) {
      apart -= 1;
      return sendEach(packets);
    }
    let sent = 0;
    for (let at = 0; at < packets.length; ) {
      const run = runFrom(packets, at, segments);
      const next = at + run.count * 3;
      if (run.count > 1) {
        if (sent < at) sent += sendEach(packets.slice(sent, at)) * 3;
        if (sent < at) return sent / 3;
        if (!sendRun(packets, at, run.bytes)) {
          const rest = packets.slice(at);
          const taken = sendEach(rest) * 3;
          // Otherwise the socket was only full.
          if (taken === rest.length) apart = CALLS_APART;
          return (at + taken) / 3;
        }
        sent = next;
      }
      at = next;
    }
    if (sent < packets.length) sent += sendEach(sent === 0 ? packets : packets.slice(sent)) * 3;
    return sent / 3;
  };
}

/** How many packets from `at` on can leave as one. */
function runFrom(packets: PacketList, at: number, segments: SegmentSender): { count: number; bytes: number } {
  const first = packets[at] as Uint8Array;
  const most = segments.maxPackets(first.length);
  let count = 1;
  let bytes = first.length;
  for (let next = at + 3; next < packets.length && count < most; next += 3) {
    const packet = packets[next] as Uint8Array;
    const follows = packet.byteOffset === first.byteOffset + bytes && packet.buffer === first.buffer;
    const sameTarget = packets[next + 1] === packets[at + 1] && packets[next + 2] === packets[at + 2];
    if (!follows || !sameTarget || packet.length > first.length) break;
    count += 1;
    bytes += packet.length;
    if (packet.length < first.length) break;
  }
  return { count, bytes };
}

function openNodeUdp(host: string, port: number, events: UdpEvents): Promise<UdpSocket> {
  const type = isIPv6(host) ? "udp6" : "udp4";
  const socket = createSocket({ type, recvBufferSize: KERNEL_BUFFER_BYTES, sendBufferSize: KERNEL_BUFFER_BYTES });
  return new Promise((resolve, reject) => {
    socket.once("error", reject);
    socket.bind(port, host, () => {
      socket.off("error", reject);
      socket.on("error", () => {});
      socket.on("message", (bytes, from) => events.onPacket(bytes, from.port, from.address));
      resolve({
        host,
        port: socket.address().port,
        sendMany(packets) {
          for (let i = 0; i + 2 < packets.length; i += 3) {
            const bytes = (packets[i] as Uint8Array).slice();
            socket.send(bytes, packets[i + 1] as number, packets[i + 2] as string, () => {});
          }
          return packets.length / 3;
        },
        close: () => socket.close(),
      });
    });
  });
}
