import { expect, test } from "bun:test";
import { createLogger, type LogFormat, type LogLevel } from "../../../src/core/log.ts";

function logger(level: LogLevel, format: LogFormat = "default") {
  const lines: string[] = [];
  const log = createLogger({
    level,
    format,
    wallMs: () => Date.UTC(2026, 0, 2, 3, 4, 5, 678),
    write: (line) => lines.push(line),
  });
  return { log, lines };
}

test("a line has cloudflared's form: time, level, message, the error, then fields by name", () => {
  const { log, lines } = logger("info");
  log
    .with({ ip: "127.0.0.1", connIndex: 0 })
    .warn("Connection terminated", { error: "it broke", code: "session.lost" });
  expect(lines).toEqual([
    '2026-01-02T03:04:05Z WRN Connection terminated error="it broke" code=session.lost connIndex=0 ip=127.0.0.1',
  ]);
});

test("levels below the chosen one are dropped", () => {
  const { log, lines } = logger("warn");
  log.debug("no");
  log.info("no");
  log.error("yes");
  expect(lines).toEqual(["2026-01-02T03:04:05Z ERR yes"]);
  expect([log.enabled("info"), log.enabled("warn")]).toEqual([false, true]);
});

test("no value can forge a line or another field", () => {
  const { log, lines } = logger("info");
  log.info("one\nline", { host: "a\n2026 ERR forged", tricky: "x ingressRule=9", empty: "", gone: undefined });
  expect(lines).toEqual([
    '2026-01-02T03:04:05Z INF one line empty="" host="a\\n2026 ERR forged" tricky="x ingressRule=9"',
  ]);
});

test("JSON lines carry level, time, message and fields", () => {
  const { log, lines } = logger("info", "json");
  log.info("Registered tunnel connection", { connIndex: 1 });
  expect(JSON.parse(lines[0] ?? "")).toEqual({
    level: "info",
    time: "2026-01-02T03:04:05Z",
    message: "Registered tunnel connection",
    connIndex: 1,
  });
});
