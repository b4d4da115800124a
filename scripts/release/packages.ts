// Packages of binaries that scripts/build made; see usage() and scripts/build --packages.

import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { minisignDigest, signMinisign } from "../../src/update/signature.ts";
import { minisignKeyName, parseMinisignSecretKey } from "../../src/wire/minisign.ts";
import { commitSeconds, sourceVersion } from "./identity.ts";
import { ROOT } from "./npm-packages.ts";
import { buildDeb } from "./packages/deb.ts";
import type { PackageInput } from "./packages/linux-tree.ts";
import { buildImage, whyNoImage } from "./packages/oci.ts";
import { buildRpm } from "./packages/rpm.ts";
import { renderTexts } from "./packages/texts.ts";
import { binaryName } from "./targets.ts";

const KINDS = ["deb", "rpm", "oci", "texts"] as const;
const ARCHES = ["x64", "arm64"] as const;

const USAGE = `usage: scripts/build --packages [options]

Packages of binaries that are there already: .deb and .rpm, an OCI image, texts for Homebrew and winget.

  --from DIR         folder with the binaries; default dist
  --out DIR          folder for the packages; default packages below it
  --only KIND        ${KINDS.join(", ")}; may be repeated. Default: all that the tools here allow
  --base-url URL     where the release's files will be, for Homebrew and winget
  --homepage URL     the project's page, for the same
  --sign KEYFILE     sign the sums with this minisign secret key`;

function main(): number {
  const { values } = parseArgs({
    options: {
      from: { type: "string" },
      out: { type: "string" },
      only: { type: "string", multiple: true },
      "base-url": { type: "string" },
      homepage: { type: "string" },
      sign: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) {
    console.log(USAGE);
    return 0;
  }
  const kinds = values.only ?? KINDS;
  const unknown = kinds.find((kind) => !(KINDS as readonly string[]).includes(kind));
  if (unknown !== undefined) throw new Error(`There is no kind "${unknown}"\n${USAGE}`);
  const from = values.from ?? join(ROOT, "dist");
  const out = values.out ?? join(from, "packages");
  const version = sourceVersion();
  const epochS = commitSeconds();
  mkdirSync(out, { recursive: true });
  const work = mkdtempSync(join(tmpdir(), "culvert-packages."));
  const inputs = ARCHES.map((arch) => ({
    ...{ arch, version, epochS, out, work },
    binary: join(from, binaryName(version, `linux-${arch}`)),
  })).filter(({ binary }) => existsSync(binary));
  const made: string[] = [];
  const failed: string[] = [];
  const attempt = (what: string, build: () => readonly string[]): void => {
    try {
      made.push(...build());
    } catch (error) {
      failed.push(`${what}: ${error instanceof Error ? error.message : String(error)}`);
    }
  };
  try {
    for (const input of inputs) {
      if (kinds.includes("deb")) attempt(`deb for ${input.arch}`, () => [prove(buildDeb(input), input)]);
      if (kinds.includes("rpm")) attempt(`rpm for ${input.arch}`, () => [prove(buildRpm(input), input)]);
    }
    if (kinds.includes("oci")) attempt("image", () => [buildImage(imageInputs(inputs, failed))]);
    if (kinds.includes("texts")) {
      attempt("texts", () => {
        const baseUrl = (values["base-url"] ?? "https://downloads.example.com/culvert").replace(/\/+$/, "");
        const homepage = values.homepage ?? "https://culvert.example.com";
        const { names, missing } = renderTexts({ from, out, version, epochS, baseUrl, homepage });
        failed.push(...missing);
        return names;
      });
    }
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  if (inputs.length === 0) failed.push(`there is no binary of version ${version} for Linux in ${from}`);
  writeSums(out, version, made, values.sign);
  for (const name of made) console.log(`${name}: ${(readFileSync(join(out, name)).length / 1e6).toFixed(1)} MB`);
  for (const reason of failed) console.error(`error: not made: ${reason}`);
  return failed.length === 0 ? 0 : 1;
}

/** What a package holds must be what went in: a tool that strips programs would cut their code off. */
function prove(name: string, { binary, out }: PackageInput): string {
  const command = name.endsWith(".deb")
    ? `dpkg-deb --fsys-tarfile "$1" | tar -xOf - ./usr/bin/culvert`
    : `rpm2cpio "$1" | cpio -i --quiet --to-stdout ./usr/bin/culvert`;
  const held = spawnSync("sh", ["-c", `${command} | sha256sum`, "sh", join(out, name)], { encoding: "utf8" });
  const sum = createHash("sha256").update(readFileSync(binary)).digest("hex");
  if (!held.stdout.startsWith(sum)) throw new Error(`${name} does not hold the binary that went in: ${held.stderr}`);
  return name;
}

function imageInputs(inputs: readonly PackageInput[], failed: string[]): readonly PackageInput[] {
  return inputs.filter(({ arch }) => {
    const why = whyNoImage(arch);
    if (why !== undefined) failed.push(`image for ${arch}: ${why}`);
    return why === undefined;
  });
}

function writeSums(out: string, version: string, names: readonly string[], keyFile: string | undefined): void {
  const name = `culvert-${version}-packages-SHA256SUMS`;
  const lines = [...names].sort().map((each) => {
    return `${createHash("sha256")
      .update(readFileSync(join(out, each)))
      .digest("hex")}  ${each}\n`;
  });
  writeFileSync(join(out, name), lines.join(""));
  rmSync(join(out, `${name}.minisig`), { force: true });
  if (keyFile === undefined) return;
  const secret = parseMinisignSecretKey(readFileSync(keyFile, "utf8"));
  if (!secret.ok) throw new Error(`${keyFile}: ${secret.issues[0]?.message}`);
  const trusted = `culvert ${version} packages`;
  const untrusted = `signature of culvert with minisign key ${minisignKeyName(secret.value.id)}`;
  const digest = minisignDigest(readFileSync(join(out, name)));
  writeFileSync(join(out, `${name}.minisig`), signMinisign(secret.value, digest, { trusted, untrusted }));
}

try {
  process.exitCode = main();
} catch (error) {
  console.error(`error: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
