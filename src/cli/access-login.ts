import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type AppAddress, parseAppAddress } from "../access/address.ts";
import { Login } from "../access/login/login.ts";
import type { Flag } from "../config/flags.ts";
import { Values } from "../config/values.ts";
import { systemClock } from "../core/clock.ts";
import { describe, systemCode, TunnelError } from "../core/errors.ts";
import { ACCESS_CURL_FLAGS, ACCESS_FLAGS, ACCESS_LOGIN_FLAGS, ACCESS_TOKEN_FLAGS } from "./access-flags.ts";
import { noProblems, readDialling, taken } from "./access-options.ts";
import { type Context, EXIT } from "./command.ts";
import { reportError, reportFailure } from "./failure.ts";

interface Prepared {
  readonly values: Values;
  readonly app: AppAddress;
  readonly login: Login;
}

/** `culvert access login URL`: gets a token that the application takes, and prints it. */
export async function login(context: Context): Promise<number> {
  const prepared = prepare(context, "login", ACCESS_LOGIN_FLAGS, { hostOnly: false });
  if (typeof prepared === "number") return prepared;
  const { values, app, login } = prepared;
  try {
    const token = await login.verified(app, context.stop);
    if (values.bool("quiet")) return EXIT.ok;
    // As cloudflared: who names --app reads the token with a program.
    if (values.bool("no-verbose") || values.source("app") !== undefined) context.write(token);
    else context.print(`Successfully fetched your token:\n\n${token}\n`);
    return EXIT.ok;
  } catch (error) {
    return reportError(context, error);
  }
}

/** `culvert access token --app URL`: prints the stored token, without a line end. */
export async function token(context: Context): Promise<number> {
  const prepared = prepare(context, "token", ACCESS_TOKEN_FLAGS, { hostOnly: false });
  if (typeof prepared === "number") return prepared;
  try {
    const stored = await prepared.login.stored(prepared.app, context.stop);
    if (stored === undefined) {
      context.note("Unable to find token for provided application. Please run login command to generate token.");
      return EXIT.failed;
    }
    context.write(stored);
    return EXIT.ok;
  } catch (error) {
    return reportError(context, error);
  }
}

/** `culvert access curl URL ARGUMENTS`: runs curl with the token; gives its exit code. */
export async function curl(context: Context): Promise<number> {
  const prepared = prepare(context, "curl", ACCESS_CURL_FLAGS, { hostOnly: true });
  if (typeof prepared === "number") return prepared;
  const { values, app, login } = prepared;
  let found: string | undefined;
  try {
    found = values.bool("allow-request")
      ? await login.stored(app, context.stop)
      : await login.verified(app, context.stop);
  } catch (error) {
    if (!values.bool("allow-request")) return reportError(context, error);
    context.note(`culvert: sending the request without a token: ${describe(error)}`);
  }
  // In a file, because arguments are for everybody on this machine to read.
  const folder = mkdtempSync(join(tmpdir(), "culvert-curl-"));
  try {
    const file = join(folder, "header");
    writeFileSync(file, `Cf-Access-Token: ${found ?? ""}\n`, { mode: 0o600 });
    const header = found === undefined ? [] : ["-H", `@${file}`];
    // `--` between the URL and the rest is for the eye.
    const [url = "", ...rest] = context.positionals;
    return await runCurl([url, ...(rest[0] === "--" ? rest.slice(1) : rest), ...header]);
  } catch (error) {
    return reportError(context, error);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function prepare(
  context: Context,
  name: "login" | "token" | "curl",
  flags: readonly Flag[],
  options: { readonly hostOnly: boolean },
): Prepared | number {
  const values = new Values([...flags, ...ACCESS_FLAGS], { args: context.args, env: context.host.env });
  const problems = noProblems();
  problems.usage.push(...values.issues.map((issue) => issue.message));
  // What stands behind the URL of `curl` is for curl.
  if (name !== "curl" && context.positionals.length > 1) problems.usage.push("Give one URL at most");
  const text = context.positionals[0] ?? values.string("app") ?? "";
  const app = taken(parseAppAddress(text), "The URL of the application", problems);
  const dialling = readDialling(values, context, problems);
  const command = `culvert access ${name}`;
  if (app === undefined || problems.usage.length > 0) {
    return reportFailure(context, problems.usage, { usage: true, command });
  }
  if (problems.failures.length > 0) return reportFailure(context, problems.failures, { usage: false, command });
  const { homeDir } = context.host;
  const [fedramp, autoClose] = [values.bool("fedramp"), values.bool("auto-close")];
  const login = new Login({ ...options, homeDir, dialling, fedramp, autoClose, say: context.note }, systemClock);
  return { values, app, login };
}

function runCurl(argv: readonly string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn("curl", argv, { stdio: "inherit" });
    child.on("error", (cause) => {
      const why = systemCode(cause) === "ENOENT" ? "it is not installed" : describe(cause);
      reject(new TunnelError("config.invalid", `Cannot run curl: ${why}`, { cause }));
    });
    child.on("exit", (code) => resolve(code ?? EXIT.failed));
  });
}
