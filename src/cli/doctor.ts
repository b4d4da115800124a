import { loadConfigFile } from "../config/file.ts";
import { buildRunConfig, NO_RULES_WARNING, type RunConfig, type RunConfigResult } from "../config/run-config.ts";
import { ALL_RUN_FLAGS } from "../config/tunnel-flags.ts";
import { Values } from "../config/values.ts";
import { systemClock, systemRandom } from "../core/clock.ts";
import { parseTunnelId } from "../core/ids.ts";
import { BUILD_DATE, VERSION } from "../core/version.ts";
import { type DoctorEdge, type DoctorOptions, runDoctor } from "../doctor/doctor.ts";
import { type Finding, finding } from "../doctor/finding.ts";
import { checkLines, reportJson, verdictLines } from "../doctor/report.ts";
import { formatAddress } from "../net/socket-errors.ts";
import { http2 } from "../transport/http2/connector.ts";
import { formatToken } from "../wire/token.ts";
import { type Context, EXIT } from "./command.ts";
import { DOCTOR_FLAGS } from "./doctor-flags.ts";
import { wayToEdge } from "./edge-way.ts";

/** Flags that say who the tunnel is. */
const IDENTITY_FLAGS = ["token", "token-file", "credentials-file", "credentials-contents"] as const;

/** `culvert doctor`: says why a tunnel does not work. Exit code 1 when something does not. */
export async function run(context: Context): Promise<number> {
  const flags = new Values(DOCTOR_FLAGS, { args: context.args, env: context.host.env });
  const options = optionsOf(context, !flags.bool("no-register"));
  const asJson = flags.bool("json");
  const report = await runDoctor(options, {
    clock: systemClock,
    random: systemRandom,
    signal: context.stop,
    onCheck: (id, result) => {
      if (!asJson) for (const line of checkLines(id, result)) context.print(line);
    },
  });
  if (asJson) context.print(reportJson(report));
  else for (const line of verdictLines(report.verdict)) context.print(line);
  return report.verdict.status === "fail" ? EXIT.failed : EXIT.ok;
}

function optionsOf(context: Context, register: boolean): DoctorOptions {
  const base = {
    version: VERSION,
    builtMs: Date.parse(BUILD_DATE),
    register,
    readFile: (path: string) => context.host.readFile(path),
  };
  const built = buildRunConfig(context.host, context.args, context.positionals);
  if (built.kind === "ok") {
    const { config } = built;
    return { ...base, ...ofConfig(config, built), tunnel: { kind: "known", identity: config }, edge: edgeOf(config) };
  }
  // With a tunnel that is none, what is left of the errors is not about the tunnel.
  const others = buildRunConfig(context.host, withStandIn(context.args), []);
  const otherErrors = others.kind === "failed" ? others.errors : [];
  const own = built.errors.filter((error) => !otherErrors.includes(error));
  const tunnel = { kind: "wrong", findings: own.map((error) => ofIdentity(context, error)) } as const;
  if (others.kind === "failed") {
    const findings = otherErrors.map((error) =>
      finding("C-401", error, "Correct it: the connector does not start with it"),
    );
    return {
      ...base,
      tunnel,
      edge: undefined,
      config: { kind: "wrong", findings },
      metrics: undefined,
      metricsAuth: undefined,
    };
  }
  const { config } = others;
  // A token names its edge: without one that can be read, only a flag does.
  const edge = config.edge.kind === "static" ? edgeOf(config) : undefined;
  return { ...base, ...ofConfig(config, others), tunnel, edge };
}

function ofConfig(
  config: RunConfig,
  { warnings }: RunConfigResult,
): Pick<DoctorOptions, "config" | "metrics" | "metricsAuth"> {
  const configured = config.rulesFrom !== "default";
  const facts = {
    rules: config.rules,
    from: config.rulesFrom,
    configured,
    warnings: warnings.filter((warning) => warning !== NO_RULES_WARNING),
    connections: config.haConnections,
    gracePeriodMs: config.gracePeriodMs,
  };
  const { metrics, metricsAuth } = config;
  return { config: { kind: "known", facts }, metrics, metricsAuth };
}

function edgeOf(config: RunConfig): DoctorEdge {
  const { target, isProxied, proxy, transports = [] } = wayToEdge(config);
  return {
    source: config.edge,
    target,
    isProxied,
    protocol: config.protocol,
    proxy: proxy === undefined ? undefined : formatAddress(proxy),
    tlsServerName: http2.tlsServerName,
    quic: transports.find(({ name }) => name === "quic"),
    http2: transports.find(({ name }) => name === "http2"),
  };
}

/** The same arguments, with a token that can be read instead of whatever says who the tunnel is. */
function withStandIn(args: Context["args"]): Context["args"] {
  const tunnelId = parseTunnelId("00000000-0000-4000-8000-000000000000");
  if (tunnelId === undefined) throw new Error("The stand-in has no valid id");
  const token = formatToken({
    accountTag: "none",
    tunnelSecret: new Uint8Array(32),
    tunnelId,
    endpoint: "",
    edges: [],
    ca: undefined,
  });
  const kept = [...args].filter(([name]) => !(IDENTITY_FLAGS as readonly string[]).includes(name));
  return new Map([...kept, ["token", [token]]]);
}

function ofIdentity(context: Context, error: string): Finding {
  const loaded = loadConfigFile(context.host, context.args.get("config")?.at(-1));
  const file = loaded.kind === "loaded" ? loaded.file : undefined;
  const values = new Values(ALL_RUN_FLAGS, { args: context.args, env: context.host.env, file });
  const named = context.positionals.length > 0 || file?.top["tunnel"] !== undefined;
  return named || IDENTITY_FLAGS.some((flag) => values.string(flag) !== undefined)
    ? finding(
        "C-302",
        error,
        "Copy the token again, whole, from where the tunnel was made; or correct the path of the file",
      )
    : finding(
        "C-301",
        error,
        "Give what the connector is run with: --token, --token-file, --credentials-file or --config",
      );
}
