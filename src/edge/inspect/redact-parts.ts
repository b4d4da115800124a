import { HIDDEN } from "../../core/secret-names.ts";

/** RFC 2046 section 5.1.1. */
const MAX_BOUNDARY_CHARS = 70;
/** Of the head of a part; what is longer is hidden as a whole. */
const MAX_HEAD_CHARS = 2_048;

/** `multipart/form-data` (RFC 7578): hides the bodies of parts with a telling name, and has `redact` look at the others. */
export function redactParts(
  text: string,
  contentType: string,
  { isSecret, redact }: { readonly isSecret: (name: string) => boolean; readonly redact: (text: string) => string },
): string {
  const delimiter = delimiterOf(text, contentType);
  return `\n${text}`
    .split(delimiter)
    .map((part) => redactPart(part, isSecret, redact))
    .join(delimiter)
    .slice(1);
}

/** The boundary that was told; the one that the body begins with when that is not in it. */
function delimiterOf(text: string, contentType: string): string {
  const [, quoted, plain] = /\bboundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))/i.exec(contentType) ?? [];
  const told = quoted ?? plain;
  if (told !== undefined && text.includes(`--${told}`)) return `\n--${told}`;
  const first = /^--[^\r\n]+/.exec(text.slice(0, MAX_BOUNDARY_CHARS + 2))?.[0] ?? "--";
  return `\n${first}`;
}

function redactPart(part: string, isSecret: (name: string) => boolean, redact: (text: string) => string): string {
  const head = headLength(part);
  // Without a head there is nothing that could be named.
  if (head === undefined) return redact(part);
  if (head > MAX_HEAD_CHARS) return `\n${HIDDEN}\n`;
  const fields = part.slice(0, head);
  const [, quoted, plain] = /\bname\*?\s*=\s*(?:"([^"]*)"|([^\s;"]+))/i.exec(fields) ?? [];
  const name = quoted ?? plain;
  if (name === undefined || !isSecret(name)) return `${fields}${redact(part.slice(head))}`;
  return `${fields}${HIDDEN}${part.endsWith("\r") ? "\r" : ""}`;
}

/** Up to and with the empty line. */
function headLength(part: string): number | undefined {
  const ends = ["\r\n\r\n", "\n\n", "\n\r\n"].flatMap((mark) => {
    const at = part.indexOf(mark);
    return at < 0 ? [] : [at + mark.length];
  });
  return ends.length === 0 ? undefined : Math.min(...ends);
}
