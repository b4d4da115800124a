import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import type { Flag } from "../config/flags.ts";
import { expandHome, type Host } from "../config/host.ts";
import { Values } from "../config/values.ts";
import { systemClock } from "../core/clock.ts";
import { createEdgeControl } from "../edge/control/client.ts";
import { refuseForeignFolder } from "../net/windows-owner.ts";
import { windowsScm } from "../net/windows-scm.ts";
import { detectInit } from "../service/detect.ts";
import { freebsd } from "../service/freebsd.ts";
import { INIT_KINDS, type InitKind, type InitSystem, type ServiceState } from "../service/init.ts";
import { createLaunchd } from "../service/launchd.ts";
import { type Layout, layoutOf, nameProblem, type Role, type ServiceSpec } from "../service/layout.ts";
import { createMachine, type Machine, thisMachine } from "../service/machine.ts";
import { openrc } from "../service/openrc.ts";
import { createSystemd, parseSystemdVersion } from "../service/systemd.ts";
import { sysv } from "../service/sysv.ts";
import { createWindows } from "../service/windows.ts";
import type { Context } from "./command.ts";
import { STATE_DIR_FLAG } from "./edge-flags.ts";
import { userScope } from "./edge-state.ts";
import { reportFailure } from "./failure.ts";
import { read } from "./service-identity.ts";

/** A newer systemd than any rule here asks for; stands for one that cannot be asked. */
const RECENT_SYSTEMD = 999;

/** The service a command is about, and who looks after it. */
export interface Target {
  readonly init: InitSystem;
  readonly spec: ServiceSpec;
  readonly layout: Layout;
  readonly machine: Machine;
  readonly values: Values;
}

/** Reads the flags that all service commands share; gives an exit code when they are wrong. */
export async function findTarget(
  context: Context,
  flags: readonly Flag[],
  command: string,
): Promise<Target | { readonly code: number }> {
  const values = new Values(flags, { args: context.args, env: {} });
  const usage = (problem: string): { code: number } => ({
    code: reportFailure(context, [problem], { usage: true, command }),
  });
  const [issue] = values.issues;
  if (issue !== undefined) return usage(issue.message);
  const name = values.string("name");
  const problem = name === undefined ? undefined : nameProblem(name);
  if (problem !== undefined) return usage(problem);
  const role: Role = values.bool("edge") ? "edge" : "connector";
  if (role === "edge" && name !== undefined) return usage("--name is for tunnels: one machine has one edge service");
  const { platform } = context.host;
  const asked = values.string("init");
  const kind = asked ?? detectInit({ platform, exists: context.host.exists });
  const known = INIT_KINDS.find((each) => each === kind);
  if (known === undefined) {
    return usage(
      asked === undefined
        ? `Cannot tell how services are started on this ${platform} machine: say so with --init`
        : `--init must be one of ${INIT_KINDS.join(", ")}`,
    );
  }
  const uid = process.getuid?.() ?? 0;
  const ownScope = uid !== 0 && (known === "systemd" || known === "launchd");
  const named: ServiceSpec = {
    role,
    name,
    scope: ownScope ? userScope(context.host) : { kind: "system" },
    program: programOf(),
    user: values.string("user"),
  };
  const init = await createInit(known, uid);
  const placed: ServiceSpec = {
    ...named,
    // An installation goes by what it is told, now or before; what is done to a service is done to the one that is there.
    stateDir: flags.some((flag) => flag.name === STATE_DIR_FLAG.name)
      ? askedStateDir(context.host, init, named, values)
      : (installedStateDir(context.host, init, named) ?? askedStateDir(context.host, init, named, values)),
  };
  const spec =
    values.source("user") === undefined ? { ...placed, user: installedUser(context.host, init, placed) } : placed;
  const machine = ownScope && known === "systemd" ? createMachine(sessionOf(context.host.env, uid)) : thisMachine;
  return { init, spec, layout: layoutOf(spec, init.family), machine, values };
}

/** An upgrade installs services again without a word about their account. */
function installedUser(host: Host, init: InitSystem, spec: ServiceSpec): string | undefined {
  return init.installedUser(spec, (path) => textOf(host, path));
}

/** Where the installed service of an edge has its state; undefined = there is none, or nobody tells. */
export function installedStateDir(
  host: Host,
  { program }: Pick<InitSystem, "program">,
  spec: ServiceSpec,
): string | undefined {
  if (spec.role !== "edge" || "query" in program) return undefined;
  const words = program.read(textOf(host, program.file(spec)) ?? "");
  const at = words.indexOf(`--${STATE_DIR_FLAG.name}`);
  return at < 0 ? undefined : words[at + 1];
}

/** What is said now, else what an earlier installation was told. */
function askedStateDir(host: Host, { family }: InitSystem, spec: ServiceSpec, values: Values): string | undefined {
  if (spec.role !== "edge") return undefined;
  const given = values.string(STATE_DIR_FLAG.name);
  if (given !== undefined) return resolve(expandHome(host, given));
  const [variable] = STATE_DIR_FLAG.env;
  return new RegExp(`^${variable}='([^'\\n]*)'$`, "m").exec(textOf(host, layoutOf(spec, family).envFile) ?? "")?.[1];
}

function textOf(host: Host, path: string): string | undefined {
  const text = host.exists(path) ? read(host, path) : undefined;
  return text?.ok === true ? text.value : undefined;
}

/** Where an account's systemd answers, which `su` and `sudo` do not say. */
function sessionOf(env: Readonly<Record<string, string | undefined>>, uid: number): Readonly<Record<string, string>> {
  const given = env["XDG_RUNTIME_DIR"];
  return given === undefined || given === "" ? { XDG_RUNTIME_DIR: `/run/user/${uid}` } : {};
}

async function createInit(kind: InitKind, uid: number): Promise<InitSystem> {
  switch (kind) {
    case "systemd": {
      const { code, stdout } = await thisMachine.run(["systemctl", "--version"]);
      return createSystemd(code === 0 ? parseSystemdVersion(stdout) : RECENT_SYSTEMD);
    }
    case "openrc":
      return openrc;
    case "sysv":
      return sysv;
    case "launchd":
      return createLaunchd(uid);
    case "freebsd":
      return freebsd;
    case "windows":
      return createWindows({ ...windowsScm, refuseForeignFolder });
  }
}

/** The state now; what cannot be asked is not installed. */
export async function stateOf({ init, spec, layout, machine }: Target): Promise<ServiceState> {
  const { state } = init;
  const now = "query" in state ? await state.query(spec) : state.read(await machine.run(state.ask(spec)), spec);
  if (now.active !== "running" || init.kind === "systemd") return now;
  if (spec.role === "edge") {
    const { connected: _forTunnels, ...edge } = now;
    return (await answers(layout)) ? edge : { ...edge, active: "starting" };
  }
  return now.connected !== undefined ? now : { ...now, connected: hasConnected(layout, now.pid) };
}

/** The program that the installed service starts; undefined = there is none, or it is not for this account to know. */
export async function installedProgram({ init: { program }, spec }: Target): Promise<string | undefined> {
  try {
    return "query" in program ? await program.query(spec) : program.read(readFileSync(program.file(spec), "utf8"))[0];
  } catch {
    return undefined;
  }
}

/** systemd hears from an edge that it serves; the others know no more than that there is a process. */
async function answers({ stateDir }: Layout): Promise<boolean> {
  try {
    return (await createEdgeControl(stateDir, { clock: systemClock }).served()) !== undefined;
  } catch {
    // Not for this account to know.
    return true;
  }
}

/** A connector writes its process id there when it has registered. */
function hasConnected({ connectedFile }: Layout, pid: number | undefined): boolean {
  try {
    return readFileSync(connectedFile, "utf8").trim() === `${pid}`;
  } catch {
    return false;
  }
}

/** Asks until the state is as wanted, or the time is over: the last state then. */
export async function awaitState(
  target: Target,
  ms: number,
  stop: AbortSignal,
  wanted: (state: ServiceState) => boolean,
): Promise<ServiceState> {
  const endMs = systemClock.nowMs() + ms;
  for (;;) {
    const state = await stateOf(target);
    if (wanted(state) || systemClock.nowMs() >= endMs || stop.aborted) return state;
    await new Promise<void>((resolve) => systemClock.after(200, resolve));
  }
}

/** How this very program is called: the compiled binary alone, or a runtime and the source. */
function programOf(): readonly string[] {
  const script = process.argv[1] ?? "";
  const compiled = /^(\/\$bunfs\/|[A-Z]:[\\/]~BUN[\\/])/i.test(script) || !existsSync(script);
  return compiled ? [process.execPath] : [process.execPath, script];
}
