import { expect, test } from "bun:test";
import { existsSync, readFileSync, renameSync } from "node:fs";
import { join } from "node:path";
import { CULVERT, HOST, startLab } from "../support/lab.ts";
import { pollUntil } from "../support/poll-until.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { visit } from "../support/visitors.ts";

function lines(path: string): readonly string[] {
  return existsSync(path)
    ? readFileSync(path, "utf8")
        .split("\n")
        .filter((line) => line !== "")
    : [];
}

test("each request leaves a line that says who served it, without its query; logrotate's rename loses none", async () => {
  using dir = makeTempDir();
  const path = join(dir.path, "access.log");
  await using lab = await startLab(CULVERT, { edgeFlags: ["--access-log", path] });
  const target = "/echo?token=very-secret";
  const fields = [
    ["User-Agent", 'test "agent"'],
    ["Referer", "https://user:pass@elsewhere.example/page?session=hidden"],
  ] as const;
  const answer = await visit(lab.port, { host: HOST, method: "POST", target, body: "hello", fields });
  expect(answer.status).toBe(200);
  const [line] = await pollUntil(() => (lines(path).length === 1 ? lines(path) : undefined), { what: "a line" });
  const entry = JSON.parse(line ?? "");
  expect(entry).toMatchObject({
    ...{ client: "127.0.0.1", scheme: "http", protocol: "HTTP/1.1", method: "POST", host: HOST, path: "/echo" },
    ...{ status: 200, bytes_in: 5, bytes_out: answer.body.length, rules: "local", answered_by: "origin", retries: 0 },
    ...{ error: null, referer: "https://elsewhere.example/page", user_agent: 'test "agent"' },
  });
  expect(entry.ray).toBe(answer.fields.find(([name]) => name.toLowerCase() === "cf-ray")?.[1]);
  expect(entry.tunnel).toMatch(/^[0-9a-f-]{36}$/);
  expect(entry.connector).toMatch(/^[0-9a-f-]{36}$/);
  expect(entry.ttfb_ms).toBeLessThanOrEqual(entry.duration_ms);
  expect(Math.abs(Date.parse(entry.time) - Date.now())).toBeLessThan(60_000);

  // What logrotate does: with a signal, and without one.
  renameSync(path, `${path}.1`);
  lab.edge.process.signal("SIGHUP");
  await pollUntil(() => existsSync(path), { what: "the file is opened anew" });
  await visit(lab.port, { host: HOST, target: "/hello" });
  await pollUntil(() => lines(path).length === 1, { what: "the line is in the new file" });
  expect(lines(`${path}.1`)).toHaveLength(1);
  renameSync(path, `${path}.2`);
  await pollUntil(() => existsSync(path), { what: "the rename is seen" });
  await visit(lab.port, { host: HOST, target: "/hello" });
  await pollUntil(() => lines(path).length === 1, { what: "the line is in the newest file" });
}, 30_000);

test("a full disk loses lines, says so, and disturbs nobody", async () => {
  await using lab = await startLab(CULVERT, {
    edgeFlags: ["--access-log", "/dev/full", "--access-log-format", "combined", "--metrics", "127.0.0.1:0"],
  });
  for (let i = 0; i < 20; i += 1) expect((await visit(lab.port, { host: HOST, target: "/hello" })).status).toBe(200);
  await lab.edge.process.errorLine(/Lines of the access log were lost.*lines=/);
  const metrics = await pollUntil(
    async () => {
      const { body } = await visit(lab.edge.metricsPort, { host: "127.0.0.1", target: "/metrics" });
      expect(body.toString()).toMatch(/^culvert_log_lines_dropped_total\{sink="console"\} 0$/m);
      return /^culvert_edge_access_log_dropped_total 20$/m.exec(body.toString());
    },
    { what: "each lost line is counted" },
  );
  expect(metrics).not.toBeNull();
}, 30_000);

test("standard output takes it as well, in Apache's form, with secrets hidden in the query", async () => {
  await using lab = await startLab(CULVERT, {
    edgeFlags: ["--access-log", "-", "--access-log-format", "combined", "--access-log-query"],
  });
  await visit(lab.port, { host: HOST, target: "/hello?a=1&access_token=abc&b=2" });
  const [line] = await lab.edge.process.outputLine(/.*GET \/hello.*/);
  const time = String.raw`\[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\]`;
  const start = String.raw`^127\.0\.0\.1 - - ${time} "GET /hello\?a=1&access_token=REDACTED&b=2 HTTP/1\.1" 200 \d+ "-" "-" `;
  expect(line).toMatch(new RegExp(`${start}host="${HOST}" ray=[0-9a-f]{16}-LAB tunnel=[0-9a-f-]{36} connector=`));
}, 30_000);
