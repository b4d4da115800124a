// Builds binaries and what is published with them; see usage() and scripts/build.

import { createHash } from "node:crypto";
import { linkSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { parseArgs } from "node:util";
import type { ReleaseFile } from "../../src/update/manifest.ts";
import {
  encodeMinisignPublicKey,
  type MinisignPublicKey,
  type MinisignSecretKey,
  parseMinisignPublicKey,
  parseMinisignSecretKey,
} from "../../src/wire/minisign.ts";
import { type Compiled, type CompileOptions, compile, measureStart } from "./compile.ts";
import { commitSeconds, sourceVersion } from "./identity.ts";
import { ROOT } from "./npm-packages.ts";
import { otherTargets, placeOf, publish } from "./publish.ts";
import { renderSbom } from "./sbom.ts";
import { binaryName, findTarget, nativeTarget, TARGETS, type Target } from "./targets.ts";

const USAGE = `usage: scripts/build [options]

  --all              every target: ${TARGETS.flatMap(({ name, twins }) => [name, ...twins]).join(", ")}
  --target TARGET    this one; may be repeated. Default: this machine's, as dist/culvert too, and only as that where
                     the folder has this version for more targets
  --sign KEYFILE     sign with this minisign secret key (minisign -G -W); the binaries trust it for updates
  --update-key KEY   trust this minisign public key too: a .pub file or its second line; may be repeated
  --out DIR          folder for the results; default dist
  --replace          make it the newest in that folder, though a higher version is there, or this one for more targets
  --packages         instead: packages of binaries that are there already; see --packages --help`;

function main(): number {
  const { values } = parseArgs({
    options: {
      all: { type: "boolean" },
      target: { type: "string", multiple: true },
      sign: { type: "string" },
      "update-key": { type: "string", multiple: true },
      out: { type: "string" },
      replace: { type: "boolean" },
      // Only this machine's binary, at this place.
      binary: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) {
    console.log(USAGE);
    return 0;
  }
  const version = sourceVersion();
  const secret = values.sign === undefined ? undefined : readSecretKey(values.sign);
  const trusted: MinisignPublicKey[] = (values["update-key"] ?? []).map(readPublicKey);
  if (secret !== undefined) trusted.push(secret);
  const options = { version, date: buildDate(), updateKeys: [...new Set(trusted.map(encodeMinisignPublicKey))] };
  if (values.binary !== undefined) {
    buildBinary(values.binary, options);
    return 0;
  }
  const out = values.out ?? join(ROOT, "dist");
  mkdirSync(out, { recursive: true });
  const targets = chosenTargets(values.all === true, values.target ?? []);
  const names = targets.flatMap(({ name, twins }) => [name, ...twins]);
  const plain = values.all !== true && values.target === undefined;
  // Somebody who wants a program to run: what is published there, perhaps of another source, stays as it fits together.
  const beside = plain && secret === undefined && values.replace !== true ? otherTargets(out, version, names) : [];
  const { newest } = values.replace === true || beside.length > 0 ? { newest: true } : placeOf(out, version, names);
  const work = mkdtempSync(join(out, ".build-"));
  try {
    const { files, failed } = buildAll(targets, work, options);
    for (const { target, reason } of failed) console.error(`error: ${target.name} was not built: ${reason}`);
    if (failed.length > 0) {
      console.error(`error: nothing is published: ${out} is as it was`);
      return 1;
    }
    if (beside.length > 0) {
      renameSync(join(work, binaryName(version, targets[0]?.name ?? "")), join(out, "culvert"));
      console.log(`Only ${join(out, "culvert")} is new: ${out} has version ${version} for ${beside.join(", ")} too`);
      return 0;
    }
    publish(files, { work, out, version, date: options.date, secret, keys: trusted, newest });
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  if (!newest)
    console.log(`${out} has a higher version than ${version}, which stays the newest: --replace changes that`);
  if (plain) {
    replaceLink(join(out, binaryName(version, targets[0]?.name ?? "")), join(out, "culvert"));
  }
  return 0;
}

function chosenTargets(all: boolean, names: readonly string[]): readonly Target[] {
  if (all) return TARGETS;
  if (names.length === 0) {
    const native = nativeTarget();
    if (native === undefined) throw new Error(`There is no target for this machine; name one with --target`);
    return [native];
  }
  const targets = names.map((name) => {
    const target = findTarget(name);
    if (target === undefined) throw new Error(`There is no target "${name}"\n${USAGE}`);
    return target;
  });
  return [...new Set(targets)];
}

function buildAll(targets: readonly Target[], out: string, options: CompileOptions) {
  const files: ReleaseFile[] = [];
  const failed: { readonly target: Target; readonly reason: string }[] = [];
  for (const target of targets) {
    try {
      const compiled = compile(target, options);
      try {
        files.push(...finish(target, compiled, out, options));
      } finally {
        rmSync(compiled.folder, { recursive: true, force: true });
      }
    } catch (error) {
      failed.push({ target, reason: error instanceof Error ? error.message : String(error) });
    }
  }
  return { files, failed };
}

/** Puts a binary into its place, with its SBOM, and says what came out. */
function finish(
  target: Target,
  compiled: Compiled,
  out: string,
  { version, date }: CompileOptions,
): readonly ReleaseFile[] {
  const content = readFileSync(compiled.path);
  const sha256 = createHash("sha256").update(content).digest("hex");
  const path = join(out, binaryName(version, target.name));
  renameSync(compiled.path, path);
  const sbom = renderSbom({ target, version, date, packages: compiled.packages, sha256 });
  writeFileSync(join(out, `culvert-${version}-${target.name}.cdx.json`), sbom);
  const start = compiled.native ? measureStart(path) : undefined;
  const timing = start && `, starts in ${start.bestMs.toFixed(1)} ms (median ${start.medianMs.toFixed(1)} ms)`;
  console.log(`${basename(path)}: ${(content.length / 1e6).toFixed(1)} MB${timing ?? ""}`);
  for (const twin of target.twins) replaceLink(path, join(out, binaryName(version, twin)));
  return [target.name, ...target.twins].map((name) => ({
    ...{ target: name, name: binaryName(version, name), sizeBytes: content.length, sha256 },
  }));
}

/** Only this machine's binary: what the tests and scripts/start need, quickly. */
function buildBinary(path: string, options: CompileOptions): void {
  const [target] = chosenTargets(false, []);
  const compiled = compile(target as Target, options);
  // A rename, because a binary that runs cannot be written over.
  renameSync(compiled.path, path);
  rmSync(compiled.folder, { recursive: true, force: true });
  console.log(`${path}: version ${options.version}, ${statSync(path).size} bytes, built from ${options.date}`);
}

function readSecretKey(path: string): MinisignSecretKey {
  const parsed = parseMinisignSecretKey(readFileSync(path, "utf8"));
  if (!parsed.ok) throw new Error(`${path}: ${parsed.issues[0]?.message}`);
  return parsed.value;
}

function readPublicKey(given: string): MinisignPublicKey {
  const text = given.endsWith(".pub") ? readFileSync(given, "utf8") : given;
  const parsed = parseMinisignPublicKey(text);
  if (!parsed.ok) throw new Error(`--update-key: ${parsed.issues[0]?.message}`);
  return parsed.value;
}

function buildDate(): string {
  return `${new Date(commitSeconds() * 1000).toISOString().slice(0, 19)}Z`;
}

/** Another name of a file, in place of whatever had it. */
function replaceLink(path: string, name: string): void {
  const work = join(dirname(name), `.${basename(name)}.${process.pid}`);
  linkSync(path, work);
  renameSync(work, name);
}

try {
  process.exitCode = main();
} catch (error) {
  console.error(`error: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
