/**
 * Reads IP packets from a TUN device that it makes, and writes them back late, or not at all:
 * `relay.ts DEVICE DELAY_MS LOSS_PERCENT`. Runs until it is killed.
 */
import { dlopen, ptr } from "bun:ffi";
import { seededRandom } from "../seeded-random.ts";

const O_RDWR = 2;
const O_NONBLOCK = 0o4000;
const TUNSETIFF = 0x400454ca;
const IFF_TUN = 1;
const IFF_NO_PI = 0x1000;
const MAX_PACKET_BYTES = 65_536;
/** Packets under way; a full pipe loses what comes next. */
const MAX_UNDER_WAY = 10_000;

const libc = dlopen("libc.so.6", {
  open: { args: ["ptr", "i32"], returns: "i32" },
  ioctl: { args: ["i32", "u64", "ptr"], returns: "i32" },
  read: { args: ["i32", "ptr", "u64"], returns: "i64" },
  write: { args: ["i32", "ptr", "u64"], returns: "i64" },
}).symbols;

const [device = "", delayMs = "0", lossPercent = "0"] = process.argv.slice(2);
const random = seededRandom(1);
const tun = openTun(device);
const buffer = Buffer.alloc(MAX_PACKET_BYTES);
const underWay: { readonly atMs: number; readonly packet: Buffer }[] = [];

console.log("ready");
setInterval(() => {
  const nowMs = performance.now();
  for (;;) {
    const length = Number(libc.read(tun, ptr(buffer), buffer.length));
    if (length <= 0) break;
    if (random() * 100 < Number(lossPercent) || underWay.length >= MAX_UNDER_WAY) continue;
    underWay.push({ atMs: nowMs + Number(delayMs), packet: Buffer.from(buffer.subarray(0, length)) });
  }
  // The delay is the same for all, so the first is always due first.
  let due = 0;
  for (const { atMs, packet } of underWay) {
    if (atMs > nowMs) break;
    libc.write(tun, ptr(packet), packet.length);
    due += 1;
  }
  underWay.splice(0, due);
}, 1);

function openTun(name: string): number {
  const file = libc.open(ptr(Buffer.from("/dev/net/tun\0")), O_RDWR | O_NONBLOCK);
  // struct ifreq: 16 bytes of name, then the flags.
  const request = Buffer.alloc(40);
  request.write(name, 0, 15, "latin1");
  request.writeUInt16LE(IFF_TUN | IFF_NO_PI, 16);
  if (file < 0 || libc.ioctl(file, TUNSETIFF, ptr(request)) < 0) throw new Error(`Cannot make the TUN device ${name}`);
  return file;
}
