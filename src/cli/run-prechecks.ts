import type { RunConfig } from "../config/run-config.ts";
import { createSystemDns } from "../connector/discovery/dns.ts";
import { createFindAddresses, nameRegion } from "../connector/edges.ts";
import { systemClock, systemRandom } from "../core/clock.ts";
import { type Logger, silentLogger } from "../core/log.ts";
import { logPrechecks, runPrechecks } from "../doctor/prechecks.ts";
import { http2 } from "../transport/http2/connector.ts";
import { wayToEdge } from "./edge-way.ts";

/** Looks at what gets through to the edge, beside the start, which does not wait for it; tells of it in the log. */
export function startPrechecks(config: RunConfig, log: Logger, signal: AbortSignal): void {
  const { isProxied, proxy, target, transports = [] } = wayToEdge(config);
  const deps = { clock: systemClock, random: systemRandom, log: silentLogger, dns: createSystemDns(), isProxied };
  const checks = runPrechecks({
    ...{ target, signal, clock: systemClock, tlsServerName: http2.tlsServerName },
    findAddresses: createFindAddresses(config.edge, deps),
    nameRegion: (region) => nameRegion(config.edge, region),
    quic: transports.find(({ name }) => name === "quic"),
    withoutQuic: proxy === undefined ? "--protocol http2 is set" : "QUIC cannot go through a proxy",
  });
  void checks.then((done) => {
    if (!signal.aborted) logPrechecks(done, log, config.logFormat === "default");
  });
}
