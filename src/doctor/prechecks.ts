import { bounded } from "../connector/discovery/bounded.ts";
import type { FindAddresses } from "../connector/edges.ts";
import { describe } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import { formatAddress } from "../net/socket-errors.ts";
import type { EdgeAddress } from "../supervisor/addresses.ts";
import { type EdgeProbeOptions, type EdgeProbes, probeEdge } from "./edge-probe.ts";

/** Bounds, in ms: 10 s together (surface: section 19). */
const DNS_MS = 5_000;
const PROBE_MS = 5_000;

/** One line of the table. */
export interface Precheck {
  readonly component: "DNS Resolution" | "UDP Connectivity" | "TCP Connectivity";
  readonly target: string;
  readonly status: "pass" | "fail" | "skip";
  readonly details: string;
}

export interface Prechecks {
  readonly list: readonly Precheck[];
  /** What to do about what failed. */
  readonly advice: readonly string[];
  /** True = no connection can come about. */
  readonly hardFail: boolean;
  /** The protocol that gets through; undefined = none does. */
  readonly suggestedProtocol: "quic" | "http2" | undefined;
}

export interface PrecheckOptions extends Omit<EdgeProbeOptions, "timeoutMs"> {
  readonly findAddresses: FindAddresses;
  /** What a region of the edge is called. */
  readonly nameRegion: (region: string) => string;
  /** Why QUIC is left out, where it is. */
  readonly withoutQuic: string;
}

/**
 * Looks at what gets through to the edge: DNS, and UDP and TCP to one address of each region and family, as cloudflared
 * does at each start (protocol: section 1.9). Takes 10 s at most and never rejects.
 */
export async function runPrechecks(options: PrecheckOptions): Promise<Prechecks> {
  const { clock, signal } = options;
  let addresses: readonly EdgeAddress[];
  try {
    addresses = await bounded(options.findAddresses, { ms: DNS_MS, clock, signal });
  } catch (error) {
    const failed = { component: "DNS Resolution", target: "edge", status: "fail", details: describe(error) } as const;
    const advice = ["Make DNS work on this machine: the edge's addresses cannot be found."];
    return { list: [failed], advice, hardFail: true, suggestedProtocol: undefined };
  }
  const chosen = [...new Map(addresses.map((one) => [`${one.region} ${one.family}`, one])).values()];
  const probes = await probeEdge(chosen, { ...options, timeoutMs: PROBE_MS });
  return judge(chosen, probes, {
    nameRegion: options.nameRegion,
    withoutQuic: options.quic === undefined ? options.withoutQuic : undefined,
  });
}

/** `withoutQuic`: why it was left out; undefined = it was not. */
export function judge(
  addresses: readonly EdgeAddress[],
  { tcp, udp }: EdgeProbes,
  { nameRegion, withoutQuic }: Pick<PrecheckOptions, "nameRegion"> & { readonly withoutQuic: string | undefined },
): Prechecks {
  const regions = [...new Set(addresses.map(({ region }) => region))];
  const list: readonly Precheck[] = [
    ...regions.map((name): Precheck => {
      const found = addresses.filter(({ region }) => region === name).map(formatAddress);
      return { component: "DNS Resolution", target: nameRegion(name), status: "pass", details: found.join(", ") };
    }),
    ...(withoutQuic === undefined
      ? udp.map(({ address, end, detail }): Precheck => {
          const ok = end === "reached";
          const details = ok ? "QUIC handshake completed" : detail;
          return precheck("UDP Connectivity", address, ok, details);
        })
      : [{ component: "UDP Connectivity", target: "-", status: "skip", details: withoutQuic } as const]),
    ...tcp.map(({ address, end, certificate, detail }) => {
      const distrusted = certificate?.distrust !== undefined;
      const why = distrusted ? `The certificate from "${certificate.issuer}" is not trusted` : detail;
      const ok = end === "reached" && !distrusted;
      return precheck("TCP Connectivity", address, ok, ok ? "TLS handshake completed" : why);
    }),
  ];
  const passes = (component: Precheck["component"]): boolean =>
    list.some((one) => one.component === component && one.status === "pass");
  const [udpWorks, tcpWorks] = [passes("UDP Connectivity"), passes("TCP Connectivity")];
  const ports = [...new Set(addresses.map(({ port }) => port))].join(", ");
  const advice: string[] = [];
  if (!udpWorks && withoutQuic === undefined)
    advice.push(`Allow outbound UDP to port ${ports}, or use --protocol http2.`);
  if (!tcpWorks) advice.push(`Allow outbound TCP to port ${ports}.`);
  if (advice.length > 0) advice.push("culvert doctor says more.");
  return {
    ...{ list, advice, hardFail: !udpWorks && !tcpWorks },
    suggestedProtocol: udpWorks ? "quic" : tcpWorks ? "http2" : undefined,
  };
}

function precheck(component: Precheck["component"], address: EdgeAddress, ok: boolean, details: string): Precheck {
  return { component, target: formatAddress(address), status: ok ? "pass" : "fail", details };
}

/** Writes the table, or a line for each check where the log is JSON, and the sum of it. */
export function logPrechecks(
  { list, advice, hardFail, suggestedProtocol }: Prechecks,
  log: Logger,
  asTable: boolean,
): void {
  const runId = crypto.randomUUID();
  if (asTable) {
    for (const { text, failed } of tableOf(list, advice)) {
      if (failed) log.warn(text);
      else log.info(text);
    }
  } else {
    for (const one of list) log[one.status === "fail" ? "warn" : "info"]("precheck", { ...one, run_id: runId });
  }
  const sum = { run_id: runId, hard_fail: hardFail, suggested_protocol: suggestedProtocol };
  if (hardFail) log.warn("precheck complete", sum);
  else log.info("precheck complete", sum);
}

export interface TableLine {
  readonly text: string;
  /** It tells of something that does not get through. */
  readonly failed: boolean;
}

/** Columns as wide as what is in them. */
export function tableOf(list: readonly Precheck[], advice: readonly string[]): readonly TableLine[] {
  const rows = [
    ["COMPONENT", "TARGET", "STATUS", "DETAILS"],
    ...list.map(({ component, target, status, details }) => [component, target, status.toUpperCase(), details]),
  ];
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((row) => (row[column] ?? "").length)));
  const lines = rows.map((row) => row.map((text, column) => text.padEnd(widths[column] ?? 0)).join("  "));
  return [
    { text: "Connectivity prechecks", failed: false },
    // The head is the first row.
    ...lines.map((line, i) => ({ text: `  ${line}`.trimEnd(), failed: list[i - 1]?.status === "fail" })),
    ...advice.map((text) => ({ text, failed: true })),
  ];
}
