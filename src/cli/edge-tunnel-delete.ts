import { systemClock } from "../core/clock.ts";
import { TunnelError } from "../core/errors.ts";
import { printable } from "../core/printable.ts";
import { createEdgeControl } from "../edge/control/client.ts";
import type { Context } from "./command.ts";
import { EDGE_TUNNEL_DELETE_FLAGS } from "./edge-flags.ts";
import { pickAnyTunnel } from "./edge-pick.ts";
import { withEdgeState } from "./edge-state.ts";
import { UsageError } from "./management.ts";
import { operator } from "./operator.ts";

/** `culvert edge tunnel delete TUNNEL…`: with their hostnames, also quick tunnels; a running edge hangs up on them. */
export function remove(context: Context): Promise<number> {
  return withEdgeState(
    context,
    "edge tunnel delete",
    EDGE_TUNNEL_DELETE_FLAGS,
    { make: false },
    async ({ store, state, values }) => {
      if (context.positionals.length === 0) throw new UsageError("Give at least one TUNNEL, by name or id");
      // All are looked up first: a misspelt name must not leave half of them deleted.
      const tunnels = context.positionals.map((asked) => pickAnyTunnel(store, asked));
      if (!values.bool("force")) {
        const control = createEdgeControl(state.dir, { clock: systemClock });
        for (const { id, name } of tunnels) {
          if (((await control.connectors(id)) ?? []).length === 0) continue;
          const advice = "stop its connectors first, or delete it with --force, which cuts them off";
          throw new TunnelError(
            "store.conflict",
            `Cannot delete tunnel "${printable(name)}": it is connected: ${advice}`,
          );
        }
      }
      for (const { id, name } of new Map(tunnels.map((tunnel) => [tunnel.id, tunnel])).values()) {
        store.tunnels.remove(id, operator());
        context.note(`Deleted tunnel ${printable(name)} (${id})`);
      }
    },
  );
}
