import { expect, test } from "bun:test";
import { chmodSync, existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { status } from "../../../src/cli/edge-status.ts";
import { commandContext } from "../../support/command-context.ts";
import { makeTempDir } from "../../support/temp-dir.ts";

const NOBODY = 65_534;

test.skipIf(process.getuid?.() !== 0)(
  "the edge of another account: the reason and the remedy, in one line",
  async () => {
    using temp = makeTempDir();
    chmodSync(temp.path, 0o755);
    const dir = join(temp.path, "state");
    mkdirSync(dir, { mode: 0o700 });
    const notes: string[] = [];
    const context = commandContext({
      args: new Map([["state-dir", [dir]]]),
      host: {
        ...{ env: {}, homeDir: temp.path, platform: "linux", exists: existsSync },
        readFile: (path) => readFileSync(path, "utf8"),
      },
      note: (text) => void notes.push(text),
    });
    process.seteuid?.(NOBODY);
    try {
      expect(await status(context)).toBe(1);
    } finally {
      process.seteuid?.(0);
    }
    expect(notes).toEqual([
      `culvert: Cannot use state directory "${dir}": permission denied; run as its owner or choose another directory`,
    ]);
  },
);
