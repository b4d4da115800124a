import { formatIp, ipToBytes } from "./ip-bytes.ts";

/** `v1` is a line of text, `v2` binary (HAProxy's PROXY protocol, sections 2.1 and 2.2). */
export type ProxyProtocolVersion = "v1" | "v2";

/** Whom a connection is for: a visitor, and the address that was reached for them. */
export interface ProxyEndpoints {
  /** Address of the visitor, as text. */
  readonly sourceIp: string;
  /** 0 where nobody tells it. */
  readonly sourcePort: number;
  /** Empty where there is none (unix sockets): the unspecified address then. */
  readonly destinationIp: string;
  readonly destinationPort: number;
}

const SIGNATURE = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a] as const;
const VERSION_LOCAL = 0x20;
const VERSION_PROXY = 0x21;
const TCP_OVER_IPV4 = 0x11;
const TCP_OVER_IPV6 = 0x21;

/**
 * The header that goes in front of everything else on a connection. Without endpoints, or with a source that is no
 * address, it says that there is nothing to tell (`UNKNOWN`, `LOCAL`). Where the families differ both are told as IPv6.
 */
export function encodeProxyHeader(version: ProxyProtocolVersion, endpoints: ProxyEndpoints | undefined): Uint8Array {
  const source = ipToBytes(endpoints?.sourceIp ?? "");
  if (endpoints === undefined || source.length === 0) {
    return version === "v1" ? ascii("PROXY UNKNOWN\r\n") : Uint8Array.of(...SIGNATURE, VERSION_LOCAL, 0, 0, 0);
  }
  const told = ipToBytes(endpoints.destinationIp);
  const destination = told.length === 0 ? ipToBytes(isMapped(source) ? "0.0.0.0" : "::") : told;
  const ipv4 = isMapped(source) && isMapped(destination);
  if (version === "v1") {
    const text = (ip: Uint8Array): string => (isMapped(ip) && !ipv4 ? `::ffff:${formatIp(ip)}` : `${formatIp(ip)}`);
    const { sourcePort, destinationPort } = endpoints;
    return ascii(`PROXY TCP${ipv4 ? 4 : 6} ${text(source)} ${text(destination)} ${sourcePort} ${destinationPort}\r\n`);
  }
  const from = ipv4 ? 12 : 0;
  const body = [
    ...source.subarray(from),
    ...destination.subarray(from),
    ...uint16(endpoints.sourcePort),
    ...uint16(endpoints.destinationPort),
  ];
  return Uint8Array.of(
    ...SIGNATURE,
    VERSION_PROXY,
    ipv4 ? TCP_OVER_IPV4 : TCP_OVER_IPV6,
    ...uint16(body.length),
    ...body,
  );
}

function isMapped(ip: Uint8Array): boolean {
  return ip.subarray(0, 10).every((byte) => byte === 0) && ip[10] === 0xff && ip[11] === 0xff;
}

function uint16(value: number): [number, number] {
  return [(value >> 8) & 0xff, value & 0xff];
}

function ascii(text: string): Uint8Array {
  return Uint8Array.from(text, (char) => char.charCodeAt(0));
}
