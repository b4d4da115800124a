import { appendFileSync } from "node:fs";
import { type ConnectTo, parseConnectTo } from "../access/address.ts";
import type { DialSettings } from "../access/dialler.ts";
import { checkHeader, parseHeader, type StreamFields } from "../access/header-fields.ts";
import { expandHome } from "../config/host.ts";
import type { Values } from "../config/values.ts";
import { systemClock } from "../core/clock.ts";
import { describe } from "../core/errors.ts";
import { createLogger, LOG_LEVELS, type Logger, type LogLevel } from "../core/log.ts";
import { isExempt, PROXY_VARIABLES, type ProxySettings, parseProxyUrl } from "../net/proxy-settings.ts";
import type { Parsed } from "../wire/parsed.ts";
import { readAuthorities } from "./authorities.ts";
import type { Context } from "./command.ts";

/** The proxy variables of requests in clear text. */
const CLEAR_PROXY_VARIABLES = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] as const;

/** What is wrong with a command line, and with the files it names. */
export interface Problems {
  readonly usage: string[];
  readonly failures: string[];
}

export function noProblems(): Problems {
  return { usage: [], failures: [] };
}

/** The value, or undefined with the reason among the problems, in front of which stands what it is about. */
export function taken<T>(parsed: Parsed<T>, about: string, problems: Problems): T | undefined {
  if (parsed.ok) return parsed.value;
  problems.usage.push(...parsed.issues.map((issue) => `${about} ${issue.message}`));
  return undefined;
}

/** How applications are reached, by `--ca-file`, `--proxy` or the environment, and `--connect-to`. */
export function readDialling(values: Values, context: Context, problems: Problems): DialSettings {
  const file = values.string("ca-file");
  const connectTo = values.string("connect-to");
  return {
    ca: readAuthorities(context, file, problems.failures),
    connectTo:
      connectTo === undefined ? undefined : taken<ConnectTo>(parseConnectTo(connectTo), "--connect-to", problems),
    proxyFor: readProxies(values, context, problems),
  };
}

/** What streams carry, by the flags that all of them share. */
export function readStreamFields(values: Values, context: Context, problems: Problems): StreamFields {
  // As given: a comma belongs to the header.
  const headers = (context.args.get("header") ?? []).flatMap((text) => {
    return taken(parseHeader(text), "--header", problems) ?? [];
  });
  const text = (name: string): string | undefined => {
    const value = values.string(name);
    if (value === undefined || checkHeader("X", value).ok) return value;
    problems.usage.push(`--${name} has a character that a header cannot hold`);
    return undefined;
  };
  const id = text("service-token-id");
  const secret = text("service-token-secret");
  const serviceToken = id === undefined && secret === undefined ? undefined : { id, secret };
  return { headers, serviceToken, destination: text("destination") };
}

/** The logger of `--log-level` and `--logfile`, on standard error. */
export function readLogger(values: Values, context: Context, standard: LogLevel, problems: Problems): Logger {
  const asked = values.string("log-level");
  const level = asked === undefined ? standard : LOG_LEVELS.find((name) => name === asked);
  if (level === undefined) problems.usage.push(`log-level must be one of ${LOG_LEVELS.join(", ")}`);
  const named = values.string("logfile");
  const file = named === undefined ? undefined : expandHome(context.host, named);
  if (file !== undefined) {
    try {
      appendFileSync(file, "");
    } catch (error) {
      problems.failures.push(`Cannot write the log file "${file}": ${describe(error)}`);
    }
  }
  const write = (line: string): void => {
    context.note(line);
    if (file === undefined) return;
    try {
      appendFileSync(file, `${line}\n`);
    } catch {
      // A full disk must not end streams; the line stands on standard error.
    }
  };
  return createLogger({ level: level ?? standard, format: "default", wallMs: systemClock.wallMs, write });
}

/** Whatever the command line names and cannot be read is a problem. */
export function readText(context: Context, path: string, problems: Problems): string | undefined {
  try {
    return context.host.readFile(expandHome(context.host, path));
  } catch (error) {
    problems.failures.push(`Cannot read "${path}": ${describe(error)}`);
    return undefined;
  }
}

function readProxies(values: Values, context: Context, problems: Problems): DialSettings["proxyFor"] {
  const { env } = context.host;
  const asked = values.string("proxy");
  if (asked !== undefined) {
    const proxy = taken(parseProxyUrl(asked), "--proxy:", problems);
    return () => proxy;
  }
  const fromEnv = (names: readonly string[]): ProxySettings | undefined => {
    const name = names.find((one) => (env[one] ?? "") !== "");
    return name === undefined ? undefined : taken(parseProxyUrl(env[name] ?? ""), `$${name}:`, problems);
  };
  const secure = fromEnv(PROXY_VARIABLES);
  const clear = fromEnv(CLEAR_PROXY_VARIABLES);
  const noProxy = env["no_proxy"] ?? env["NO_PROXY"] ?? "";
  return (to) => (isExempt(to.host, to.port, noProxy) ? undefined : to.secure ? secure : clear);
}
