import { statSync } from "node:fs";
import { systemClock } from "../core/clock.ts";
import { TunnelError } from "../core/errors.ts";
import { createEdgeControl } from "../edge/control/client.ts";
import type { EdgeNumbers } from "../edge/control/stats.ts";
import { loadAdvertised } from "../edge/state-dir.ts";
import type { Context } from "./command.ts";
import { EDGE_STATUS_FLAGS } from "./edge-flags.ts";
import { withEdgeState } from "./edge-state.ts";
import { renderTable } from "./management.ts";
import { bytes, formatTime } from "./top-frame.ts";

/** `culvert edge status`: whether it runs, what it serves, and with `--check` whether its state is sound. */
export function status(context: Context): Promise<number> {
  return withEdgeState(context, "edge status", EDGE_STATUS_FLAGS, { make: false }, async ({ store, state, values }) => {
    const control = createEdgeControl(state.dir, { clock: systemClock });
    const served = await control.served();
    const edge = served === undefined ? undefined : await control.numbers();
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
      ...(edge === undefined ? {} : { edge }),
      ...(damages === undefined ? {} : { damages }),
    };
    if (values.bool("json")) context.print(JSON.stringify(shown));
    else {
      context.print(`State directory:  ${shown.stateDir} (${Math.ceil(shown.databaseBytes / 1024)} KiB)`);
      context.print(`Running:          ${shown.running ? runningText(edge) : "no"}`);
      context.print(`Connectors dial:  ${shown.advertised.join(", ") || "- (it has not run yet)"}`);
      context.print(`Tunnels:          ${tunnels}, ${shown.connectedTunnels} connected by ${connections} connections`);
      context.print(`Hostnames:        ${shown.hostnames}`);
      if (damages !== undefined) context.print(`State is sound:   ${damages.length === 0 ? "yes" : "NO"}`);
      for (const damage of damages ?? []) context.print(`  ${damage}`);
      if (edge !== undefined) for (const line of edgeLines(edge)) context.print(line);
    }
    if (damages !== undefined && damages.length > 0) {
      throw new TunnelError("store.failed", "The state is damaged: restore a backup with culvert edge restore FILE");
    }
  });
}

function runningText(edge: EdgeNumbers | undefined): string {
  if (edge === undefined) return "yes";
  return `yes, ${edge.location} for ${formatTime(edge.uptimeMs)}, version ${edge.version}`;
}

/** Where it listens, what it did, and each tunnel that has been connected or asked. */
function edgeLines({ addresses, visitors, list, more, protocols }: EdgeNumbers): readonly string[] {
  const { http, https, tunnel, api, metrics, inspect } = addresses;
  const failed = visitors.answers[5] + visitors.answers[0];
  const lines = [
    `Visitors come:    http://${http}${https === null ? "" : `, https://${https}`}`,
    `Connectors come:  ${tunnel} over ${protocols.join(", ")}`,
    `API, dashboard:   ${api ?? "off"}`,
    `Metrics:          ${metrics === null ? "off" : `http://${metrics}/metrics`}`,
    ...(inspect === null ? [] : [`Inspector:        ${inspect}`]),
    `Requests:         ${visitors.requests}, ${failed} failed, ${visitors.limited} limited, ${visitors.retries} retried; ${visitors.openConnections} visitors connected`,
  ];
  if (list.length === 0) return lines;
  const rows = list.map((one) => [
    ...[one.name, one.status, String(one.connectors), String(one.connections)],
    ...[String(one.requests), String(one.answers[5]), bytes(one.bytesIn), bytes(one.bytesOut)],
  ]);
  const head = ["TUNNEL", "STATE", "CONNECTORS", "CONNECTIONS", "REQUESTS", "5XX", "IN", "OUT"];
  return [...lines, "", ...renderTable([head, ...rows]), ...(more === 0 ? [] : [`and ${more} more`])];
}
