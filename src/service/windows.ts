import type { ScmService, ScmState } from "../net/windows-scm.ts";
import type { InitSystem, ServiceState } from "./init.ts";
import { describeService, type Layout, layoutOf, type ServiceSpec } from "./layout.ts";
import type { Step } from "./steps.ts";

/** Well-known groups by number, since their names are translated. */
const SYSTEM = "*S-1-5-18";
const ADMINISTRATORS = "*S-1-5-32-544";
/** Rights: of a folder alone, of it and its files, or of all below it. */
const LIST = "RX";
const READ_FILES = "(OI)(NP)RX";
const CHANGE_FILES = "(OI)(NP)M";
const READ_ALL = "(OI)(CI)RX";
const CHANGE_ALL = "(OI)(CI)M";
const RESTART_AFTER_MS = [1_000, 5_000, 30_000] as const;
const STOP_MS = 200_000;
const ASK_EVERY_MS = 100;
const EVENT_LOG = "HKLM\\SYSTEM\\CurrentControlSet\\Services\\EventLog\\Application";
/** Comes with Windows, and has a text for every id: what is reported, as it is. */
const MESSAGE_FILE = "%SystemRoot%\\System32\\EventCreate.exe";

/** What Windows does for services, as far as it is needed here. */
export interface ServiceManager {
  define(service: ScmService): Promise<void>;
  query(name: string): Promise<ScmState | undefined>;
  start(name: string): Promise<void>;
  stop(name: string): Promise<boolean>;
  remove(name: string): Promise<void>;
  /** Rejects when a folder belongs to somebody who is not to be trusted with secrets. */
  refuseForeignFolder(path: string): Promise<void>;
}

/** Windows: a service with an account of its own, which Windows makes by its name. */
export function createWindows(manager: ServiceManager): InitSystem {
  const stop = (name: string): Step => ({
    kind: "call",
    what: `stop the service ${name}`,
    call: async () => {
      await manager.stop(name);
      for (let leftMs = STOP_MS; leftMs > 0; leftMs -= ASK_EVERY_MS) {
        const state = await manager.query(name);
        if (state === undefined || state.state === "stopped") return;
        await new Promise((resolve) => setTimeout(resolve, ASK_EVERY_MS));
      }
    },
  });
  return {
    kind: "windows",
    family: "windows",
    unit: (spec) => layout(spec).id,
    // Access is by lists, not by owners.
    account: () => undefined,
    installedUser: () => undefined,
    prepare: (spec) => {
      const { id, dirs, runDir, stateDir } = layout(spec);
      const service = definition(spec);
      const { account } = service;
      const edge = spec.role === "edge";
      const [folder = ""] = dirs;
      const own = dirs.at(-1) ?? folder;
      const made = [...dirs, runDir, ...(edge ? [stateDir] : [])];
      return [
        {
          kind: "call",
          what: `refuse a ${folder} that a stranger made`,
          call: () => manager.refuseForeignFolder(folder),
        },
        { kind: "dir", path: folder, mode: 0o755 },
        // In front of the token: it is never readable for others.
        icacls(folder, ["/inheritance:r", "/grant:r", `${SYSTEM}:(OI)(CI)F`, `${ADMINISTRATORS}:(OI)(CI)F`]),
        ...made.slice(1).map((path) => ({ kind: "dir", path, mode: 0o755 }) as const),
        {
          kind: "call",
          what: `define the service ${id}: ${service.command}, as ${account}, with the machine`,
          call: () => manager.define(service),
        },
        // The account is known only now. Tunnels and edge read what is theirs, and not each other's.
        icacls(folder, ["/grant:r", `${account}:${edge || own !== folder ? LIST : READ_FILES}`]),
        ...(own === folder ? [] : [icacls(own, ["/grant:r", `${account}:${READ_ALL}`])]),
        icacls(runDir, ["/grant:r", `${account}:${CHANGE_FILES}`]),
        ...(edge ? [icacls(stateDir, ["/grant:r", `${account}:${CHANGE_ALL}`])] : []),
      ];
    },
    install: (spec) => {
      const { id, envFile } = layout(spec);
      const key = `${EVENT_LOG}\\${id}`;
      const value = (name: string, type: string, data: string): Step => ({
        kind: "run",
        argv: ["reg", "add", key, "/v", name, "/t", type, "/d", data, "/f"],
      });
      return [
        ...(spec.role === "edge" ? [icacls(envFile, ["/grant:r", `${definition(spec).account}:R`])] : []),
        value("EventMessageFile", "REG_EXPAND_SZ", MESSAGE_FILE),
        value("TypesSupported", "REG_DWORD", "7"),
      ];
    },
    restart: (spec) => {
      const { id, connectedFile } = layout(spec);
      return [
        stop(id),
        { kind: "remove", path: connectedFile },
        { kind: "call", what: `start the service ${id}`, call: () => manager.start(id) },
      ];
    },
    uninstall: (spec) => {
      const { id, connectedFile, dirs, logFile, runDir } = layout(spec);
      const [folder = ""] = dirs;
      return [
        stop(id),
        // While the account still has a name.
        ...[folder, runDir].map(
          (path): Step => ({ ...icacls(path, ["/remove:g", definition(spec).account]), mayFail: true }),
        ),
        { kind: "call", what: `remove the service ${id}`, call: () => manager.remove(id) },
        { kind: "run", argv: ["reg", "delete", `${EVENT_LOG}\\${id}`, "/f"], mayFail: true },
        { kind: "remove", path: connectedFile },
        { kind: "remove", path: logFile },
        { kind: "remove", path: `${logFile}.1` },
      ];
    },
    state: { query: async (spec) => stateOf(await manager.query(layout(spec).id)) },
    program: { query: async (spec) => programOfCommand((await manager.query(layout(spec).id))?.command ?? "") },
    logs: (spec, { lines, follow }) => {
      const path = layout(spec).logFile.replaceAll("'", "''");
      const command = `Get-Content -LiteralPath '${path}' -Tail ${lines}${follow ? " -Wait" : ""}`;
      return ["powershell", "-NoProfile", "-Command", command];
    },
  };
}

/** The service as it is given to the Service Control Manager. */
export function definition(spec: ServiceSpec): ScmService {
  const { id } = layout(spec);
  const words = [
    ...spec.program,
    ...["service", "run"],
    ...(spec.role === "edge" ? ["--edge"] : []),
    ...(spec.name === undefined ? [] : ["--name", spec.name]),
  ];
  return {
    name: id,
    displayName: describeService(spec),
    description: "Carries requests from an edge to services of this machine",
    command: words.map(quoteArgument).join(" "),
    account: spec.user ?? `NT SERVICE\\${id}`,
    restartAfterMs: RESTART_AFTER_MS,
    stopMs: STOP_MS,
  };
}

/** A word as CommandLineToArgvW reads it back; an unquoted path with a space would name another program. */
export function quoteArgument(word: string): string {
  if (/^[\w\\:.=-]+$/.test(word)) return word;
  return `"${word.replace(/(\\*)"/g, '$1$1\\"').replace(/(\\+)$/, "$1$1")}"`;
}

/** The program in a command line, as CommandLineToArgvW reads its first word. */
function programOfCommand(command: string): string | undefined {
  const [, quoted, plain] = /^(?:"([^"]*)"|(\S+))/.exec(command) ?? [];
  return quoted ?? plain;
}

function stateOf(found: ScmState | undefined): ServiceState {
  if (found === undefined) return { installed: false, enabled: false, active: "stopped" };
  const { state, pid, exitCode, autoStart } = found;
  const running = state === "running" || state === "stopping";
  const fell = state === "stopped" && exitCode !== 0;
  return {
    installed: true,
    enabled: autoStart,
    active: running ? "running" : state === "starting" ? "starting" : fell ? "failed" : "stopped",
    ...(pid > 0 ? { pid } : {}),
    ...(fell ? { detail: `exit code ${exitCode}` } : {}),
  };
}

function icacls(path: string, words: readonly string[]): Extract<Step, { readonly kind: "run" }> {
  return { kind: "run", argv: ["icacls", path, ...words, "/Q"] };
}

function layout(spec: ServiceSpec): Layout {
  return layoutOf(spec, "windows");
}
