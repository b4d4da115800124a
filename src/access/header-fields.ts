import { encodeRequestHead } from "../wire/h1/encoder.ts";
import { headerValue, type RawHeaders } from "../wire/headers.ts";
import { type Parsed, refused } from "../wire/parsed.ts";

/** Fields of the handshake itself. */
const OWN_FIELDS = /^(host|connection|upgrade|content-length|transfer-encoding|sec-websocket-.*)$/i;

/** What a request to an application carries beside the handshake. */
export interface StreamFields {
  /** The user's own. */
  readonly headers: RawHeaders;
  /** Where a bastion goes on to, `host:port`. */
  readonly destination: string | undefined;
  readonly serviceToken: ServiceToken | undefined;
}

/** Credentials of a program at Access. */
export interface ServiceToken {
  readonly id: string | undefined;
  readonly secret: string | undefined;
}

/** Reads `Name: value`. Problems never quote the value, which may be a secret. */
export function parseHeader(text: string): Parsed<readonly [name: string, value: string]> {
  const colon = text.indexOf(":");
  if (colon < 1) return refused("", 'must be "Name: value"');
  return checkHeader(text.slice(0, colon).trim(), text.slice(colon + 1).trim());
}

/** Checks one field of the user's. */
export function checkHeader(name: string, value: string): Parsed<readonly [name: string, value: string]> {
  if (OWN_FIELDS.test(name)) return refused("", `${name} is set by the client itself`);
  const head = encodeRequestHead({ method: "GET", target: "/", headers: [name, value] });
  if (head instanceof Uint8Array) return { ok: true, value: [name, value] };
  const where = head.part === "field-name" ? "name" : "value";
  return refused("", `the ${where} of ${JSON.stringify(name)} has a character that a header cannot hold`);
}

/** All fields of a request, the user's last and instead of ours of the same name (protocol: section 9). */
export function requestFields(fields: StreamFields, userAgent: string, accessToken: string | undefined): RawHeaders {
  const { headers, destination, serviceToken } = fields;
  const ours: readonly (readonly [string, string | undefined])[] = [
    ["User-Agent", userAgent],
    ["Cf-Access-Token", accessToken],
    ["Cf-Access-Client-Id", serviceToken?.id],
    ["Cf-Access-Client-Secret", serviceToken?.secret],
    ["Cf-Access-Jump-Destination", destination],
  ];
  const set = ours.flatMap(([name, value]) =>
    value === undefined || headerValue(headers, name.toLowerCase()) !== undefined ? [] : [name, value],
  );
  return [...set, ...headers];
}
