import { loadConfigFile } from "../config/file.ts";
import { API_FLAGS } from "../config/flags.ts";
import { buildRunConfig, type RunConfig, type RunConfigResult } from "../config/run-config.ts";
import { ALL_RUN_FLAGS } from "../config/tunnel-flags.ts";
import { Values } from "../config/values.ts";
import { systemClock, systemRandom } from "../core/clock.ts";
import { describe, TunnelError } from "../core/errors.ts";
import { BUILD_DATE, VERSION } from "../core/version.ts";
import { type DoctorEdge, type DoctorOptions, runDoctor } from "../doctor/doctor.ts";
import { type Finding, finding } from "../doctor/finding.ts";
import { checkLines, reportJson, verdictLines } from "../doctor/report.ts";
import { formatAddress } from "../net/socket-errors.ts";
import { http2 } from "../transport/http2/connector.ts";
import { type Context, EXIT } from "./command.ts";
import { DOCTOR_FLAGS } from "./doctor-flags.ts";
import { wayToEdge } from "./edge-way.ts";
import { reportFailure } from "./failure.ts";
import { findTunnel, openManagement } from "./management.ts";
import { withStandIn } from "./stand-in.ts";
import { IDENTITY_FLAGS, nameWithoutId } from "./tunnel-name.ts";

/** How long the API may take to say which tunnel a name is of, in ms; the checks come behind it. */
const NAME_MS = 4_000;

/** `culvert doctor`: says why a tunnel does not work. Exit code 1 when something does not. */
export async function run(context: Context): Promise<number> {
  if (context.positionals.length > 1) {
    const problems = ["Give one tunnel at most: its name or its id"];
    return reportFailure(context, problems, { usage: true, command: "culvert doctor" });
  }
  const flags = new Values(DOCTOR_FLAGS, { args: context.args, env: context.host.env });
  const named = await nameToId(context);
  const options = optionsOf(named, !flags.bool("no-register"));
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

interface Named {
  /** With the tunnel's id for its name. */
  readonly context: Context;
  /** Why the id is not known. */
  readonly failure?: Finding;
}

/** As a run does it: credentials are filed under the tunnel's id, which only the API knows. */
async function nameToId(context: Context): Promise<Named> {
  const name = nameWithoutId(context);
  if (name === undefined) return { context };
  const { args, host, stop } = context;
  const loaded = loadConfigFile(host, args.get("config")?.at(-1));
  const file = loaded.kind === "loaded" ? loaded.file : undefined;
  const late = AbortSignal.timeout(NAME_MS);
  try {
    const values = new Values(API_FLAGS, { args, env: host.env, file });
    const { api } = openManagement({ ...context, stop: AbortSignal.any([stop, late]) }, values);
    return { context: { ...context, positionals: [await findTunnel(api, name)] } };
  } catch (error) {
    if (error instanceof TunnelError && error.code === "api.missing") {
      const todo = "Correct the name, or give --credentials-file or --token";
      return { context, failure: finding("C-302", describe(error), todo) };
    }
    const why = late.aborted ? `The API did not answer within ${NAME_MS / 1_000} s` : describe(error);
    return {
      context,
      failure: finding(
        "C-302",
        `The id of tunnel "${name}", which its credentials are filed under, cannot be asked for: ${why}`,
        "Mend that, or give the tunnel's id in place of its name, or --credentials-file or --token",
      ),
    };
  }
}

function optionsOf({ context, failure }: Named, register: boolean): DoctorOptions {
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
  const findings = failure === undefined ? own.map((error) => ofIdentity(context, error)) : [failure];
  const tunnel = { kind: "wrong", findings } as const;
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
  const edge = config.edge.kind === "static" ? { ...edgeOf(config), lacksToken: config.ca === undefined } : undefined;
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
    file: config.file?.path,
    warnings,
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
    lacksToken: false,
    quic: transports.find(({ name }) => name === "quic"),
    http2: transports.find(({ name }) => name === "http2"),
  };
}

function ofIdentity(context: Context, error: string): Finding {
  const loaded = loadConfigFile(context.host, context.args.get("config")?.at(-1));
  const file = loaded.kind === "loaded" ? loaded.file : undefined;
  const values = new Values(ALL_RUN_FLAGS, { args: context.args, env: context.host.env, file });
  if (IDENTITY_FLAGS.some((flag) => values.string(flag) !== undefined)) {
    const todo = "Copy the token again, whole, from where the tunnel was made; or correct the path of the file";
    return finding("C-302", error, todo);
  }
  if (context.positionals.length > 0 || file?.top["tunnel"] !== undefined) {
    const todo = "Run this as the user who made the tunnel, or give --credentials-file or --token";
    return finding("C-302", error, todo);
  }
  const todo =
    "Give what the connector is run with: a tunnel's name, --token, --token-file, --credentials-file or --config";
  return finding("C-301", error, todo);
}
