import { expect, test } from "bun:test";
import { startStatusSocket } from "../../../src/ops/status-server.ts";
import { makeTempDir } from "../../support/temp-dir.ts";

test.each([
  { what: "no path", path: () => "" },
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
