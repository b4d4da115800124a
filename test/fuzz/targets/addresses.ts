import { isIP } from "node:net";
import { cidrContains, parseCidr } from "../../../src/wire/cidr.ts";
import { formatIp, ipGroup, ipToBytes } from "../../../src/wire/ip-bytes.ts";
import { encodeProxyHeader, type ProxyEndpoints } from "../../../src/wire/proxy-protocol.ts";
import { bytesOf, chanceOf, textOf } from "../bytes.ts";
import { must, mustEqual, type Target } from "../target.ts";

const ADDRESSES = [
  "127.0.0.1",
  "10.1.2.3",
  "::1",
  "2001:db8::1:0:0:1",
  "::ffff:1.2.3.4",
  "fe80::1%eth0",
  "::",
  "1.2.3",
  "",
];
/** The longest line of version 1, its end included. */
const MAX_V1_BYTES = 107;

/** A reader made from the specification alone (HAProxy's PROXY protocol, sections 2.1 and 2.2). */
function readHeader(bytes: Uint8Array): { from: string; to: string; ports: number[] } | "unknown" {
  if (bytes[0] === 0x50) {
    const line = /^PROXY (?:(UNKNOWN)|(TCP4|TCP6) (\S+) (\S+) (\d{1,5}) (\d{1,5}))\r\n$/.exec(textOf(bytes));
    must(line !== null && bytes.length <= MAX_V1_BYTES, "a line of version 1 has the form of one");
    const [, unknown, family, from = "", to = "", fromPort, toPort] = line;
    if (unknown !== undefined) return "unknown";
    must(
      [from, to].every((ip) => ip.includes(":") === (family === "TCP6")),
      "both addresses are of the family told",
    );
    return { from, to, ports: [Number(fromPort), Number(toPort)] };
  }
  must(textOf(bytes.subarray(0, 12)) === "\r\n\r\n\0\r\nQUIT\n", "version 2 begins with its signature");
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  must(view.getUint16(14) === bytes.length - 16, "version 2 tells its length");
  if (bytes[12] === 0x20) return "unknown";
  const size = bytes[13] === 0x11 ? 4 : 16;
  must(bytes[12] === 0x21 && (bytes[13] === 0x11 || bytes[13] === 0x21), "the rest is a connection over TCP");
  const [from, to] = [16, 16 + size].map((at) => formatIp(bytes.slice(at, at + size)) ?? "");
  return { from: from ?? "", to: to ?? "", ports: [view.getUint16(16 + 2 * size), view.getUint16(18 + 2 * size)] };
}

function canonical(text: string): string {
  return formatIp(ipToBytes(text)) ?? "";
}

/** The input is two addresses, a line each: of the visitor, and of what was reached. */
export const proxyProtocol: Target = {
  name: "proxy-protocol",
  words: [...ADDRESSES, "\n", "::", ":", ".", "/8", "/128", "/129", "%", "0x", "255", "256"],
  seeds: () => ADDRESSES.flatMap((from) => ADDRESSES.slice(0, 4).map((to) => bytesOf(`${from}\n${to}`))),
  generate: (chance) => {
    const group = (): string => chance.text("0123456789abcdefF", 4) || "0";
    const groups = (): string => chance.some(8, group).join(":");
    const text = (): string =>
      chance.pick([
        () => chance.pick(ADDRESSES),
        () => formatIp(chance.bytes(16)) ?? "",
        () => `${groups()}::${groups()}`,
        () => `${groups()}:${[...chance.bytes(4)].join(".")}`,
      ])();
    return bytesOf(`${text()}\n${text()}`);
  },
  run(input) {
    const [sourceIp = "", destinationIp = ""] = textOf(input).split("\n");
    const chance = chanceOf(input);
    const ports = [chance.below(65536), chance.below(65536)] as const;
    const endpoints: ProxyEndpoints = { sourceIp, sourcePort: ports[0], destinationIp, destinationPort: ports[1] };
    const known = ipToBytes(sourceIp).length > 0;
    for (const version of ["v1", "v2"] as const) {
      const header = encodeProxyHeader(version, endpoints);
      const found = readHeader(header);
      must((found === "unknown") === !known, "an address that is one is told");
      if (found === "unknown") continue;
      must(canonical(found.from) === canonical(sourceIp), "the visitor's address is told");
      mustEqual(found.ports, ports, "the ports are told");
      if (ipToBytes(destinationIp).length > 0)
        must(canonical(found.to) === canonical(destinationIp), "and what was reached");
    }
    checkAddress(sourceIp);
    ipGroup(sourceIp);
    return `${known} ${ipToBytes(destinationIp).length} ${sourceIp.includes(":")} ${checkBlock(sourceIp, destinationIp)}`;
  },
};

/** Against what the platform takes for addresses. */
function checkAddress(text: string): void {
  const bytes = ipToBytes(text);
  must(bytes.length === 0 || bytes.length === 16, "an address is 16 bytes");
  if (text.includes("%")) return;
  mustEqual(bytes.length > 0, isIP(text) !== 0, `"${text}" is an address to both or to none`);
  const usual = formatIp(bytes);
  if (usual === undefined) return;
  if (!text.includes(":")) must(usual === text, "IPv4 addresses have one spelling");
  mustEqual(ipToBytes(usual), bytes, "an address that is shown is read the same");
  const platform = text.includes(":") ? URL.parse(`http://[${text}]/`)?.hostname.slice(1, -1) : undefined;
  if (platform !== undefined) mustEqual(ipToBytes(platform), bytes, "IPv6 addresses are read as the platform does");
}

function checkBlock(text: string, ip: string): string {
  const block = parseCidr(text);
  if (block === undefined) return "none";
  must(block.bits >= 0 && block.bits <= 128 && block.network.length === 16, "a block is bits of 16 bytes");
  const network = formatIp(block.network) ?? "";
  must(cidrContains(block, network), "a block has its own address");
  const bits = (address: Uint8Array): string =>
    Array.from(address, (byte) => byte.toString(2).padStart(8, "0")).join("");
  const address = ipToBytes(ip);
  const inside = address.length > 0 && bits(address).slice(0, block.bits) === bits(block.network).slice(0, block.bits);
  must(cidrContains(block, ip) === inside, "an address is in a block when their first bits are the same");
  return String(inside);
}
