import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { describe, TunnelError } from "../core/errors.ts";
import { DOMAIN_SHAPE, readDomain } from "./hostname.ts";
import type { EdgeState } from "./state-dir.ts";
import { writeWhole } from "./store/place-file.ts";

const FILE = "edge.json";

/** What `edge init` was told and later commands go by, where their own flags say nothing. */
const Settings = z.object({
  /** Name of the edge itself. */
  domain: z
    .string()
    .transform((text, context) => {
      const domain = readDomain(text);
      if (domain === undefined) context.addIssue({ code: "custom", message: `"${text}" must be ${DOMAIN_SHAPE}` });
      return domain ?? z.NEVER;
    })
    .optional(),
});
export type EdgeSettings = z.infer<typeof Settings>;

/** Throws `store.failed` for a file that cannot be read. */
export function loadSettings(dir: string): EdgeSettings {
  const path = join(dir, FILE);
  if (!existsSync(path)) return {};
  try {
    return Settings.parse(JSON.parse(readFileSync(path, "utf8")));
  } catch (error) {
    const why = error instanceof z.ZodError ? z.prettifyError(error) : describe(error);
    throw new TunnelError("store.failed", `Cannot read "${path}": ${why}`, { cause: error });
  }
}

export function saveSettings(state: EdgeState, settings: EdgeSettings): void {
  writeWhole(join(state.dir, FILE), `${JSON.stringify(settings)}\n`, 0o600);
}
