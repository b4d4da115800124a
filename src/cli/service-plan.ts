import type { Host } from "../config/host.ts";
import type { InitSystem } from "../service/init.ts";
import { type Layout, layoutOf, type ServiceSpec } from "../service/layout.ts";
import type { FileStep, Step } from "../service/steps.ts";
import { configProblems, type Found, type Identity, identityOfToken, read } from "./service-identity.ts";
import { type ServiceConfig, withoutIdentity } from "./service-secrets.ts";

const SECRET_MODE = 0o600;
/** Folders that a sandboxed service does not see, or not as we do. */
const HIDDEN_FROM_SERVICES = /^\/(home|root|run\/user|tmp|var\/tmp)\//;

/** What an installation was asked to bring. */
export interface Wanted {
  /** Undefined = what is there already. */
  readonly identity: Identity | undefined;
  /** Undefined = what is there already, or none. */
  readonly config: { readonly path: string; readonly text: string } | undefined;
  readonly replace: boolean;
}

export interface Place {
  readonly host: Host;
  readonly init: InitSystem;
  readonly spec: ServiceSpec;
  readonly layout: Layout;
}

/** Everything that installs a tunnel's service, or why it cannot be. Reads files, and changes none. */
export function planConnector(place: Place, wanted: Wanted): Found<readonly Step[]> {
  const { host, init, spec, layout } = place;
  const refused = programProblem(place);
  if (refused !== undefined) return fail(refused);
  const present = host.exists(layout.tokenFile) ? read(host, layout.tokenFile) : undefined;
  const installed = present?.ok === true ? identityOfToken(present.value) : undefined;
  const identity = wanted.identity ?? (installed?.ok === true ? installed.value : undefined);
  if (identity === undefined) {
    return fail("Nothing says which tunnel to run: give a token, --token-file, or --config that names its credentials");
  }
  const known = installed?.ok === true ? installed.value.parsed.tunnelId : undefined;
  if (known !== undefined && known !== identity.parsed.tunnelId && !wanted.replace) {
    return fail(
      `${init.unit(spec)} runs tunnel ${known}: give --name NAME to install a second tunnel beside it, or --replace`,
    );
  }
  const config = planConfig(place, wanted, identity);
  if (!config.ok) return config;
  const owner = init.account(spec);
  return {
    ok: true,
    value: [
      ...init.prepare(spec),
      ...layout.dirs.map((path) => ({ kind: "dir", path, mode: 0o755 }) as const),
      { kind: "file", path: layout.tokenFile, content: `${identity.token}\n`, mode: SECRET_MODE, owner, secret: true },
      config.value,
      ...init.install(spec),
    ],
  };
}

/** What takes a service away; with `purge` also what belongs to whoever made the tunnel. */
export function planUninstall(
  { host, init, spec, layout }: Place,
  options: { readonly purge: boolean; readonly others: readonly string[] },
): readonly Step[] {
  const owned =
    spec.role === "edge" ? [layout.envFile, ...stateDirs(host, init, spec)] : [layout.tokenFile, layout.configFile];
  const remove = (paths: readonly string[]): readonly Step[] =>
    paths.map((path) => ({ kind: "remove", path }) as const);
  const ownRunDir = init.kind !== "systemd";
  // An account may have had none before.
  const shared = spec.scope.kind === "user" && init.family === "linux" ? [`${spec.scope.home}/.config`] : [];
  return [
    ...init.uninstall(spec, options),
    ...(options.purge ? remove(owned) : []),
    // From the inside out: on some systems one of them is inside another.
    ...[...(options.purge ? [...shared, ...layout.dirs] : []), ...(ownRunDir ? [layout.runDir] : [])]
      .toReversed()
      .map((path) => ({ kind: "remove-empty", path }) as const),
  ];
}

/** What stays without `--purge`. */
export function keptFiles({ spec, layout, host }: Omit<Place, "init">): readonly string[] {
  const paths = spec.role === "edge" ? [layout.envFile, layout.stateDir] : [layout.tokenFile, layout.configFile];
  return paths.filter((path) => host.exists(path));
}

/**
 * What an edge's service has its state in. A folder that only its definition names goes only with an edge in it, since that
 * may be anything. A dynamic account's is one that only root enters, with a link to it.
 */
function stateDirs(host: Host, init: InitSystem, spec: ServiceSpec): readonly string[] {
  const usual = layoutOf({ ...spec, stateDir: undefined }, init.family).stateDir;
  const stateDir = spec.stateDir ?? usual;
  if (stateDir !== usual && !host.exists(`${stateDir}/culvert.db`)) return [];
  const [, name] = /^\/var\/lib\/([^/]+)$/.exec(stateDir) ?? [];
  const linked = init.kind === "systemd" && spec.scope.kind === "system" && name !== undefined;
  return linked ? [stateDir, `/var/lib/private/${name}`] : [stateDir];
}

function planConfig(place: Place, { config, replace }: Wanted, identity: Identity): Found<Step> {
  const { host, layout } = place;
  const path = layout.configFile;
  const present = host.exists(path) ? read(host, path) : undefined;
  const there = present?.ok === true ? { path, text: present.value } : undefined;
  const used = config ?? there;
  const problems = used === undefined ? [] : configProblems(host, used.path, used.text, identity);
  if (problems.length > 0) return fail(problems.join("\n"));
  const known = there && withoutIdentity(path, there.text);
  if (config === undefined) {
    // A service that is there already goes on, with what others may have read by now.
    const secrets = known?.ok === true && !isPassing(place) ? known.value.secrets : [];
    return { ok: true, value: { ...fileOf(place, { text: skeleton(path), secrets }), keep: true } };
  }
  const step = planConfigFile(place, config);
  if (!step.ok) return step;
  const same = known?.ok === true && [skeleton(path), step.value.content].includes(known.value.text);
  if (there !== undefined && !same && !replace) {
    return fail(`${path} exists and is different: give --replace to put ${config.path} in its place`);
  }
  return step;
}

/** Writes a configuration to where the service reads it, without secrets that others could read there. */
export function planConfigFile(
  place: Place,
  { path, text }: { readonly path: string; readonly text: string },
): Found<FileStep> {
  const stripped = withoutIdentity(path, text);
  if (!stripped.ok) return stripped;
  const { secrets } = stripped.value;
  if (secrets.length > 0 && isPassing(place)) {
    return fail(
      `${path} holds ${secrets.join(", ")}, which every account here could read in the service's copy: give --user NAME, an account that exists, and only that one can`,
    );
  }
  return { ok: true, value: fileOf(place, stripped.value) };
}

function fileOf({ init, spec, layout }: Place, { text, secrets }: ServiceConfig): FileStep {
  const file = { kind: "file", path: layout.configFile, content: text } as const;
  return secrets.length > 0
    ? { ...file, mode: SECRET_MODE, owner: init.account(spec), secret: true }
    : { ...file, mode: 0o644 };
}

/** Its account is made for each run, so no file can belong to it. */
function isPassing({ init, spec }: Place): boolean {
  return init.kind === "systemd" && spec.scope.kind === "system" && init.account(spec) === undefined;
}

function skeleton(path: string): string {
  return `${[
    "# Configuration of this tunnel. A change is in force as soon as it is saved. To check it:",
    `#   culvert tunnel --config ${path} ingress validate`,
    "#",
    "# ingress:",
    "#   - hostname: app.example.com",
    "#     service: http://localhost:8080",
    "#   - service: http_status:404",
  ].join("\n")}\n`;
}

/** The program must be where its service can read it. */
export function programProblem({ init, spec }: Place): string | undefined {
  const [path = ""] = spec.program;
  if (init.family === "windows" && /^[a-z]:\\users\\/i.test(path)) {
    return `A service cannot run ${path}, a file of one user: move it to "C:\\Program Files\\culvert" first`;
  }
  if (spec.scope.kind === "user" || init.family === "windows") return undefined;
  if (init.kind !== "launchd" && spec.program.some((word) => !/^[\w@%+=:,./-]+$/.test(word))) {
    return `The program's path "${path}" holds characters that a service script cannot: move it`;
  }
  if (init.kind !== "launchd" && HIDDEN_FROM_SERVICES.test(path)) {
    return `A service cannot run ${path}, where it would not see it: install it first, with: install -m 755 ${path} /usr/local/bin/culvert`;
  }
  return undefined;
}

function fail(error: string): { readonly ok: false; readonly error: string } {
  return { ok: false, error };
}
