import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { netlabMissing } from "../support/netlab/commands.ts";
import { runProcess } from "../support/processes.ts";
import { makeTempDir } from "../support/temp-dir.ts";

const SCRIPT = join(import.meta.dirname, "..", "..", "scripts", "faults.ts");
const TIMEOUT_MS = 120_000;
const missing = netlabMissing();
const why = missing === undefined ? "" : ` (skipped: ${missing})`;

interface Row {
  readonly name: string;
  readonly protocol: string;
  readonly missed: readonly string[];
  readonly outcome?: { readonly requests: number };
}

test.skipIf(missing !== undefined).each(["http2", "quic"])(
  `over %s, faults of each kind cost visitors no more than they may${why}`,
  async (protocol) => {
    using dir = makeTempDir();
    const json = join(dir.path, "faults.json");
    const argv = [process.execPath, SCRIPT, "--quick", "--protocol", protocol, "--json", json];
    const { code, stderr } = await runProcess(argv, { deadlineMs: TIMEOUT_MS });
    const { rows } = JSON.parse(readFileSync(json, "utf8")) as { readonly rows: readonly Row[] };
    expect(rows.filter((row) => row.missed.length > 0)).toEqual([]);
    expect(rows.length).toBeGreaterThanOrEqual(4);
    for (const { outcome } of rows) expect(outcome?.requests).toBeGreaterThan(50);
    expect({ code, stderr }).toEqual({ code: 0, stderr: expect.any(String) });
  },
  TIMEOUT_MS,
);
