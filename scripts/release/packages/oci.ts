// An image as OCI has it (image-spec 1.1: image-layout.md, manifest.md, config.md), made without an engine.

import { createHash } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import { LICENSES_FILE } from "../licenses.ts";
import { type PackageInput, put, runTool, setTimes } from "./linux-tree.ts";

/** Who it runs as: nobody else's number, and that of cloudflared's image (surface: section 7). */
const USER = 65_532;
/** Where a health check, a probe and Prometheus find it. */
const METRICS = "0.0.0.0:20241";
const SECOND_NS = 1_000_000_000;

const ARCHITECTURES = {
  x64: { oci: "amd64", package: "libc6-amd64-cross", triple: "x86_64-linux-gnu", loader: "lib64/ld-linux-x86-64.so.2" },
  arm64: {
    oci: "arm64",
    package: "libc6-arm64-cross",
    triple: "aarch64-linux-gnu",
    loader: "lib/ld-linux-aarch64.so.1",
  },
} as const;
/** What the runtime is linked to; the loader looks for them in /lib. */
const LIBRARIES = ["libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2"] as const;

const TYPES = {
  index: "application/vnd.oci.image.index.v1+json",
  manifest: "application/vnd.oci.image.manifest.v1+json",
  config: "application/vnd.oci.image.config.v1+json",
  layer: "application/vnd.oci.image.layer.v1.tar+gzip",
} as const;

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

/** Why there can be no image for a processor here; undefined when there can be one. */
export function whyNoImage(arch: PackageInput["arch"]): string | undefined {
  const { package: name, triple, loader } = ARCHITECTURES[arch];
  const path = `/usr/${triple}/lib/${loader.slice(loader.indexOf("/") + 1)}`;
  return existsSync(path) ? undefined : `Debian's package ${name} is not installed`;
}

/** Writes an image layout for all processors, as a folder and as one file; gives the name of the file. */
export function buildImage(inputs: readonly PackageInput[]): string {
  const [first] = inputs;
  if (first === undefined) throw new Error("no binary for an image");
  const { version, epochS, out } = first;
  const folder = join(out, `culvert-${version}-oci`);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(join(folder, "blobs", "sha256"), { recursive: true });
  const manifests = inputs.map((input) => ({
    ...writeImage(folder, input),
    platform: { architecture: ARCHITECTURES[input.arch].oci, os: "linux" },
  }));
  const index = writeBlob(folder, TYPES.index, { schemaVersion: 2, mediaType: TYPES.index, manifests });
  writeFileSync(join(folder, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
  // By its version for every processor, and each by itself for tools that do not choose.
  const named = [
    { ...index, annotations: refName(version) },
    ...manifests.map((each) => ({ ...each, annotations: refName(`${version}-${each.platform.architecture}`) })),
  ];
  const text = JSON.stringify({ schemaVersion: 2, mediaType: TYPES.index, manifests: named });
  writeFileSync(join(folder, "index.json"), text);
  setTimes(folder, epochS);
  const name = `culvert-${version}-oci.tar`;
  archive(folder, join(out, name), epochS);
  return name;
}

function refName(name: string): Readonly<Record<string, string>> {
  return { "org.opencontainers.image.ref.name": name };
}

function writeImage(folder: string, input: PackageInput): Descriptor {
  const { version, epochS, work, arch } = input;
  const target = ARCHITECTURES[arch];
  const base = join(work, `oci-base-${arch}`);
  writeBase(base, target);
  const program = join(work, `oci-program-${arch}`);
  put(program, "usr/local/bin/culvert", 0o755, (path) => copyFileSync(input.binary, path));
  // An image is replaced as a whole.
  put(program, "usr/local/lib/culvert/package-manager", 0o644, (path) => writeFileSync(path, "container image\n"));
  put(program, "usr/local/share/doc/culvert/copyright", 0o644, (path) => copyFileSync(LICENSES_FILE, path));
  const layers = [base, program].map((tree) => writeLayer(folder, tree, epochS));
  const created = new Date(epochS * 1000).toISOString();
  const config = writeBlob(folder, TYPES.config, {
    created,
    architecture: target.oci,
    os: "linux",
    config: {
      User: `${USER}:${USER}`,
      Env: ["PATH=/usr/local/bin", "HOME=/home/nonroot", `TUNNEL_METRICS=${METRICS}`],
      Entrypoint: ["culvert", "--no-autoupdate"],
      Cmd: ["version"],
      WorkingDir: "/home/nonroot",
      // Not of OCI: engines that know Docker's field use it, others skip it.
      Healthcheck: {
        Test: ["CMD", "/usr/local/bin/culvert", "tunnel", "ready"],
        ...{ Interval: 30 * SECOND_NS, Timeout: 10 * SECOND_NS, StartPeriod: 15 * SECOND_NS, Retries: 3 },
      },
      Labels: {
        "org.opencontainers.image.title": "culvert",
        "org.opencontainers.image.version": version,
        "org.opencontainers.image.licenses": "Apache-2.0",
      },
    },
    rootfs: { type: "layers", diff_ids: layers.map(({ diffId }) => diffId) },
    history: ["glibc and an account", "culvert"].map((comment) => ({ created, created_by: "scripts/build", comment })),
  });
  const body = { schemaVersion: 2, mediaType: TYPES.manifest, config, layers: layers.map(({ blob }) => blob) };
  return writeBlob(folder, TYPES.manifest, body);
}

/** The C library, and as much of a system as a program expects. */
function writeBase(folder: string, target: (typeof ARCHITECTURES)[keyof typeof ARCHITECTURES]): void {
  const from = `/usr/${target.triple}/lib`;
  const text = (name: string, lines: readonly string[]): void =>
    put(folder, name, 0o644, (path) => writeFileSync(path, `${lines.join("\n")}\n`));
  text("etc/passwd", ["root:x:0:0:root:/root:/sbin/nologin", `nonroot:x:${USER}:${USER}::/home/nonroot:/sbin/nologin`]);
  text("etc/group", ["root:x:0:", `nonroot:x:${USER}:`]);
  text("etc/nsswitch.conf", ["hosts: files dns"]);
  for (const name of LIBRARIES) put(folder, `lib/${name}`, 0o755, (path) => copyFileSync(join(from, name), path));
  const loader = target.loader.slice(target.loader.indexOf("/") + 1);
  put(folder, target.loader, 0o755, (path) => copyFileSync(join(from, loader), path));
  const doc = `/usr/share/doc/${target.package}/copyright`;
  put(folder, "usr/share/doc/libc6/copyright", 0o644, (path) => copyFileSync(doc, path));
  for (const name of ["tmp", "home/nonroot", "proc", "sys", "dev"]) mkdirSync(join(folder, name), { recursive: true });
  mkdirSync(join(folder, "var"));
  symlinkSync("../tmp", join(folder, "var", "tmp"));
}

function writeLayer(
  folder: string,
  tree: string,
  epochS: number,
): { readonly blob: Descriptor; readonly diffId: string } {
  setTimes(tree, epochS);
  const path = `${tree}.tar`;
  archive(tree, path, epochS);
  const content = readFileSync(path);
  return { blob: writeBlob(folder, TYPES.layer, gzipSync(content, { level: 6 })), diffId: `sha256:${sha256(content)}` };
}

/** Owners and modes as in an image; a folder's own entry is left out. */
function archive(folder: string, path: string, epochS: number): void {
  const same = ["--sort=name", `--mtime=@${epochS}`, "--format=ustar", "--numeric-owner"];
  const names = ["--transform=s,^\\./,,", "--exclude=./tmp", "--exclude=./home/nonroot"];
  runTool(
    ["tar", ...same, "--owner=0", "--group=0", "--mode=u=rwX,go=rX", ...names, "-C", folder, "-cf", path, "."],
    epochS,
  );
  if (!existsSync(join(folder, "tmp"))) return;
  const add = (owner: number, mode: string, name: string): string =>
    runTool(
      ["tar", ...same, `--owner=${owner}`, `--group=${owner}`, `--mode=${mode}`, "-C", folder, "-rf", path, name],
      epochS,
    );
  add(0, "1777", "tmp");
  add(USER, "0700", "home/nonroot");
}

function writeBlob(folder: string, mediaType: string, value: object): Descriptor {
  const content = Buffer.isBuffer(value) ? value : Buffer.from(JSON.stringify(value));
  const hex = sha256(content);
  const path = join(folder, "blobs", "sha256", hex);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content);
  return { mediaType, digest: `sha256:${hex}`, size: content.length };
}

function sha256(content: Uint8Array): string {
  return createHash("sha256").update(content).digest("hex");
}
