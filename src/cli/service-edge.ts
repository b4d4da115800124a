import { realpathSync, type Stats, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import type { Flag } from "../config/flags.ts";
import { expandHome } from "../config/host.ts";
import type { Values } from "../config/values.ts";
import { layoutOf } from "../service/layout.ts";
import type { FileStep, Step } from "../service/steps.ts";
import { SERVICE_EDGE_FLAGS } from "./service-flags.ts";
import { type Found, read } from "./service-identity.ts";
import { type Place, programProblem } from "./service-plan.ts";
import { installedStateDir } from "./service-target.ts";

const ENV_VALUE = /^[^'"\\\n$`]*$/;
/** Read there by us alone, and not by a shell; paths have backslashes. */
const WINDOWS_ENV_VALUE = /^[^'\r\n]*$/;
/** An edge is there where this file is. */
const DATABASE = "culvert.db";
/** What can be a name in StateDirectory= of a unit; `private` is systemd's. */
const SYSTEMD_STATE = /^\/var\/lib\/(?!private$)\w[\w.-]*$/;
const OTHERS_READ = 0o004;
const OTHERS_ENTER = 0o001;

const HEAD: readonly string[] = [
  "# Settings of the edge, one a line: flags of `culvert edge run` as variables, such as",
  "# CULVERT_DOMAIN='edge.example.com'",
  "# CULVERT_HTTP_LISTEN='0.0.0.0:80'",
  "# `culvert service restart --edge` puts them into force.",
];

interface EdgeSettings {
  readonly file: FileStep;
  /** What its owner should know, a line each. */
  readonly notes: readonly string[];
}

/** Everything that installs an edge's service, and what its owner should know; or why it cannot be. */
export function planEdge(
  place: Place,
  values: Values,
): Found<{ readonly steps: readonly Step[]; readonly notes: readonly string[] }> {
  const { init, spec, layout } = place;
  const refused = programProblem(place) ?? stateDirProblem(place) ?? otherEdge(place);
  if (refused !== undefined) return { ok: false, error: refused };
  const settings = planEdgeSettings(place, values);
  if (!settings.ok) return settings;
  const { file, notes } = settings.value;
  const dirs = layout.dirs.map((path) => ({ kind: "dir", path, mode: 0o755 }) as const);
  return { ok: true, value: { steps: [...init.prepare(spec), ...dirs, file, ...init.install(spec)], notes } };
}

/** The file of variables that an edge's service is started with: what is there, and above that what flags say. */
function planEdgeSettings(place: Place, values: Values): Found<EdgeSettings> {
  const { host, init, spec, layout } = place;
  const lines = new Map<string, string>();
  const notes: string[] = [];
  for (const flag of SERVICE_EDGE_FLAGS) {
    const [variable] = flag.env ?? [];
    if (values.source(flag.name) !== "flag" || variable === undefined) continue;
    const texts = textsOf(flag, values).map((text) => (isPath(flag, text) ? resolve(expandHome(host, text)) : text));
    for (const path of texts.filter((text) => isPath(flag, text))) {
      const hidden = hiddenProblem(place, flag.name, path);
      if (hidden !== undefined) return { ok: false, error: hidden };
      const closed = closedNote(place, flag.name, path);
      if (closed !== undefined) notes.push(closed);
    }
    const value = texts.join(",");
    if (!(init.family === "windows" ? WINDOWS_ENV_VALUE : ENV_VALUE).test(value)) {
      return { ok: false, error: `--${flag.name} cannot hold quotes, backslashes or "$"` };
    }
    lines.set(variable, `${variable}='${value}'`);
  }
  const present = host.exists(layout.envFile) ? read(host, layout.envFile) : undefined;
  if (present?.ok === false) return present;
  const kept: string[] = [];
  for (const line of present === undefined ? HEAD : present.value.trimEnd().split("\n")) {
    const variable = variableOf(line);
    kept.push(lines.get(variable) ?? line);
    lines.delete(variable);
  }
  const all = [...kept, ...lines.values()];
  const secrets = new Set(SERVICE_EDGE_FLAGS.flatMap(({ secret, env }) => (secret === true ? (env ?? []) : [])));
  return {
    ok: true,
    value: {
      file: {
        ...{ kind: "file", path: layout.envFile, content: `${all.join("\n")}\n`, mode: 0o600 },
        // Where launchd starts the service, its own account reads it; elsewhere root does.
        owner: init.kind === "launchd" ? init.account(spec) : undefined,
        secret: all.some((line) => secrets.has(variableOf(line))),
      },
      notes,
    },
  };
}

/** Why the service cannot have its state where it was told to. */
function stateDirProblem({ host, init, spec, layout }: Place): string | undefined {
  const { stateDir } = spec;
  if (stateDir === undefined) return undefined;
  const refuse = (why: string): string => `--state-dir ${stateDir}: ${why}`;
  if (init.family === "windows") return refuse("a service of Windows has its state in its own place");
  if (init.kind === "systemd" && spec.scope.kind === "system" && !SYSTEMD_STATE.test(stateDir)) {
    return refuse("systemd gives a service a folder right below /var/lib, such as /var/lib/culvert-two");
  }
  if (init.account(spec) !== undefined && !/^[\w@%+=:,./-]+$/.test(stateDir)) {
    return refuse("it holds characters that a service script cannot");
  }
  // The folder becomes the account's, with all that is in it.
  const mine = stateDir === layoutOf({ ...spec, stateDir: undefined }, init.family).stateDir;
  const installed = installedStateDir(host, init, spec) === stateDir;
  if (mine || installed || !host.exists(stateDir) || host.exists(`${stateDir}/${DATABASE}`)) return undefined;
  return refuse(`there is something, and no edge: name a folder that ${layout.id} can have`);
}

/** Why the edge of the installed service would be left aside, and what to do; undefined = it would not. */
function otherEdge({ host, init, spec, layout }: Place): string | undefined {
  const installed = installedStateDir(host, init, spec);
  if (installed === undefined || installed === layout.stateDir) return undefined;
  if (!host.exists(`${installed}/${DATABASE}`)) return undefined;
  return [
    `${init.unit(spec)} runs the edge in ${installed}, and would have that in ${layout.stateDir} instead`,
    `To keep it: give --state-dir ${installed}`,
    "To leave it: culvert service uninstall --edge, which leaves its files, and install again",
  ].join("\n");
}

function variableOf(line: string): string {
  return /^(\w+)=/.exec(line)?.[1] ?? "";
}

/** What stands in a variable for a flag; several of a list. */
function textsOf(flag: Flag, values: Values): readonly string[] {
  if (flag.type === "list") return values.list(flag.name);
  // What is shown of a secret is no secret.
  if (flag.type === "string") return [values.string(flag.name) ?? ""];
  return [values.shown().find(({ name }) => name === flag.name)?.value ?? ""];
}

function isPath({ name, value }: Flag, text: string): boolean {
  if (text === "" || text === "-") return false;
  return value === "FILE" || value === "DIR" || (name === "release-key" && text.endsWith(".pub"));
}

/** What the unit's sandbox keeps from it (systemd.exec(5): ProtectHome, PrivateTmp, ProtectSystem). */
function hiddenProblem({ init, spec, layout }: Place, flag: string, path: string): string | undefined {
  if (init.kind !== "systemd" || spec.scope.kind !== "system") return undefined;
  // Who names an account wants what that account can read.
  const hidden = spec.user === undefined ? /^\/(home|root|run\/user|tmp|var\/tmp)\// : /^\/(tmp|var\/tmp)\//;
  const real = realOf(path);
  if (hidden.test(`${path}/`) || hidden.test(`${real}/`)) {
    const seen = real === path ? "" : `, which leads to ${real}`;
    return `--${flag} ${path}${seen}: the service does not see what is in there; put it elsewhere, such as below /etc/culvert or /srv`;
  }
  if (flag === "access-log" && !`${real}/`.startsWith(`${realOf(layout.stateDir)}/`)) {
    return `--${flag} ${path}: the service may write below ${layout.stateDir} only; name a file there, or - for the journal`;
  }
  return undefined;
}

/** A service's account is nobody's: it reads what everybody may. */
function closedNote({ init, spec, layout }: Place, flag: string, path: string): string | undefined {
  const isOther = spec.scope.kind === "system" && spec.user === undefined && init.family !== "windows";
  if (!isOther || init.kind === "launchd" || `${path}/`.startsWith(`${layout.stateDir}/`)) return undefined;
  const closed = closedPart(path);
  if (closed === undefined) return undefined;
  return closed === "missing"
    ? `--${flag} ${path}: there is no such file now`
    : `--${flag} ${path}: ${closed} is closed to the service's account; docs/services.md says how to let it in`;
}

/** The first part of a path that only some may enter or read; undefined = everybody may read all of it. */
function closedPart(path: string): string | undefined {
  const real = realOf(path);
  const folders: string[] = [];
  for (let at = dirname(real); at !== dirname(at); at = dirname(at)) folders.unshift(at);
  for (const folder of folders) {
    const found = stats(folder);
    if (found === undefined) return "missing";
    if ((found.mode & OTHERS_ENTER) === 0) return folder;
  }
  const found = stats(real);
  if (found === undefined) return "missing";
  const needed = found.isDirectory() ? OTHERS_READ | OTHERS_ENTER : OTHERS_READ;
  return (found.mode & needed) === needed ? undefined : real;
}

function stats(path: string): Stats | undefined {
  return statSync(path, { throwIfNoEntry: false });
}

function realOf(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}
