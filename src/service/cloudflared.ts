import { plistWords, splitWords } from "./quote.ts";

/** Where cloudflared's own `service install` puts things (surface: section 8). */
export const CLOUDFLARED = {
  unit: "cloudflared.service",
  updateTimer: "cloudflared-update.timer",
  unitPaths: [
    "/etc/systemd/system/cloudflared.service",
    "/lib/systemd/system/cloudflared.service",
    "/usr/lib/systemd/system/cloudflared.service",
  ],
  scriptPath: "/etc/init.d/cloudflared",
  plistPath: "/Library/LaunchDaemons/com.cloudflare.cloudflared.plist",
  label: "com.cloudflare.cloudflared",
  configPaths: ["/etc/cloudflared/config.yml", "/etc/cloudflared/config.yaml", "/usr/local/etc/cloudflared/config.yml"],
  tokenPath: "/etc/cloudflared/token",
} as const;

/** How a service of cloudflared is started. */
export interface CloudflaredCommand {
  /** Without the program. */
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/** Reads a unit: the last `ExecStart` counts, and what stands in `Environment`. Undefined when nothing is started. */
export function readUnit(text: string): CloudflaredCommand | undefined {
  let args: readonly string[] | undefined;
  const env: Record<string, string> = {};
  for (const line of text.replace(/\\\n/g, " ").split("\n")) {
    const match = /^\s*(ExecStart|Environment)\s*=\s*(.*)$/.exec(line);
    if (match === null) continue;
    const words = splitWords(match[2] ?? "");
    if (match[1] === "ExecStart") args = words.length === 0 ? undefined : words.slice(1);
    else for (const word of words) addVariable(env, word);
  }
  return args === undefined ? undefined : { args, env };
}

/** Reads the init script that cloudflared writes for System V (`cmd="…"`) and OpenRC (`command_args="…"`). */
export function readScript(text: string): CloudflaredCommand | undefined {
  const openrc = /^command_args=(["'])(.*)\1\s*$/m.exec(text)?.[2];
  if (openrc !== undefined) return { args: splitWords(openrc), env: {} };
  const sysv = /^cmd=(["'])(.*)\1\s*$/m.exec(text)?.[2];
  const words = sysv === undefined ? [] : splitWords(sysv);
  return words.length === 0 ? undefined : { args: words.slice(1), env: {} };
}

/** Reads the property list that cloudflared writes. */
export function readPlist(text: string): CloudflaredCommand | undefined {
  const words = plistWords(text);
  if (words === undefined) return undefined;
  return { args: words.slice(1), env: {} };
}

function addVariable(env: Record<string, string>, word: string): void {
  const equals = word.indexOf("=");
  if (equals > 0) env[word.slice(0, equals)] = word.slice(equals + 1);
}
