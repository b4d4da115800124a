import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { H2_CASES } from "../test/story/edge/h2-cases.ts";
import { H2SPEC_DEVIATIONS, type H2specRun, runH2spec } from "../test/support/h2spec.ts";
import { addTunnel, culvertConnector, startConnector, startEdgeProcess } from "../test/support/lab.ts";
import { runProcess } from "../test/support/processes.ts";
import { makeTempDir } from "../test/support/temp-dir.ts";

const ROOT = join(import.meta.dirname, "..");
const PAGE = join(ROOT, "docs", "conformance.md");
const TESTS = ["./test/story/edge/h2-conformance.test.ts", "./test/story/edge/desync.test.ts"];

interface Row {
  readonly suite: string;
  readonly cases: number;
  readonly passed: number;
}

/** One test of the runner's report. */
interface Ran {
  /** The names of the blocks around it, and its own. */
  readonly name: string;
  readonly passed: boolean;
}

interface ParserFigures {
  readonly parser: string;
  readonly version: string;
  readonly requests: number;
  readonly refused: number;
}

interface Measured {
  readonly tests: readonly Ran[];
  readonly mutants: number;
  readonly parsers: readonly ParserFigures[];
}

async function runTests(): Promise<Measured> {
  using dir = makeTempDir();
  const [report, figures] = [join(dir.path, "report.xml"), join(dir.path, "figures")];
  const env = { ...process.env, CULVERT_DESYNC_FIGURES: figures, H2SPEC_BIN: "" } as Record<string, string>;
  const argv = [process.execPath, "test", "--timeout", "30000", "--reporter=junit", `--reporter-outfile=${report}`];
  const { code, stderr } = await runProcess([...argv, ...TESTS], { cwd: ROOT, env, deadlineMs: 400_000 });
  if (!existsSync(report)) throw new Error(`No report of the tests (exit code ${code}): ${stderr.slice(-2_000)}`);
  if (code !== 0) console.error(stderr.slice(-4_000));
  const lines = existsSync(figures) ? readFileSync(figures, "utf8").trim().split("\n") : [];
  const noted = lines.map((line) => JSON.parse(line) as Partial<ParserFigures> & { readonly mutants?: number });
  return {
    tests: readReport(readFileSync(report, "utf8")),
    mutants: noted.reduce((sum, { mutants = 0 }) => sum + mutants, 0),
    parsers: noted.filter((one): one is ParserFigures => one.parser !== undefined),
  };
}

/** Tests of a JUnit report that were not skipped. */
function readReport(xml: string): Ran[] {
  return [...xml.matchAll(/<testcase ([^>]*?)(\/>|>([\s\S]*?)<\/testcase>)/g)]
    .filter(([, , , inner = ""]) => !inner.includes("<skipped"))
    .map(([, attributes = "", , inner = ""]) => {
      const value = (key: string): string => new RegExp(`(?:^| )${key}="([^"]*)"`).exec(attributes)?.[1] ?? "";
      return { name: `${value("classname")} > ${value("name")}`, passed: !inner.includes("<failure") };
    });
}

function row(suite: string, tests: readonly Ran[], mine: (name: string) => boolean): Row {
  const found = tests.filter(({ name }) => mine(name));
  return { suite, cases: found.length, passed: found.filter(({ passed }) => passed).length };
}

/** h2spec against an edge, a connector and its page, each a process of its own. */
async function runH2specs(program: string): Promise<{ readonly clear: H2specRun; readonly tls: H2specRun }> {
  await using stack = new AsyncDisposableStack();
  const stateDir = join(stack.use(makeTempDir()).path, "state");
  const flags = ["--https-listen", "127.0.0.1:0", "--tls-internal", "--https-redirect=false"];
  const edge = await startEdgeProcess(stateDir, {}, { flags });
  stack.use(edge.process);
  const token = await addTunnel(stateDir, "conformance", ["localhost"]);
  const { tunnelPort, caPath } = edge;
  const connector = startConnector(culvertConnector("quic"), { token, tunnelPort, caPath, flags: ["--hello-world"] });
  stack.use(connector);
  await connector.errorLine(/Registered tunnel connection/);
  return {
    clear: await runH2spec(program, { host: "localhost", port: edge.publicPort, tls: false }),
    tls: await runH2spec(program, { host: "localhost", port: edge.httpsPort, tls: true }),
  };
}

function page(
  measured: Measured,
  h2spec: { readonly clear: H2specRun; readonly tls: H2specRun },
  versions: readonly string[],
): string {
  const { tests, mutants, parsers } = measured;
  const over = (transport: string, fromH2: boolean) => (name: string) =>
    name.includes(`over ${transport} `) && name.includes("from HTTP/2:") === fromH2 && /> [^>]+: /.test(name);
  const rows: Row[] = [
    { suite: "h2spec, without TLS", cases: h2spec.clear.tests, passed: h2spec.clear.passed },
    { suite: "h2spec, over TLS", cases: h2spec.tls.tests, passed: h2spec.tls.passed },
    row("HTTP/2, our own cases", tests, (name) => name.includes("the rules of HTTP/2")),
    ...["HTTP/2", "QUIC"].flatMap((transport) => [
      row(`desync, visitors of HTTP/1.1, tunnel over ${transport}`, tests, over(transport, false)),
      row(`desync, visitors of HTTP/2, tunnel over ${transport}`, tests, over(transport, true)),
    ]),
  ];
  const mutantTests = tests.filter(({ name }) => name.includes("with something changed"));
  rows.push({
    suite: "desync, changed at random",
    cases: mutants,
    passed: mutantTests.every(({ passed }) => passed) ? mutants : 0,
  });
  const ours = H2_CASES.filter(({ deviation }) => deviation !== undefined);
  return `# Conformance of the public listener

Made by \`./scripts/conformance\`; the numbers are counted, not written by hand. ${versions.join(", ")}.

| suite | cases | passed |
|---|---:|---:|
${rows.map(({ suite, cases, passed }) => `| ${suite} | ${cases} | ${passed} |`).join("\n")}

* **HTTP/2.** h2spec runs against an edge with a connector and a page behind it; it is not part of this repository. Our
  own cases (\`test/story/edge/h2-cases.ts\`) cover the same ground in CI, with one reaction for each rule where h2spec
  takes any of several.
* **Desync.** Each case (\`desync-cases.ts\`, \`desync-h2-cases.ts\` beside it) goes over a raw socket through edge,
  tunnel and connector to a service that keeps every byte. A reader that shares nothing with ours says what those bytes
  are. It must hold that the service gets nothing or exactly the request the visitor sent, with one framing; that each
  request the service read whole was answered to one visitor and no other; that half a request ends with its connection;
  and that nothing follows an answer that closes. A request stands behind every case, to be served only where the case
  leaves no doubt about where it begins.
* **A second opinion.** What the service got is given to other servers, request by request: each must be the same
  request to them, or be refused (they take fewer methods and bytes in targets), and what was cut off must be none.

| server | requests compared | read the same | refused |
|---|---:|---:|---:|
${secondOpinions(parsers)}

## Deliberate deviations

${[...new Set(ours.map(({ section, name, deviation = "" }) => `* RFC 9113 section ${section}, ${name}: ${deviation}.`))].join("\n")}
* h2spec 3.5, invalid connection preface (without TLS only): the same. h2spec reads the answer of HTTP/1.1 as frames.
* A request whose body is not as long as its Content-Length is reset; one whose head alone shows it (a length and no
  body) is answered 400, which RFC 9113 section 8.1.1 allows.
* \`OPTIONS *\` is answered 501: a connector is told a URL over QUIC, which has no place for it.
* \`CONNECT\` is answered 501 (RFC 8441's for WebSockets aside): this is no forward proxy.
* Stricter than RFC 9112: equal Content-Lengths twice, a coding beside chunked, a bare line feed, a blank around a chunk
  size and a folded line are refused, where the RFC lets a server mend them.
`;
}

function secondOpinions(parsers: readonly ParserFigures[]): string {
  const names = [...new Set(parsers.map(({ parser, version }) => `${parser} ${version}`))];
  return names
    .map((name) => {
      const mine = parsers.filter(({ parser, version }) => `${parser} ${version}` === name);
      const requests = mine.reduce((sum, one) => sum + one.requests, 0);
      const refused = mine.reduce((sum, one) => sum + one.refused, 0);
      return `| ${name} | ${requests} | ${requests - refused} | ${refused} |`;
    })
    .join("\n");
}

const program = process.env["H2SPEC_BIN"] ?? "";
const measured = await runTests();
const failed = measured.tests.filter(({ passed }) => !passed);
for (const { name } of failed) console.error(`failed: ${name}`);
if (program === "") {
  console.log(
    `${measured.tests.length - failed.length} of ${measured.tests.length} passed; H2SPEC_BIN is not set, nothing is written`,
  );
} else {
  const h2spec = await runH2specs(program);
  const unexpected = [
    ...h2spec.clear.failures.filter((name) => !H2SPEC_DEVIATIONS.includes(name)),
    ...h2spec.tls.failures,
  ];
  for (const name of unexpected) console.error(`failed: h2spec ${name}`);
  const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { version: string };
  const spec = /\d[\w.-]*/.exec(h2spec.tls.version)?.[0] ?? "";
  writeFileSync(PAGE, page(measured, h2spec, [`Culvert ${version}`, `Bun ${Bun.version}`, `h2spec ${spec}`]));
  console.log(`wrote ${PAGE}`);
  if (unexpected.length > 0) process.exitCode = 1;
}
if (failed.length > 0) process.exitCode = 1;
