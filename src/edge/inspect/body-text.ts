import { headerValue, type RawHeaders } from "../../wire/headers.ts";
import { type Decompressed, decompress } from "./decompress.ts";
import { type BodyCopy, MAX_BODY_BYTES } from "./recording.ts";
import { redactBody } from "./redact.ts";

/** Levels of JSON that are indented: with more, the spaces would be most of it. */
const MAX_INDENTED_LEVELS = 16;

/** A body as it may be shown. */
export type ShownBody =
  | { readonly kind: "none" }
  /** Secrets hidden. `cut`: there was more of it. */
  | { readonly kind: "text"; readonly text: string; readonly type: string; readonly cut: boolean }
  | { readonly kind: "binary"; readonly bytes: number; readonly type: string };

/**
 * Decodes what was kept of a body: compression off, text as text with its secrets hidden, anything else as a number of
 * bytes. Of what is packed the first 64 KiB are shown. Never rejects.
 */
export async function showBody(body: BodyCopy, headers: RawHeaders): Promise<ShownBody> {
  if (body.total === 0) return { kind: "none" };
  const type = headerValue(headers, "content-type") ?? "";
  const encoding = (headerValue(headers, "content-encoding") ?? "").trim().toLowerCase();
  const kept: Decompressed = { bytes: body.bytes, cut: body.cut };
  const plain = encoding === "" || encoding === "identity";
  const decoded = plain ? kept : await decompress(kept.bytes, encoding, MAX_BODY_BYTES);
  const cut = kept.cut || decoded?.cut === true;
  const text = decoded === undefined ? undefined : asText(decoded.bytes, cut);
  if (text === undefined) return { kind: "binary", bytes: body.total, type };
  return { kind: "text", text: redactBody(text, type), type, cut };
}

/** Bodies as the page shows them, JSON indented. The page asks each second: what has not changed is not decoded again. */
export class BodyViews {
  readonly #views = new WeakMap<BodyCopy, View>();

  /** Never rejects. */
  show(body: BodyCopy, headers: RawHeaders): Promise<ShownBody> {
    const { kept, cut } = body;
    const known = this.#views.get(body);
    if (known?.kept === kept && known.cut === cut && known.headers === headers) return known.shown;
    const shown = showBody(body, headers).then((one) =>
      one.kind === "text" ? { ...one, text: pretty(one.text) } : one,
    );
    this.#views.set(body, { kept, cut, headers, shown });
    return shown;
  }
}

interface View {
  /** What it was made from. */
  readonly kept: number;
  readonly cut: boolean;
  readonly headers: RawHeaders;
  readonly shown: Promise<ShownBody>;
}

function pretty(text: string): string {
  if (!/^\s*[{[]/.test(text) || levels(text) > MAX_INDENTED_LEVELS) return text;
  try {
    return JSON.stringify(JSON.parse(text), undefined, 2);
  } catch {
    return text;
  }
}

/** How deep it goes, at most. */
function levels(json: string): number {
  let depth = 0;
  let deepest = 0;
  for (const char of json) {
    if (char === "{" || char === "[") {
      depth += 1;
      deepest = Math.max(deepest, depth);
    } else if (char === "}" || char === "]") depth -= 1;
  }
  return deepest;
}

/**
 * UTF-8 in which no C0 control stands but tab, line ends and ESC, which programs colour their output with; undefined =
 * it is something else. Whoever shows it where ESC or C1 controls steer escapes them. A character that a cut went
 * through is left out.
 */
function asText(bytes: Uint8Array, cut: boolean): string | undefined {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes, { stream: cut });
    return isPlain(text) ? text : undefined;
  } catch {
    return undefined;
  }
}

function isPlain(text: string): boolean {
  for (let i = 0; i < text.length; i += 1) {
    const code = text.charCodeAt(i);
    if (code < 0x20 && code !== 0x09 && code !== 0x0a && code !== 0x0d && code !== 0x1b) return false;
  }
  return true;
}
