import { ALL_RUN_FLAGS } from "../config/tunnel-flags.ts";
import { Values } from "../config/values.ts";
import { changedSettings, isDuration } from "../connector/describe-rules.ts";
import { formatDuration } from "../core/duration.ts";
import { type Explanation, explainMatch, type Passed } from "../ingress/explain.ts";
import { createPathRewrite } from "../ingress/path-rewrite.ts";
import type { IngressRule } from "../ingress/rules.ts";
import { formatService } from "../ingress/service.ts";
import { originRequestHeaders } from "../proxy/request-headers.ts";
import { type Context, EXIT } from "./command.ts";
import { EXPLAIN_FLAGS } from "./ingress-flags.ts";
import { type Question, readQuestion } from "./tunnel-ingress.ts";

/** Stands for what each connector makes when it starts. */
const SOME_CONNECTOR_ID = "(id of the connector)";

/** What a rule does with a request. */
interface Effect {
  readonly rule: number;
  readonly hostname: string;
  readonly path: string | null;
  readonly service: string;
  /** What the service is asked for, where that is not what the visitor asked for. */
  readonly target?: string;
  /** Fields that are added to the request, or replaced in it. */
  readonly headers: Readonly<Record<string, string>>;
  /** Settings that are not the defaults. */
  readonly settings: Readonly<Record<string, unknown>>;
}

/** `culvert tunnel ingress explain URL`: which rule takes a URL, why no earlier one, and what becomes of the request. */
export function run(context: Context): Promise<number> {
  const question = readQuestion(context, "explain");
  if (typeof question === "number") return Promise.resolve(question);
  const told = explainMatch(question.rules, question.host, question.target);
  const { match } = told;
  const effect = match.kind === "rule" ? effectOf(context, question, match.index, match.rule) : undefined;
  const asked = new Values(EXPLAIN_FLAGS, { args: context.args, env: {} });
  if (asked.bool("json")) context.print(asJson(question, told, effect));
  else for (const line of asLines(question, told, effect)) context.print(line);
  return Promise.resolve(EXIT.ok);
}

function effectOf(context: Context, { file, host, target }: Question, index: number, rule: IngressRule): Effect {
  const { settings } = rule;
  const values = new Values(ALL_RUN_FLAGS, { args: context.args, env: context.host.env, file });
  const tags = values.list("tag").map((tag): [string, string] => {
    const [name = "", ...value] = tag.split("=");
    return [name, value.join("=")];
  });
  const hostHeader = settings.httpHostHeader === "" ? undefined : settings.httpHostHeader;
  const policy = { hostHeader, tags: [["ID", SOME_CONNECTOR_ID], ...tags] } as const;
  const fields = originRequestHeaders(host, [], false, policy);
  const headers: Record<string, string> = {};
  for (let i = 0; i + 1 < fields.length; i += 2) headers[fields[i] as string] = fields[i + 1] as string;
  delete headers["Connection"];
  if (hostHeader === undefined) delete headers["Host"];
  const rewritten = createPathRewrite(settings.pathPrefixStrip, settings.pathRewrite)?.(target).target ?? target;
  const changed = Object.entries(changedSettings(settings)).map(([key, value]) => [
    key,
    isDuration(key) ? formatDuration(Number(value)) : value,
  ]);
  return {
    rule: index,
    hostname: rule.hostname,
    path: rule.path?.source ?? null,
    service: formatService(rule.service),
    ...(rewritten === target ? {} : { target: rewritten }),
    headers,
    settings: Object.fromEntries(changed),
  };
}

function asJson({ file, rules }: Question, told: Explanation, effect: Effect | undefined): string {
  const passed = told.passed.map((one) => ({
    rule: one.index,
    because: one.because,
    reason: reason(rules.rules, one, told),
  }));
  const refused =
    effect === undefined ? { readings: told.readings.map(({ path, index }) => ({ path, rule: index })) } : {};
  return JSON.stringify({
    file: file.path,
    hostname: told.hostname,
    path: told.path,
    passed,
    match: effect ?? null,
    ...refused,
  });
}

function asLines({ file, rules }: Question, told: Explanation, effect: Effect | undefined): string[] {
  const lines = [`Using rules from ${file.path}`, `Host ${told.hostname}, path ${told.path}`];
  for (const passed of told.passed) lines.push(`Rule #${passed.index}: no, ${reason(rules.rules, passed, told)}`);
  if (effect === undefined) {
    lines.push("No rule: the path's dot segments could reach another rule, so the request is refused with 400");
    for (const { path, index } of told.readings) lines.push(`\tread as ${path}: rule #${index}`);
    return lines;
  }
  lines.push(`Rule #${effect.rule}: yes`);
  if (effect.hostname !== "") lines.push(`\thostname: ${effect.hostname}`);
  if (effect.path !== null) lines.push(`\tpath: ${effect.path}`);
  lines.push(`\tservice: ${effect.service}`);
  if (effect.target !== undefined) lines.push(`\ttarget: ${effect.target}`);
  for (const [name, value] of Object.entries(effect.headers)) lines.push(`\theader ${name}: ${value}`);
  for (const [key, value] of Object.entries(effect.settings)) {
    lines.push(`\tsetting ${key}: ${typeof value === "object" ? JSON.stringify(value) : String(value)}`);
  }
  return lines;
}

function reason(rules: readonly IngressRule[], { index, because }: Passed, told: Explanation): string {
  const rule = rules[index];
  return because === "hostname"
    ? `its hostname ${rule?.hostname} is not ${told.hostname}`
    : `its path ${rule?.path?.source} is not found in ${told.path}`;
}
