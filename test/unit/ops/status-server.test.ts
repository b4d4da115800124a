import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { startStatusSocket } from "../../../src/ops/status-server.ts";
import { makeTempDir } from "../../support/temp-dir.ts";

function fileIn(dir: string): string {
  const path = `${dir}/file`;
  writeFileSync(path, "");
  return path;
}

test.each([
  { what: "no path", path: () => "" },
  { what: "a file in its path", path: (dir: string) => `${fileIn(dir)}/metrics.sock` },
  { what: "a folder that is not there", path: (dir: string) => `${dir}/none/metrics.sock` },
])("a socket that cannot be had is an error of its own kind: $what", async ({ path }) => {
  using dir = makeTempDir();
  const started = startStatusSocket(() => undefined, path(dir.path));
  expect(started).rejects.toMatchObject({
    code: "listen.failed",
    message: expect.stringMatching(/^Cannot listen on /),
  });
  await started.catch(() => {});
});
