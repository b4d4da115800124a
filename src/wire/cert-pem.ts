// cert.pem of `tunnel login`: the credentials for the management API (protocol: section 5).

import { decodeBytes, encodeBytes } from "./base64.ts";
import { GoJsonObject } from "./go-json.ts";
import { type Parsed, refused } from "./parsed.ts";

/** Chars a cert.pem may have. */
export const MAX_CERT_PEM_CHARS = 256 * 1024;

/** Credentials for the management API; never used for tunnel connections. */
export type OriginCert = {
  readonly zoneId: string;
  /** "" in old files; needed for everything about accounts. */
  readonly accountId: string;
  readonly apiToken: string;
  /** Lower case; `fed` selects the FedRAMP hosts, "" the usual ones. */
  readonly endpoint: string;
  /** URL of the API of an edge of one's own; undefined = Cloudflare's. cloudflared ignores it and needs `--api-url`. */
  readonly apiUrl: string | undefined;
  /** PEM text of the authorities to trust there; undefined = the system's. */
  readonly apiCa: string | undefined;
};

const API_URL_KEY = "x_api";
const API_CA_KEY = "x_ca";
const TOKEN_BLOCK = "ARGO TUNNEL TOKEN";
/** What files of old versions also hold. */
const IGNORED_BLOCKS: readonly string[] = ["PRIVATE KEY", "CERTIFICATE"];
const BOUNDARY = /^-----(BEGIN|END) ([^-]+)-----$/;
const LINE_CHARS = 64;

export function parseCertPem(text: string): Parsed<OriginCert> {
  if (text.length > MAX_CERT_PEM_CHARS) return refused("", "Certificate file is too long");
  const blocks = readBlocks(text);
  if (blocks === undefined) return refused("", "Certificate file has a block that does not end");
  const odd = blocks.find((block) => block.label !== TOKEN_BLOCK && !IGNORED_BLOCKS.includes(block.label));
  if (odd !== undefined) return refused("", "Certificate file has a block of an unknown kind");
  const [token, ...more] = blocks.filter((block) => block.label === TOKEN_BLOCK);
  if (token === undefined) return refused("", "Certificate file has no token: log in again");
  if (more.length > 0) return refused("", "Certificate file has several tokens");
  return readToken(token.base64);
}

export function formatCertPem(cert: OriginCert): string {
  const json = JSON.stringify({
    zoneID: cert.zoneId,
    accountID: cert.accountId,
    apiToken: cert.apiToken,
    ...(cert.endpoint === "" ? {} : { endpoint: cert.endpoint }),
    ...(cert.apiUrl === undefined ? {} : { [API_URL_KEY]: cert.apiUrl }),
    ...(cert.apiCa === undefined ? {} : { [API_CA_KEY]: cert.apiCa }),
  });
  const base64 = encodeBytes(new TextEncoder().encode(json));
  const lines: string[] = [];
  for (let at = 0; at < base64.length; at += LINE_CHARS) lines.push(base64.slice(at, at + LINE_CHARS));
  return `-----BEGIN ${TOKEN_BLOCK}-----\n${lines.join("\n")}\n-----END ${TOKEN_BLOCK}-----\n`;
}

type Block = { readonly label: string; readonly base64: string };

/** Text outside blocks is skipped, as every PEM reader does. Undefined when a block is not closed by its own label. */
function readBlocks(text: string): readonly Block[] | undefined {
  const blocks: Block[] = [];
  let open: { label: string; lines: string[] } | undefined;
  for (const raw of text.split("\n")) {
    const line = raw.trim();
    const boundary = BOUNDARY.exec(line);
    if (boundary === null) {
      // A line with a colon is a header of the block.
      if (open !== undefined && !line.includes(":")) open.lines.push(line);
      continue;
    }
    const [, edge, label] = boundary;
    if (edge === "BEGIN") {
      if (open !== undefined) return undefined;
      open = { label: label ?? "", lines: [] };
    } else if (open !== undefined) {
      if (open.label !== label) return undefined;
      blocks.push({ label: open.label, base64: open.lines.join("") });
      open = undefined;
    }
  }
  return open === undefined ? blocks : undefined;
}

function readToken(base64: string): Parsed<OriginCert> {
  const bytes = decodeBytes(base64);
  const object = bytes === undefined ? undefined : GoJsonObject.parse(new TextDecoder().decode(bytes));
  if (object === undefined) return refused("", "Token in the certificate file is not JSON: log in again");
  const text = (key: string): string => {
    const value = object.get(key);
    return typeof value === "string" ? value : "";
  };
  const cert = {
    zoneId: text("zoneID"),
    accountId: text("accountID"),
    apiToken: text("apiToken"),
    endpoint: text("endpoint").toLowerCase(),
    apiUrl: text(API_URL_KEY) === "" ? undefined : text(API_URL_KEY),
    apiCa: text(API_CA_KEY) === "" ? undefined : text(API_CA_KEY),
  };
  const issues = (["zoneID", "apiToken"] as const)
    .filter((key) => text(key) === "")
    .map((path) => ({ path, message: "Missing in the certificate file: log in again" }));
  return issues.length === 0 ? { ok: true, value: cert } : { ok: false, issues };
}
