import { failedOf, type Goal, type Outcome } from "./outcome.ts";

export interface Row {
  readonly name: string;
  readonly what: string;
  readonly protocol: string;
  readonly goals: readonly Goal[];
  /** Absent when the trial itself broke; `error` says how. */
  readonly outcome?: Outcome;
  readonly error?: string;
}

export interface Setting {
  readonly date: string;
  readonly kernel: string;
  readonly cores: number;
  readonly version: string;
  readonly shapedBy: string;
  readonly congestionControl: string;
}

const COLUMNS = [
  ...["fault", "requests", "failed", "of them in flight", "POST / download failed", "moved", "edge retries", "twice"],
  ...["wrong bytes", "slowest s", "fine after fault s", "fine after end s", "connected after end s", "goals"],
] as const;

const EXPLAINED: readonly string[] = [
  "`fault`: what was done; `./scripts/faults --only NAME --protocol P` repeats one of them.",
  "`requests`: what visitors began, from two seconds before the fault until all connections stood again and two more.",
  "`failed`: no whole answer with status 200 and the right bytes within 30 s. `of them in flight`: had begun before the fault. `POST / download failed`: how many of the failed ones were neither quick nor slow GETs.",
  "`moved`: the visitor sent it again, and this is no failure: the edge took no connection within 1 s, so it went to the other edge, as clients of a name with two addresses do; or a kept connection ended before any byte of the answer to a GET (RFC 9112 section 9.3.1).",
  "`edge retries`: the edge took the request back from one connection and gave it to another. A dash: its access log does not tell.",
  "`twice`: reached an origin more than once. An edge may do that with idempotent requests only.",
  "`wrong bytes`: bytes of a body that are not those the origin sent for this request; every request has its own.",
  "`slowest s`: the longest request that is no download.",
  "`fine after fault s`, `fine after end s`: when the last request was over that began after the fault and failed or took more than 1 s, counted from the fault and from its end (link back, process started again); 0 = there was none, or it was over before.",
  "`connected after end s`: when all connections of both connectors were registered, counted from the end of the fault.",
];

export function markdown(setting: Setting, rows: readonly Row[]): string {
  const protocols = [...new Set(rows.map((row) => row.protocol))];
  const parts = [
    "# Fault matrix",
    "",
    "Written by `./scripts/faults` as root; `./scripts/faults --help` lists the options. Do not edit.",
    "",
    `${setting.date}, Linux ${setting.kernel}, ${setting.cores} cores, ${setting.version}; TCP congestion control ${setting.congestionControl}; loss and delay by ${setting.shapedBy}.`,
    "",
    "Two edges and two connectors (four connections each, two to each edge; an origin beside each), every part a process in a network namespace, the connectors behind NATs. Visitors ask both edges: a second 30 quick GETs, 12 GETs and 4 POSTs that the origin answers after 300 ms, on top of 4 downloads at 1 MB/s.",
    "",
    ...EXPLAINED.map((line) => `* ${line}`),
  ];
  for (const protocol of protocols) {
    const own = rows.filter((row) => row.protocol === protocol);
    parts.push("", `## ${protocol}`, "", table(own), "");
    for (const { name, outcome, error } of own) {
      if (error !== undefined) parts.push(`* ${name}: the trial broke: ${error}`);
      const reasons = Object.entries(outcome?.failures ?? {}).map(([reason, count]) => `${reason}: ${count}`);
      const said = [...(outcome?.notes ?? []), ...reasons];
      if (said.length > 0) parts.push(`* ${name}: ${said.join("; ")}`);
    }
  }
  return `${parts.join("\n")}\n`;
}

export function table(rows: readonly Row[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  const rule = COLUMNS.map((_, index) => (index === 0 || index === COLUMNS.length - 1 ? "---" : "---:"));
  return [line(COLUMNS), `|${rule.join("|")}|`, ...rows.map((row) => line(cellsOf(row)))].join("\n");
}

function cellsOf({ name, what, goals, outcome }: Row): readonly string[] {
  const title = `${name}: ${what}`;
  if (outcome === undefined) return [title, ...COLUMNS.slice(2).map(() => ""), "not measured"];
  const seconds = (ms: number | undefined): string => (ms === undefined ? "never" : (ms / 1_000).toFixed(2));
  return [
    title,
    String(outcome.requests),
    String(failedOf(outcome)),
    String(outcome.failedInFlight),
    `${outcome.failed.post} / ${outcome.failed.download}`,
    String(outcome.moved),
    outcome.edgeRetries === undefined ? "-" : String(outcome.edgeRetries),
    String(outcome.repeated),
    String(outcome.wrongBytes),
    seconds(outcome.slowestMs),
    seconds(outcome.serviceAfterFaultMs),
    seconds(outcome.serviceAfterBackMs),
    seconds(outcome.connectedAfterMs),
    goals.map((goal) => `${goal.holds(outcome) ? "met" : "**missed**"}: ${goal.text}`).join("<br>"),
  ];
}

/** Goals that a row misses. */
export function missed(row: Row): readonly string[] {
  if (row.outcome === undefined) return [row.error ?? "not measured"];
  const { outcome } = row;
  return row.goals.filter((goal) => !goal.holds(outcome)).map((goal) => goal.text);
}
