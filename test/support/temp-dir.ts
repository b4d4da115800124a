import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** An empty folder that is removed with all its content at the end of the scope: `using dir = makeTempDir()`. */
export function makeTempDir(): { readonly path: string } & Disposable {
  const path = mkdtempSync(join(tmpdir(), "culvert-test-"));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}
