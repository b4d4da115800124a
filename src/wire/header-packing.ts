// Response headers of an origin packed into one HTTP/2 field (protocol: section 2.5).
// Names and values repeat from answer to answer, so both directions remember their base64.

import { decodeByteString, encodeByteString } from "./base64.ts";
import type { Decoded } from "./capnp/decoded.ts";
import type { RawHeaders } from "./headers.ts";
import { Memo } from "./memo.ts";

/** Chars of a packed field that are accepted; the header list limit that cloudflared announces. */
export const MAX_PACKED_CHARS = 1024 * 1024;

/** Fields one packed set may hold. */
export const MAX_PACKED_FIELDS = 4096;

const MEMO_LIMITS = { maxEntries: 1024, maxTextChars: 128 } as const;

const FIELD_NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
/** What would end a field line or a text somewhere behind us. */
const FORBIDDEN_IN_VALUE = /[\0\r\n]/;

const CONTROL_PREFIXES = [":", "cf-int-", "cf-cloudflared-", "cf-proxy-"] as const;

/** `:` is not in the alphabet of field names, so a remembered name holds what goes between two `;`. */
const packedNames = new Memo((name: string) => (isControlName(name) ? "" : `${encodeByteString(name)}:`), MEMO_LIMITS);
const packedValues = new Memo(encodeByteString, MEMO_LIMITS);
const unpackedNames = new Memo((packed: string) => unpackText(packed, isFieldName), MEMO_LIMITS);
const unpackedValues = new Memo((packed: string) => unpackText(packed, isFieldValue), MEMO_LIMITS);

/** True for names that never come from an origin or go to a visitor; any case. */
export function isControlName(name: string): boolean {
  const lower = name.toLowerCase();
  return CONTROL_PREFIXES.some((prefix) => lower.startsWith(prefix));
}

/**
 * Packs an origin's fields, case and order kept; control names are left out. Hop-by-hop fields are the caller's
 * business: `connection` and `upgrade` belong here when a WebSocket was opened, and only then.
 */
export function packHeaders(headers: RawHeaders): string {
  let packed = "";
  for (let i = 0; i + 1 < headers.length; i += 2) {
    const name = packedNames.get(headers[i] as string);
    if (name === "") continue;
    const pair = name + packedValues.get(headers[i + 1] as string);
    packed = packed === "" ? pair : `${packed};${pair}`;
  }
  return packed;
}

/**
 * Unpacks a set. Control names are dropped, since cloudflared before 2026 lets some through. Names and values that
 * are no field names and values make the whole set malformed: they could split a response.
 */
export function unpackHeaders(packed: string): Decoded<RawHeaders> {
  if (packed.length > MAX_PACKED_CHARS) return malformed("packed headers too large");
  const headers: string[] = [];
  let fields = 0;
  for (let start = 0; start < packed.length; ) {
    const semicolon = packed.indexOf(";", start);
    const end = semicolon === -1 ? packed.length : semicolon;
    if (end > start) {
      fields += 1;
      if (fields > MAX_PACKED_FIELDS) return malformed("too many packed headers");
      const colon = packed.indexOf(":", start);
      if (colon === -1 || colon >= end) return malformed("packed header without a value");
      const name = unpackedNames.get(packed.slice(start, colon));
      // A second colon is outside the alphabet, so it fails here.
      const value = unpackedValues.get(packed.slice(colon + 1, end));
      if (name === null) return malformed("packed header with an invalid name");
      if (value === null) return malformed("packed header with an invalid value");
      if (!isControlName(name)) headers.push(name, value);
    }
    start = end + 1;
  }
  return { kind: "value", value: headers };
}

/** Null for anything invalid, so that it can be remembered too. */
function unpackText(packed: string, isValid: (text: string) => boolean): string | null {
  const text = decodeByteString(packed);
  return text !== undefined && isValid(text) ? text : null;
}

function isFieldName(text: string): boolean {
  return FIELD_NAME.test(text);
}

function isFieldValue(text: string): boolean {
  return !FORBIDDEN_IN_VALUE.test(text);
}

function malformed(reason: string): Decoded<RawHeaders> {
  return { kind: "malformed", reason };
}
