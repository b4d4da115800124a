import { describe, expect, test } from "bun:test";
import { EDGE_RUN_FLAGS, UP_FLAGS } from "../../../src/cli/edge-flags.ts";
import { parseConfigFile } from "../../../src/config/file.ts";
import { FILE_ONLY_KEYS, type Flag } from "../../../src/config/flags.ts";
import { ALL_RUN_FLAGS } from "../../../src/config/tunnel-flags.ts";
import { Values } from "../../../src/config/values.ts";
import { formatIssue } from "../../../src/ingress/issue.ts";

const FLAGS: readonly Flag[] = [
  { name: "text", env: ["TEXT_NEW", "TEXT_OLD"], type: "string", default: "d", file: true, help: "" },
  { name: "count", env: ["COUNT"], type: "int", default: "1", file: true, help: "" },
  { name: "time", env: ["TIME"], type: "duration", default: "5s", file: true, help: "" },
  { name: "on", env: ["ON"], type: "bool", file: true, help: "" },
  { name: "many", env: ["MANY"], type: "list", file: true, help: "" },
  { name: "token", env: ["TOKEN"], type: "string", file: true, secret: true, help: "" },
  { name: "secret-count", env: ["SECRET_COUNT"], type: "int", file: true, secret: true, help: "" },
  { name: "cli-only", type: "string", help: "" },
  { name: "gone", env: ["GONE"], type: "duration", file: true, inert: "never", help: "" },
];

function valuesOf(given: { args?: Record<string, string[]>; env?: Record<string, string>; file?: string }): Values {
  const loaded = given.file === undefined ? undefined : parseConfigFile("c.yml", given.file);
  if (loaded !== undefined && loaded.kind !== "loaded") throw new Error("The file must load");
  return new Values(FLAGS, {
    args: new Map(Object.entries(given.args ?? {})),
    env: given.env ?? {},
    file: loaded?.file,
  });
}
const problems = (values: Values): string[] => values.issues.map((issue) => formatIssue(issue, "c.yml"));

describe("the command line goes before the environment, that before the file, and that before the default", () => {
  const args = { text: ["flag"], count: ["4"], time: ["4s"], on: ["true"], many: ["flag"] };
  const env = { TEXT_NEW: "env", COUNT: "3", TIME: "3s", ON: "false", MANY: "env" };
  const file = "text: file\ncount: 2\ntime: 2s\non: true\nmany: [file]";
  test.each([
    { source: "flag", given: { args, env, file }, want: ["flag", 4, 4_000, true, ["flag"]] },
    { source: "env", given: { env, file }, want: ["env", 3, 3_000, false, ["env"]] },
    { source: "file", given: { file }, want: ["file", 2, 2_000, true, ["file"]] },
    { source: "default", given: {}, want: ["d", 1, 5_000, false, []] },
  ] as const)("$source", ({ source, given, want }) => {
    const values = valuesOf(given as Parameters<typeof valuesOf>[0]);
    const { issues } = values;
    expect(issues).toEqual([]);
    const got = [
      values.string("text"),
      values.number("count"),
      values.number("time"),
      values.bool("on"),
      values.list("many"),
    ];
    expect(got).toEqual(want as never);
    expect(values.source("text")).toBe(source);
    expect(values.source("on")).toBe(source === "default" ? undefined : source);
  });
});

describe("values", () => {
  test("of the first variable that is set count; an empty one is not set", () => {
    expect(valuesOf({ env: { TEXT_NEW: "", TEXT_OLD: "old" } }).string("text")).toBe("old");
    expect(valuesOf({ env: { TEXT_NEW: "new", TEXT_OLD: "old" } }).string("text")).toBe("new");
  });

  test("of a flag given twice are the last one, of a list all", () => {
    const values = valuesOf({ args: { text: ["a", "b"], many: ["a,b", " c , ", "d"] } });
    expect(values.string("text")).toBe("b");
    expect(values.list("many")).toEqual(["a", "b", "c", "d"]);
  });

  test("that the file must not set are not taken from it", () => {
    expect(valuesOf({ file: "cli-only: x" }).string("cli-only")).toBeUndefined();
  });

  test.each(["true", "TRUE", "True", "t", "T", "1"])("%s is true", (text) => {
    expect(valuesOf({ args: { on: [text] } }).bool("on")).toBe(true);
  });

  test.each(["false", "F", "0"])("%s is false", (text) => {
    const values = valuesOf({ args: { on: [text] } });
    expect([values.bool("on"), values.issues.length]).toEqual([false, 0]);
  });
});

describe("what is wrong names its place and its form", () => {
  test.each([
    { given: { args: { count: ["x"] } }, want: '--count must be a whole number, not "x"' },
    { given: { args: { count: ["1.5"] } }, want: '--count must be a whole number, not "1.5"' },
    { given: { args: { time: ["30"] } }, want: '--time must be a duration such as 30s or 1m30s, not "30"' },
    { given: { env: { ON: "yes" } }, want: '$ON must be true or false, not "yes"' },
    { given: { file: "a: 1\ncount: x" }, want: 'c.yml:2:1: "count" must be a whole number' },
    { given: { file: "count: 1.5" }, want: 'c.yml:1:1: "count" must be a whole number' },
    { given: { file: "on: 'true'" }, want: 'c.yml:1:1: "on" must be true or false' },
    { given: { file: "time: 30" }, want: 'c.yml:1:1: "time" must be a duration such as 30s or 1m30s' },
    { given: { file: "time: soon" }, want: 'c.yml:1:1: "time" must be a duration such as 30s or 1m30s, not "soon"' },
    { given: { file: "many: a" }, want: 'c.yml:1:1: "many" must be a list of texts' },
    { given: { file: "many: [1]" }, want: 'c.yml:1:1: "many" must be a list of texts' },
    { given: { file: "text: 4" }, want: 'c.yml:1:1: "text" must be a text: put it in quotes' },
    { given: { file: "text: {a: 1}" }, want: 'c.yml:1:1: "text" must be a text' },
  ])("$want", ({ given, want }) => {
    expect(problems(valuesOf(given as Parameters<typeof valuesOf>[0]))).toEqual([want]);
  });

  test("but never a secret", () => {
    const values = valuesOf({ env: { SECRET_COUNT: "hunter2" }, file: "token: {hunter2: hunter2}" });
    expect(problems(values)).toHaveLength(2);
    expect(problems(values).join()).not.toContain("hunter2");
  });

  test("a variable of a feature that is gone may hold anything", () => {
    expect(problems(valuesOf({ env: { GONE: "not a duration" } }))).toEqual([]);
  });
});

test("values are shown with their source, secrets masked", () => {
  const values = valuesOf({ args: { token: ["hunter2"], many: ["a", "b"] }, env: { TIME: "90s" }, file: "on: true" });
  expect(values.shown()).toEqual([
    { name: "time", value: "1m30s", source: "env" },
    { name: "on", value: "true", source: "file" },
    { name: "many", value: "a,b", source: "flag" },
    { name: "token", value: "*****", source: "flag", secret: true },
  ]);
  expect(values.shown({ defaults: true })).toContainEqual({ name: "text", value: "d", source: "default" });
});

describe("the table of flags", () => {
  const tables = { run: ALL_RUN_FLAGS, edge: EDGE_RUN_FLAGS as readonly Flag[], up: UP_FLAGS as readonly Flag[] };

  test.each(Object.entries(tables))("%s: every default is a value of its type", (_, flags) => {
    expect(new Values(flags, { args: new Map(), env: {} }).issues).toEqual([]);
  });

  test.each(Object.entries(tables))("%s: no name, alias or variable stands for two flags", (_, flags) => {
    const names = flags.flatMap((flag) => [flag.name, ...(flag.aliases ?? [])]);
    const variables = flags.flatMap((flag) => flag.env ?? []);
    expect(names).toEqual([...new Set(names)]);
    expect(variables).toEqual([...new Set(variables)]);
    expect(names.filter((name) => (FILE_ONLY_KEYS as readonly string[]).includes(name))).toEqual([]);
  });

  test("every flag that holds a credential is marked", () => {
    const secret = ALL_RUN_FLAGS.filter((flag) => flag.secret === true).map((flag) => flag.name);
    expect(secret).toEqual(expect.arrayContaining(["token", "credentials-contents", "edge-proxy", "api-key"]));
  });

  test("every flag that cloudflared's run takes is known, with its variables", () => {
    const known = new Map(ALL_RUN_FLAGS.map((flag) => [flag.name, flag.env ?? []]));
    const theirs = (
      "config origincert:TUNNEL_ORIGIN_CERT autoupdate-freq no-autoupdate:NO_AUTOUPDATE no-prechecks:TUNNEL_NO_PRECHECKS " +
      "metrics:TUNNEL_METRICS pidfile:TUNNEL_PIDFILE credentials-file:TUNNEL_CRED_FILE loglevel:TUNNEL_LOGLEVEL " +
      "transport-loglevel:TUNNEL_PROTO_LOGLEVEL,TUNNEL_TRANSPORT_LOGLEVEL logfile:TUNNEL_LOGFILE " +
      "log-directory:TUNNEL_LOGDIRECTORY output:TUNNEL_MANAGEMENT_OUTPUT,TUNNEL_LOG_OUTPUT " +
      "trace-output:TUNNEL_TRACE_OUTPUT protocol:TUNNEL_TRANSPORT_PROTOCOL region:TUNNEL_REGION " +
      "edge-ip-version:TUNNEL_EDGE_IP_VERSION edge-bind-address:TUNNEL_EDGE_BIND_ADDRESS edge:TUNNEL_EDGE " +
      "cacert:TUNNEL_CACERT retries:TUNNEL_RETRIES max-edge-addr-retries ha-connections " +
      "grace-period:TUNNEL_GRACE_PERIOD rpc-timeout write-stream-timeout:TUNNEL_STREAM_WRITE_TIMEOUT " +
      "quic-disable-pmtu-discovery:TUNNEL_DISABLE_QUIC_PMTU post-quantum:TUNNEL_POST_QUANTUM features label " +
      "tag:TUNNEL_TAG stdin-control:STDIN_CONTROL management-hostname:TUNNEL_MANAGEMENT_HOSTNAME " +
      "management-diagnostics:TUNNEL_MANAGEMENT_DIAGNOSTICS service-op-ip:TUNNEL_SERVICE_OP_IP is-autoupdated " +
      "max-fetch-size:TUNNEL_MAX_FETCH_SIZE api-url:TUNNEL_API_URL quick-service name:TUNNEL_NAME " +
      "hostname:TUNNEL_HOSTNAME lb-pool:TUNNEL_LB_POOL id:TUNNEL_ID overwrite-dns:TUNNEL_FORCE_PROVISIONING_DNS ui " +
      "url:TUNNEL_URL hello-world:TUNNEL_HELLO_WORLD socks5:TUNNEL_SOCKS unix-socket:TUNNEL_UNIX_SOCKET " +
      "bastion:TUNNEL_BASTION ssh-server:TUNNEL_SSH_SERVER proxy-connect-timeout proxy-tls-timeout " +
      "proxy-tcp-keepalive proxy-no-happy-eyeballs proxy-keepalive-connections proxy-keepalive-timeout " +
      "http-host-header:TUNNEL_HTTP_HOST_HEADER origin-server-name:TUNNEL_ORIGIN_SERVER_NAME " +
      "origin-ca-pool:TUNNEL_ORIGIN_CA_POOL no-tls-verify:NO_TLS_VERIFY " +
      "no-chunked-encoding:TUNNEL_NO_CHUNKED_ENCODING http2-origin:TUNNEL_ORIGIN_ENABLE_HTTP2 " +
      "proxy-address:TUNNEL_PROXY_ADDRESS proxy-port:TUNNEL_PROXY_PORT proxy-connection-timeout " +
      "proxy-expect-continue-timeout metrics-update-freq:TUNNEL_METRICS_UPDATE_FREQ heartbeat-interval " +
      "heartbeat-count compression-quality:TUNNEL_COMPRESSION_LEVEL use-reconnect-token:TUNNEL_USE_RECONNECT_TOKEN " +
      "dial-edge-timeout:DIAL_EDGE_TIMEOUT api-key:TUNNEL_API_KEY api-email:TUNNEL_API_EMAIL " +
      "api-ca-key:TUNNEL_API_CA_KEY token:TUNNEL_TOKEN token-file:TUNNEL_TOKEN_FILE " +
      "credentials-contents:TUNNEL_CRED_CONTENTS icmpv4-src:TUNNEL_ICMPV4_SRC icmpv6-src:TUNNEL_ICMPV6_SRC " +
      "max-active-flows:TUNNEL_MAX_ACTIVE_FLOWS dns-resolver-addrs:TUNNEL_DNS_RESOLVER_ADDRS"
    ).split(" ");
    for (const entry of theirs) {
      const [name = "", variables] = entry.split(":");
      expect({ name, env: known.get(name) }).toEqual({ name, env: variables?.split(",") ?? [] });
    }
  });
});
