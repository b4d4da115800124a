import { expect, test } from "bun:test";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { startManagedEdge } from "../support/managed-edge.ts";
import { makeTempDir } from "../support/temp-dir.ts";

test("a credentials file that cannot be written: its path, why, and no tunnel that nobody can run", async () => {
  await using edge = await startManagedEdge();
  using dir = makeTempDir();
  const taken = join(dir.path, "taken");
  writeFileSync(taken, "theirs");
  const inFile = join(taken, "web.json");
  const deeper = join(taken, "deeper", "web.json");
  const why = {
    [inFile]: `"${inFile}": part of its path is not a folder`,
    [deeper]: `"${deeper}": part of its path is not a folder`,
    [taken]: `there is a file at "${taken}" already, which is not overwritten`,
  };
  for (const [path, said] of Object.entries(why)) {
    expect(await edge.culvert("tunnel", "create", "--cred-file", path, "web")).toMatchObject({
      ...{ code: 1, stdout: "" },
      stderr: `culvert: Cannot write the tunnel's credentials: ${said}. The tunnel was deleted again\n`,
    });
  }
  const good = join(dir.path, "new", "web.json");
  expect(await edge.culvert("tunnel", "create", "--cred-file", good, "web")).toMatchObject({ code: 0 });
  expect(existsSync(good)).toBe(true);
  for (const [path, said] of Object.entries(why)) {
    expect(await edge.culvert("tunnel", "token", "--cred-file", path, "web")).toMatchObject({
      ...{ code: 1, stdout: "" },
      stderr: `culvert: Cannot write the tunnel's credentials: ${said}\n`,
    });
  }
  expect(readFileSync(taken, "utf8")).toBe("theirs");
}, 60_000);
