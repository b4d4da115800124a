import { expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { chownSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { type AddressInfo, createServer as createTcpServer } from "node:net";
import { join } from "node:path";
import { unzipSync } from "fflate";
import { systemClock } from "../../../src/core/clock.ts";
import { collect, hopsOf } from "../../../src/diag/collect.ts";
import { listenerUid } from "../../../src/diag/listener-owner.ts";
import { readLog } from "../../../src/diag/log-source.ts";
import { readOwnedTail } from "../../../src/diag/owned-file.ts";
import { makeTempDir } from "../../support/temp-dir.ts";

const SELF = process.getuid?.() ?? -1;
const NOBODY = 65534;

const HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
const row = (ip: string, port: number, uid: number, state = "0A"): string =>
  `   0: ${ip}:${port.toString(16).toUpperCase().padStart(4, "0")} 00000000:0000 ${state} 00000000:00000000 00:00000000 00000000  ${uid}        0 1 1 0 100 0 0 10 0`;
const ANY4 = "00000000";
const HERE4 = "0100007F";
const ANY6 = "0".repeat(32);
const HERE6 = "00000000000000000000000001000000";

test("who listens is what the system says: the socket for the very address, else one for any", () => {
  const of = (host: string, tcp: readonly string[], tcp6: readonly string[] = []): number | undefined =>
    listenerUid({ host, port: 20241 }, (path) => [HEAD, ...(path.endsWith("6") ? tcp6 : tcp)].join("\n"));
  expect(of("127.0.0.1", [row(HERE4, 20241, 7)])).toBe(7);
  expect(of("127.0.0.1", [row(ANY4, 20241, 0), row(HERE4, 20241, 7)])).toBe(7);
  expect(of("127.0.0.1", [row(HERE4, 20242, 7), row(HERE4, 20241, 7, "01")], [row(ANY6, 20241, 9)])).toBe(9);
  expect(of("127.0.0.1", [], [row("0000000000000000FFFF00000100007F", 20241, 8), row(ANY6, 20241, 9)])).toBe(8);
  expect(of("::1", [row(HERE4, 20241, 7)], [row(HERE6, 20241, 9)])).toBe(9);
  expect(of("127.0.0.1", [row(HERE4, 20241, 7), row(HERE4, 20241, 8)])).toBeUndefined();
  expect(of("127.0.0.1", [])).toBeUndefined();
  expect(of("192.0.2.1", [row(ANY4, 20241, 7)])).toBeUndefined();
  expect(of("::ffff:127.0.0.1", [row(HERE4, 20241, 7)], [row(HERE6, 20241, 9)])).toBe(7);
  // A name of somebody's choice leads anywhere.
  expect(of("127.evil.example", [], [row(HERE6, 20241, 9)])).toBeUndefined();
});

test.skipIf(process.platform !== "linux")("a real listener is of this account", async () => {
  const server = createTcpServer();
  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen(0, "127.0.0.1", resolve);
  await promise;
  try {
    expect(listenerUid({ host: "127.0.0.1", port: (server.address() as AddressInfo).port })).toBe(SELF);
  } finally {
    server.close();
  }
});

test.skipIf(SELF < 0)("a file that somebody names is read only if it is a file, and theirs", () => {
  using dir = makeTempDir();
  const at = (name: string): string => join(dir.path, name);
  writeFileSync(at("log"), "0123456789");
  symlinkSync(at("log"), at("link"));
  execFileSync("mkfifo", [at("pipe")]);
  mkdirSync(at("folder"));
  const read = (name: string, namedBy: number | undefined, self = SELF) =>
    readOwnedTail(at(name), 4, { namedBy, self });
  expect([read("log", SELF), read("link", SELF)]).toEqual(["6789", "6789"]);
  for (const name of ["log", "link"]) expect(() => read(name, SELF + 1)).toThrow("belongs to another account");
  for (const name of ["pipe", "folder"]) expect(() => read(name, SELF)).toThrow("is no regular file");
  expect(() => readOwnedTail("/dev/zero", 4, { namedBy: 0, self: 0 })).toThrow("is no regular file");
  expect(() => readOwnedTail("log", 4, { namedBy: SELF, self: SELF })).toThrow("in which directory");
  // Nobody knows who named it: root's files are not given away.
  expect(() => read("log", undefined, 0)).toThrow("belongs to another account");
  if (SELF !== 0) expect(read("log", undefined)).toBe("6789");
});

test.skipIf(SELF < 0)("of a log directory, a file that may not be read is told as such", async () => {
  using dir = makeTempDir();
  const flags = new TextEncoder().encode(JSON.stringify({ "log-directory": dir.path }));
  const log = (namedBy: number) => readLog({ kind: "own" }, flags, { namedBy, self: SELF });
  expect(log(SELF)).rejects.toThrow("There is no log in");
  writeFileSync(join(dir.path, "cloudflared.log"), "a line\n");
  expect(await log(SELF)).toBe("a line\n");
  expect(log(SELF + 1)).rejects.toThrow("belongs to another account");
});

test.skipIf(SELF !== 0)("another account that plays the connector gets none of root's files into the zip", async () => {
  using dir = makeTempDir();
  const [path, file] = [join(dir.path, "metrics.sock"), join(dir.path, "shadow")];
  writeFileSync(file, "root:secret\n");
  const server = createServer((_request, response) => response.end(JSON.stringify({ logfile: file, uid: "0" })));
  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen(path, resolve);
  await promise;
  chownSync(path, NOBODY, NOBODY);
  const address = { path };
  const connector = {
    ...{ address, connectorId: "x", readyConnections: 1, tunnelId: "x", version: "1", denied: false },
    ...{ maxFiles: undefined, auth: undefined },
  };
  const names = async (): Promise<readonly string[]> => {
    const without = new Set(["network", "runtime"] as const);
    const log = { kind: "own" } as const;
    const { zip } = await collect({ connector, without, log, clock: systemClock });
    return Object.keys(unzipSync(zip));
  };
  try {
    expect(await names()).not.toContain("culvert_logs.txt");
    chownSync(file, NOBODY, NOBODY);
    expect(await names()).toContain("culvert_logs.txt");
  } finally {
    server.close();
  }
});

test("hops of a trace, as traceroute and tracert print them", () => {
  const unix = "traceroute to 192.0.2.9, 5 hops max\n 1  192.0.2.1  0.345 ms  1.2 ms\n 2  *\n 3  2001:db8::1  12 ms\n";
  expect(hopsOf(unix)).toEqual([
    { hop: 1, domain: "192.0.2.1", rtts: [345_000, 1_200_000] },
    { hop: 2, domain: "*", rtts: [] },
    { hop: 3, domain: "2001:db8::1", rtts: [12_000_000] },
  ]);
  expect(hopsOf("  1    <1 ms    2 ms     *     192.0.2.1\r\n")).toEqual([
    { hop: 1, domain: "192.0.2.1", rtts: [1_000_000, 2_000_000] },
  ]);
});
