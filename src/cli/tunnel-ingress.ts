import { loadConfigFile } from "../config/file.ts";
import { ORIGIN_FLAGS } from "../config/flags.ts";
import { ALL_RUN_FLAGS } from "../config/tunnel-flags.ts";
import { type FileValues, Values } from "../config/values.ts";
import { formatIssue } from "../ingress/issue.ts";
import { parseRemoteRules } from "../ingress/remote-rules.ts";
import { type IngressRules, matchRule, parseIngress } from "../ingress/rules.ts";
import { formatService } from "../ingress/service.ts";
import { type Context, EXIT } from "./command.ts";
import { reportFailure } from "./failure.ts";
import { VALIDATE_FLAGS } from "./ingress-flags.ts";

/**
 * `culvert tunnel ingress validate`: checks the rules of a config file, or with `--json` those that a dashboard would
 * push. Unknown keys fail too.
 */
export function validate(context: Context): Promise<number> {
  const values = new Values([...VALIDATE_FLAGS, ...ORIGIN_FLAGS], { args: context.args, env: context.host.env });
  const json = values.string("json");
  if (json !== undefined) {
    const parsed = parseRemoteRules(json);
    return Promise.resolve(tell(context, "command line flag --json", "errors" in parsed ? parsed.errors : []));
  }
  const loaded = load(context);
  if (typeof loaded === "number") return Promise.resolve(loaded);
  const { file } = loaded;
  const ofFlags = new Values(ALL_RUN_FLAGS, { args: new Map(), env: {}, file });
  const problems = [...ofFlags.issues.map((issue) => formatIssue(issue, file.path)), ...loaded.problems];
  const hasUrl = values.string("url") ?? ofFlags.string("url");
  if (hasUrl !== undefined) {
    problems.push(
      `"url" is set to "${hasUrl}" beside ingress rules: a tunnel has either one service or rules, so remove one`,
    );
  }
  return Promise.resolve(tell(context, file.path, problems));
}

/** Says how a check ended. */
function tell(context: Context, from: string, problems: readonly string[]): number {
  context.print(`Validating rules from ${from}`);
  for (const problem of problems) context.note(`Validation failed: ${problem}`);
  if (problems.length > 0) return EXIT.failed;
  context.print("OK");
  return EXIT.ok;
}

/** `culvert tunnel ingress rule URL`: says which rule takes a URL. */
export function rule(context: Context): Promise<number> {
  const asked = readQuestion(context, "rule");
  if (typeof asked === "number") return Promise.resolve(asked);
  context.print(`Using rules from ${asked.file.path}`);
  const match = matchRule(asked.rules, asked.host, asked.target);
  if (match.kind === "ambiguous-path") {
    context.print("No rule: the path's dot segments could reach another rule, so the request is refused with 400");
    return Promise.resolve(EXIT.ok);
  }
  context.print(`Matched rule #${match.index}`);
  const { hostname, path, service } = match.rule;
  if (hostname !== "") context.print(`\thostname: ${hostname}`);
  if (path !== undefined) context.print(`\tpath: ${path.source}`);
  context.print(`\tservice: ${formatService(service)}`);
  return Promise.resolve(EXIT.ok);
}

/** A request, and the rules that are asked about it. */
export interface Question {
  readonly file: FileValues;
  readonly rules: IngressRules;
  /** With its port, if it has one. */
  readonly host: string;
  /** Raw path and query. */
  readonly target: string;
}

/** Reads the URL and the rules that a command is about; an exit code when that fails, which has been told then. */
export function readQuestion(context: Context, command: string): Question | number {
  const text = context.positionals[0];
  const whole = text?.includes("://") === true ? text : `http://${text}`;
  const url = URL.parse(whole);
  if (text === undefined || url === null || context.positionals.length > 1) {
    const usage = { usage: true, command: `culvert tunnel ingress ${command}` };
    return reportFailure(context, ["Give one URL, such as https://app.example.com/path"], usage);
  }
  const loaded = load(context);
  if (typeof loaded === "number") return loaded;
  if (loaded.rules === undefined) return reportFailure(context, loaded.problems, { usage: false, command: "" });
  // The URL object would resolve dot segments; the rules see what a visitor sends.
  const target = /^[a-z][a-z0-9+.-]*:\/\/[^/?#]*([^#]*)/i.exec(whole)?.[1] ?? "";
  const { file, rules } = loaded;
  return { file, rules, host: url.host, target: target.startsWith("/") ? target : `/${target}` };
}

function load(context: Context): { file: FileValues; rules: IngressRules | undefined; problems: string[] } | number {
  const loaded = loadConfigFile(context.host, context.args.get("config")?.at(-1));
  const failure = { usage: false, command: "" };
  if (loaded.kind === "none") {
    return reportFailure(
      context,
      ["There is no config file in the usual places: give --config FILE in front of ingress"],
      failure,
    );
  }
  if (loaded.kind === "failed") {
    return reportFailure(
      context,
      loaded.issues.map((issue) => formatIssue(issue, loaded.path)),
      failure,
    );
  }
  const { file } = loaded;
  const parsed = parseIngress(file.top, { locate: file.locate });
  const issues = [...loaded.warnings, ...parsed.issues];
  const problems = issues.map((issue) => formatIssue(issue, file.path));
  // A run would answer 503 to everything; whoever asks about rules meant to have some.
  const none = file.top["ingress"] === undefined || file.top["ingress"] === null;
  if (none) problems.push(`There are no ingress rules in "${file.path}"`);
  return { file, rules: none ? undefined : parsed.rules, problems };
}
