import { readFileSync } from "node:fs";
import { applySteps } from "../service/apply.ts";
import { replaceable } from "../service/program-owner.ts";
import { quoteWord } from "../service/quote.ts";
import { describeStep, type Step } from "../service/steps.ts";
import { type Context, EXIT } from "./command.ts";
import { reportError, reportFailure } from "./failure.ts";
import { planEdge } from "./service-edge.ts";
import { SERVICE_EDGE_FLAGS, SERVICE_INSTALL_FLAGS } from "./service-flags.ts";
import { canHandOver, handOver } from "./service-hand-over.ts";
import { type Found, type Identity, identityOfConfig, identityOfToken, read } from "./service-identity.ts";
import { findCloudflared, type Takeover } from "./service-migrate.ts";
import { planConnector } from "./service-plan.ts";
import { processOf } from "./service-process.ts";
import { awaitState, findTarget, stateOf, type Target } from "./service-target.ts";

const COMMAND = "culvert service install";
/** A service that starts at all does so in this time, in ms. */
const START_DEADLINE_MS = 60_000;

/** `culvert service install`. Running it again mends what is broken, and leaves alone what is as it should be. */
export async function run(context: Context): Promise<number> {
  const target = await findTarget(context, SERVICE_INSTALL_FLAGS, COMMAND);
  if ("code" in target) return target.code;
  const usage = usageProblem(context, target);
  if (usage !== undefined) return reportFailure(context, [usage], { usage: true, command: COMMAND });
  const dryRun = target.values.bool("dry-run");
  if (!dryRun && target.spec.scope.kind === "system" && (process.getuid?.() ?? 0) !== 0) {
    return reportFailure(context, ["Installing a service of this machine is for root: use sudo"], {
      usage: false,
      command: COMMAND,
    });
  }
  try {
    const prepared = await prepare(context, target);
    if (!prepared.ok) return reportFailure(context, prepared.error.split("\n"), { usage: false, command: COMMAND });
    const { steps, takeover } = prepared.value;
    if (dryRun) {
      for (const step of [...steps, ...target.init.restart(target.spec), ...(takeover?.after ?? [])]) {
        context.print(describeStep(step));
      }
      return EXIT.ok;
    }
    return await install(context, target, steps, takeover);
  } catch (error) {
    return reportError(context, error);
  }
}

function usageProblem(context: Context, { values, spec }: Target): string | undefined {
  if (context.positionals.length > 1) return "Give one token at most";
  const sources = [
    context.positionals.length > 0 ? "a token" : undefined,
    values.source("token-file") === undefined ? undefined : "--token-file",
    values.bool("migrate") ? "--migrate" : undefined,
  ].filter((source) => source !== undefined);
  if (sources.length > 1) return `Give ${sources.join(" or ")}, not both`;
  if (values.source("user") !== undefined && spec.scope.kind === "user") return "--user is for root: use sudo";
  if (spec.role === "edge") {
    const wrong = [...sources, ...(values.source("config") === undefined ? [] : ["--config"])];
    return wrong.length > 0 ? `An edge has no use for ${wrong.join(", ")}` : undefined;
  }
  if (values.bool("migrate") && values.source("config") !== undefined) return "--migrate brings cloudflared's --config";
  if (values.bool("migrate") && spec.scope.kind === "user") return "--migrate is for root: use sudo";
  const edgeOnly = SERVICE_EDGE_FLAGS.find(({ name }) => values.source(name) === "flag");
  return edgeOnly === undefined
    ? undefined
    : `--${edgeOnly.name} needs --edge; a tunnel's settings are in its --config`;
}

interface Prepared {
  readonly steps: readonly Step[];
  readonly takeover: Takeover | undefined;
}

async function prepare(context: Context, target: Target): Promise<Found<Prepared>> {
  const { host } = context;
  const { values, spec } = target;
  const place = { host, init: target.init, spec, layout: target.layout };
  const refused = ownerProblem(target);
  if (refused !== undefined) return { ok: false, error: refused };
  if (spec.role === "edge") {
    const planned = planEdge(place, values);
    if (!planned.ok) return planned;
    for (const note of planned.value.notes) context.note(note);
    return { ok: true, value: { steps: planned.value.steps, takeover: undefined } };
  }
  const replace = values.bool("replace");
  if (values.bool("migrate")) {
    const found = await findCloudflared(place, target.machine);
    if (!found.ok) return found;
    for (const note of found.value.notes) context.note(note);
    const planned = planConnector(place, { ...found.value, replace });
    return planned.ok ? { ok: true, value: { steps: planned.value, takeover: found.value } } : planned;
  }
  const path = values.string("config");
  const text = path === undefined ? undefined : read(host, path);
  if (text?.ok === false) return text;
  const config = path === undefined || text === undefined ? undefined : { path, text: text.value };
  const identity = findIdentity(context, target, config);
  if (identity?.ok === false) return identity;
  const planned = planConnector(place, { identity: identity?.value, config, replace });
  return planned.ok ? { ok: true, value: { steps: planned.value, takeover: undefined } } : planned;
}

/** What a service of the machine runs must not be for an ordinary account to replace. */
function ownerProblem({ spec, init }: Target): string | undefined {
  if (spec.scope.kind === "user" || init.family === "windows" || process.platform === "win32") return undefined;
  const [program = ""] = spec.program;
  const why = spec.program.map(replaceable).find((problem) => problem !== undefined);
  if (why === undefined) return undefined;
  return [
    `A service of this machine cannot run ${program}, which others than root can replace: ${why}`,
    "Put it where only root writes, as install.sh does by itself, and install the service from there:",
    `  sudo install -m 755 ${quoteWord(program)} /usr/local/bin/culvert && sudo /usr/local/bin/culvert service install …`,
    "Where that folder is not root's alone: sudo install -d -m 755 /opt/culvert, and the same with /opt/culvert/culvert",
  ].join("\n");
}

function findIdentity(
  { host, positionals }: Context,
  { values }: Target,
  config: { readonly path: string; readonly text: string } | undefined,
): Found<Identity> | undefined {
  const [given] = positionals;
  if (given !== undefined) return identityOfToken(given);
  const tokenFile = values.string("token-file");
  if (tokenFile !== undefined) {
    const text: Found<string> =
      tokenFile === "-" ? { ok: true, value: readFileSync(0, "utf8") } : read(host, tokenFile);
    return text.ok ? identityOfToken(text.value) : text;
  }
  return config === undefined ? undefined : identityOfConfig({ ...host, env: {} }, new Map(), [], config);
}

async function install(
  context: Context,
  target: Target,
  steps: readonly Step[],
  takeover: Takeover | undefined,
): Promise<number> {
  const { init, spec, machine, values } = target;
  const unit = init.unit(spec);
  const unknown = await accountProblem(target);
  if (unknown !== undefined) return reportFailure(context, [unknown], { usage: false, command: COMMAND });
  const changed = await applySteps(steps, machine);
  const before = await stateOf(target);
  const runs = await processOf(target, before);
  const same = changed.size === 0 && before.active === "running" && runs === "ours";
  if (same) context.print(`${unit} is installed and running: nothing to do`);
  else if (changed.size === 0 && runs === "other" && canHandOver(target, before)) {
    // Nothing but the program is new. A restart would let new requests wait for the end of those that run.
    context.print(`${unit} runs another version of the program, which makes way for this one`);
    if ((await handOver(target, before.pid, context.stop)) !== "taken") {
      context.note(`culvert: ${unit} still runs the version before: this one did not take over`);
      context.note("See 'culvert service logs'. 'culvert service restart' ends that version all the same.");
      return EXIT.failed;
    }
  } else await applySteps(init.restart(spec), machine);
  const up = await awaitState(target, START_DEADLINE_MS, context.stop, ({ active }) => active !== "starting");
  if (up.active !== "running") {
    context.note(`culvert: ${unit} does not run${up.detail === undefined ? "" : ` (${up.detail})`}`);
    context.note("See 'culvert service logs'.");
    return EXIT.failed;
  }
  if (!same) context.print(`${unit} is installed and running`);
  for (const note of await lingerNotes(target)) context.note(note);
  if (spec.role === "edge") return EXIT.ok;
  const waitMs = values.number("wait");
  if (waitMs <= 0 && takeover === undefined) return EXIT.ok;
  const state = await awaitState(target, waitMs, context.stop, ({ connected }) => connected === true);
  if (state.connected === true) context.print("connected");
  else if (state.connected === undefined) context.note("This init system does not tell whether it is connected.");
  else context.note("It is not connected yet, and goes on trying: see 'culvert service logs'.");
  if (takeover === undefined) return state.connected === false ? EXIT.failed : EXIT.ok;
  if (state.connected !== true) {
    context.note("cloudflared was left running: run the same command again once this service is connected.");
    return EXIT.failed;
  }
  await applySteps(takeover.after, machine);
  context.print("cloudflared is stopped and no longer starts at boot; its files are as they were");
  return EXIT.ok;
}

/** Found before anything is changed. */
async function accountProblem({ spec, init, machine }: Target): Promise<string | undefined> {
  if (spec.user === undefined || init.family === "windows") return undefined;
  const { code } = await machine.run(["id", "-u", spec.user]);
  return code === 0 ? undefined : `There is no account "${spec.user}" on this machine`;
}

async function lingerNotes({ spec, init, machine }: Target): Promise<readonly string[]> {
  if (spec.scope.kind !== "user" || init.kind !== "systemd") return [];
  const uid = `${process.getuid?.() ?? ""}`;
  const { stdout } = await machine.run(["loginctl", "show-user", uid, "--property=Linger", "--value"]);
  if (stdout.trim() === "yes") return [];
  return [
    `It ends with this account's last session and does not start with the machine. For that, as root: loginctl enable-linger ${uid}`,
  ];
}
