import { expect, test } from "bun:test";
import { PUBLIC_FLAGS } from "../../../src/cli/edge-flags.ts";
import { readLimits, readPublicFlags } from "../../../src/cli/edge-public.ts";
import { Values } from "../../../src/config/values.ts";

function read(args: Readonly<Record<string, readonly string[]>>) {
  const problems: string[] = [];
  const values = new Values(PUBLIC_FLAGS, { args: new Map(Object.entries(args)), env: {} });
  return { flags: readPublicFlags(values, problems), problems };
}

test.each([
  ["rate-per-ip=50", "rate-per-ip", 50],
  ["rate-per-ip=0.5/s", "rate-per-ip", 0.5],
  ["body-size=10MiB", "body-size", 10_485_760],
  ["body-size=10MB", "body-size", 10_000_000],
  ["body-size=0", "body-size", 0],
  ["header-timeout=1m30s", "header-timeout", 90_000],
  [" connections = 7", "connections", 7],
] as const)("--limit %s", (text, name, value) => {
  const problems: string[] = [];
  const limits = readLimits([text], problems);
  expect(problems).toEqual([]);
  expect(limits.values[name]).toBe(value);
  expect([...limits.chosen]).toEqual([name]);
});

test.each([
  "rate-per-ip",
  "rate-per-ip=",
  "rate-per-ip=-1",
  "rate-per-ip=fast",
  "toString=1",
  "=5",
  "connections=0",
  "body-size=1PB",
  "header-size=1MiB",
  "header-timeout=0",
  "header-timeout=5",
  "header-timeout=10ms",
])("--limit %s is refused", (text) => {
  const problems: string[] = [];
  readLimits([text], problems);
  expect(problems).toHaveLength(1);
});

test.each([
  ["31536000", "max-age=31536000"],
  ["180d", "max-age=15552000"],
  ["1h; includesubdomains ;preload", "max-age=3600; includeSubDomains; preload"],
  ["0", "max-age=0"],
  ["", undefined],
])("--hsts %p", (text, value) => {
  const { flags, problems } = read({ "tls-internal": ["true"], hsts: [text] });
  expect(problems).toEqual([]);
  expect(flags.https?.hsts).toBe(value);
});

test("HTTPS is on once there is something to show, where it is told or on a port of its own", () => {
  expect(read({}).flags.https).toBeUndefined();
  expect(read({ "tls-dir": ["/a"] }).flags.https).toMatchObject({ host: "0.0.0.0", port: 8443, redirect: true });
  const pairs = { "tls-cert": ["/a.pem", "/b.pem"], "tls-key": ["/a.key", "/b.key"], "https-listen": [":443"] };
  expect(read(pairs).flags.https).toMatchObject({
    ...{ host: "0.0.0.0", port: 443 },
    pairs: [
      { cert: "/a.pem", key: "/a.key" },
      { cert: "/b.pem", key: "/b.key" },
    ],
  });
  expect(read({ "https-listen": [":443"] }).problems).toHaveLength(1);
  expect(read({ "tls-cert": ["/a.pem"] }).problems).toHaveLength(1);
  expect(read({ "tls-internal": ["true"], "https-listen": ["nonsense"] }).problems).toHaveLength(1);
  expect(read({ "access-log": ["-"], "access-log-format": ["xml"] }).problems).toHaveLength(1);
});

test("a password of metrics has the shape of one, and metrics to protect", () => {
  expect(read({ metrics: ["127.0.0.1:9090"], "metrics-auth": ["me:secret"] })).toMatchObject({
    flags: { metrics: { host: "127.0.0.1", port: 9090, auth: "me:secret" } },
    problems: [],
  });
  expect(read({ metrics: ["127.0.0.1:9090"] }).flags.metrics).toEqual({
    host: "127.0.0.1",
    port: 9090,
    auth: undefined,
  });
  expect(read({ metrics: [":9090"], "metrics-auth": ["secret"] }).problems).toEqual([
    "--metrics-auth must be USER:PASSWORD",
  ]);
  expect(read({ "metrics-auth": ["me:secret"] }).problems).toEqual([
    "--metrics-auth needs --metrics, without which no metrics are served",
  ]);
  const values = new Values(PUBLIC_FLAGS, { args: new Map(), env: { CULVERT_METRICS_AUTH: "" } });
  expect(values.issues.map((issue) => issue.message)).toEqual([
    "$CULVERT_METRICS_AUTH must not be empty: leave it out, or give it a value",
  ]);
});
