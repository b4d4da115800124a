import { readFileSync } from "node:fs";
import { join } from "node:path";
import { runProcess } from "./processes.ts";
import { makeTempDir } from "./temp-dir.ts";

export interface H2specRun {
  /** As the program says, such as `Version: 2.6.0 (…)`. */
  readonly version: string;
  readonly tests: number;
  readonly passed: number;
  /** `section: case`, for each that did not pass. */
  readonly failures: readonly string[];
}

/** What does not pass without TLS: there, what is no preface is answered in HTTP/1.1, which h2spec reads as frames. */
export const H2SPEC_DEVIATIONS: readonly string[] = ["http2/3.5: Sends invalid connection preface"];

/** Runs h2spec, which is not part of this project, and reads its report. */
export async function runH2spec(
  program: string,
  target: { readonly host: string; readonly port: number; readonly tls: boolean },
): Promise<H2specRun> {
  using dir = makeTempDir();
  const report = join(dir.path, "report.xml");
  const version = (await runProcess([program, "--version"])).stdout.trim();
  const flags = ["-h", target.host, "-p", String(target.port), "-o", "3", "-j", report];
  await runProcess([program, ...flags, ...(target.tls ? ["-t", "-k"] : [])], { deadlineMs: 100_000 });
  const cases = [...readFileSync(report, "utf8").matchAll(/<testcase ([^>]*?)(\/>|>([\s\S]*?)<\/testcase>)/g)];
  const failed = cases.filter(([, , , inner = ""]) => /<(failure|error|skipped)/.test(inner));
  return {
    ...{ version, tests: cases.length, passed: cases.length - failed.length },
    failures: failed.map(
      ([, attributes = ""]) => `${attribute(attributes, "package")}: ${attribute(attributes, "classname")}`,
    ),
  };
}

function attribute(text: string, name: string): string {
  const found = new RegExp(`(?:^| )${name}="([^"]*)"`).exec(text)?.[1] ?? "";
  return found.replaceAll("&#34;", '"').replaceAll("&quot;", '"').replaceAll("&amp;", "&");
}
