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

/**
 * Reads a unit with its drop-ins behind it, as `systemctl cat` prints them: the last `ExecStart` counts, and what stands
 * in `Environment` and in the files of `EnvironmentFile`, which win; an empty assignment takes back those before it
 * (systemd.exec(5)). `readFile` gives undefined where there is no file. Undefined when nothing is started.
 */
export function readUnit(text: string, readFile: (path: string) => string | undefined): CloudflaredCommand | undefined {
  let args: readonly string[] | undefined;
  let own: readonly string[] = [];
  let files: readonly string[] = [];
  for (const line of text.replace(/\\\n/g, " ").split("\n")) {
    const [, key, value = ""] = /^\s*(ExecStart|Environment|EnvironmentFile)\s*=\s*(.*)$/.exec(line) ?? [];
    if (key === undefined) continue;
    const words = splitWords(value);
    const none = words.length === 0;
    if (key === "ExecStart") args = none ? undefined : words.slice(1);
    else if (key === "Environment") own = none ? [] : [...own, ...words];
    else files = none ? [] : [...files, value.trim().replace(/^-/, "")];
  }
  const env: Record<string, string> = {};
  for (const word of [...own, ...files.flatMap((path) => variables(readFile(path) ?? ""))]) addVariable(env, word);
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

/** Assignments of a file of variables, one a line, without the quotes of their values. */
function variables(text: string): readonly string[] {
  return text.split("\n").flatMap((line) => {
    const [, name, value = ""] = /^\s*(\w+)\s*=(.*)$/.exec(line) ?? [];
    return name === undefined ? [] : [`${name}=${splitWords(value).join(" ")}`];
  });
}

function addVariable(env: Record<string, string>, word: string): void {
  const equals = word.indexOf("=");
  if (equals > 0) env[word.slice(0, equals)] = word.slice(equals + 1);
}
