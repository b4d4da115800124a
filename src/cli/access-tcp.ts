import { type AppAddress, parseAppAddress, parseListenAddress } from "../access/address.ts";
import { createFdOutput } from "../access/fd-output.ts";
import { type Forward, startForward } from "../access/forward.ts";
import { Login } from "../access/login/login.ts";
import { runOverStdio } from "../access/over-stdio.ts";
import type { StreamOptions } from "../access/stream.ts";
import { Values } from "../config/values.ts";
import { systemClock, systemRandom } from "../core/clock.ts";
import { TunnelError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import { isExempt } from "../net/proxy-settings.ts";
import { ACCESS_FLAGS, ACCESS_TCP_FLAGS } from "./access-flags.ts";
import { noProblems, readDialling, readLogger, readStreamFields, taken } from "./access-options.ts";
import { type Context, EXIT } from "./command.ts";
import { reportError, reportFailure } from "./failure.ts";

const STDOUT = 1;

/** `culvert access tcp`, `ssh`, `rdp` and `smb`: a local port, or standard input and output, joined with an application. */
export async function run(context: Context): Promise<number> {
  const values = new Values([...ACCESS_TCP_FLAGS, ...ACCESS_FLAGS], { args: context.args, env: context.host.env });
  const problems = noProblems();
  problems.usage.push(...values.issues.map((issue) => issue.message));
  if (context.positionals.length > 1) problems.usage.push("Give one address to listen on at most");
  const local = context.positionals[0] ?? values.string("url");
  const listen = local === undefined ? undefined : taken(parseListenAddress(local), "--url", problems);
  const app = taken(parseAppAddress(values.string("hostname") ?? ""), "--hostname", problems);
  const fields = readStreamFields(values, context, problems);
  const dialling = readDialling(values, context, problems);
  // What ssh shows of its ProxyCommand is what goes wrong.
  const log = readLogger(values, context, local === undefined ? "warn" : "info", problems);
  if (app === undefined || problems.usage.length > 0) {
    return reportFailure(context, problems.usage, { usage: true, command: "culvert access tcp" });
  }
  if (problems.failures.length > 0) {
    return reportFailure(context, problems.failures, { usage: false, command: "culvert access tcp" });
  }
  warnOf(values, app, { ...fields, dialling }, log);
  const login = new Login(
    {
      homeDir: context.host.homeDir,
      dialling,
      fedramp: values.bool("fedramp"),
      autoClose: false,
      hostOnly: false,
      say: context.note,
    },
    systemClock,
  );
  const stream: StreamOptions = { ...fields, app, dialling, login };
  try {
    if (listen === undefined) return await overStdio(stream, log, context);
    const forward = await startForward({ listen, stream }, { clock: systemClock, random: systemRandom, log });
    return await untilStopped([forward], context);
  } catch (error) {
    return context.stop.aborted ? EXIT.ok : reportError(context, error);
  }
}

/** Serves until it is told to stop. */
export async function untilStopped(forwards: readonly Forward[], context: Context): Promise<number> {
  await new Promise<void>((resolve) => {
    if (context.stop.aborted) resolve();
    context.stop.addEventListener("abort", () => resolve(), { once: true });
  });
  await Promise.all(forwards.map((forward) => forward.close()));
  return EXIT.ok;
}

/** What is allowed, and seldom meant. */
export function warnOf(
  values: Values,
  app: AppAddress,
  stream: Pick<StreamOptions, "dialling" | "serviceToken">,
  log: Logger,
): void {
  const { connectTo } = stream.dialling;
  if (connectTo?.serverName !== undefined) {
    log.warn(`The certificate is not verified, because the SNI is set to ${connectTo.serverName}`);
  }
  if (!app.secure && stream.serviceToken !== undefined && !isExempt(connectTo?.host ?? app.host, app.port, "")) {
    log.warn("The service token leaves this machine in clear text", { host: app.authority });
  }
  for (const name of ["log-directory", "debug-stream"]) {
    if (values.source(name) !== undefined) log.warn(`--${name} has no effect`);
  }
}

async function overStdio(stream: StreamOptions, log: Logger, context: Context): Promise<number> {
  const { stdin } = process;
  const streams = { input: stdin, output: createFdOutput(STDOUT, systemClock), endTogether: stdin.isTTY === true };
  const { sentBytes, receivedBytes, error } = await runOverStdio(stream, streams, { clock: systemClock }, context.stop);
  log.debug("Stream ended", { sentBytes, receivedBytes });
  if (error === undefined) return EXIT.ok;
  return reportError(context, new TunnelError(error.code, `The stream was cut: ${error.message}`));
}
