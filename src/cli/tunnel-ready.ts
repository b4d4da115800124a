import { TUNNEL_LEVEL_FLAGS } from "../config/tunnel-flags.ts";
import { Values } from "../config/values.ts";
import { placesToLook, readReadiness } from "../diag/local-status.ts";
import { formatAddress } from "../net/socket-errors.ts";
import { type Context, EXIT } from "./command.ts";
import { metricsAddress } from "./tunnel-diag.ts";

const TIMEOUT_MS = 5_000;

/** `culvert tunnel ready`: exit code 0 when the connector of this machine has a connection. */
export async function run(context: Context): Promise<number> {
  const values = new Values(TUNNEL_LEVEL_FLAGS, { args: context.args, env: context.host.env });
  const given = metricsAddress(values);
  if (given === "wrong") {
    context.note("culvert: The metrics address must be HOST:PORT, such as localhost:2000, or unix:PATH");
    return EXIT.usage;
  }
  // A given address is meant; without one the first connector that answers is.
  const places = given === undefined ? placesToLook(undefined) : placesToLook(given).slice(0, 1);
  const answers = await Promise.all(places.map(({ address }) => readReadiness(address, TIMEOUT_MS)));
  const found = answers.find((answer) => answer !== undefined);
  if (found === undefined) {
    const where = places.map(({ address }) => formatAddress(address)).join(", ");
    context.note(`culvert: No connector answers at ${where}: start it, or give its address with --metrics`);
    return EXIT.failed;
  }
  if (found.status === 200) return EXIT.ok;
  context.note(
    `culvert: The connector answers ${found.status}: it has ${found.readyConnections} connections to the edge`,
  );
  return EXIT.failed;
}
