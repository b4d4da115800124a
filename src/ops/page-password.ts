import { createHash, timingSafeEqual } from "node:crypto";
import type { StatusPage, StatusPages } from "./status-server.ts";

/** Probes, which ask without a password. */
const OPEN_PAGES: ReadonlySet<string> = new Set(["/ready", "/healthcheck"]);
const UNAUTHORIZED: StatusPage = {
  status: 401,
  type: "text/plain; charset=utf-8",
  body: "These pages ask for the user and password of --metrics-auth\n",
  fields: { "WWW-Authenticate": 'Basic realm="metrics", charset="UTF-8"' },
};

/** Whether a text is `user:password`, neither of them empty. */
export function isMetricsAuth(text: string): boolean {
  return /^[^:]+:.+$/.test(text);
}

/** The same pages, asking for `user:password` (RFC 7617) but for probes; undefined = nobody is asked. */
export function withPassword(pages: StatusPages, auth: string | undefined): StatusPages {
  if (auth === undefined) return pages;
  return (path, request) => {
    if (!OPEN_PAGES.has(path) && !isAllowed(request.authorization, auth)) return { ...UNAUTHORIZED };
    return pages(path, request);
  };
}

/** Takes the same time whatever is given. */
function isAllowed(authorization: string | undefined, auth: string): boolean {
  const given = /^basic\s+(\S+)$/i.exec(authorization ?? "")?.[1] ?? "";
  const digest = (text: string | Buffer): Buffer => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(Buffer.from(given, "base64")), digest(auth));
}
