import { expect, test } from "bun:test";
import { chmodSync, existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { TunnelError } from "../../../src/core/errors.ts";
import { createAuthority } from "../../../src/edge/certificates.ts";
import { loadAdvertised, loadEdgeCertificate, openStateDir, saveAdvertised } from "../../../src/edge/state-dir.ts";
import { makeTempDir } from "../../support/temp-dir.ts";

const NOW = Date.UTC(2026, 0, 1);
const DAY = 86_400_000;

function refusal(dir: string): string {
  try {
    openStateDir(dir, NOW);
  } catch (error) {
    expect(error).toBeInstanceOf(TunnelError);
    expect((error as TunnelError).code).toBe("store.failed");
    return (error as TunnelError).message;
  }
  throw new Error("It was not refused");
}

test("the first start makes what is missing, says so, and keeps it to its owner", () => {
  using temp = makeTempDir();
  const dir = join(temp.path, "a", "edge");
  const state = openStateDir(dir, NOW);
  expect(state.created).toEqual([
    `state directory ${dir}`,
    `certificate authority ${join(dir, "ca.pem")}`,
    "sealing key",
  ]);
  expect(statSync(dir).mode & 0o777).toBe(0o700);
  expect(readdirSync(dir).sort()).toEqual(["ca.key", "ca.pem", "seal.key"]);
  for (const name of ["ca.key", "seal.key"]) expect(statSync(join(dir, name)).mode & 0o777).toBe(0o600);
  expect(state.sealingKey.length).toBe(32);
});

test("the second start finds everything as it was", () => {
  using temp = makeTempDir();
  const first = openStateDir(temp.path, NOW);
  const second = openStateDir(temp.path, NOW + DAY);
  expect(second.created).toEqual([]);
  expect(second.authority).toEqual(first.authority);
  expect(Buffer.from(second.sealingKey)).toEqual(Buffer.from(first.sealingKey));
});

test("a first start that was cut off half-way is completed with what it had made", () => {
  using temp = makeTempDir();
  openStateDir(temp.path, NOW);
  const key = readFileSync(join(temp.path, "ca.key"), "utf8");
  rmSync(join(temp.path, "ca.pem"));
  rmSync(join(temp.path, "seal.key"));
  writeFileSync(join(temp.path, `seal.key.${process.pid}.tmp`), "half", { mode: 0o644 });
  const state = openStateDir(temp.path, NOW);
  expect(state.authority.key).toBe(key);
  expect(readdirSync(temp.path).sort()).toEqual(["ca.key", "ca.pem", "seal.key"]);
  expect(statSync(join(temp.path, "seal.key")).mode & 0o777).toBe(0o600);
});

test("keys that others depend on are not silently made anew", () => {
  using temp = makeTempDir();
  openStateDir(temp.path, NOW);
  writeFileSync(join(temp.path, "culvert.db"), "");
  rmSync(join(temp.path, "seal.key"));
  expect(refusal(temp.path)).toContain("seal.key");
  expect(existsSync(join(temp.path, "seal.key"))).toBe(false);
  rmSync(join(temp.path, "culvert.db"));
  rmSync(join(temp.path, "ca.key"));
  expect(refusal(temp.path)).toContain("ca.key");
  expect(existsSync(join(temp.path, "ca.key"))).toBe(false);
});

test("a key that is not the authority's, and a damaged sealing key, are refused", () => {
  using temp = makeTempDir();
  const { authority } = openStateDir(temp.path, NOW);
  writeFileSync(join(temp.path, "ca.key"), createAuthority(NOW).key);
  expect(refusal(temp.path)).toContain("ca.key");
  writeFileSync(join(temp.path, "ca.key"), authority.key);
  writeFileSync(join(temp.path, "seal.key"), "c2hvcnQ=\n");
  expect(refusal(temp.path)).toContain("32 bytes");
});

test("a path that is no directory is refused in one line", () => {
  using temp = makeTempDir();
  const file = join(temp.path, "file");
  writeFileSync(file, "");
  expect(refusal(file)).toBe(`Cannot use state directory "${file}": it is not a directory`);
  expect(refusal(join(file, "below"))).toContain("not a directory");
});

// Root may do everything, so there is nothing to see.
test.skipIf(process.getuid?.() === 0)("a directory we may not write to is refused with advice", () => {
  using temp = makeTempDir();
  chmodSync(temp.path, 0o500);
  expect(refusal(temp.path)).toContain("permission denied");
  chmodSync(temp.path, 0o700);
});

test("the edge's certificate is kept until it runs out, lacks a name, or the pair is broken", () => {
  using temp = makeTempDir();
  const state = openStateDir(temp.path, NOW);
  const load = (names: string[], nowMs = NOW) => loadEdgeCertificate(state, names, nowMs);
  const first = load(["edge.example.com"]);
  expect(first.renewed).toBe(true);
  expect(statSync(join(temp.path, "edge.key")).mode & 0o777).toBe(0o600);
  expect(load(["edge.example.com"])).toEqual({ certificate: first.certificate, renewed: false });
  expect(load([]).renewed).toBe(false);
  expect(load(["edge.example.com"], NOW + 360 * DAY).renewed).toBe(false);
  expect(load(["edge.example.com", "*.edge.example.com"]).renewed).toBe(true);
  expect(load([], NOW + 368 * DAY).renewed).toBe(true);
  writeFileSync(join(temp.path, "edge.key"), first.certificate.key);
  expect(load([], NOW + 368 * DAY).renewed).toBe(true);
  writeFileSync(join(temp.path, "edge.pem"), "damaged");
  expect(load([], NOW + 368 * DAY).renewed).toBe(true);
});

test("where the edge is reached is remembered for other processes", () => {
  using temp = makeTempDir();
  const state = openStateDir(temp.path, NOW);
  expect(loadAdvertised(state)).toEqual([]);
  saveAdvertised(state, ["edge.example.com:7844", "[2001:db8::1]:7844"]);
  expect(loadAdvertised(state)).toEqual(["edge.example.com:7844", "[2001:db8::1]:7844"]);
  writeFileSync(join(temp.path, "advertised.json"), '{"not":"a list"}');
  expect(loadAdvertised(state)).toEqual([]);
});
