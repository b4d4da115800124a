import { ipToBytes } from "../../wire/ip-bytes.ts";

/** What Linux can do with a UDP socket and Bun's API has no name for; called through libc. */
export interface LinuxUdp {
  growKernelBuffers(bytes: number): void;
  /** Undefined where the kernel cannot cut packets (before 4.18). */
  readonly segments: SegmentSender | undefined;
}

/**
 * Many packets of one length in one system call and one pass through the network stack, which cuts them at its end
 * ("UDP GSO", udp(7) UDP_SEGMENT).
 */
export interface SegmentSender {
  /** Packets of this length in one call; 1 = they gain nothing from it. */
  maxPackets(packetBytes: number): number;
  /**
   * Sends `bytes` in packets of `packetBytes`, the last of which may be shorter. False = not sent: the socket is full,
   * this network device cannot do it, or the address has a zone.
   */
  send(bytes: Uint8Array, packetBytes: number, port: number, ip: string): boolean;
}

const SOL_SOCKET = 1;
const SO_SNDBUF = 7;
const SO_RCVBUF = 8;
const SOL_UDP = 17;
const UDP_SEGMENT = 103;
const AF_INET = 2;
const AF_INET6 = 10;
const MSG_DONTWAIT = 0x40;
const MAX_SEGMENTS = 64;
/** Three of loopback's long packets in one call cost as much as three calls (DECISIONS.md). */
const MAX_SEGMENT_BYTES = 2 * 1024;
const MAX_SEGMENTED_BYTES = 65_507 - 40;

// struct msghdr, iovec, cmsghdr and sockaddr_in6 of 64-bit Linux, one behind another.
const HEADER = { name: 0, nameBytes: 8, vectors: 16, vectorCount: 24, control: 32, controlBytes: 40 } as const;
const VECTOR_AT = 56;
const CONTROL_AT = VECTOR_AT + 16;
const CONTROL_BYTES = 24;
/** Without the padding behind its two bytes of data. */
const CONTROL_LENGTH = 18;
const ADDRESS_AT = CONTROL_AT + CONTROL_BYTES;
const IPV4_ADDRESS_BYTES = 16;
const IPV6_ADDRESS_BYTES = 28;

/** Undefined where libc cannot be called: musl, or a system that forbids memory made executable. */
export async function linuxUdp(fd: number, family: "IPv4" | "IPv6"): Promise<LinuxUdp | undefined> {
  const calls = await loadLibc();
  if (calls === undefined) return undefined;
  const { symbols, ptr } = calls;
  const known = symbols.getsockopt(fd, SOL_UDP, UDP_SEGMENT, new Int32Array(1), Int32Array.of(4)) === 0;
  const send = (message: Uint8Array): number => symbols.sendmsg(fd, message, MSG_DONTWAIT);
  return {
    growKernelBuffers(bytes) {
      const size = Int32Array.of(bytes);
      for (const option of [SO_SNDBUF, SO_RCVBUF]) symbols.setsockopt(fd, SOL_SOCKET, option, size, size.byteLength);
    },
    segments: known ? segmentSender({ ptr, send }, family) : undefined,
  };
}

let libc: ReturnType<typeof openLibc> | undefined;

/** Once for the process: each opening makes code that is never given back. */
function loadLibc(): ReturnType<typeof openLibc> {
  libc ??= openLibc();
  return libc;
}

async function openLibc() {
  if (process.platform !== "linux") return undefined;
  try {
    const { dlopen, ptr } = await import("bun:ffi");
    const { symbols } = dlopen("libc.so.6", {
      setsockopt: { args: ["i32", "i32", "i32", "ptr", "u32"], returns: "i32" },
      getsockopt: { args: ["i32", "i32", "i32", "ptr", "ptr"], returns: "i32" },
      sendmsg: { args: ["i32", "ptr", "i32"], returns: "i32" },
    });
    return { symbols, ptr };
  } catch {
    return undefined;
  }
}

interface Calls {
  ptr(bytes: Uint8Array): number;
  /** Bytes the system took; below zero = none. */
  send(message: Uint8Array): number;
}

function segmentSender(calls: Calls, family: "IPv4" | "IPv6"): SegmentSender {
  const message = new Uint8Array(new ArrayBuffer(ADDRESS_AT + IPV6_ADDRESS_BYTES));
  const view = new DataView(message.buffer);
  const at = calls.ptr(message);
  const setPointer = (offset: number, pointer: number): void => view.setBigUint64(offset, BigInt(pointer), true);
  setPointer(HEADER.name, at + ADDRESS_AT);
  setPointer(HEADER.vectors, at + VECTOR_AT);
  view.setBigUint64(HEADER.vectorCount, 1n, true);
  setPointer(HEADER.control, at + CONTROL_AT);
  view.setBigUint64(HEADER.controlBytes, BigInt(CONTROL_BYTES), true);
  view.setBigUint64(CONTROL_AT, BigInt(CONTROL_LENGTH), true);
  view.setInt32(CONTROL_AT + 8, SOL_UDP, true);
  view.setInt32(CONTROL_AT + 12, UDP_SEGMENT, true);
  let known = { ip: "", port: -1, usable: false };
  const address = (ip: string, port: number): boolean => {
    if (ip !== known.ip || port !== known.port) known = { ip, port, usable: setAddress(view, family, ip, port) };
    return known.usable;
  };
  return {
    maxPackets(packetBytes) {
      if (packetBytes > MAX_SEGMENT_BYTES) return 1;
      return Math.min(MAX_SEGMENTS, Math.floor(MAX_SEGMENTED_BYTES / packetBytes));
    },
    send(bytes, packetBytes, port, ip) {
      if (!address(ip, port)) return false;
      setPointer(VECTOR_AT, calls.ptr(bytes));
      view.setUint32(VECTOR_AT + 8, bytes.length, true);
      view.setUint16(CONTROL_AT + 16, packetBytes, true);
      return calls.send(message) === bytes.length;
    },
  };
}

function setAddress(view: DataView, family: "IPv4" | "IPv6", ip: string, port: number): boolean {
  const bytes = ipToBytes(ip);
  const isIPv4 = !ip.includes(":");
  if (bytes.length === 0 || ip.includes("%") || (family === "IPv4" && !isIPv4)) return false;
  const target = new Uint8Array(view.buffer, ADDRESS_AT, IPV6_ADDRESS_BYTES).fill(0);
  view.setUint16(ADDRESS_AT, family === "IPv4" ? AF_INET : AF_INET6, true);
  view.setUint16(ADDRESS_AT + 2, port);
  if (family === "IPv4") target.set(bytes.subarray(12), 4);
  else target.set(bytes, 8);
  view.setUint32(HEADER.nameBytes, family === "IPv4" ? IPV4_ADDRESS_BYTES : IPV6_ADDRESS_BYTES, true);
  return true;
}
