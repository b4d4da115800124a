import { basename } from "node:path";
import { parseAppAddress } from "../access/address.ts";
import { renderSshConfig } from "../access/ssh-config.ts";
import { Values } from "../config/values.ts";
import { ACCESS_SSH_CONFIG_FLAGS } from "./access-flags.ts";
import { type Context, EXIT } from "./command.ts";
import { reportFailure } from "./failure.ts";

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

/** `culvert access ssh-gen`: not there yet. */
export function gen(context: Context): Promise<number> {
  const message =
    "access ssh-gen is not part of this release: short-lived certificates need a login at the organisation's Access. " +
    "Keys of your own work: see 'culvert access ssh-config'";
  return Promise.resolve(reportFailure(context, [message], { usage: false, command: "culvert access ssh-gen" }));
}

/** Run from source, the runtime's path says nothing about how to call us. */
function programPath(execPath: string): string {
  return /^(bun|deno|node)(\.exe)?$/i.test(basename(execPath)) ? "culvert" : execPath;
}
