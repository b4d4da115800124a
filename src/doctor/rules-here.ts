import { fetchPage, fieldsOf, type LocalConnector } from "../diag/local-status.ts";
import { parseRemoteRules } from "../ingress/remote-rules.ts";
import type { IngressRules } from "../ingress/rules.ts";
import { formatAddress } from "../net/socket-errors.ts";

/** What a connector of the tunnel, which runs on this machine, says of its rules. */
export interface RulesHere {
  /** Which connector, in words. */
  readonly from: string;
  /** Undefined = it does not tell, or its words cannot be read. */
  readonly rules: IngressRules | undefined;
}

/** Between the services of one rule, which are told in one text. */
const NEXT_SERVICE = /,(?=[a-z][a-z0-9+]*:)/;

/**
 * Asks the first connector of this tunnel for the rules that it serves by (`/config`, surface: section 15); undefined =
 * none was found. Never rejects.
 */
export async function readRulesHere(
  connectors: readonly LocalConnector[],
  tunnelId: string | undefined,
  timeoutMs: number,
): Promise<RulesHere | undefined> {
  const ours = connectors.find((one) => tunnelId !== undefined && one.tunnelId === tunnelId);
  if (ours === undefined) return undefined;
  const page = await fetchPage(ours.address, "/config", { timeoutMs, auth: ours.auth });
  const { config } = fieldsOf(page?.status === 200 ? page : undefined);
  const read = isRecord(config) ? parseRemoteRules(JSON.stringify(asPushed(config))) : { errors: [] };
  const from = `the connector at ${formatAddress(ours.address)}`;
  return { from, rules: "rules" in read ? read.rules : undefined };
}

/** Several services of one rule as an edge would say them. */
function asPushed({ ingress, ...others }: Readonly<Record<string, unknown>>): unknown {
  if (!Array.isArray(ingress)) return others;
  const rules = ingress.map((rule: unknown) => {
    if (!isRecord(rule) || typeof rule["service"] !== "string") return rule;
    const { service, ...rest } = rule;
    const services = String(service).split(NEXT_SERVICE);
    return services.length === 1 ? rule : { ...rest, services };
  });
  return { ...others, ingress: rules };
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
