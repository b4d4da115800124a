import { culvertCommand } from "./binary.ts";
import { addTunnel, cleanEnvironment } from "./lab.ts";
import { EDGE_ADDRESS, Netlab } from "./netlab/netlab.ts";
import { type OwnedProcess, runProcess, startProcess } from "./processes.ts";
import { makeTempDir } from "./temp-dir.ts";

/** The JSON report of `culvert doctor`. */
export interface DoctorReport {
  readonly version: string;
  readonly ms: number;
  readonly verdict: {
    readonly status: string;
    readonly code?: string;
    readonly message: string;
    readonly todo?: string;
  };
  readonly checks: readonly {
    readonly id: string;
    readonly title: string;
    readonly status: string;
    readonly summary: string;
    readonly findings: readonly { code: string; severity: string; message: string; todo: string }[];
  }[];
}

export interface Examined {
  readonly report: DoctorReport;
  readonly exitCode: number | null;
  /** Codes of all findings, in the order of the report. */
  readonly codes: readonly string[];
  /** `check: status` of one check. */
  status(id: string): string | undefined;
}

/** Runs `culvert doctor --json` with these arguments; `within` makes the command line that runs it. */
export async function examine(
  args: readonly string[],
  options: {
    readonly within?: (argv: readonly string[]) => readonly string[];
    readonly env?: Readonly<Record<string, string>>;
  } = {},
): Promise<Examined> {
  using home = makeTempDir();
  const argv = [...culvertCommand(), "doctor", "--json", ...args];
  const { code, stdout, stderr } = await runProcess(options.within?.(argv) ?? argv, {
    env: { ...cleanEnvironment(), HOME: home.path, ...options.env },
    deadlineMs: 30_000,
  });
  if (!stdout.startsWith("{")) throw new Error(`doctor ended with ${code}: ${stdout}\n${stderr}`);
  const report = JSON.parse(stdout) as DoctorReport;
  return {
    report,
    exitCode: code,
    codes: report.checks.flatMap(({ findings }) => findings.map((found) => found.code)),
    status: (id) => report.checks.find((check) => check.id === id)?.status,
  };
}

/** A host behind a gate, and an edge beyond: each in a network namespace where faults can be made. */
export interface DoctorLab extends AsyncDisposable {
  readonly lab: Netlab;
  readonly edge: OwnedProcess;
  readonly stateDir: string;
  readonly token: string;
  /** `host:port` of the edge. */
  readonly edgeAddress: string;
  /** Runs the doctor at the host, towards the edge. */
  doctor(...args: readonly string[]): Promise<Examined>;
}

export async function startDoctorLab(): Promise<DoctorLab> {
  await using stack = new AsyncDisposableStack();
  const dir = stack.use(makeTempDir());
  const lab = stack.use(new Netlab());
  const host = EDGE_ADDRESS[1];
  const stateDir = dir.path;
  const token = await addTunnel(stateDir, "lab", ["app.lab.example"]);
  const argv = [
    ...[...culvertCommand(), "edge", "run", "--state-dir", stateDir, "--location", "LAB"],
    ...["--http-listen", `${host}:8080`, "--tunnel-listen", `${host}:7844`],
  ];
  const edge = stack.use(startProcess(lab.inside("edge1", argv), { env: cleanEnvironment() }));
  await edge.errorLine(/Edge is ready/);
  const edgeAddress = `${host}:7844`;
  const owned = stack.move();
  return {
    ...{ lab, edge, stateDir, token, edgeAddress },
    doctor: (...args) =>
      examine(["--edge", edgeAddress, ...(args.includes("--token") ? [] : ["--token", token]), ...args], {
        within: (inner) => lab.inside("site1", inner),
      }),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
