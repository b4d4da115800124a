import { statSync } from "node:fs";
import { systemClock } from "../core/clock.ts";
import { TunnelError } from "../core/errors.ts";
import { createEdgeControl } from "../edge/control/client.ts";
import { loadAdvertised } from "../edge/state-dir.ts";
import type { Context } from "./command.ts";
import { EDGE_STATUS_FLAGS } from "./edge-flags.ts";
import { withEdgeState } from "./edge-state.ts";

/** `culvert edge status`: whether it runs, what it serves, and with `--check` whether its state is sound. */
export function status(context: Context): Promise<number> {
  return withEdgeState(context, "edge status", EDGE_STATUS_FLAGS, { make: false }, async ({ store, state, values }) => {
    const served = await createEdgeControl(state.dir, { clock: systemClock }).served();
    const tunnels = store.tunnels.find({ deleted: false }, { offset: 0, limit: 0 }).total;
    const connections = [...(served?.values() ?? [])].flat().reduce((sum, { count }) => sum + count, 0);
    const damages = values.bool("check") ? store.check() : undefined;
    const shown = {
      stateDir: state.dir,
      running: served !== undefined,
      tunnels,
      connectedTunnels: served?.size ?? 0,
      connections,
      hostnames: store.hostnames.find({}, { offset: 0, limit: 0 }).total,
      databaseBytes: statSync(state.databasePath).size,
      advertised: loadAdvertised(state),
      ...(damages === undefined ? {} : { damages }),
    };
    if (values.bool("json")) context.print(JSON.stringify(shown));
    else {
      context.print(`State directory:  ${shown.stateDir} (${Math.ceil(shown.databaseBytes / 1024)} KiB)`);
      context.print(`Running:          ${shown.running ? "yes" : "no"}`);
      context.print(`Connectors dial:  ${shown.advertised.join(", ") || "- (it has not run yet)"}`);
      context.print(`Tunnels:          ${tunnels}, ${shown.connectedTunnels} connected by ${connections} connections`);
      context.print(`Hostnames:        ${shown.hostnames}`);
      if (damages !== undefined) context.print(`State is sound:   ${damages.length === 0 ? "yes" : "NO"}`);
      for (const damage of damages ?? []) context.print(`  ${damage}`);
    }
    if (damages !== undefined && damages.length > 0) {
      throw new TunnelError("store.failed", "The state is damaged: restore a backup with culvert edge restore FILE");
    }
  });
}
