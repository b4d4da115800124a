import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "../npm-packages.ts";

export const PACKAGING = join(ROOT, "packaging");

/** A file below packaging/ with `@NAME@` replaced; throws for a name that has no value. */
export function renderTemplate(path: string, values: Readonly<Record<string, string>>): string {
  return readFileSync(join(PACKAGING, path), "utf8").replaceAll(/@([A-Z0-9_]+)@/g, (_, name: string) => {
    const value = values[name];
    if (value === undefined) throw new Error(`packaging/${path}: nothing is known of @${name}@`);
    return value;
  });
}
