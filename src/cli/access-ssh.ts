import { basename } from "node:path";
import { parseAppAddress } from "../access/address.ts";
import { Login } from "../access/login/login.ts";
import { fetchShortLivedCert } from "../access/login/short-lived-cert.ts";
import { TokenStore } from "../access/login/token-store.ts";
import { renderSshConfig } from "../access/ssh-config.ts";
import { Values } from "../config/values.ts";
import { systemClock } from "../core/clock.ts";
import { ACCESS_FLAGS, ACCESS_SSH_CONFIG_FLAGS, ACCESS_SSH_GEN_FLAGS } from "./access-flags.ts";
import { noProblems, readDialling, taken } from "./access-options.ts";
import { type Context, EXIT } from "./command.ts";
import { reportError, reportFailure } from "./failure.ts";

const HINT =
  "culvert: short-lived certificates come from the organisation's Access, where the application is; without one, keys of your own work: see 'culvert access ssh-config'";

/** `culvert access ssh-config`: prints what belongs into ~/.ssh/config. */
export function config(context: Context): Promise<number> {
  const values = new Values(ACCESS_SSH_CONFIG_FLAGS, { args: context.args, env: context.host.env });
  const errors = values.issues.map((issue) => issue.message);
  const hostname = values.string("hostname");
  // A line of the user's ssh configuration is made of it.
  if (hostname !== undefined && !parseAppAddress(hostname.replaceAll("*", "x")).ok) {
    errors.push("--hostname is not a hostname");
  }
  if (hostname !== undefined && /[\s"'%]/.test(hostname)) errors.push("--hostname must not hold blanks or quotes");
  if (errors.length > 0) {
    return Promise.resolve(reportFailure(context, errors, { usage: true, command: "culvert access ssh-config" }));
  }
  const { homeDir } = context.host;
  const shortLivedCert = values.bool("short-lived-cert");
  context.print(renderSshConfig({ hostname, shortLivedCert, homeDir, program: programPath(process.execPath) }));
  return Promise.resolve(EXIT.ok);
}

/** `culvert access ssh-gen`: fetches a short-lived certificate for the user's SSH key. */
export async function gen(context: Context): Promise<number> {
  const command = "culvert access ssh-gen";
  const values = new Values([...ACCESS_SSH_GEN_FLAGS, ...ACCESS_FLAGS], { args: context.args, env: context.host.env });
  const problems = noProblems();
  problems.usage.push(...values.issues.map((issue) => issue.message));
  if (context.positionals.length > 0) problems.usage.push(`${command} takes no arguments`);
  const app = taken(parseAppAddress(values.string("hostname") ?? ""), "--hostname", problems);
  const dialling = readDialling(values, context, problems);
  if (app === undefined || problems.usage.length > 0) {
    return reportFailure(context, problems.usage, { usage: true, command });
  }
  if (problems.failures.length > 0) return reportFailure(context, problems.failures, { usage: false, command });
  const { homeDir } = context.host;
  const fedramp = values.bool("fedramp");
  const login = new Login(
    { homeDir, dialling, fedramp, autoClose: false, hostOnly: false, say: context.note },
    systemClock,
  );
  const store = new TokenStore(homeDir, () => systemClock.wallMs());
  try {
    await fetchShortLivedCert(app, { login, store, clock: systemClock }, context.stop);
    return EXIT.ok;
  } catch (error) {
    if (!context.stop.aborted) context.note(HINT);
    return reportError(context, error);
  }
}

/** Run from source, the runtime's path says nothing about how to call us. */
function programPath(execPath: string): string {
  return /^(bun|deno|node)(\.exe)?$/i.test(basename(execPath)) ? "culvert" : execPath;
}
