import { hostname, networkInterfaces } from "node:os";
import type { Clock } from "../../core/clock.ts";
import { es256Verifier, parsePublicKey } from "../../core/es256.ts";
import type { ConnectorId, TunnelId } from "../../core/ids.ts";
import type { Logger } from "../../core/log.ts";
import type { Route, Router } from "../../proxy/proxy.ts";
import type { LiveLog } from "./live-log.ts";
import { profilePage } from "./profiles.ts";
import { createManagementService, type ManagementPage } from "./service.ts";

/** Number of the rule that is in front of all others. */
const INTERNAL_RULE = -1;

/** What of the management host is configured. */
export interface ManagementOptions {
  /** Requests for this name are for the connector itself. */
  readonly hostname: string;
  /** Show metrics and profiles too. */
  readonly diagnostics: boolean;
  /** Shown instead of the name of this machine. */
  readonly label: string | undefined;
  /** The edge's public key, as its tokens for connectors have it; undefined = not known. */
  readonly edgeKey: string | undefined;
  /** Takes the lines of the log that connector and edge write. */
  readonly live: LiveLog;
}

/** Puts the management host in front of all rules (protocol: section 8). */
export function withManagement(
  route: Router,
  options: ManagementOptions,
  deps: {
    readonly tunnelId: TunnelId;
    readonly connectorId: ConnectorId;
    readonly clock: Clock;
    readonly log: Logger;
    /** Address of this machine towards the edge; undefined = not known at present. */
    readonly localIp: () => string | undefined;
    readonly metrics: () => ManagementPage;
  },
): Router {
  const { tunnelId, connectorId, localIp } = deps;
  const key = options.edgeKey === undefined ? undefined : parsePublicKey(options.edgeKey);
  const service = createManagementService(
    {
      tunnelId,
      live: options.live,
      // With a key that nobody can read nobody can show that a token is good.
      verify: options.edgeKey === undefined ? undefined : key === undefined ? () => false : es256Verifier(key),
      hostDetails: () => {
        const ip = localIp() ?? firstAddress();
        const shown = options.label === undefined ? hostname() : `custom:${options.label}`;
        return { connector_id: connectorId, ...(ip === undefined ? {} : { ip }), hostname: shown };
      },
      diagnostics: async (url, signal) => {
        if (!options.diagnostics) return undefined;
        if (url.pathname === "/metrics") return deps.metrics();
        const body = await profilePage(url, deps.clock, signal);
        return body === undefined ? undefined : { type: "application/json", body };
      },
    },
    deps,
  );
  const own: Route = { ruleIndex: INTERNAL_RULE, service, headers: { hostHeader: undefined, tags: [] } };
  const name = options.hostname.toLowerCase();
  return (host, path) => (isFor(name, host) ? own : route(host, path));
}

/** Whether an authority is this name, with whatever port. */
function isFor(name: string, authority: string): boolean {
  return authority.toLowerCase().replace(/:\d*$/, "").replace(/\.$/, "") === name;
}

/** An address of this machine that others can reach, where the connection to the edge does not tell which it uses. */
function firstAddress(): string | undefined {
  const outside = Object.values(networkInterfaces()).flatMap((all) => (all ?? []).filter(({ internal }) => !internal));
  return (outside.find(({ family }) => family === "IPv4") ?? outside[0])?.address;
}
