import { z } from "zod";
import { parseRemoteRules } from "../../../ingress/remote-rules.ts";
import { MAX_CONFIGURATION_BYTES, type StoredConfiguration, type StoredTunnel } from "../../store/port.ts";
import type { ApiDeps } from "../deps.ts";
import { type AnyEndpoint, endpoint } from "../endpoint.ts";
import { CODE, Problem } from "../problem.ts";
import { tunnelOf } from "./tunnels.ts";

/** Rules that the edge pushes to a tunnel's connectors (protocol: section 6). */

const Config = z.looseObject({
  ingress: z.array(z.looseObject({ service: z.string() })).optional(),
  originRequest: z.looseObject({}).optional(),
});

const Configuration = z.object({
  account_id: z.string(),
  tunnel_id: z.string(),
  version: z.number().int(),
  config: z.looseObject({}).nullable(),
  source: z.enum(["cloudflare", "local"]),
  created_at: z.string(),
});

export function configurationEndpoints(deps: ApiDeps): readonly AnyEndpoint[] {
  const { store } = deps;
  return [
    endpoint({
      method: "GET",
      path: "/accounts/{account_id}/cfd_tunnel/{tunnel_id}/configurations",
      scope: "tunnels:read",
      summary: "The rules of a remotely managed tunnel",
      result: Configuration,
      handle: ({ account, params }) => {
        const tunnel = tunnelOf(deps, account, params);
        return { result: show(tunnel, store.configurations.current(tunnel.id)) };
      },
    }),

    endpoint({
      method: "PUT",
      path: "/accounts/{account_id}/cfd_tunnel/{tunnel_id}/configurations",
      scope: "tunnels:write",
      summary: "Give a tunnel new rules: its connectors get them at once, and its own config files no longer count",
      body: z.object({ config: Config }),
      result: Configuration,
      handle: ({ account, params, body, actor }) => {
        const tunnel = tunnelOf(deps, account, params);
        const text = JSON.stringify(body.config);
        if (Buffer.byteLength(text) > MAX_CONFIGURATION_BYTES) {
          throw new Problem(413, CODE.tooLarge, `The configuration is longer than ${MAX_CONFIGURATION_BYTES} bytes`);
        }
        // A connector would refuse it as a whole; whoever writes it should hear so now.
        const parsed = parseRemoteRules(text);
        if ("errors" in parsed) throw new Problem(400, CODE.invalid, parsed.errors.join("; "));
        const stored = store.configurations.put(tunnel.id, text, actor);
        return { result: show({ ...tunnel, configSource: "remote" }, stored) };
      },
    }),
  ];
}

function show(tunnel: StoredTunnel, stored: StoredConfiguration | undefined): z.infer<typeof Configuration> {
  return {
    account_id: tunnel.accountTag,
    tunnel_id: tunnel.id,
    version: stored?.version ?? 0,
    config: stored === undefined ? null : z.looseObject({}).parse(JSON.parse(stored.config)),
    source: tunnel.configSource === "remote" ? "cloudflare" : "local",
    created_at: new Date(stored?.createdAtMs ?? tunnel.createdAtMs).toISOString(),
  };
}
