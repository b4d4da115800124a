import type { InitSystem, ServiceState } from "./init.ts";
import { type Layout, layoutOf, type ServiceSpec, serviceArguments } from "./layout.ts";
import { escapeXml, plistWords, unescapeXml } from "./quote.ts";
import { logTail, STOP_SECONDS } from "./script-parts.ts";
import type { Step } from "./steps.ts";

/** macOS: a daemon of the machine, or an agent of one account (launchd.plist(5), launchctl(1)). */
export function createLaunchd(uid: number): InitSystem {
  const domain = (spec: ServiceSpec): string => (spec.scope.kind === "system" ? "system" : `gui/${uid}`);
  const target = (spec: ServiceSpec): string => `${domain(spec)}/${label(spec)}`;
  const bootout = (spec: ServiceSpec): Step => ({
    kind: "run",
    argv: ["launchctl", "bootout", target(spec)],
    mayFail: true,
  });
  return {
    kind: "launchd",
    family: "macos",
    unit: label,
    // macOS makes no accounts as simply as others do.
    account: (spec) => spec.user,
    installedUser: (spec, read) => {
      const user = /<key>UserName<\/key>\s*<string>([^<]+)</.exec(read(plistPath(spec)) ?? "")?.[1];
      return user === undefined ? undefined : unescapeXml(user);
    },
    prepare: () => [],
    install: (spec) => {
      const { runDir, stateDir } = layout(spec);
      return [
        { kind: "dir", path: runDir, mode: 0o755, owner: spec.user },
        ...(spec.role === "edge" ? [{ kind: "dir", path: stateDir, mode: 0o700, owner: spec.user } as const] : []),
        ...(spec.scope.kind === "user" ? [{ kind: "dir", path: agentsDir(spec), mode: 0o755 } as const] : []),
        // launchd takes none that others may write.
        { kind: "file", path: plistPath(spec), content: renderPlist(spec), mode: 0o644 },
        { kind: "run", argv: ["launchctl", "enable", target(spec)] },
      ];
    },
    // A changed list is read when it is loaded anew.
    restart: (spec) => [
      bootout(spec),
      { kind: "run", argv: ["launchctl", "bootstrap", domain(spec), plistPath(spec)] },
    ],
    uninstall: (spec) => {
      const { connectedFile, runDir } = layout(spec);
      return [
        bootout(spec),
        { kind: "remove", path: plistPath(spec) },
        { kind: "remove", path: connectedFile },
        { kind: "remove", path: logOf(spec) },
        { kind: "remove-empty", path: runDir },
      ];
    },
    state: {
      ask: (spec) => ["launchctl", "print", target(spec)],
      read: readState,
    },
    program: { file: plistPath, read: wordsOfPlist },
    logs: (spec, options) => logTail(logOf(spec), options),
  };
}

/** The property list. */
export function renderPlist(spec: ServiceSpec): string {
  const paths = layout(spec);
  const { connectedFile, envFile } = paths;
  const logFile = logOf(spec);
  const args = [...spec.program, ...serviceArguments(spec, paths, { connectedFile })];
  // A shell reads an edge's variables; it becomes the program.
  const words =
    spec.role === "edge" ? ["/bin/sh", "-c", 'set -a; [ ! -r "$0" ] || . "$0"; exec "$@"', envFile, ...args] : args;
  return `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<!-- Made by "culvert service install", which writes it anew. -->
<plist version="1.0">
<dict>
	<key>Label</key>
	<string>${label(spec)}</string>
	<key>ProgramArguments</key>
	<array>
${words.map((word) => `		<string>${escapeXml(word)}</string>`).join("\n")}
	</array>
${spec.scope.kind === "system" && spec.user !== undefined ? `	<key>UserName</key>\n	<string>${escapeXml(spec.user)}</string>\n` : ""}	<key>RunAtLoad</key>
	<true/>
	<key>KeepAlive</key>
	<true/>
	<key>ThrottleInterval</key>
	<integer>5</integer>
	<key>ExitTimeOut</key>
	<integer>${STOP_SECONDS}</integer>
	<key>ProcessType</key>
	<string>Interactive</string>
	<key>SoftResourceLimits</key>
	<dict>
		<key>NumberOfFiles</key>
		<integer>65536</integer>
	</dict>
	<key>Umask</key>
	<integer>63</integer>
	<key>StandardOutPath</key>
	<string>${escapeXml(logFile)}</string>
	<key>StandardErrorPath</key>
	<string>${escapeXml(logFile)}</string>
</dict>
</plist>
`;
}

/** What a property list's text starts; an edge's stands behind the shell, its script and the file that it reads. */
function wordsOfPlist(text: string): readonly string[] {
  const words = plistWords(text) ?? [];
  return words[0] === "/bin/sh" ? words.slice(4) : words;
}

/** launchd opens the log as the account it starts the program as, which may not write beside the logs of others. */
function logOf(spec: ServiceSpec): string {
  const { id, logFile, runDir } = layout(spec);
  return spec.scope.kind === "system" && spec.user !== undefined ? `${runDir}/${id}.log` : logFile;
}

function readState({ code, stdout }: { readonly code: number; readonly stdout: string }): ServiceState {
  const value = (key: string): string | undefined => new RegExp(`^\\s*${key} = (.*)$`, "m").exec(stdout)?.[1]?.trim();
  const pid = Number(value("pid") ?? 0);
  const runs = Number(value("runs") ?? 0);
  const lastExit = value("last exit code");
  const running = value("state") === "running";
  return {
    installed: code === 0,
    enabled: code === 0,
    active: running
      ? "running"
      : lastExit !== undefined && !/^(0|\(never exited\))$/.test(lastExit)
        ? "failed"
        : "stopped",
    ...(pid > 0 ? { pid } : {}),
    ...(runs > 0 ? { restarts: runs - 1 } : {}),
    ...(running || lastExit === undefined ? {} : { detail: `last exit code: ${lastExit}` }),
  };
}

function label(spec: ServiceSpec): string {
  return `dev.${layout(spec).id.replace("-", ".")}`;
}

function agentsDir({ scope }: ServiceSpec): string {
  return scope.kind === "user" ? `${scope.home}/Library/LaunchAgents` : "/Library/LaunchDaemons";
}

function plistPath(spec: ServiceSpec): string {
  return `${agentsDir(spec)}/${label(spec)}.plist`;
}

function layout(spec: ServiceSpec): Layout {
  return layoutOf(spec, "macos");
}
