import { isLoopbackHost } from "../../net/loopback.ts";
import { readBytes } from "./body.ts";
import { CODE, forbidden, Problem } from "./problem.ts";

/** A page of another site must not send forms here. Programs that are no browser send neither field. */
export function refuseForeign(headers: Headers): void {
  const site = headers.get("sec-fetch-site");
  const origin = headers.get("origin");
  const own = origin === null || (URL.canParse(origin) && new URL(origin).host === headers.get("host"));
  if (own && (site === null || site === "same-origin")) return;
  throw forbidden("This form was sent by another site");
}

/** Whether a token may travel to this origin: by TLS, or within this machine. */
export function isSafe(origin: string): boolean {
  const { protocol, hostname } = new URL(origin);
  return protocol === "https:" || isLoopbackHost(hostname);
}

/** Throws a Problem of 415 for what is no form, of 413 for a longer one. */
export async function readForm(request: Request, maxBytes: number): Promise<URLSearchParams> {
  const type = request.headers.get("content-type") ?? "";
  if (!/^application\/x-www-form-urlencoded\s*(;|$)/i.test(type)) {
    throw new Problem(415, CODE.invalid, "Send the form as application/x-www-form-urlencoded");
  }
  return new URLSearchParams(Buffer.from(await readBytes(request, maxBytes)).toString("utf8"));
}
