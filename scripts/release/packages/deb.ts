import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  glibcOf,
  MAINTAINER,
  type PackageInput,
  packageVersion,
  put,
  runTool,
  setTimes,
  writeLinuxTree,
} from "./linux-tree.ts";
import { renderTemplate } from "./template.ts";

const ARCHITECTURES = { x64: "amd64", arm64: "arm64" } as const;

/** Builds a .deb with dpkg-deb; gives the name of the file. gzip: every dpkg reads it. */
export function buildDeb(input: PackageInput): string {
  const { binary, version, epochS, out, work } = input;
  const architecture = ARCHITECTURES[input.arch];
  const tree = join(work, `deb-${architecture}`);
  const bytes = writeLinuxTree(tree, "deb", input);
  const control = renderTemplate("deb/control", {
    PACKAGE_VERSION: packageVersion(version),
    ARCHITECTURE: architecture,
    MAINTAINER,
    INSTALLED_KIB: `${Math.ceil(bytes / 1024)}`,
    GLIBC: glibcOf(binary),
  });
  put(tree, "DEBIAN/control", 0o644, (path) => writeFileSync(path, control));
  const SERVICES = renderTemplate("services.sh", {}).trim();
  for (const script of ["postinst", "prerm", "postrm"]) {
    put(tree, `DEBIAN/${script}`, 0o755, (path) => writeFileSync(path, renderTemplate(`deb/${script}`, { SERVICES })));
  }
  chmodSync(join(tree, "DEBIAN"), 0o755);
  setTimes(tree, epochS);
  const name = `culvert_${packageVersion(version)}_${architecture}.deb`;
  runTool(["dpkg-deb", "--root-owner-group", "-Zgzip", "-z6", "--build", tree, join(out, name)], epochS);
  return name;
}
