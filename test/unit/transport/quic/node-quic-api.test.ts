import { expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { join } from "node:path";

const API = join(import.meta.dirname, "../../../../src/transport/quic/engines/node-quic-api.ts");

test("the runtime's QUIC is loaded without a word on standard error, and other warnings are still told", () => {
  // A process of its own: the warning comes once in each.
  const script = `
    const { loadNodeQuic } = await import(${JSON.stringify(API)});
    const before = process.emitWarning;
    const loading = [loadNodeQuic(), loadNodeQuic()];
    process.emitWarning("meanwhile", "ExperimentalWarning");
    const [first, second] = await Promise.all(loading);
    console.log(typeof first?.connect, first === second, process.emitWarning === before);
    process.emitWarning("quic afterwards", "ExperimentalWarning");
  `;
  const { stdout, stderr } = spawnSync(process.execPath, ["-e", script], { encoding: "utf8", timeout: 20_000 });
  expect(stdout).toBe("function true true\n");
  expect(stderr.match(/ExperimentalWarning: .*/g)).toEqual([
    "ExperimentalWarning: meanwhile",
    "ExperimentalWarning: quic afterwards",
  ]);
});
