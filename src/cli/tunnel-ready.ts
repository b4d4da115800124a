import { parseHostPort } from "../config/run-config.ts";
import { TUNNEL_LEVEL_FLAGS } from "../config/tunnel-flags.ts";
import { Values } from "../config/values.ts";
import { describe } from "../core/errors.ts";
import { KNOWN_METRICS_PORTS } from "../ops/metrics-server.ts";
import { type Context, EXIT } from "./command.ts";
import { reportFailure } from "./failure.ts";

const ANSWER_LIMIT_MS = 5_000;

/** `culvert tunnel ready`: asks the `/ready` of a connector on this machine; 0 = it has a connection (surface: section 5). */
export async function run(context: Context): Promise<number> {
  const command = "culvert tunnel ready";
  const { note, print } = context;
  if (context.positionals.length > 0) {
    return reportFailure(context, [`${command} takes no arguments`], { usage: true, command });
  }
  const values = new Values(TUNNEL_LEVEL_FLAGS, { args: context.args, env: context.host.env });
  const text = values.string("metrics");
  const address = text === undefined ? undefined : parseHostPort(text.startsWith(":") ? `0.0.0.0${text}` : text);
  if (text !== undefined && address === undefined) {
    const problem = `Metrics address "${text}" must be HOST:PORT, such as localhost:2000`;
    return reportFailure(context, [problem], { usage: true, command });
  }
  let failure = "";
  for (const origin of originsOf(address)) {
    try {
      const response = await fetch(`${origin}/ready`, { signal: AbortSignal.timeout(ANSWER_LIMIT_MS) });
      const body = (await response.text()).trim();
      if (response.status === 200) {
        print(body);
        return EXIT.ok;
      }
      note(`culvert: ${origin}/ready answered ${response.status}: ${body.slice(0, 512)}`);
      return EXIT.failed;
    } catch (error) {
      failure = `${origin}/ready: ${describe(error)}`;
    }
  }
  note(`culvert: no connector answers on this machine: ${failure}; --metrics says where it serves metrics`);
  return EXIT.failed;
}

/** Where to ask: no port means the known ones. Whoever listens on every address is asked on loopback. */
function originsOf(address: { readonly host: string; readonly port: number } | undefined): readonly string[] {
  const { host = "localhost", port = 0 } = address ?? {};
  const name = { "0.0.0.0": "127.0.0.1", "::": "[::1]" }[host] ?? (host.includes(":") ? `[${host}]` : host);
  return (port === 0 ? KNOWN_METRICS_PORTS : [port]).map((each) => `http://${name}:${each}`);
}
