import { type Forward, startForward } from "../access/forward.ts";
import { parseForwardsFile } from "../access/forwards-file.ts";
import { Login } from "../access/login/login.ts";
import { Values } from "../config/values.ts";
import { systemClock, systemRandom } from "../core/clock.ts";
import { formatIssue } from "../ingress/issue.ts";
import { ACCESS_FLAGS, ACCESS_FORWARD_FLAGS } from "./access-flags.ts";
import { noProblems, readDialling, readLogger, readStreamFields, readText } from "./access-options.ts";
import { untilStopped, warnOf } from "./access-tcp.ts";
import { type Context, EXIT } from "./command.ts";
import { reportError, reportFailure } from "./failure.ts";

/** `culvert access forward --config FILE`: several local ports in one process. */
export async function run(context: Context): Promise<number> {
  const command = "culvert access forward";
  const values = new Values([...ACCESS_FORWARD_FLAGS, ...ACCESS_FLAGS], { args: context.args, env: context.host.env });
  const problems = noProblems();
  problems.usage.push(...values.issues.map((issue) => issue.message));
  if (context.positionals.length > 0) problems.usage.push(`${command} takes no arguments`);
  const path = values.string("config");
  if (path === undefined) problems.usage.push("Name the list of forwards with --config");
  const shared = readStreamFields(values, context, problems);
  const dialling = readDialling(values, context, problems);
  const log = readLogger(values, context, "info", problems);
  if (path === undefined || problems.usage.length > 0) {
    return reportFailure(context, problems.usage, { usage: true, command });
  }
  const text = readText(context, path, problems);
  if (text === undefined || problems.failures.length > 0) {
    return reportFailure(context, problems.failures, { usage: false, command });
  }
  const file = parseForwardsFile(text);
  if (file.kind === "failed") {
    const lines = file.issues.map((issue) => formatIssue(issue, path));
    return reportFailure(context, lines, { usage: false, command });
  }
  for (const warning of file.warnings) log.warn(formatIssue(warning, path));
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
  const forwards: Forward[] = [];
  try {
    for (const { app, listen, headers, serviceToken = shared.serviceToken, destination } of file.forwards) {
      const stream = { app, dialling, login, headers: [...shared.headers, ...headers], serviceToken, destination };
      warnOf(values, app, stream, log);
      forwards.push(await startForward({ listen, stream }, { clock: systemClock, random: systemRandom, log }));
    }
    return await untilStopped(forwards, context);
  } catch (error) {
    await Promise.all(forwards.map((forward) => forward.close()));
    return context.stop.aborted ? EXIT.ok : reportError(context, error);
  }
}
