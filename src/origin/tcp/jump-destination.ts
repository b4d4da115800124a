import { headerValues, type RawHeaders } from "../../wire/headers.ts";
import type { Destination } from "./reach.ts";

/** Where a visitor of a bastion wants to go (protocol: section 9). */
export const JUMP_HEADER = "cf-access-jump-destination";

/** A port is a must; a scheme, user and path are cut off as cloudflared does. Or a text that says what is wrong. */
export function jumpDestination(headers: RawHeaders): Destination | string {
  const values = headerValues(headers, JUMP_HEADER).map((value) => value.trim());
  const text = values[0] ?? "";
  if (text === "") return "The visitor named no destination: Cf-Access-Jump-Destination is missing";
  // Two different wishes: another reader of the same request may have checked the other one.
  if (values.length > 1) return "The visitor named more than one destination";
  const authority = text
    .replace(/^[a-z][a-z0-9+.-]*:\/\//i, "")
    .replace(/[/?#].*$/s, "")
    .replace(/^.*@/s, "");
  const parts = /^(?:\[([0-9a-f:.]+)\]|([a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_.])?)):([0-9]{1,5})$/i.exec(authority);
  const host = parts?.[1] ?? parts?.[2];
  const port = Number(parts?.[3]);
  if (host === undefined || port < 1 || port > 65_535) {
    return "The visitor's destination is not a host and a port, such as 10.0.0.5:22";
  }
  return { host, port };
}
