// IP addresses as the 16 bytes that registrations carry (protocol: section 3.6).

const MAPPED_PREFIX = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff] as const;
const HEX_GROUP = /^[0-9a-fA-F]{1,4}$/;
const DECIMAL = /^(?:0|[1-9][0-9]{0,2})$/;

/** 16 bytes, IPv4 in mapped form; an IPv6 zone is left out. Empty when the text is no address. */
export function ipToBytes(text: string): Uint8Array {
  const zone = text.indexOf("%");
  const address = zone === -1 ? text : text.slice(0, zone);
  const bytes = address.includes(":") ? ipv6Bytes(address) : mapped(ipv4Bytes(address));
  return Uint8Array.from(bytes ?? []);
}

/**
 * What limits for each address count by: an IPv4 address itself, and of an IPv6 address its first 64 bits, since the rest
 * is its owner's choice.
 */
export function ipGroup(text: string): string {
  if (!text.includes(":")) return text;
  const bytes = ipToBytes(text);
  if (bytes.length !== 16 || MAPPED_PREFIX.every((byte, i) => bytes[i] === byte)) return text;
  return bytes.subarray(0, 8).join(".");
}

/** The usual text of 4 or 16 bytes, mapped IPv4 as IPv4; undefined for any other length. */
export function formatIp(bytes: Uint8Array): string | undefined {
  if (bytes.length === 4) return bytes.join(".");
  if (bytes.length !== 16) return undefined;
  if (MAPPED_PREFIX.every((byte, i) => bytes[i] === byte)) return bytes.subarray(12).join(".");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const groups = Array.from({ length: 8 }, (_, i) => view.getUint16(2 * i).toString(16));
  const { start, length } = longestZeros(groups);
  if (length < 2) return groups.join(":");
  return `${groups.slice(0, start).join(":")}::${groups.slice(start + length).join(":")}`;
}

function ipv4Bytes(text: string): readonly number[] | undefined {
  const parts = text.split(".");
  if (parts.length !== 4 || !parts.every((part) => DECIMAL.test(part))) return undefined;
  const bytes = parts.map(Number);
  return bytes.every((byte) => byte <= 0xff) ? bytes : undefined;
}

function mapped(ipv4: readonly number[] | undefined): readonly number[] | undefined {
  return ipv4 === undefined ? undefined : [...MAPPED_PREFIX, ...ipv4];
}

function ipv6Bytes(text: string): readonly number[] | undefined {
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const compressed = halves.length === 2;
  const head = groupBytes(halves[0] ?? "", !compressed);
  const tail = compressed ? groupBytes(halves[1] ?? "", true) : [];
  if (head === undefined || tail === undefined) return undefined;
  const missing = 16 - head.length - tail.length;
  // "::" stands for at least one group.
  if (compressed ? missing < 2 : missing !== 0) return undefined;
  return [...head, ...Array.from({ length: missing }, () => 0), ...tail];
}

/** @param last whether these are the last groups: only there may an IPv4 address stand for two */
function groupBytes(text: string, last: boolean): readonly number[] | undefined {
  if (text === "") return [];
  const bytes: number[] = [];
  const groups = text.split(":");
  for (const [i, group] of groups.entries()) {
    const embedded = last && i === groups.length - 1 && group.includes(".") ? ipv4Bytes(group) : undefined;
    if (embedded !== undefined) {
      bytes.push(...embedded);
    } else {
      if (!HEX_GROUP.test(group)) return undefined;
      const value = Number.parseInt(group, 16);
      bytes.push(value >> 8, value & 0xff);
    }
  }
  return bytes;
}

/** The first longest run of zero groups (RFC 5952 section 4.2). */
function longestZeros(groups: readonly string[]): { start: number; length: number } {
  let best = { start: 0, length: 0 };
  let start = 0;
  for (let i = 0; i <= groups.length; i += 1) {
    if (groups[i] === "0") continue;
    if (i - start > best.length) best = { start, length: i - start };
    start = i + 1;
  }
  return best;
}
