import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { glibcOf, MAINTAINER, type PackageInput, packageVersion, runTool, writeLinuxTree } from "./linux-tree.ts";
import { renderTemplate } from "./template.ts";

const ARCHITECTURES = { x64: "x86_64", arm64: "aarch64" } as const;

/** Builds a .rpm with rpmbuild; gives the name of the file. */
export function buildRpm(input: PackageInput): string {
  const { binary, epochS, out, work } = input;
  const architecture = ARCHITECTURES[input.arch];
  const top = join(work, `rpm-${architecture}`);
  // One place for every build: the spec, which names it, is part of what rpmbuild hashes.
  const stage = join(top, "stage");
  mkdirSync(stage, { recursive: true });
  writeLinuxTree(stage, "rpm", input);
  const version = packageVersion(input.version);
  const spec = join(top, "culvert.spec");
  const values = { PACKAGE_VERSION: version, MAINTAINER, GLIBC: glibcOf(binary), STAGE: stage };
  writeFileSync(spec, renderTemplate("rpm/culvert.spec", { ...values, SERVICES: renderTemplate("services.sh", {}) }));
  const defines = [`_topdir ${top}`, `_rpmdir ${top}`, "_rpmfilename built.rpm", `_tmppath ${top}`];
  const flags = defines.flatMap((define) => ["--define", define]);
  runTool(["rpmbuild", "-bb", "--quiet", `--target=${architecture}-linux`, ...flags, spec], epochS, { HOME: top });
  const name = `culvert-${version}-1.${architecture}.rpm`;
  renameSync(join(top, "built.rpm"), join(out, name));
  return name;
}
