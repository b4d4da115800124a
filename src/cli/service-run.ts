import { appendFileSync, renameSync, statSync } from "node:fs";
import { Values } from "../config/values.ts";
import { enterWindowsService } from "../net/windows-service.ts";
import { type Layout, layoutOf, type ServiceSpec } from "../service/layout.ts";
import { type Context, EXIT } from "./command.ts";
import { reportError } from "./failure.ts";
import { SERVICE_RUN_FLAGS } from "./service-flags.ts";
import { read } from "./service-identity.ts";

const MAX_LOG_BYTES = 10 * 1024 * 1024;

/** `culvert service run`: what Windows' service manager starts. It runs the tunnel or the edge until it is told to stop. */
export async function run(context: Context): Promise<number> {
  const values = new Values(SERVICE_RUN_FLAGS, { args: context.args, env: {} });
  const role = values.bool("edge") ? "edge" : "connector";
  const name = values.string("name");
  const spec: ServiceSpec = { role, name, scope: { kind: "system" }, program: [process.execPath], user: undefined };
  const layout = layoutOf(spec, "windows");
  const stop = new AbortController();
  const reloads = new Set<() => void>();
  try {
    const service = await enterWindowsService(layout.id, {
      onStop: () => {
        service.stopping();
        stop.abort("service manager");
      },
      onReload: () => {
        for (const listener of reloads) listener();
      },
    });
    service.running();
    service.report("info", `${layout.id} started`);
    let last = "";
    const note = (line: string): void => {
      last = line.slice(line.lastIndexOf("\n") + 1);
      log(layout, line);
    };
    const inner: Context = {
      ...context,
      positionals: [],
      args: argumentsOf(spec, layout),
      host: { ...context.host, env: { ...context.host.env, ...environmentOf(context, spec, layout) } },
      print: note,
      note,
      stop: stop.signal,
      onHangup: (listener) => {
        reloads.add(listener);
        return () => reloads.delete(listener);
      },
    };
    const command = role === "edge" ? await import("./edge-run.ts") : await import("./tunnel-run.ts");
    const code = await command.run(inner).catch((error: unknown) => reportError(inner, error));
    if (code === EXIT.ok) service.report("info", `${layout.id} stopped`);
    else service.report("error", `${layout.id} ended with ${code}: ${last}`);
    service.stopped(code);
    return code;
  } catch (error) {
    return reportError(context, error);
  }
}

function argumentsOf({ role }: ServiceSpec, layout: Layout): ReadonlyMap<string, readonly string[]> {
  if (role === "edge") return new Map([["state-dir", [layout.stateDir]]]);
  return new Map([
    ["config", [layout.configFile]],
    ["token-file", [layout.tokenFile]],
    ["pidfile", [layout.connectedFile]],
  ]);
}

/** An edge's settings, which no service manager of Windows reads from a file. */
function environmentOf(
  { host }: Context,
  { role }: ServiceSpec,
  { envFile }: Layout,
): Readonly<Record<string, string>> {
  if (role !== "edge" || !host.exists(envFile)) return {};
  const text = read(host, envFile);
  const lines = text.ok ? [...text.value.matchAll(/^(\w+)='([^'\r\n]*)'\s*$/gm)] : [];
  return Object.fromEntries(lines.map(([, key = "", value = ""]) => [key, value]));
}

/** A service has no standard error; its log is a file, and one before it. */
function log({ logFile }: Layout, line: string): void {
  try {
    const bytes = statSync(logFile, { throwIfNoEntry: false })?.size ?? 0;
    if (bytes > MAX_LOG_BYTES) renameSync(logFile, `${logFile}.1`);
    appendFileSync(logFile, `${line}\n`);
  } catch {
    // A full disk must not stop the tunnel.
  }
}
