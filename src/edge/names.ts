import { z } from "zod";
import { parseTunnelId } from "../core/ids.ts";

const MAX_CHARS = 100;

/** What people may call what they make. */
export function nameOf(maxChars: number): z.ZodString {
  return z
    .string()
    .min(1, "Must not be empty")
    .max(maxChars, `Must have at most ${maxChars} characters`)
    .regex(/^\P{C}*$/u, "Must not hold control or formatting characters");
}

/** What people may call an API token, whoever makes it. */
export const TokenName = nameOf(MAX_CHARS);

/** What people may call a tunnel: wherever a name is taken, an id is too. */
export const TunnelName = TokenName.refine(
  (name) => parseTunnelId(name) === undefined,
  "Must not look like a tunnel's id",
);

/** What is wrong with a name, as a sentence; undefined = nothing. `what`: what it is the name of. */
export function nameProblem(schema: z.ZodType<string>, what: "tunnel" | "token", name: string): string | undefined {
  const message = schema.safeParse(name).error?.issues[0]?.message;
  return message === undefined ? undefined : `The ${what}'s name m${message.slice(1)}`;
}
