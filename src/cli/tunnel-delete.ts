import { rmSync } from "node:fs";
import { join } from "node:path";
import { cleanUpConnections, deleteTunnel } from "../api-client/tunnels.ts";
import { expandHome } from "../config/host.ts";
import { describe, TunnelError } from "../core/errors.ts";
import { parseConnectorId } from "../core/ids.ts";
import type { Context } from "./command.ts";
import { findTunnel, invalid, UsageError, withApi } from "./management.ts";
import { CLEANUP_FLAGS, DELETE_FLAGS } from "./management-flags.ts";

/** `culvert tunnel delete TUNNEL…`: with their credentials files. */
export function remove(context: Context): Promise<number> {
  return withApi(context, "tunnel delete", DELETE_FLAGS, async ({ api, values, folder }) => {
    if (context.positionals.length === 0) throw new UsageError("Give at least one TUNNEL, by name or id");
    const asked = values.string("credentials-file");
    // All are looked up first: a misspelt name must not leave half of them deleted.
    const ids = [];
    for (const named of context.positionals) ids.push(await findTunnel(api, named));
    for (const id of ids) {
      await deleteTunnel(api, id, values.bool("force"));
      context.note(`Deleted tunnel ${id}`);
      const path = asked === undefined ? join(folder, `${id}.json`) : expandHome(context.host, asked);
      try {
        rmSync(path, { force: true });
      } catch (error) {
        context.note(`culvert: cannot delete its credentials file "${path}": ${describe(error)}`);
      }
    }
  });
}

/** `culvert tunnel cleanup TUNNEL…`: forgets connections; connectors that live come back at once. */
export function cleanup(context: Context): Promise<number> {
  return withApi(context, "tunnel cleanup", CLEANUP_FLAGS, async ({ api, values }) => {
    if (context.positionals.length === 0) throw new UsageError("Give at least one TUNNEL, by name or id");
    const connector = values.string("connector-id");
    if (connector !== undefined && parseConnectorId(connector) === undefined) {
      throw invalid(`--connector-id "${connector}" must be a UUID: see culvert tunnel info`);
    }
    const failures: string[] = [];
    for (const named of context.positionals) {
      try {
        const id = await findTunnel(api, named);
        await cleanUpConnections(api, id, connector);
        context.note(
          `Cleaned up connections of tunnel ${id}${connector === undefined ? "" : ` and connector ${connector}`}`,
        );
      } catch (error) {
        failures.push(`${named}: ${describe(error)}`);
      }
    }
    if (failures.length > 0) throw new TunnelError("api.failed", `Cannot clean up ${failures.join("; ")}`);
  });
}
