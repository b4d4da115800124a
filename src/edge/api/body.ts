import { CODE, Problem } from "./problem.ts";

/** Bytes of a request's body: the longest configuration, in its envelope. */
export const MAX_BODY_BYTES = 1024 * 1024 + 64 * 1024;
/** Objects and lists inside each other. What handles them may call itself for each. */
const MAX_DEPTH = 64;

/**
 * The JSON of a request's body. Throws a Problem of 415 for what does not say it is JSON, 413 as soon as there is too
 * much, 400 for what is none.
 */
export async function readJson(request: Request): Promise<unknown> {
  const type = request.headers.get("content-type") ?? "";
  if (!/^application\/([a-z0-9.+-]+\+)?json\s*(;|$)/i.test(type)) {
    throw new Problem(415, CODE.invalid, "Send the body as Content-Type: application/json");
  }
  const text = decode(await readBytes(request, MAX_BODY_BYTES));
  if (depthOf(text) > MAX_DEPTH) throw new Problem(400, CODE.invalid, `The body nests deeper than ${MAX_DEPTH} levels`);
  try {
    return JSON.parse(text);
  } catch {
    throw new Problem(400, CODE.invalid, "The body is not JSON");
  }
}

/** Throws a Problem of 413 as soon as there is too much, of 400 when the caller goes away in the middle. */
export async function readBytes(request: Request, limit: number): Promise<Uint8Array> {
  const tooLarge = (): Problem => new Problem(413, CODE.tooLarge, `The body is longer than ${limit} bytes`);
  if (Number(request.headers.get("content-length") ?? 0) > limit) throw tooLarge();
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  try {
    for await (const chunk of request.body ?? []) {
      bytes += chunk.length;
      if (bytes > limit) throw tooLarge();
      chunks.push(chunk);
    }
  } catch (error) {
    throw error instanceof Problem ? error : new Problem(400, CODE.invalid, "The body broke off");
  }
  return Buffer.concat(chunks);
}

function decode(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new Problem(400, CODE.invalid, "The body is not UTF-8");
  }
}

/** The deepest nesting of brackets outside strings, which for JSON is its depth. */
function depthOf(text: string): number {
  let depth = 0;
  let deepest = 0;
  let inString = false;
  for (let i = 0; i < text.length; i += 1) {
    const char = text[i];
    if (inString) {
      if (char === "\\") i += 1;
      else if (char === '"') inString = false;
    } else if (char === '"') inString = true;
    else if (char === "{" || char === "[") {
      depth += 1;
      deepest = Math.max(deepest, depth);
    } else if (char === "}" || char === "]") depth -= 1;
  }
  return deepest;
}
