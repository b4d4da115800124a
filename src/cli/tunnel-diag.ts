import { writeFileSync } from "node:fs";
import { parseHostPort } from "../config/run-config.ts";
import { TUNNEL_LEVEL_FLAGS } from "../config/tunnel-flags.ts";
import { Values } from "../config/values.ts";
import { systemClock } from "../core/clock.ts";
import { describe, systemCode } from "../core/errors.ts";
import { discard } from "../core/whole-file.ts";
import { collect, type Part } from "../diag/collect.ts";
import { findConnectors, placesToLook, type StatusAddress } from "../diag/local-status.ts";
import type { LogSource } from "../diag/log-source.ts";
import { formatAddress } from "../net/socket-errors.ts";
import { type Context, EXIT } from "./command.ts";
import { DIAG_FLAGS } from "./doctor-flags.ts";

const LOOK_MS = 2_000;
const NO_SPACE: ReadonlySet<string | undefined> = new Set(["ENOSPC", "EDQUOT"]);
const PARTS: readonly Part[] = ["logs", "metrics", "system", "runtime", "network"];

/**
 * `culvert tunnel diag`: what is known about the connector of this machine, in a zip file in the working directory. As
 * with cloudflared, no connector or several is no failure (surface: section 19); one that tells nothing is.
 */
export async function run(context: Context): Promise<number> {
  const values = new Values([...TUNNEL_LEVEL_FLAGS, ...DIAG_FLAGS], { args: context.args, env: context.host.env });
  const given = metricsAddress(values);
  if (given === "wrong") {
    context.note("culvert: The metrics address must be HOST:PORT, such as localhost:2000, or unix:PATH");
    return EXIT.usage;
  }
  const auth = values.string("metrics-auth");
  if (given === undefined && auth !== undefined) {
    const from = values.source("metrics-auth") === "env" ? "$TUNNEL_METRICS_AUTH" : "--metrics-auth";
    context.note(
      `culvert: ${from} needs --metrics HOST:PORT, as the connector's log tells it: a password is only sent to an address that you name`,
    );
    return EXIT.usage;
  }
  const places = given === undefined ? placesToLook(undefined) : placesToLook(given, auth).slice(0, 1);
  const found = await findConnectors(places, LOOK_MS);
  const [connector] = found;
  if (connector === undefined) {
    context.print("No instances found: start the connector, or give its address with --metrics");
    return EXIT.ok;
  }
  if (found.length > 1) {
    context.print("Found multiple instances running; choose one with --metrics:");
    for (const { address, tunnelId = "unknown tunnel" } of found) {
      context.print(`  ${formatAddress(address)}  ${tunnelId}`);
    }
    return EXIT.ok;
  }
  if (connector.denied) {
    const why =
      auth === undefined
        ? "asks for a password: give it with --metrics-auth USER:PASSWORD, and with --metrics the address that its log tells"
        : "did not take that password: correct --metrics-auth";
    context.note(`culvert: The connector at ${formatAddress(connector.address)} ${why}`);
    return EXIT.failed;
  }
  const without = new Set(PARTS.filter((part) => values.bool(`no-diag-${part}`)));
  const { zip, results } = await collect({ connector, without, log: logSource(values), clock: systemClock });
  const stamp = new Date(systemClock.wallMs()).toISOString().slice(0, 19).replaceAll(":", "-");
  const name = `culvert-diag-${stamp}.zip`;
  try {
    writeFileSync(name, zip, { flag: "wx", mode: 0o600 });
  } catch (error) {
    const code = systemCode(error);
    // Of a full disk it has taken its name and no more.
    if (code !== "EEXIST") discard(name);
    const todo = NO_SPACE.has(code)
      ? "there is no space left: change into a folder of a disk with more"
      : "change into one where you may write";
    context.note(`culvert: Cannot write ${name} into this folder (${code ?? describe(error)}): ${todo}`);
    return EXIT.failed;
  }
  for (const { file, error } of results) {
    context.print(error === undefined ? `${file}` : `${file} is missing: ${error}`);
  }
  context.print(`Diagnostic file written: ${name}`);
  return EXIT.ok;
}

/** Undefined = the known ports. */
export function metricsAddress(values: Values): StatusAddress | "wrong" | undefined {
  const text = values.string("metrics");
  if (text === undefined) return undefined;
  const path = /^unix:(.+)$/s.exec(text)?.[1];
  if (path !== undefined) return { path };
  const address = parseHostPort(text.startsWith(":") ? `localhost${text}` : text);
  return address === undefined ? "wrong" : address.port === 0 ? undefined : address;
}

function logSource(values: Values): LogSource {
  const [id, name] = [values.string("diag-container-id"), values.string("diag-pod-id")];
  if (id !== undefined) return { kind: "container", id };
  return name === undefined ? { kind: "own" } : { kind: "pod", name };
}
