import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { basename, dirname, resolve } from "node:path";
import { type BundleContent, readRelease, writeBundle } from "../bundle/bundle.ts";
import { expandHome } from "../config/host.ts";
import { Values } from "../config/values.ts";
import { systemClock } from "../core/clock.ts";
import { TunnelError } from "../core/errors.ts";
import { BUILD_DATE, BUILD_TARGET, VERSION } from "../core/version.ts";
import { builtInKeys } from "../update/keys.ts";
import { openSource, type ReleaseFolder } from "../update/source.ts";
import { parseVersion } from "../update/version.ts";
import type { MinisignPublicKey } from "../wire/minisign.ts";
import { readAuthorities } from "./authorities.ts";
import { BUNDLE_FLAGS } from "./bundle-flags.ts";
import { type Context, EXIT } from "./command.ts";
import { reportError, reportFailure } from "./failure.ts";
import { readKeys } from "./update-keys.ts";

const COMMAND = "culvert bundle";

interface Found {
  readonly folder: ReleaseFolder;
  readonly content: BundleContent;
}

/** `culvert bundle`. */
export async function run(context: Context): Promise<number> {
  const { host, note, print } = context;
  const values = new Values(BUNDLE_FLAGS, { args: context.args, env: host.env });
  const usage = values.issues.map(({ message }) => message);
  const from = values.string("from");
  const version = values.string("version");
  const targets = values.list("target");
  if (context.positionals.length > 0) usage.push(`${COMMAND} takes no arguments`);
  if (version !== undefined && parseVersion(version) === undefined) usage.push(`"${version}" is not a version`);
  if (from === undefined && (version !== undefined || targets.length > 0)) {
    usage.push("--version and --target need --from: this program is of one version and for one target");
  }
  const keys = [...builtInKeys(), ...readKeys(context, values.list("update-key"), usage, "update-key")];
  const ca = readAuthorities(context, from === undefined ? undefined : values.string("cacert"), usage);
  if (usage.length > 0) return reportFailure(context, usage, { usage: true, command: COMMAND });
  try {
    const { folder, content } =
      from === undefined
        ? await ofThisProgram(context)
        : await ofReleases(context, expandHome(host, from), { version, targets, keys, ca });
    const output = resolve(expandHome(host, values.string("output") ?? `culvert-${content.version}-bundle.tar.gz`));
    await writeBundle(folder, content, {
      ...{ keys, output, clock: systemClock, signal: context.stop },
      onProgress: () => undefined,
    });
    print(`${output}: culvert ${content.version} for ${content.files.map(({ target }) => target).join(", ")}`);
    note(
      `To install from it: tar -xzOf ${basename(output)} culvert-bundle/install.sh | sh -s -- ${hint(content, output)}`,
    );
    return EXIT.ok;
  } catch (error) {
    return reportError(context, error);
  }
}

function hint({ signature }: BundleContent, output: string): string {
  const offline = `--offline ${basename(output)}`;
  return signature === undefined ? `${offline} --insecure-no-signature` : offline;
}

async function ofReleases(
  { stop }: Context,
  from: string,
  options: {
    readonly version: string | undefined;
    readonly targets: readonly string[];
    readonly keys: readonly MinisignPublicKey[];
    readonly ca: string | undefined;
  },
): Promise<Found> {
  if (options.keys.length === 0) {
    throw failure("There is no key to verify a release with: this binary has none built in, so name one: --update-key");
  }
  const source = await openSource(from, { clock: systemClock, signal: stop, ca: options.ca });
  if (source.kind === "file") throw failure(`"${from}" is one file: --from takes the folder that it was published in`);
  return { folder: source.folder, content: await readRelease(source.folder, options) };
}

/** What runs here, of which nobody has a signature. */
async function ofThisProgram({ stop }: Context): Promise<Found> {
  if (BUILD_TARGET === undefined) throw failure("This culvert runs from source: name a folder of releases with --from");
  const path = process.execPath;
  const source = await openSource(path, { clock: systemClock, signal: stop });
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path)) hash.update(chunk as Uint8Array);
  const sha256 = hash.digest("hex");
  const name = `culvert-${VERSION}-${BUILD_TARGET}${process.platform === "win32" ? ".exe" : ""}`;
  const { size: sizeBytes } = await stat(path);
  const folder: ReleaseFolder = {
    name: dirname(path),
    read: (file, maxBytes) => source.folder.read(file, maxBytes),
    // Installed under another name than it was released with.
    open: (_, offset) => source.folder.open(basename(path), offset),
  };
  const content = {
    ...{ version: VERSION, date: BUILD_DATE, signature: undefined },
    sums: new TextEncoder().encode(`${sha256}  ${name}\n`),
    files: [{ target: BUILD_TARGET, name, sizeBytes, sha256 }],
  };
  return { folder, content };
}

function failure(message: string): TunnelError {
  return new TunnelError("update.failed", message);
}
