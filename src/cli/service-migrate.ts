import { configFolders } from "../config/file.ts";
import type { Host } from "../config/host.ts";
import { ALL_RUN_FLAGS, RUN_LEVEL_FLAGS, TUNNEL_LEVEL_FLAGS } from "../config/tunnel-flags.ts";
import { Values } from "../config/values.ts";
import { CLOUDFLARED, type CloudflaredCommand, readPlist, readScript, readUnit } from "../service/cloudflared.ts";
import type { Machine } from "../service/machine.ts";
import type { Step } from "../service/steps.ts";
import { type Command, EXIT } from "./command.ts";
import { parseArguments } from "./parse.ts";
import { type Found, type Identity, identityOfConfig, identityOfToken, read } from "./service-identity.ts";
import { type Place, planConfigFile } from "./service-plan.ts";
import { IDENTITY_KEYS } from "./service-secrets.ts";

/** What cloudflared's service ran, as ours needs it. */
export interface Takeover {
  readonly identity: Identity;
  readonly config: { readonly path: string; readonly text: string };
  /** Once ours is connected. */
  readonly after: readonly Step[];
  /** What a person must know. */
  readonly notes: readonly string[];
}

/** These say who the tunnel is, which our service keeps in its own way; or where the configuration is. */
const NOT_COPIED: ReadonlySet<string> = new Set([...IDENTITY_KEYS, "config"]);

const asRun: Command["load"] = async () => ({ run: async () => await Promise.resolve(EXIT.failed) });
/** cloudflared's command line, as far as a service has it. */
const GRAMMAR: Command = {
  name: "cloudflared",
  summary: "",
  flags: TUNNEL_LEVEL_FLAGS,
  load: asRun,
  children: [
    {
      name: "tunnel",
      summary: "",
      flags: TUNNEL_LEVEL_FLAGS,
      load: asRun,
      children: [
        { name: "run", summary: "", usage: "[TUNNEL]", flags: RUN_LEVEL_FLAGS, reads: TUNNEL_LEVEL_FLAGS, load: asRun },
      ],
    },
  ],
};

/** Finds the service of cloudflared on this machine, whatever init system it was installed for. */
export async function findCloudflared(place: Place, machine: Pick<Machine, "run">): Promise<Found<Takeover>> {
  const { host, layout } = place;
  const service = await findService(host, machine);
  if (!service.ok) return service;
  const { command, stop } = service.value;
  const parsed = parseArguments(GRAMMAR, command.args);
  if (parsed.kind !== "run") {
    const why = parsed.kind === "usage" ? `: ${parsed.message}` : "";
    return fail(`Cannot understand the command line of cloudflared's service${why}`);
  }
  const { args, positionals } = parsed;
  const theirs: Host = { ...host, env: command.env };
  const path = args.get("config")?.at(-1) ?? defaultConfig(host);
  const text = path === undefined ? undefined : read(host, path);
  if (text?.ok === false) return text;
  const config = path === undefined || text === undefined ? undefined : { path, text: text.value };
  const identity = identityOfConfig(theirs, args, positionals, config) ?? storedToken(host);
  if (identity === undefined) return fail("cloudflared's service names neither a token nor a tunnel with credentials");
  if (!identity.ok) return identity;
  const { added, notes } = flagsAsConfig(args, command.env, config?.text ?? "");
  const whole = joinConfig(config?.text ?? "", added);
  // While both run, the address of cloudflared's metrics is taken.
  const first = whole.replace(/^(metrics\s*:.*)$/m, "# $1");
  const later = planConfigFile(place, { path: config?.path ?? layout.configFile, text: whole });
  if (!later.ok) return later;
  return {
    ok: true,
    value: {
      identity: identity.value,
      config: { path: config?.path ?? layout.configFile, text: first },
      after: [...stop, ...(first === whole ? [] : [later.value])],
      notes: [
        ...notes,
        ...(first === whole
          ? []
          : [
              "cloudflared's metrics address becomes ours at the next 'culvert service restart': it is in use until then.",
            ]),
      ],
    },
  };
}

interface Service {
  readonly command: CloudflaredCommand;
  readonly stop: readonly Step[];
}

/** cloudflared makes links of a name of its own, `S50et`, and people others: those that lead to its script are meant. */
const UNLINK = `for link in /etc/rc?.d/[SK]??*; do
  case $(readlink "$link") in */init.d/cloudflared) rm "$link" ;; esac
done`;

async function findService(host: Host, machine: Pick<Machine, "run">): Promise<Found<Service>> {
  if (host.platform === "win32") return fail("--migrate does not read services of Windows: give the token itself");
  const unit = CLOUDFLARED.unitPaths.find((path) => host.exists(path));
  if (unit !== undefined && host.exists("/run/systemd/system")) {
    // With the drop-ins of all the folders there are, in their order.
    const { code, stdout, stderr } = await machine.run(["systemctl", "cat", CLOUDFLARED.unit]);
    if (code !== 0) return fail(`Cannot read ${CLOUDFLARED.unit}: ${stderr.trim()}`);
    const readFile = (path: string): string | undefined => {
      const text = read(host, path);
      return text.ok ? text.value : undefined;
    };
    return serviceOf(CLOUDFLARED.unit, readUnit(stdout, readFile), [
      { kind: "run", argv: ["systemctl", "disable", "--now", CLOUDFLARED.updateTimer], mayFail: true },
      { kind: "run", argv: ["systemctl", "disable", "--now", CLOUDFLARED.unit] },
    ]);
  }
  if (host.exists(CLOUDFLARED.scriptPath)) {
    return readService(host, CLOUDFLARED.scriptPath, readScript, [
      { kind: "run", argv: [CLOUDFLARED.scriptPath, "stop"] },
      { kind: "run", what: "take cloudflared out of the runlevels", argv: ["sh", "-c", UNLINK], mayFail: true },
      { kind: "run", argv: ["rc-update", "del", "cloudflared", "default"], mayFail: true },
    ]);
  }
  if (host.exists(CLOUDFLARED.plistPath)) {
    return readService(host, CLOUDFLARED.plistPath, readPlist, [
      { kind: "run", argv: ["launchctl", "bootout", `system/${CLOUDFLARED.label}`] },
      { kind: "run", argv: ["launchctl", "disable", `system/${CLOUDFLARED.label}`] },
    ]);
  }
  return fail("There is no service of cloudflared on this machine: give a token or --config instead of --migrate");
}

function readService(
  host: Host,
  path: string,
  parse: (text: string) => CloudflaredCommand | undefined,
  stop: readonly Step[],
): Found<Service> {
  const text = read(host, path);
  return text.ok ? serviceOf(path, parse(text.value), stop) : text;
}

function serviceOf(name: string, command: CloudflaredCommand | undefined, stop: readonly Step[]): Found<Service> {
  return command === undefined ? fail(`Cannot find in ${name} what it starts`) : { ok: true, value: { command, stop } };
}

/** Where cloudflared looks when nobody says (surface: section 9.1). */
function defaultConfig(host: Host): string | undefined {
  return configFolders(host)
    .filter((folder) => !/culvert$/.test(folder))
    .flatMap((folder) => [`${folder}/config.yml`, `${folder}/config.yaml`])
    .find((path) => host.exists(path));
}

function storedToken(host: Host): Found<Identity> | undefined {
  if (!host.exists(CLOUDFLARED.tokenPath)) return undefined;
  const text = read(host, CLOUDFLARED.tokenPath);
  return text.ok ? identityOfToken(text.value) : text;
}

/** Flags and variables of the service as lines of a config file, but for those it has already. */
function flagsAsConfig(
  args: ReadonlyMap<string, readonly string[]>,
  env: Readonly<Record<string, string>>,
  text: string,
): { readonly added: readonly string[]; readonly notes: readonly string[] } {
  const values = new Values(ALL_RUN_FLAGS, { args, env });
  const added: string[] = [];
  const notes: string[] = [];
  for (const flag of ALL_RUN_FLAGS) {
    const source = values.source(flag.name);
    if ((source !== "flag" && source !== "env") || NOT_COPIED.has(flag.name) || flag.inert !== undefined) continue;
    if (flag.file !== true)
      notes.push(`cloudflared's --${flag.name} is not taken over: it has no place in a config file.`);
    else if (!new RegExp(`^${flag.name}\\s*:`, "m").test(text)) added.push(`${flag.name}: ${yaml(flag, values)}`);
  }
  return { added, notes };
}

function yaml({ name, type }: { readonly name: string; readonly type: string }, values: Values): string {
  switch (type) {
    case "bool":
      return `${values.bool(name)}`;
    case "int":
      return `${values.number(name)}`;
    case "list":
      return JSON.stringify(values.list(name));
    case "duration":
      return JSON.stringify(`${values.number(name)}ms`);
    default:
      return JSON.stringify(values.string(name) ?? "");
  }
}

function joinConfig(text: string, added: readonly string[]): string {
  if (added.length === 0) return text;
  return `# From the command line of cloudflared's service.\n${added.join("\n")}\n\n${text}`;
}

function fail(error: string): { readonly ok: false; readonly error: string } {
  return { ok: false, error };
}
