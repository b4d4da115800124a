/** What a service runs: the connector of one tunnel, or an edge. */
export type Role = "connector" | "edge";

/** Whose service it is: the machine's, or one account's, which needs no administrator. */
export type Scope =
  | { readonly kind: "system" }
  | {
      readonly kind: "user";
      readonly home: string;
      /** Where the account keeps state on Linux (XDG_STATE_HOME). @default `.local/state` in its home */
      readonly stateHome?: string | undefined;
    };

/** One service as everything here knows it. */
export interface ServiceSpec {
  readonly role: Role;
  /** Instance, for a second tunnel on one machine; undefined = the first. An edge has none. */
  readonly name: string | undefined;
  readonly scope: Scope;
  /** The program and the words in front of its arguments; the first is an absolute path. */
  readonly program: readonly string[];
  /** An account that exists; undefined = one of its own. */
  readonly user: string | undefined;
  /** An edge's state, where it is not in the usual place. */
  readonly stateDir?: string | undefined;
}

/** Operating systems whose folders differ. */
export type Family = "linux" | "macos" | "freebsd" | "windows";

/** Where a service keeps its files. */
export interface Layout {
  /** Name of the service where there are no instances, such as `culvert`, `culvert-web` or `culvert-edge`. */
  readonly id: string;
  /** Folders to make, outermost first. */
  readonly dirs: readonly string[];
  /** The tunnel's secret, for its service only. */
  readonly tokenFile: string;
  /** The connector's configuration. */
  readonly configFile: string;
  /** The edge's settings as environment variables. */
  readonly envFile: string;
  /** The edge's keys and tunnels. */
  readonly stateDir: string;
  /** Folder that the service may write small files of this boot to. */
  readonly runDir: string;
  /** Written by a connector once it has registered: its process id. */
  readonly connectedFile: string;
  readonly logFile: string;
}

/** The family of a runtime's platform name; what is like no other is taken for Linux. */
export function familyOf(platform: string): Family {
  if (platform === "win32") return "windows";
  return platform === "darwin" ? "macos" : platform === "freebsd" ? "freebsd" : "linux";
}

const INSTANCE = /^[a-z0-9](?:[a-z0-9-]{0,21}[a-z0-9])?$/;

/** What is wrong with an instance's name, which becomes a part of unit, file and account names. */
export function nameProblem(name: string): string | undefined {
  if (!INSTANCE.test(name)) return "--name must be 1 to 23 small letters, digits and hyphens, such as web";
  // `culvert-edge` is the edge's own service.
  return name === "edge" ? '--name cannot be "edge": that is the service of --edge' : undefined;
}

/** Everything is under names of our own: a cloudflared on the same machine is not touched. */
export function layoutOf(spec: ServiceSpec, family: Family): Layout {
  const { name, role } = spec;
  const id = role === "edge" ? "culvert-edge" : name === undefined ? "culvert" : `culvert-${name}`;
  const { config, state, run, logs } = roots(spec.scope, family, id);
  const slash = family === "windows" ? "\\" : "/";
  const under = (...parts: string[]): string => parts.join(slash);
  const own = name === undefined ? config : under(config, "tunnels", name);
  return {
    id,
    dirs: name === undefined ? [config] : [config, under(config, "tunnels"), own],
    tokenFile: under(own, "token"),
    configFile: under(own, "config.yml"),
    envFile: under(config, "edge.env"),
    // On Linux where `culvert edge` has always had it; elsewhere the folder above is not the edge's alone.
    stateDir: spec.stateDir ?? under(state, family === "linux" ? "culvert" : "culvert-edge"),
    runDir: run,
    connectedFile: under(run, `${id}.pid`),
    logFile: under(logs, `${id}.log`),
  };
}

/** Services of one machine may have different accounts, so each has a run folder of its own where it matters. */
function roots(
  scope: Scope,
  family: Family,
  id: string,
): { readonly config: string; readonly state: string; readonly run: string; readonly logs: string } {
  switch (family) {
    case "linux": {
      if (scope.kind === "system") {
        return { config: "/etc/culvert", state: "/var/lib", run: `/run/${id}`, logs: "/var/log" };
      }
      const { home, stateHome } = scope;
      const own = `${home}/.local/state`;
      return { config: `${home}/.config/culvert`, state: stateHome ?? own, run: `${own}/culvert`, logs: own };
    }
    case "freebsd":
      return { config: "/usr/local/etc/culvert", state: "/var/db", run: `/var/run/${id}`, logs: "/var/log" };
    case "macos": {
      const library = scope.kind === "system" ? "/Library" : `${scope.home}/Library`;
      const support = `${library}/Application Support`;
      return { config: `${support}/culvert`, state: support, run: `${support}/${id}.run`, logs: `${library}/Logs` };
    }
    case "windows": {
      const data = "C:\\ProgramData\\culvert";
      const run = `${data}\\run`;
      return { config: data, state: run, run, logs: run };
    }
  }
}

/** The command line of the service, without the program. */
export function serviceArguments(
  spec: ServiceSpec,
  layout: Layout,
  options: { readonly tokenFile?: string; readonly connectedFile?: string } = {},
): readonly string[] {
  if (spec.role === "edge") return ["edge", "run", "--state-dir", layout.stateDir];
  return [
    ...["tunnel", "--config", layout.configFile, "run", "--token-file", options.tokenFile ?? layout.tokenFile],
    ...(options.connectedFile === undefined ? [] : ["--pidfile", options.connectedFile]),
  ];
}

/** One line for people. */
export function describeService({ role, name }: ServiceSpec): string {
  if (role === "edge") return "Culvert edge";
  return name === undefined ? "Culvert tunnel" : `Culvert tunnel ${name}`;
}
