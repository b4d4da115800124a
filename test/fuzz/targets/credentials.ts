import { parseTunnelId } from "../../../src/core/ids.ts";
import { formatCredentials, parseCredentials } from "../../../src/wire/credentials.ts";
import type { Parsed } from "../../../src/wire/parsed.ts";
import { formatToken, parseToken, type TunnelToken } from "../../../src/wire/token.ts";
import { bytesOf, textOf, utf8 } from "../bytes.ts";
import { must, mustEqual, type Target } from "../target.ts";

const ID = "01234567-89ab-cdef-0123-456789abcdef";
const SECRET = "QUJDREVGR0g=";

/** The input is the JSON inside a token, or the token itself. */
export const token: Target = {
  name: "token",
  words: [
    '"a":"x"',
    `"s":"${SECRET}"`,
    `"t":"${ID}"`,
    '"x_edges":[{"addr":"a:1","region":0}]',
    '"x_ca":"-----BEGIN CERTIFICATE-----"',
    '"A":',
    "null",
    "{}",
    "[]",
    "__proto__",
    "constructor",
    '"TunnelID":',
    "[::1]:7844",
    "=",
    "\\u0000",
  ],
  seeds: () => {
    const plain = { a: "account", s: SECRET, t: ID };
    const own = {
      ...plain,
      e: "us",
      x_edges: [{ addr: "[::1]:7844", region: 1 }],
      x_ca: "-----BEGIN CERTIFICATE-----",
    };
    const file = { AccountTag: "account", TunnelSecret: SECRET, TunnelID: ID, Endpoint: "" };
    return [...[plain, own, file].map((value) => utf8(JSON.stringify(value))), bytesOf(btoa(JSON.stringify(own)))];
  },
  run(input) {
    const text = new TextDecoder().decode(input);
    const wrapped = parseToken(input.toBase64());
    const bare = parseToken(textOf(input));
    for (const found of [wrapped, bare]) {
      if (!found.ok) continue;
      const again = parseToken(formatToken(found.value));
      mustEqual(again, found, "a token that was read can be written and is read the same");
      must(found.value.edges.length <= 64 && usable(found.value), "what a token says is checked");
    }
    const file = parseCredentials(text);
    if (file.ok) mustEqual(parseCredentials(formatCredentials(file.value)), file, "credentials survive being written");
    return [wrapped, bare, file].map(nameOf).join(" ");
  },
};

function usable({ tunnelId, edges, accountTag }: TunnelToken): boolean {
  return parseTunnelId(tunnelId) === tunnelId && accountTag !== "" && edges.every(({ addr }) => /:\d{1,5}$/.test(addr));
}

function nameOf(parsed: Parsed<unknown>): string {
  return parsed.ok
    ? "ok"
    : parsed.issues.map(({ path, message }) => `${path.replace(/\d+/, "#")}:${message}`).join(",");
}
