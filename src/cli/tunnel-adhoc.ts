import { z } from "zod";
import { type JsonAnswer, sendJson } from "../api-client/http-json.ts";
import {
  createTunnel,
  deleteTunnel,
  listTunnels,
  routeBalancer,
  routeDns,
  tunnelToken,
} from "../api-client/tunnels.ts";
import { loadConfigFile } from "../config/file.ts";
import { expandHome } from "../config/host.ts";
import { buildRunConfig } from "../config/run-config.ts";
import { ALL_RUN_FLAGS } from "../config/tunnel-flags.ts";
import { Values } from "../config/values.ts";
import { TunnelError } from "../core/errors.ts";
import { parseTunnelId } from "../core/ids.ts";
import { VERSION } from "../core/version.ts";
import { decodeBytes } from "../wire/base64.ts";
import { formatToken } from "../wire/token.ts";
import type { Context } from "./command.ts";
import { reportError, reportFailure } from "./failure.ts";
import { withApi } from "./management.ts";
import { withStandIn } from "./stand-in.ts";
import { run as runTunnel } from "./tunnel-run.ts";

/** Who gives out quick tunnels, when nobody says (protocol: section 5). */
const QUICK_SERVICE = "https://api.trycloudflare.com";
const QUICK_TIMEOUT_MS = 15_000;

/** `culvert tunnel` with flags and no command (surface: section 3.2). */
export async function run(context: Context): Promise<number> {
  const file = loadConfigFile(context.host, context.args.get("config")?.at(-1));
  const top = file.kind === "loaded" ? file.file : undefined;
  const values = new Values(ALL_RUN_FLAGS, { args: context.args, env: context.host.env, file: top });
  const asked = values.string("name") ?? values.string("url");
  if (asked !== undefined || values.bool("hello-world")) {
    // Before there is a tunnel that could not be run.
    const built = buildRunConfig(context.host, withStandIn(context.args), []);
    if (built.kind === "failed") {
      return reportFailure(context, built.errors, { usage: built.usage, command: "culvert tunnel" });
    }
  }
  if (values.string("name") !== undefined) return await named(context, values.string("name") ?? "", values);
  if (values.string("url") !== undefined || values.bool("hello-world")) return await quick(context, values);
  const problem =
    top?.top["tunnel"] === undefined
      ? values.string("hostname") === undefined
        ? "Say what to do: culvert tunnel run starts a tunnel that exists, --url URL shows a service under a random hostname, --name NAME makes and runs a tunnel"
        : "Classic tunnels, with --hostname alone, are no more: give --name NAME too"
      : "The config file names a tunnel: start it with culvert tunnel run";
  return reportFailure(context, [problem], { usage: true, command: "culvert tunnel" });
}

/** Makes the tunnel unless it is there, routes it, and runs it. */
async function named(context: Context, name: string, values: Values): Promise<number> {
  if (parseTunnelId(name) !== undefined) {
    return reportFailure(context, ["--name must not be an id: start a tunnel by its id with culvert tunnel run"], {
      usage: true,
      command: "culvert tunnel",
    });
  }
  let token = "";
  const code = await withApi(context, "tunnel", [], async ({ api }) => {
    const known = (await listTunnels(api, { name, is_deleted: false })).find((tunnel) => tunnel.name === name);
    const tunnel = known ?? (await createTunnel(api, name, crypto.getRandomValues(new Uint8Array(32))));
    context.note(known === undefined ? `Created tunnel ${name} with id ${tunnel.id}` : `Tunnel ${name} exists already`);
    const hostname = values.string("hostname");
    const pool = values.string("lb-pool");
    try {
      if (hostname !== undefined && pool !== undefined) await routeBalancer(api, tunnel.id, hostname, pool);
      else if (hostname !== undefined) await routeDns(api, tunnel.id, hostname, values.bool("overwrite-dns"));
    } catch (error) {
      if (known === undefined) await deleteTunnel(api, tunnel.id, true).catch(() => {});
      throw error;
    }
    if (hostname !== undefined) context.note(`${hostname} leads to this tunnel`);
    token = await tunnelToken(api, tunnel.id);
  });
  return token === "" ? code : await runTunnel(withFlags(context, { token }));
}

/** Gets a tunnel with a random hostname, and runs it with one connection. */
async function quick(context: Context, values: Values): Promise<number> {
  const service = values.string("quick-service") ?? QUICK_SERVICE;
  try {
    const caPath = values.string("cacert");
    const ca = caPath === undefined ? undefined : context.host.readFile(expandHome(context.host, caPath));
    if (values.string("quick-service") === undefined) {
      context.note(
        "Thank you for trying Cloudflare Tunnel. Quick tunnels without an account have no uptime guarantee and are subject to Cloudflare's terms; for tunnels that stay, make one: culvert tunnel create",
      );
    }
    context.note(`Requesting new quick Tunnel on ${new URL(service).host}...`);
    const answer = await sendJson({
      method: "POST",
      url: new URL(`${service.replace(/\/+$/, "")}/tunnel`),
      headers: { "content-type": "application/json", "user-agent": `culvert/${VERSION}` },
      ...{ body: undefined, ca, timeoutMs: QUICK_TIMEOUT_MS, signal: context.stop },
    });
    const tunnel = readAnswer(answer, service);
    for (const line of box([
      "Your quick Tunnel has been created! Visit it at (it may take some time to be reachable):",
      `https://${tunnel.hostname}`,
    ])) {
      context.note(line);
    }
    const flags = {
      token: tunnel.token,
      ...(values.source("ha-connections") === "flag" ? {} : { "ha-connections": "1" }),
    };
    return await runTunnel(withFlags(context, flags), tunnel.hostname);
  } catch (error) {
    return reportError(context, error);
  }
}

const Answer = z.object({
  success: z.boolean().optional(),
  result: z
    .object({
      id: z.string(),
      hostname: z.string().min(1),
      account_tag: z.string(),
      secret: z.string(),
      token: z.string().optional(),
    })
    .nullish(),
  errors: z.array(z.object({ message: z.string() })).nullish(),
});

function readAnswer(answer: JsonAnswer, service: string): { readonly hostname: string; readonly token: string } {
  const read = Answer.safeParse(parseJson(answer.text));
  const result = read.data?.result;
  if (result === undefined || result === null || read.data?.success === false) {
    const why = read.data?.errors?.map(({ message }) => message).join("; ");
    throw new TunnelError(
      "api.refused",
      `${service} gave no quick tunnel (status ${answer.status})${why === undefined || why === "" ? "" : `: ${why}`}`,
    );
  }
  const tunnelId = parseTunnelId(result.id);
  const tunnelSecret = decodeBytes(result.secret);
  if (tunnelId === undefined || tunnelSecret === undefined) {
    throw new TunnelError("api.failed", `${service} gave a quick tunnel that cannot be read`);
  }
  const own = { accountTag: result.account_tag, tunnelSecret, tunnelId, endpoint: "", edges: [], ca: undefined };
  return { hostname: result.hostname, token: result.token ?? formatToken(own) };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The frame that tools look for the URL in. */
function box(lines: readonly string[]): readonly string[] {
  const width = Math.max(...lines.map((line) => line.length));
  const border = `+${"-".repeat(width + 4)}+`;
  return [border, ...lines.map((line) => `|  ${line.padEnd(width)}  |`), border];
}

function withFlags(context: Context, flags: Readonly<Record<string, string>>): Context {
  const args = new Map(context.args);
  for (const [name, value] of Object.entries(flags)) args.set(name, [value]);
  return { ...context, args, positionals: [] };
}
