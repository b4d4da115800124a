import { describe, expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { TunnelError } from "../../src/core/errors.ts";
import { parseTunnelId, type TunnelId } from "../../src/core/ids.ts";
import type { Store } from "../../src/edge/store/port.ts";
import { openSqliteStore } from "../../src/edge/store/sqlite/index.ts";
import { pollUntil } from "../support/poll-until.ts";
import { startProcess } from "../support/processes.ts";
import { seededRandom } from "../support/seeded-random.ts";
import type { Acknowledged } from "../support/store-writer.ts";
import { ACTOR, storeHostnames, storeTunnel } from "../support/stored.ts";
import { makeTempDir } from "../support/temp-dir.ts";

const KEY = new Uint8Array(32).fill(3);
const KILLS = Number(process.env["CULVERT_KILLS"] ?? 20);
/** A writer is killed within this time after its first acknowledged write, in ms. */
const MAX_LIFE_MS = 120;
const WRITER = join(import.meta.dir, "../support/store-writer.ts");

describe("kill -9", () => {
  test(
    `${KILLS} times while it writes loses nothing that was acknowledged`,
    async () => {
      using dir = makeTempDir();
      const path = join(dir.path, "culvert.db");
      const random = seededRandom(20_260_801);
      const expected = new Expected();
      for (let round = 0; round < KILLS; round += 1) {
        const key = Buffer.from(KEY).toString("hex");
        await using writer = startProcess([process.execPath, WRITER, path, key, String(round)]);
        await writer.outputLine(/\n/);
        const dueMs = performance.now() + random() * MAX_LIFE_MS;
        await pollUntil(() => performance.now() >= dueMs, { what: "the writer's time is up", everyMs: 1 });
        await writer.kill();
        expect(writer.end?.signal).toBe("SIGKILL");
        expected.add(writer.stdout);
        const store = openSqliteStore(path, KEY);
        expect([round, store.check()]).toEqual([round, []]);
        expect(expected.missingFrom(store)).toEqual([]);
        store.close();
      }
      expect(expected.size).toBeGreaterThan(KILLS);
    },
    30_000 + KILLS * 3_000,
  );
});

/** What every writer so far has acknowledged. */
class Expected {
  readonly #tunnels = new Map<TunnelId, { removed: boolean; version: number; readonly hostnames: string[] }>();

  get size(): number {
    return this.#tunnels.size;
  }

  /** The last line may be half a line. */
  add(output: string): void {
    for (const line of output.split("\n").slice(0, -1)) {
      const acknowledged = JSON.parse(line) as Acknowledged;
      const id = parseTunnelId(acknowledged.id);
      if (id === undefined) throw new Error(`No tunnel id: ${line}`);
      const tunnel = this.#tunnels.get(id) ?? { removed: false, version: 0, hostnames: [] };
      this.#tunnels.set(id, tunnel);
      if (acknowledged.kind === "tunnel") tunnel.hostnames.push(...acknowledged.hostnames);
      else if (acknowledged.kind === "hostname") tunnel.hostnames.push(acknowledged.hostname);
      else if (acknowledged.kind === "configuration") tunnel.version = acknowledged.version;
      else tunnel.removed = true;
    }
  }

  missingFrom(store: Store): string[] {
    return [...this.#tunnels].flatMap(([id, { removed, version, hostnames }]) => {
      const kept = store.tunnels.get(id);
      if (kept === undefined) return [`tunnel ${id}`];
      // The removal may have been written and not acknowledged.
      const gone = kept.deletedAtMs !== undefined;
      if (removed && !gone) return [`the removal of ${id}`];
      const problems: string[] = [];
      if ((store.configurations.current(id)?.version ?? 0) < version) problems.push(`version ${version} of ${id}`);
      for (const hostname of hostnames) {
        const target = store.hostnames.get(hostname)?.target;
        const leads = target?.kind === "tunnel" && target.tunnelId === id;
        if (leads === gone) problems.push(`${hostname} of ${id}, ${gone ? "removed" : "living"}`);
      }
      // All of a tunnel's transaction is there, or nothing.
      if (store.audit.find({ subject: id }).total === 0) problems.push(`the audit entry of ${id}`);
      return problems;
    });
  }
}

/** A file system of so many bytes, or why there is none. */
function mountSmall(path: string, size: string): string | undefined {
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", `size=${size}`, "tmpfs", path], { stdio: "pipe" });
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

function codeOf(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (error instanceof TunnelError) return error.code;
    throw error;
  }
  return "written";
}

test("a full disk gives errors and no damage, reads go on, and writes again when there is room", async () => {
  using dir = makeTempDir();
  const refused = mountSmall(dir.path, "3m");
  if (refused !== undefined) {
    console.warn(`Not tested: a full disk needs a small file system, which only root can mount (${refused.trim()})`);
    return;
  }
  try {
    const path = join(dir.path, "culvert.db");
    const store = openSqliteStore(path, KEY);
    const tunnel = storeTunnel(store, "first", { hostnames: ["first.example.com"] });
    const ballast = join(dir.path, "ballast");
    // In turns of filling and freeing, and with room for a different part of a write each time.
    for (let turn = 0; turn < 6; turn += 1) {
      fill(ballast, turn * 1_500);
      const written: string[] = [];
      let code = "written";
      for (let i = 0; code === "written" && i < 10_000; i += 1) {
        const hostname = `h-${turn}-${i}.example.com`;
        code = codeOf(() => storeHostnames(store, tunnel, [hostname]));
        if (code === "written") written.push(hostname);
      }
      expect([turn, code]).toEqual([turn, "store.full"]);
      expect(codeOf(() => store.tunnels.update(tunnel.id, { metadata: "x".repeat(10_000) }, ACTOR))).toBe("store.full");
      // Backups need room, too, and leave nothing behind.
      const copy = join(dir.path, "copy.db");
      expect(await store.backup(copy).catch((error: unknown) => error)).toMatchObject({ code: "store.full" });
      expect(store.hostnames.lookUp("first.example.com")).toEqual({ kind: "tunnel", tunnelId: tunnel.id });
      expect(store.tunnels.credentials(tunnel.id)?.tunnel.name).toBe("first");
      rmSync(ballast);
      for (const hostname of written) expect(store.hostnames.get(hostname)).toBeDefined();
      storeHostnames(store, tunnel, [`after-${turn}.example.com`]);
      expect(store.check()).toEqual([]);
      for (const hostname of written) store.hostnames.remove(hostname, ACTOR);
    }
    store.close();
    fill(ballast, 0);
    expect(codeOf(() => openSqliteStore(path, KEY).close())).toBe("store.full");
    rmSync(ballast);
    const again = openSqliteStore(path, KEY);
    expect(again.check()).toEqual([]);
    expect(again.hostnames.find({ tunnelId: tunnel.id }).total).toBe(7);
    again.close();
  } finally {
    execFileSync("umount", ["-l", dir.path]);
  }
});

/** Takes all room but so many bytes. */
function fill(path: string, leave: number): void {
  writeFileSync(path, "");
  for (const step of [65_536, 4_096, 512]) {
    try {
      for (;;) writeFileSync(path, new Uint8Array(step), { flag: "a" });
    } catch {
      // No room for a whole step any more.
    }
  }
  const size = readFileSync(path).length;
  execFileSync("truncate", ["-s", String(Math.max(0, size - leave)), path]);
}
