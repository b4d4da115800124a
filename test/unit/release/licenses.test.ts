import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { LICENSES_FILE, renderLicenses } from "../../../scripts/release/licenses.ts";

test("src/cli/licenses.txt is what the installed packages say: else run scripts/release/licenses.ts", () => {
  expect(readFileSync(LICENSES_FILE, "utf8")).toBe(renderLicenses());
});
