const DIGIT_0 = 0x30;
const DIGIT_9 = 0x39;
const MAX_PORT_DIGITS = 5;
const MAX_HOST_BYTES = 255;

/** Letters, digits, `-`, `.`, `_`: what names that resolve to something consist of; no `%`, `@`, comma or space. */
const NAME_CHAR = new Uint8Array(128);
for (const char of "-._0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") {
  NAME_CHAR[char.charCodeAt(0)] = 1;
}

/** An IPv6 literal without zone; its exact form is checked by whoever resolves it. */
const BRACKETED = /^\[[0-9A-Fa-f:.]{2,45}\]/;

/**
 * True for `name`, `name:port`, `IPv4[:port]` or `[IPv6][:port]`. Stricter than RFC 9110 section 7.2, which lets any
 * `reg-name` pass: an empty host or port, percent-encoding and sub-delimiters are refused because proxies and origins
 * disagree on them.
 */
export function isHost(host: string): boolean {
  if (host.length === 0 || host.length > MAX_HOST_BYTES) return false;
  let i = 0;
  if (host.charCodeAt(0) === 0x5b) {
    i = BRACKETED.exec(host)?.[0].length ?? 0;
  } else {
    while (i < host.length && NAME_CHAR[host.charCodeAt(i)] === 1) i += 1;
  }
  if (i === 0) return false;
  return i === host.length || (host.charCodeAt(i) === 0x3a && isPort(host, i + 1));
}

function isPort(host: string, start: number): boolean {
  const digits = host.length - start;
  if (digits === 0 || digits > MAX_PORT_DIGITS) return false;
  for (let i = start; i < host.length; i += 1) {
    const char = host.charCodeAt(i);
    if (char < DIGIT_0 || char > DIGIT_9) return false;
  }
  return Number(host.slice(start)) <= 0xffff;
}
