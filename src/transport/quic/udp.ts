import { createSocket } from "node:dgram";
import { isIPv6 } from "node:net";
import { listenError } from "../../net/socket-errors.ts";

/**
 * UDP as QUIC wants it: many packets a call, and kernel buffers that hold a burst. Bun has both (the buffers through
 * libc, since its sockets have no option for them); elsewhere node:dgram sends one packet a call.
 */

/** `[bytes, port, ip, bytes, port, ip, …]` */
export type PacketList = (Uint8Array | number | string)[];

export interface UdpSocket {
  readonly host: string;
  readonly port: number;
  /**
   * Sends packets and answers how many the system took; after fewer than all wait for `onDrain`. What cannot be sent
   * for good is dropped, as the network would.
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
  if ("fd" in socket && typeof socket.fd === "number") await growKernelBuffers(socket.fd);
  return {
    host,
    port: socket.port,
    sendMany(packets) {
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
    },
    close: () => socket.close(),
  };
}

const SOL_SOCKET = 1;
const SO_SNDBUF = 7;
const SO_RCVBUF = 8;

/** Best effort: without it bursts are lost in our own kernel and sent again. */
async function growKernelBuffers(fd: number): Promise<void> {
  if (process.platform !== "linux") return;
  try {
    const { dlopen } = await import("bun:ffi");
    const libc = dlopen("libc.so.6", {
      setsockopt: { args: ["i32", "i32", "i32", "ptr", "u32"], returns: "i32" },
    });
    const size = Int32Array.of(KERNEL_BUFFER_BYTES);
    for (const option of [SO_SNDBUF, SO_RCVBUF]) libc.symbols.setsockopt(fd, SOL_SOCKET, option, size, size.byteLength);
    libc.close();
  } catch {
    // musl, or memory that may not be made executable: the default buffers do.
  }
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
