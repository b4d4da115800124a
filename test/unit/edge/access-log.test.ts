import { expect, test } from "bun:test";
import { closeSync, constants, existsSync, openSync, readFileSync, readSync, renameSync } from "node:fs";
import { join } from "node:path";
import { systemClock } from "../../../src/core/clock.ts";
import { newConnectorId, newTunnelId } from "../../../src/core/ids.ts";
import { createLogger } from "../../../src/core/log.ts";
import { accessLine } from "../../../src/edge/access-line.ts";
import { AccessLog, MAX_QUEUED_BYTES } from "../../../src/edge/access-log.ts";
import type { AccessEntry } from "../../../src/edge/listener/visitor-deps.ts";
import { pollUntil } from "../../support/poll-until.ts";
import { runProcess } from "../../support/processes.ts";
import { makeTempDir } from "../../support/temp-dir.ts";

const ENTRY: AccessEntry = {
  ...{ ray: "0123456789abcdef-LAB", ip: "192.0.2.1", scheme: "https", protocol: "HTTP/2.0", method: "GET" },
  ...{ host: "app.example.com", target: "/a?b=1", headers: [], status: 200, bytesIn: 1, bytesOut: 2 },
  ...{ firstByteMs: 1.26, durationMs: 2, error: undefined, retries: 0, answeredBy: "origin" },
  ...{ tunnelId: newTunnelId(), connectorId: newConnectorId() },
};
const CONTEXT = { query: false, wallMs: Date.UTC(2026, 1, 3, 4, 5, 6), rules: "remote" } as const;

function deps(lines: string[] = []) {
  const write = (line: string): void => void lines.push(line);
  return { clock: systemClock, log: createLogger({ level: "info", format: "default", wallMs: () => 0, write }) };
}

test.each([
  ["/a?token=x", "/a?token=REDACTED"],
  ["/a?b=1&access_token=x&c=2", "/a?b=1&access_token=REDACTED&c=2"],
  ["/a?X-Amz-Signature=x;b=1", "/a?X-Amz-Signature=REDACTED;b=1"],
  ["/a?PASSWORD=x#f", "/a?PASSWORD=REDACTED#f"],
  ["/a?tokenizer=1&monkey=2", "/a?tokenizer=1&monkey=2"],
  ["/a?next=/b?token=x?y=z;c=1", "/a?next=/b?token=REDACTED;c=1"],
  ["/a?token=&b=1&sid=", "/a?token=REDACTED&b=1&sid=REDACTED"],
  ["/a#id_token=x=y&b=1?c==#key=z", "/a#id_token=REDACTED&b=1?c==#key=REDACTED"],
  ["/a?access%5Ftoken=x&%zz=1", "/a?access%5Ftoken=REDACTED&%zz=1"],
  ["http://user:pass@h.example/a?code=x", "http://h.example/a?code=REDACTED"],
  ["/a?next=/cb%3Fcode%3Ds3cret&b=1", "/a?next=%2Fcb%3Fcode%3DREDACTED&b=1"],
  ["/login?mfa_code=123456&country_code=de", "/login?mfa_code=REDACTED&country_code=de"],
  ["/a?next=/cb%3Fcode%3Da+b%20c&b=1", "/a?next=%2Fcb%3Fcode%3DREDACTED&b=1"],
  ["/a?password=two words&b=1", "/a?password=REDACTED&b=1"],
  [
    "/login?return=https://app.example.com&email=bob@example.com",
    "/login?return=https://app.example.com&email=bob@example.com",
  ],
  ["/share?u=https://a.example&via=@bob&utm_source=x", "/share?u=https://a.example&via=@bob&utm_source=x"],
  ["/share?u=https://a.example;via=@bob;b=1", "/share?u=https://a.example;via=@bob;b=1"],
  ["/a?n=/b%3Fu%3D://h%26via%3D%40bob&b=@", "/a?n=/b%3Fu%3D://h%26via%3D%40bob&b=@"],
  ["/admin?x=://&cmd=drop&user=1&y=@", "/admin?x=://&cmd=drop&user=1&y=@"],
  ["/a?u=https://ann:pass@h.example&via=@bob", "/a?u=https%3A%2F%2FREDACTED%40h.example&via=@bob"],
  ["/a?u=https://ann:p&ass@h.example&via=@bob", "/a?u=https://REDACTED@h.example&via=@bob"],
  ["/a?u=https://ann:p;ass@h.example;via=@bob", "/a?u=https://REDACTED@h.example;via=@bob"],
  ["/a?u=https%3A%2F%2Fann:p%26a=ss@h.example&b=@", "/a?u=https%3A%2F%2FREDACTED%40h.example&b=@"],
])("with queries %s is logged as %s, and without them not at all", (target, shown) => {
  const path = (query: boolean) =>
    JSON.parse(accessLine("json", { ...ENTRY, target }, { ...CONTEXT, query })).path as string;
  expect(path(true)).toBe(shown);
  expect(path(false)).not.toMatch(/[?#]|pass/);
});

const JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl";

test.each([
  ["/x;jsessionid=SECRET1", "/x;jsessionid=REDACTED"],
  ["/x;v=1;JSESSIONID=SECRET1/y;b=2/z", "/x;v=1;JSESSIONID=REDACTED/y;b=2/z"],
  ["/x;jsession%69d=SECRET1", "/x;jsession%69d=REDACTED"],
  ["/x&token=SECRET1&b=2", "/x&token=REDACTED&b=2"],
  ["/;token=/admin/users", "/;token=/admin/users"],
  [`/cb/${JWT}/done`, "/cb/REDACTED/done"],
  ["/a;b/c=d;=e;f=/user@example.com", "/a;b/c=d;=e;f=/user@example.com"],
])("the path %s is logged as %s, with queries and without, in a Referer, too", (target, shown) => {
  const headers = ["Referer", `https://app.example.com${target}?page=2`];
  for (const query of [true, false]) {
    const line = JSON.parse(accessLine("json", { ...ENTRY, target, headers }, { ...CONTEXT, query }));
    expect(line).toMatchObject({ path: shown, referer: `https://app.example.com${shown}${query ? "?page=2" : ""}` });
    expect(accessLine("combined", { ...ENTRY, target, headers }, { ...CONTEXT, query })).toContain(
      ` ${shown} HTTP/2.0"`,
    );
  }
});

test("whatever a visitor sends, an entry is one line, and its quotes hold", () => {
  const evil = 'a"\\\r\n127.0.0.1 - - "GET /forged\x1b[31m\u00ff';
  const entry = {
    ...ENTRY,
    target: `/${evil}`,
    host: evil,
    method: evil,
    headers: ["User-Agent", evil, "Referer", evil],
  };
  const combined = accessLine("combined", entry, CONTEXT);
  expect(combined.match(/\n/g)).toHaveLength(1);
  expect(combined).toMatch(/^[\x20-\x7e]+\n$/);
  expect(combined).toContain(String.raw`\"\\\x0d\x0a`.replace(String.raw`\"`, String.raw`a\"`));
  const steering = {
    ...ENTRY,
    target: "/caf\u00c3\u00a9/\u00c2\u009b31m",
    headers: ["User-Agent", "a\u009b31m\u007f"],
  };
  const escaped = accessLine("json", steering, CONTEXT);
  expect(escaped).toMatch(/^[\x20-\x7e]+\n$/);
  expect(JSON.parse(escaped)).toMatchObject({ path: "/caf%C3%A9/%C2%9B31m", user_agent: "a\u009b31m\u007f" });
  const json = accessLine("json", entry, CONTEXT);
  expect(json.match(/\n/g)).toHaveLength(1);
  expect(JSON.parse(json)).toMatchObject({ user_agent: evil, host: evil });
  const long = accessLine("json", { ...ENTRY, headers: ["User-Agent", "x".repeat(60_000)] }, CONTEXT);
  expect(long.length).toBeLessThan(4_000);
});

test("a combined line is Apache's, and more behind it", () => {
  const { tunnelId, connectorId } = ENTRY;
  expect(accessLine("combined", ENTRY, CONTEXT)).toBe(
    '192.0.2.1 - - [03/Feb/2026:04:05:06 +0000] "GET /a HTTP/2.0" 200 2 "-" "-" host="app.example.com" ' +
      `ray=0123456789abcdef-LAB tunnel=${tunnelId} connector=${connectorId} rules=remote by=origin in=1 ttfb=1.3 total=2\n`,
  );
});

test("a file gets every line in order, across renames", async () => {
  using dir = makeTempDir();
  const path = join(dir.path, "log");
  const log = await AccessLog.open(path, deps());
  for (let i = 0; i < 5_000; i += 1) {
    log.add(`${i}\n`);
    if (i % 1_000 === 999) {
      await pollUntil(() => log.queuedBytes === 0, { what: "all is written" });
      renameSync(path, `${path}.${i}`);
      log.reopen();
      await pollUntil(() => existsSync(path), { what: "the file is there again" });
    }
  }
  await log.close();
  const all = [999, 1999, 2999, 3999, 4999].map((i) => readFileSync(`${path}.${i}`, "utf8")).join("");
  expect(all).toBe(Array.from({ length: 5_000 }, (_, i) => `${i}\n`).join(""));
  expect(log.counters).toEqual({ lines: 5_000, dropped: 0 });
});

test("a reader that stands still costs lines beyond the queue, never the caller's time; what was taken arrives", async () => {
  using dir = makeTempDir();
  const path = join(dir.path, "pipe");
  await runProcess(["mkfifo", path]);
  const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const said: string[] = [];
  const log = await AccessLog.open(path, deps(said));
  const line = `${"x".repeat(999)}\n`;
  const count = Math.ceil((2 * MAX_QUEUED_BYTES) / line.length);
  const startedMs = performance.now();
  for (let i = 0; i < count; i += 1) log.add(line);
  expect(performance.now() - startedMs).toBeLessThan(2_000);
  expect(log.counters.dropped).toBeGreaterThan(0);
  expect(log.counters.lines + log.counters.dropped).toBe(count);
  expect(log.queuedBytes).toBeLessThanOrEqual(MAX_QUEUED_BYTES);
  expect(said.filter((text) => text.includes("were lost"))).toHaveLength(1);
  let received = 0;
  const buffer = new Uint8Array(1024 * 1024);
  await pollUntil(
    () => {
      try {
        received += readSync(reader, buffer);
      } catch {
        // Nothing at this moment.
      }
      return received === log.counters.lines * line.length;
    },
    { what: "everything that was taken has arrived", deadlineMs: 20_000 },
  );
  await log.close();
  closeSync(reader);
}, 30_000);

test("a place that cannot be written is refused at the start", async () => {
  using dir = makeTempDir();
  await expect(AccessLog.open(join(dir.path, "none", "log"), deps())).rejects.toThrow("Cannot write the access log");
  await expect(AccessLog.open(dir.path, deps())).rejects.toThrow("Cannot write the access log");
});
