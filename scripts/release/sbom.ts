import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type LockedPackage, ROOT, readLock } from "./npm-packages.ts";
import type { Target } from "./targets.ts";

interface SbomOptions {
  readonly target: Target;
  readonly version: string;
  readonly date: string;
  /** npm packages in the bundle. */
  readonly packages: readonly string[];
  readonly sha256: string;
}

/** What is in one binary, as CycloneDX 1.5 in JSON (https://cyclonedx.org/docs/1.5/json/). */
export function renderSbom({ target, version, date, packages, sha256 }: SbomOptions): string {
  const lock = readLock();
  const components = packages.map((name) => component(pinned(lock, name), "library", licenseOf(name)));
  const runtime = component(pinned(lock, target.runtime), "platform", "MIT");
  const self = `pkg:generic/culvert@${version}?target=${target.name}`;
  const body = {
    metadata: {
      timestamp: date,
      component: {
        ...{ type: "application", "bom-ref": self, name: "culvert", version, purl: self },
        licenses: [{ license: { id: "Apache-2.0" } }],
        hashes: [{ alg: "SHA-256", content: sha256 }],
        properties: [{ name: "culvert:target", value: target.name }],
      },
    },
    components: [runtime, ...components],
    dependencies: [{ ref: self, dependsOn: [runtime, ...components].map((each) => each["bom-ref"]) }],
  };
  const head = { bomFormat: "CycloneDX", specVersion: "1.5", serialNumber: serial(JSON.stringify(body)), version: 1 };
  return `${JSON.stringify({ ...head, ...body }, undefined, 2)}\n`;
}

function component({ name, version, integrity }: LockedPackage, type: string, license: string) {
  const purl = `pkg:npm/${name.replace("@", "%40")}@${version}`;
  const [, group, bare = name] = /^(@[^/]+)\/(.+)$/.exec(name) ?? [];
  return {
    ...{ type, "bom-ref": purl },
    ...(group === undefined ? {} : { group }),
    ...{ name: bare, version, purl },
    licenses: [{ license: { id: license } }],
    // Of the package's archive in the registry.
    hashes: [{ alg: "SHA-512", content: Buffer.from(integrity.replace("sha512-", ""), "base64").toString("hex") }],
  };
}

/** A UUID made of the content: two builds of one commit have the same. */
function serial(content: string): string {
  const hex = createHash("sha256").update(content).digest("hex");
  const parts = [
    hex.slice(0, 8),
    hex.slice(8, 12),
    `8${hex.slice(13, 16)}`,
    `8${hex.slice(17, 20)}`,
    hex.slice(20, 32),
  ];
  return `urn:uuid:${parts.join("-")}`;
}

function pinned(lock: ReadonlyMap<string, LockedPackage>, name: string): LockedPackage {
  const found = lock.get(name);
  if (found === undefined) throw new Error(`package-lock.json does not pin ${name}`);
  return found;
}

/** SPDX identifier of an installed package. */
export function licenseOf(name: string): string {
  const { license }: { license?: string } = JSON.parse(
    readFileSync(join(ROOT, "node_modules", name, "package.json"), "utf8"),
  );
  if (license === undefined || license === "SEE LICENSE IN LICENSE") throw new Error(`${name} names no licence`);
  return license;
}
