import { isControlName, packHeaders, unpackHeaders } from "../../../src/wire/header-packing.ts";
import { parseResponseMeta } from "../../../src/wire/stream-kind.ts";
import { bytesOf, textOf } from "../bytes.ts";
import { type Chance, must, mustEqual, type Target } from "../target.ts";

const NAMES = ["content-type", "X-A", "set-cookie", "cf-int-x", "Cf-Cloudflared-Y", ":status", "connection", "a b"];
const FIELD_NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

function base64(text: string): string {
  return btoa(text).replaceAll("=", "");
}

/** The packed form, made a second time and in the plainest way (protocol: section 2.5). */
function plainPack(headers: readonly string[]): string {
  const pairs: string[] = [];
  for (let i = 0; i < headers.length; i += 2) {
    const [name, value] = [headers[i] ?? "", headers[i + 1] ?? ""];
    if (!isControlName(name)) pairs.push(`${base64(name)}:${base64(value)}`);
  }
  return pairs.join(";");
}

function fields(chance: Chance): string[] {
  return chance
    .some(6, () => [
      chance.pick(NAMES),
      chance.once(3) ? textOf(chance.bytes(chance.below(200))) : chance.text("ab ,;:", 20),
    ])
    .flat();
}

export const headerPacking: Target = {
  name: "header-packing",
  words: [":", ";", "=", base64("cf-int-a"), base64("Set-Cookie"), base64("a\r\nb"), "YQ:Yg", "::", ";;", "\xff"],
  seeds: () =>
    [
      packHeaders(["Content-Type", "text/html", "Set-Cookie", "a=b"]),
      packHeaders(["X", "", "Y", "\xff\xfe"]),
      "YQ:Yg;;YQ:",
      "YQ==:Yg==",
      '{"src":"origin"}',
    ].map(bytesOf),
  generate: (chance) => bytesOf(plainPack(fields(chance))),
  run(input) {
    const text = textOf(input);
    const unpacked = unpackHeaders(text);
    parseResponseMeta(text);
    mustEqual(unpackHeaders(text), unpacked, "what is remembered is what was computed");
    // The input as fields of its own, two lines each.
    const lines = text.split("\n");
    const given: string[] = [];
    for (let i = 0; i + 1 < lines.length; i += 2) {
      const [name, value] = [lines[i] ?? "", lines[i + 1] ?? ""];
      if (FIELD_NAME.test(name) && !/[\0\r\n]/.test(value)) given.push(name, value);
    }
    mustEqual(packHeaders(given), plainPack(given), "packing is base64 without padding");
    if (unpacked.kind === "malformed") return unpacked.reason;
    const headers = unpacked.value;
    must(headers.length % 2 === 0, "fields are pairs");
    headers.forEach((part, i) => {
      must(i % 2 === 1 || (FIELD_NAME.test(part) && !isControlName(part)), "a name is a field name that may pass");
      must(i % 2 === 0 || !/[\0\r\n]/.test(part), "a value ends no line");
    });
    const packed = packHeaders(headers);
    mustEqual(packed, plainPack(headers), "packing is base64 without padding");
    mustEqual(unpackHeaders(packed), unpacked, "what was unpacked and packed is unpacked the same");
    return `${headers.length}`;
  },
};
