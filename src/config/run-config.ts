import { systemCode } from "../core/errors.ts";
import { parseTunnelId, type TunnelId } from "../core/ids.ts";
import { LOG_LEVELS, type LogFormat, type LogLevel } from "../core/log.ts";
import type { LogFileTarget } from "../core/log-file.ts";
import { type ConfigIssue, type ConfigWarning, formatIssue, IssueList, warningOf } from "../ingress/issue.ts";
import { DEFAULT_ORIGIN_SETTINGS, type OriginSettings, parseOriginSettings } from "../ingress/origin-request.ts";
import { type PrivateNetworkSettings, parsePrivateNetwork } from "../ingress/private-network.ts";
import { type IngressRules, NO_RULES, parseIngress } from "../ingress/rules.ts";
import { isExempt, PROXY_VARIABLES, type ProxySettings, parseProxyUrl } from "../net/proxy-settings.ts";
import { isMetricsAuth } from "../ops/page-password.ts";
import { parseCredentials } from "../wire/credentials.ts";
import type { TokenEdge } from "../wire/edge-hints.ts";
import { ipToBytes } from "../wire/ip-bytes.ts";
import { parseToken } from "../wire/token.ts";
import { configFolders, loadConfigFile } from "./file.ts";
import { expandHome, type Host } from "./host.ts";
import { readSingleOrigin } from "./single-origin.ts";
import { readTracing, type TracingConfig } from "./tracing.ts";
import { ALL_RUN_FLAGS } from "./tunnel-flags.ts";
import { type FileValues, type ShownValue, Values } from "./values.ts";

/** Longest grace period cloudflared takes. */
export const MAX_GRACE_PERIOD_MS = 180_000;
/** Connections one tunnel may have at an edge; more could not register. */
const MAX_HA_CONNECTIONS = 100;

/** The warning that goes with `rulesFrom: "default"`. */
const NO_RULES_WARNING =
  "No ingress rules were defined and no service was given (--url), so culvert answers 503 to every request";

export type Protocol = "auto" | "quic" | "http2";

/** Where the edge is; the shape is the connector's. */
export type EdgeSource =
  | {
      readonly kind: "static";
      readonly edges: readonly { readonly host: string; readonly port: number; readonly region?: string | undefined }[];
    }
  | { readonly kind: "cloudflare"; readonly region: string | undefined; readonly ipVersion: "auto" | "4" | "6" };

/** Updates while it runs, as somebody asked for them. */
export interface AutoUpdateConfig {
  /** An address, a folder or a file. */
  readonly from: string;
  /** Minisign public keys as given: the text of one, or the path of a `.pub` file. */
  readonly keys: readonly string[];
  /** A file of authorities, PEM; undefined = those of the system. */
  readonly caPath: string | undefined;
  readonly everyMs: number;
  /** As given; undefined = any time. */
  readonly window: string | undefined;
}

/** Everything `tunnel run` needs, checked. */
export interface RunConfig {
  readonly tunnelId: TunnelId;
  readonly accountTag: string;
  readonly tunnelSecret: Uint8Array;
  readonly edge: EdgeSource;
  /** `--edge-bind-address`; undefined = the system chooses. */
  readonly bindAddress: string | undefined;
  /** `auto` = QUIC, and HTTP/2 where that does not get through. */
  readonly protocol: Protocol;
  /** Failures of a connection after which it tries another transport (`--max-edge-addr-retries`). */
  readonly transportTries: number;
  /** PEM text; undefined = the system's authorities. */
  readonly ca: string | undefined;
  /** The proxy on the way to this edge address, if one applies. */
  readonly proxyFor: (edge: { readonly host: string; readonly port: number }) => ProxySettings | undefined;
  readonly haConnections: number;
  readonly retries: number;
  readonly gracePeriodMs: number;
  readonly rpcTimeoutMs: number;
  /** Undefined = the known ports. */
  readonly metrics: { readonly host: string; readonly port: number } | { readonly path: string } | undefined;
  /** `user:password` that metrics ask for. */
  readonly metricsAuth: string | undefined;
  readonly logLevel: LogLevel;
  /** Of what concerns connections to the edge. */
  readonly transportLogLevel: LogLevel;
  readonly logFormat: LogFormat;
  /** Where lines go beside standard error. */
  readonly logFile: LogFileTarget | undefined;
  /** One line for each request. */
  readonly accessLog: boolean;
  /** Undefined = nobody asked for traces. */
  readonly tracing: TracingConfig | undefined;
  /** Look at the start what gets through to the edge. */
  readonly prechecks: boolean;
  readonly pidFile: string | undefined;
  /** What the connector itself answers through the tunnel; undefined = nothing. */
  readonly management:
    | {
        readonly hostname: string;
        readonly diagnostics: boolean;
        readonly label: string | undefined;
        readonly edgeKey: string | undefined;
      }
    | undefined;
  readonly tags: ReadonlyArray<readonly [name: string, value: string]>;
  readonly rules: IngressRules;
  /** `--max-active-flows`; undefined = what the rules say, 0 = no bound. */
  readonly maxActiveFlows: number | undefined;
  /** Where the rules come from, for the log: the path of the file, or what else. */
  readonly rulesFrom: string;
  /** Undefined = nobody asked for it. */
  readonly autoUpdate: AutoUpdateConfig | undefined;
  /** The config file as it was read; undefined = there is none. */
  readonly file: FileValues | undefined;
  /** What somebody set, and where, for the log; secrets are masked. */
  readonly settings: readonly ShownValue[];
}

/** `usage`: the command line is wrong (exit code 255); else what it names is (exit code 1). */
export type RunConfigResult =
  | { readonly kind: "ok"; readonly config: RunConfig; readonly warnings: readonly ConfigWarning[] }
  | {
      readonly kind: "failed";
      readonly usage: boolean;
      readonly errors: readonly string[];
      readonly warnings: readonly ConfigWarning[];
    };

/** Merges and checks everything that configures a run. Each problem is one line that says what to do. */
export function buildRunConfig(
  host: Host,
  args: ReadonlyMap<string, readonly string[]>,
  positionals: readonly string[],
): RunConfigResult {
  const builder = new Builder(host, args, positionals);
  const config = builder.build();
  const { errors, warnings, usage } = builder;
  return config === undefined || errors.length > 0
    ? { kind: "failed", usage, errors, warnings }
    : { kind: "ok", config: Object.freeze(config), warnings };
}

/** What of a configuration takes effect while the connector runs. */
export type Reloadable = Pick<RunConfig, "rules" | "rulesFrom" | "logLevel" | "file">;

/** Reads again what may change during a run; credentials and the like are not looked at. */
export function readReloadable(
  host: Host,
  args: ReadonlyMap<string, readonly string[]>,
):
  | { readonly kind: "ok"; readonly config: Reloadable; readonly warnings: readonly ConfigWarning[] }
  | { readonly kind: "failed"; readonly errors: readonly string[]; readonly warnings: readonly ConfigWarning[] } {
  const builder = new Builder(host, args, []);
  const config = builder.reloadable();
  const { errors, warnings } = builder;
  return config === undefined || errors.length > 0
    ? { kind: "failed", errors, warnings }
    : { kind: "ok", config, warnings };
}

class Builder {
  readonly errors: string[] = [];
  readonly warnings: ConfigWarning[] = [];
  usage = false;
  readonly #host: Host;
  readonly #positionals: readonly string[];
  readonly #file: FileValues | undefined;
  readonly #values: Values;

  constructor(host: Host, args: ReadonlyMap<string, readonly string[]>, positionals: readonly string[]) {
    this.#host = host;
    this.#positionals = positionals;
    const loaded = loadConfigFile(host, args.get("config")?.at(-1));
    if (loaded.kind === "failed") this.#issues(loaded.issues, loaded.path);
    this.#file = loaded.kind === "loaded" ? loaded.file : undefined;
    if (loaded.kind === "loaded") this.#issues(loaded.warnings, loaded.file.path);
    this.#values = new Values(ALL_RUN_FLAGS, { args, env: host.env, file: this.#file });
    for (const issue of this.#values.issues) {
      if (issue.line === undefined) this.usage = true;
      this.#issues([issue], this.#file?.path);
    }
  }

  build(): RunConfig | undefined {
    if (this.errors.length > 0) return undefined;
    if (this.#positionals.length > 1) return this.#usage("Give one tunnel at most: its name or its id");
    const identity = this.#identity();
    if (identity === undefined) return undefined;
    const values = this.#values;
    const haConnections = values.number("ha-connections");
    if (haConnections < 1 || haConnections > MAX_HA_CONNECTIONS) {
      // Nothing may be made in this number.
      return this.#usage(`ha-connections must be from 1 to ${MAX_HA_CONNECTIONS}`);
    }
    const edge = this.#edge(identity, haConnections);
    const ca = this.#ca(identity.ca);
    const proxyFor = this.#proxy();
    const protocol = this.#protocol();
    const bindAddress = this.#bindAddress();
    const gracePeriodMs = values.number("grace-period");
    if (gracePeriodMs < 0 || gracePeriodMs > MAX_GRACE_PERIOD_MS) this.#usage("grace-period must be from 0s to 3m");
    const retries = values.number("retries");
    if (retries < 0) this.#usage("retries must be 0 or more");
    const rpcTimeoutMs = values.number("rpc-timeout");
    if (rpcTimeoutMs <= 0) this.#usage("rpc-timeout must be longer than 0s");
    if (values.bool("post-quantum")) {
      this.#error("post-quantum is not part of this release: its QUIC engines do not promise that key exchange alone");
    }
    const transportTries = values.number("max-edge-addr-retries");
    if (transportTries < 1) this.#usage("max-edge-addr-retries must be 1 or more");
    const maxActiveFlows =
      values.source("max-active-flows") === undefined ? undefined : values.number("max-active-flows");
    if (maxActiveFlows !== undefined && maxActiveFlows < 0) this.#usage("max-active-flows must be 0 or more");
    this.#warnOfLater();
    const pidFile = values.string("pidfile");
    const rules = this.#rules();
    if (rules === undefined || edge === undefined) return undefined;
    return {
      tunnelId: identity.tunnelId,
      accountTag: identity.accountTag,
      tunnelSecret: identity.tunnelSecret,
      edge,
      bindAddress,
      protocol,
      transportTries,
      ca,
      proxyFor,
      haConnections,
      retries,
      gracePeriodMs,
      rpcTimeoutMs,
      metrics: this.#metrics(),
      metricsAuth: this.#metricsAuth(),
      logLevel: this.#choice("loglevel", LOG_LEVELS),
      transportLogLevel: this.#choice("transport-loglevel", LOG_LEVELS),
      logFormat: this.#choice("output", ["default", "json"] as const),
      logFile: this.#logFile(),
      accessLog: values.bool("log-requests"),
      tracing: readTracing(values, (message) => this.#usage(message)),
      prechecks: !values.bool("no-prechecks"),
      pidFile: pidFile === undefined ? undefined : expandHome(this.#host, pidFile),
      management: this.#management(identity.managementKey),
      tags: this.#tags(),
      rules: rules.rules,
      maxActiveFlows,
      rulesFrom: rules.from,
      autoUpdate: this.#autoUpdate(),
      file: this.#file,
      settings: values.shown(),
    };
  }

  reloadable(): Reloadable | undefined {
    if (this.errors.length > 0) return undefined;
    const logLevel = this.#choice("loglevel", LOG_LEVELS);
    const rules = this.#rules();
    return rules === undefined ? undefined : { rules: rules.rules, rulesFrom: rules.from, logLevel, file: this.#file };
  }

  /** cloudflared would do something on these. */
  #warnOfLater(): void {
    for (const { name, inert } of ALL_RUN_FLAGS) {
      const source = this.#values.source(name);
      if (inert !== "later" || source === undefined || source === "default" || this.#values.isOff(name)) continue;
      const place = source === "file" ? this.#file?.locate([name]) : undefined;
      const message = `"${name}" is not acted on by this release`;
      this.#issues([{ severity: "warning", path: name, message, ...place }], this.#file?.path);
    }
  }

  #warnOfIdle(rules: IngressRules): void {
    const wanting = rules.rules.filter((rule) => rule.settings.http2Origin === true).map((rule) => rule.service.kind);
    const plain = wanting.some((kind) => kind === "http" || kind === "unix");
    if (plain && !wanting.some((kind) => kind === "https" || kind === "unix+tls")) {
      this.#warn('"http2Origin: true" needs a service with TLS: use "http2Origin: h2c" for one in clear text');
    }
  }

  /** Token, else token file, else credentials (surface: section 3.1). */
  #identity() {
    const values = this.#values;
    let token = values.string("token");
    const tokenFile = values.string("token-file");
    if (token === undefined && tokenFile !== undefined) {
      const text = this.#read("token file", tokenFile);
      if (text === undefined) {
        this.usage = true;
        return undefined;
      }
      token = text.trim();
    }
    if (token !== undefined) {
      const parsed = parseToken(token);
      if (parsed.ok) return parsed.value;
      return this.#usage(
        `Provided tunnel token is not valid: ${parsed.issues.map((issue) => issue.message).join("; ")}`,
      );
    }
    return this.#credentials();
  }

  #credentials() {
    const named = this.#positionals[0] ?? this.#fileText("tunnel");
    if (this.errors.length > 0) return undefined;
    const contents = this.#values.string("credentials-contents");
    const path = this.#values.string("credentials-file") ?? this.#findCredentials(named);
    if (contents === undefined && path === undefined) {
      return named === undefined
        ? this.#usage("Nothing says which tunnel to run: give --token, --token-file or --credentials-file")
        : this.#error(`Cannot find credentials of tunnel "${named}": give --credentials-file or --token`);
    }
    const text = contents ?? this.#read("credentials file", path ?? "");
    if (text === undefined) return undefined;
    const what = contents === undefined ? `credentials file "${path}"` : "credentials-contents";
    if (text.trimStart().startsWith("-----BEGIN")) {
      return this.#error(`Cannot use ${what}: it is an account certificate; a tunnel's credentials are a JSON file`);
    }
    const parsed = parseCredentials(text);
    if (!parsed.ok) return this.#error(`Cannot use ${what}: ${parsed.issues.map((issue) => issue.message).join("; ")}`);
    const tunnelId = parsed.value.tunnelId ?? (named === undefined ? undefined : parseTunnelId(named));
    if (tunnelId === undefined)
      return this.#error(`Cannot use ${what}: it does not name its tunnel; give the tunnel's id too`);
    return { ...parsed.value, tunnelId };
  }

  #findCredentials(named: string | undefined): string | undefined {
    if (named === undefined || parseTunnelId(named) === undefined) return undefined;
    return configFolders(this.#host)
      .map((folder) => `${folder}/${named}.json`)
      .find((path) => this.#host.exists(path));
  }

  /** `--edge`, else the edge that made the token, else Cloudflare's (protocol: sections 1.1 and 1.2). */
  #edge(identity: { endpoint: string; edges: readonly TokenEdge[] }, haConnections: number): EdgeSource | undefined {
    const values = this.#values;
    const given = values.list("edge");
    const ipVersion = this.#choice("edge-ip-version", ["auto", "4", "6"] as const);
    const region = values.string("region");
    if (region !== undefined && identity.endpoint !== "") {
      this.#usage(`region cannot be given too: the token or the credentials name "${identity.endpoint}"`);
    }
    if (given.length > 0) {
      return { kind: "static", edges: given.flatMap((address) => this.#edgeAddress(address) ?? []) };
    }
    if (identity.edges.length === 0) {
      const place = region ?? (identity.endpoint === "" ? undefined : identity.endpoint);
      return { kind: "cloudflare", region: place, ipVersion };
    }
    const named = identity.edges.flatMap(({ addr, region: number }) => {
      const address = this.#edgeAddress(addr);
      return address === undefined ? [] : [{ ...address, region: `region${number + 1}` }];
    });
    // A token names each address of its edge once; several connections to one are still worth having.
    const wanted = named.length === 0 ? 0 : Math.max(named.length, haConnections);
    const edges = Array.from({ length: wanted }, (_, i) => named[i % named.length]);
    return { kind: "static", edges: edges.filter((edge) => edge !== undefined) };
  }

  #edgeAddress(text: string): { host: string; port: number } | undefined {
    const parsed = parseHostPort(text);
    if (parsed !== undefined && parsed.port > 0) return parsed;
    return this.#usage(`Edge address "${text}" must be HOST:PORT, such as edge.example.com:7844`);
  }

  #bindAddress(): string | undefined {
    const address = this.#values.string("edge-bind-address");
    if (address === undefined || ipToBytes(address).length > 0) return address;
    return this.#usage(`edge-bind-address "${address}" must be an IP address of this machine`);
  }

  #ca(fromToken: string | undefined): string | undefined {
    const path = this.#values.string("cacert");
    if (path === undefined) return fromToken;
    const text = this.#read("CA file", path);
    if (text !== undefined && !text.includes("-----BEGIN CERTIFICATE-----")) {
      this.#error(`Cannot use CA file "${path}": it holds no certificate in PEM`);
    }
    return text;
  }

  /** `--edge-proxy` holds for every address; the environment's proxies leave out what NO_PROXY names. */
  #proxy(): RunConfig["proxyFor"] {
    const { env } = this.#host;
    const asked = this.#values.string("edge-proxy");
    const variable = PROXY_VARIABLES.find((name) => (env[name] ?? "") !== "");
    const text = asked ?? (variable === undefined ? undefined : env[variable]);
    if (text === undefined) return () => undefined;
    const parsed = parseProxyUrl(text);
    if (!parsed.ok) {
      const from = asked === undefined ? `$${variable}` : "--edge-proxy";
      this.#usage(`${from}: ${parsed.issues.map((issue) => issue.message).join("; ")}`);
      return () => undefined;
    }
    const { value } = parsed;
    if (asked !== undefined) return () => value;
    const noProxy = env["no_proxy"] ?? env["NO_PROXY"] ?? "";
    return (edge) => (isExempt(edge.host, edge.port, noProxy) ? undefined : value);
  }

  #protocol(): Protocol {
    const protocol = this.#values.string("protocol");
    if (protocol === "h2mux") {
      this.#warn("h2mux is gone since 2023; using http2");
      return "http2";
    }
    if (protocol === "auto" || protocol === "quic" || protocol === "http2") return protocol;
    this.#usage(`Unknown protocol "${protocol ?? ""}": use auto, quic or http2`);
    return "auto";
  }

  /** Opt-in: without a place to ask, cloudflared's own flags ask nobody. */
  #autoUpdate(): AutoUpdateConfig | undefined {
    const values = this.#values;
    const from = values.string("autoupdate-from");
    const everyMs = values.number("autoupdate-freq");
    const window = values.string("autoupdate-window");
    if (everyMs < 0) this.#usage("autoupdate-freq must not be negative");
    if (from === undefined || everyMs <= 0 || values.bool("no-autoupdate")) return undefined;
    const [keys, caPath] = [values.list("autoupdate-key"), values.string("autoupdate-cacert")];
    return { from: expandHome(this.#host, from), keys, caPath, everyMs, window };
  }

  #metrics() {
    const text = this.#values.string("metrics");
    if (text === undefined) return undefined;
    const path = /^unix:(.+)$/s.exec(text)?.[1];
    if (path !== undefined) return { path: expandHome(this.#host, path) };
    const parsed = parseHostPort(text.startsWith(":") ? `0.0.0.0${text}` : text);
    // localhost:0 is cloudflared's way to say: the known ports.
    if (parsed?.port === 0 && parsed.host === "localhost" && this.#values.source("metrics") !== "flag")
      return undefined;
    if (parsed === undefined)
      this.#usage(`Metrics address "${text}" must be HOST:PORT, such as localhost:2000, or unix:PATH`);
    return parsed;
  }

  #metricsAuth(): string | undefined {
    const auth = this.#values.string("metrics-auth");
    if (auth === undefined || isMetricsAuth(auth)) return auth;
    return this.#usage("metrics-auth must be USER:PASSWORD");
  }

  /** A file goes before a directory, as in cloudflared (surface: section 17). */
  #logFile(): LogFileTarget | undefined {
    const values = this.#values;
    const file = values.string("logfile");
    const directory = values.string("log-directory");
    const maxMegabytes = values.number("log-max-size");
    const maxFiles = values.number("log-max-files");
    const maxAgeMs = values.number("log-max-age");
    if (maxMegabytes < 1) return this.#usage("log-max-size must be 1 or more");
    if (maxFiles < 0 || maxAgeMs < 0) return this.#usage("log-max-files and log-max-age must be 0 or more");
    if (file !== undefined) {
      if (directory !== undefined) this.#warn("log-directory has no effect next to logfile");
      return { kind: "file", path: expandHome(this.#host, file) };
    }
    if (directory === undefined) return undefined;
    return { kind: "directory", path: expandHome(this.#host, directory), maxMegabytes, maxFiles, maxAgeMs };
  }

  #management(edgeKey: string | undefined): RunConfig["management"] {
    const values = this.#values;
    const hostname = values.string("management-hostname");
    if (hostname === undefined) return undefined;
    const diagnostics = values.bool("management-diagnostics");
    return { hostname, diagnostics, label: values.string("label"), edgeKey };
  }

  #tags(): [string, string][] {
    return this.#values.list("tag").flatMap((tag): [string, string][] => {
      const parts = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+)=([\x20-\x7e]*)$/.exec(tag);
      if (parts === null) this.#usage(`Tag "${tag}" must be KEY=VALUE in printable ASCII`);
      return parts === null ? [] : [[parts[1] as string, parts[2] as string]];
    });
  }

  #choice<T extends string>(flag: string, choices: readonly T[]): T {
    const text = this.#values.string(flag);
    const found = choices.find((choice) => choice === text);
    if (found === undefined) this.#usage(`${flag} must be one of ${choices.join(", ")}, not "${text ?? ""}"`);
    return found ?? (choices[0] as T);
  }

  /** Rules of the file, else the one service that flags name, else 503 for everything. */
  #rules(): { rules: IngressRules; from: string } | undefined {
    const found = this.#findRules();
    if (found !== undefined) this.#warnOfIdle(found.rules);
    return found;
  }

  #findRules(): { rules: IngressRules; from: string } | undefined {
    const file = this.#file;
    const ingress = file?.top["ingress"];
    if (file !== undefined && ingress !== undefined && ingress !== null) {
      const parsed = parseIngress(file.top, { locate: file.locate });
      this.#issues(parsed.issues, file.path);
      if (this.#values.source("url") === "flag") {
        this.#warn(`--url has no effect: the rules of "${file.path}" go before it`);
      }
      return parsed.rules === undefined ? undefined : { rules: parsed.rules, from: file.path };
    }
    const base = this.#fileSettings();
    if (base === undefined) return undefined;
    const { privateNetwork } = base;
    const single = readSingleOrigin(this.#values, base.settings);
    switch (single.kind) {
      case "rules":
        if (single.warning !== undefined) this.#warn(single.warning);
        return { ...single, rules: { ...single.rules, privateNetwork } };
      case "wrong":
        return this.#usage(single.message);
      case "none":
        // A connector may be there for its network alone.
        if (file !== undefined && privateNetwork !== undefined) {
          return { rules: { ...NO_RULES, privateNetwork }, from: file.path };
        }
        this.warnings.push({ text: NO_RULES_WARNING, about: "rules" });
        return { rules: NO_RULES, from: "default" };
    }
  }

  /** What the file says holds for a service that a flag names as well: it may ask for protection. */
  #fileSettings(): { settings: OriginSettings; privateNetwork: PrivateNetworkSettings | undefined } | undefined {
    const issues = new IssueList(this.#file?.locate);
    const { originRequest, "warp-routing": warpRouting } = this.#file?.top ?? {};
    const context = { issues, durations: "text" } as const;
    const settings = parseOriginSettings(originRequest, DEFAULT_ORIGIN_SETTINGS, ["originRequest"], context);
    const privateNetwork = parsePrivateNetwork(warpRouting, context);
    this.#issues(issues.issues, this.#file?.path);
    return issues.failed ? undefined : { settings, privateNetwork };
  }

  #fileText(key: string): string | undefined {
    const value = this.#file?.top[key];
    if (value === undefined || value === null || typeof value === "string") return value ?? undefined;
    const place = this.#file?.locate([key]);
    const issue = {
      severity: "error",
      path: key,
      message: `"${key}" must be a text`,
      hint: "put it in quotes",
    } as const;
    this.#issues([{ ...issue, ...place }], this.#file?.path);
    return undefined;
  }

  #read(what: string, path: string): string | undefined {
    try {
      return this.#host.readFile(expandHome(this.#host, path));
    } catch (error) {
      const code = systemCode(error);
      const why =
        code === "ENOENT" ? "there is no such file" : code === "EACCES" ? "permission denied" : "it cannot be read";
      return this.#error(`Cannot read ${what} "${path}": ${why}`);
    }
  }

  #issues(issues: readonly ConfigIssue[], file: string | undefined): void {
    for (const issue of issues) {
      if (issue.severity === "error") this.errors.push(formatIssue(issue, file));
      else this.warnings.push(warningOf(issue, file));
    }
  }

  /** Of a setting that has no place in a file. */
  #warn(text: string): void {
    this.warnings.push({ text, about: "setting" });
  }

  #error(message: string): undefined {
    this.errors.push(message);
    return undefined;
  }

  #usage(message: string): undefined {
    this.usage = true;
    return this.#error(message);
  }
}

/** Reads `host:port`, `[v6]:port`; undefined when it is neither. */
export function parseHostPort(text: string): { host: string; port: number } | undefined {
  const parts = /^(?:\[([0-9a-f:.%\w]+)\]|([^:[\]\s/]+)):([0-9]{1,5})$/i.exec(text);
  const port = Number(parts?.[3]);
  if (parts === null || port > 65_535) return undefined;
  return { host: (parts[1] ?? parts[2]) as string, port };
}
