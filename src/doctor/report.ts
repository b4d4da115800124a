import { CHECK_ORDER, CHECKS, type CheckId, type CheckResult, type Finding } from "./finding.ts";

export interface Report {
  /** Of this program. */
  readonly version: string;
  /** How long it all took. */
  readonly ms: number;
  readonly verdict: Verdict;
  readonly checks: Readonly<Record<CheckId, CheckResult>>;
}

/** What it comes to. With `fail` and `warn`, the finding that comes first: what comes later often follows from it. */
export type Verdict =
  | { readonly status: "ok"; readonly message: string }
  | ({ readonly status: "warn" | "fail" } & Pick<Finding, "code" | "message" | "todo">);

export function verdictOf(checks: Readonly<Record<CheckId, CheckResult>>): Verdict {
  const findings = CHECK_ORDER.flatMap((id) => checks[id].findings);
  const first = findings.find(({ severity }) => severity === "fail") ?? findings[0];
  if (first !== undefined) {
    const { severity: status, code, message, todo } = first;
    return { status, code, message, todo };
  }
  const left = CHECK_ORDER.filter((id) => checks[id].status === "skip").length;
  const out = left === 1 ? "1 check was" : `${left} checks were`;
  const message = left === 0 ? "Everything works" : `Nothing is wrong with what was checked; ${out} left out`;
  return { status: "ok", message };
}

/** The report as one JSON text, for scripts: keys and codes stay as they are. */
export function reportJson({ version, ms, verdict, checks }: Report): string {
  const list = CHECK_ORDER.map((id) => ({ id, title: CHECKS[id], ...checks[id] }));
  return JSON.stringify({ version, ms: Math.round(ms), verdict, checks: list }, undefined, 2);
}

const MARKS = { pass: "ok", warn: "WARN", fail: "FAIL", skip: "-" } as const;

/** Lines of one check, for people. */
export function checkLines(id: CheckId, { status, summary, findings }: CheckResult): readonly string[] {
  const head = `${MARKS[status].padEnd(4)}  ${CHECKS[id].padEnd(20)}  ${summary}`;
  const details = findings.flatMap(({ code, message, todo }) => [
    `        ${code}  ${message}`,
    `               ${todo}`,
  ]);
  return [head, ...details];
}

export function verdictLines(verdict: Verdict): readonly string[] {
  if (verdict.status === "ok") return ["", `Verdict: ${verdict.message}.`];
  const what = verdict.status === "fail" ? "Something does not work" : "It works, with something to mend";
  return ["", `Verdict: ${what}: ${verdict.code}, ${verdict.message}.`, `Next: ${verdict.todo}.`];
}
