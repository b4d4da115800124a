import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { binaryName, TARGETS } from "../targets.ts";
import { renderTemplate } from "./template.ts";

export interface TextOptions {
  /** Folder with the binaries. */
  readonly from: string;
  readonly out: string;
  readonly version: string;
  readonly epochS: number;
  /** Where the files of the release will be, without a slash at the end. */
  readonly baseUrl: string;
  readonly homepage: string;
}

const BREW = ["homebrew/culvert.rb"] as const;
const WINGET = [
  "winget/Culvert.Culvert.yaml",
  "winget/Culvert.Culvert.installer.yaml",
  "winget/Culvert.Culvert.locale.en-US.yaml",
] as const;

/** Renders what package managers read that fetch the binaries themselves; gives names, and why some are missing. */
export function renderTexts(options: TextOptions): {
  readonly names: readonly string[];
  readonly missing: readonly string[];
} {
  const { from, out, version, epochS, baseUrl, homepage } = options;
  const values: Record<string, string> = {
    ...{ VERSION: version, BASE_URL: baseUrl, HOMEPAGE: homepage },
    DAY: new Date(epochS * 1000).toISOString().slice(0, 10),
  };
  for (const { name } of TARGETS) {
    const path = join(from, binaryName(version, name));
    if (!existsSync(path)) continue;
    const key = name.toUpperCase().replaceAll("-", "_");
    const sum = createHash("sha256").update(readFileSync(path)).digest("hex");
    values[`FILE_${key}`] = binaryName(version, name);
    values[`SHA256_${key}`] = sum;
    values[`UPPER_SHA256_${key}`] = sum.toUpperCase();
  }
  const names: string[] = [];
  const missing: string[] = [];
  for (const group of [BREW, WINGET]) {
    try {
      const texts = group.map((path) => [path, renderTemplate(path, values)] as const);
      for (const [path, text] of texts) {
        mkdirSync(dirname(join(out, path)), { recursive: true });
        writeFileSync(join(out, path), text);
        names.push(path);
      }
    } catch (error) {
      missing.push(error instanceof Error ? error.message : String(error));
    }
  }
  return { names, missing };
}
