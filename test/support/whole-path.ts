import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { type Connector, startConnector } from "../../src/connector/connector.ts";
import { LiveRoutes } from "../../src/connector/live-routes.ts";
import { systemClock, systemRandom } from "../../src/core/clock.ts";
import { newConnectorId } from "../../src/core/ids.ts";
import { createLogger, type Logger } from "../../src/core/log.ts";
import { createAuthority, createEdgeCertificate } from "../../src/edge/certificates.ts";
import { type Edge, startEdge } from "../../src/edge/edge.ts";
import { openSqliteStore } from "../../src/edge/store/sqlite/index.ts";
import { type IngressRules, singleRule } from "../../src/ingress/rules.ts";
import type { ProxySettings } from "../../src/net/proxy-settings.ts";
import { http2 } from "../../src/transport/http2/connector.ts";
import type { Transport } from "../../src/transport/port.ts";
import { storeTunnel } from "./stored.ts";

export const HOSTNAME = "app.example.test";

export interface ConnectOptions {
  readonly rules?: IngressRules;
  readonly secret?: Uint8Array;
  readonly connections?: number;
  readonly proxy?: ProxySettings;
  /** @default HTTP/2 alone */
  readonly transports?: readonly Transport[];
  /** Port to dial instead of the edge's, of something in between. */
  readonly via?: number;
}

/** An edge and connectors in this process on real sockets; what `await using` owns. */
export interface WholePath extends AsyncDisposable {
  readonly edge: Edge;
  readonly publicPort: number;
  readonly tunnelPort: number;
  readonly lines: string[];
  /** Starts one more connector of the same tunnel. */
  connect(options?: ConnectOptions): Promise<Connector>;
  /** Stops the edge and starts another one on the same ports. */
  restartEdge(): Promise<void>;
  /** The same, letting running requests finish for `graceMs`. */
  stopEdge(graceMs: number): Promise<void>;
}

export async function startWholePath(): Promise<WholePath> {
  const lines: string[] = [];
  const log: Logger = createLogger({
    level: "debug",
    format: "default",
    wallMs: systemClock.wallMs,
    write: (line) => void lines.push(line),
  });
  const authority = createAuthority(Date.now());
  const store = openSqliteStore(":memory:", randomBytes(32));
  const tunnelSecret = randomBytes(32);
  const tunnel = storeTunnel(store, "test", { hostnames: [HOSTNAME], secret: tunnelSecret });
  const certificate = createEdgeCertificate(authority, [], Date.now());
  const start = (httpPort: number, tunnelPort: number): Promise<Edge> =>
    startEdge(
      {
        store,
        certificate,
        http: { host: "127.0.0.1", port: httpPort },
        tunnel: { host: "127.0.0.1", port: tunnelPort },
        location: "test01",
        trustedProxies: [],
      },
      { clock: systemClock, log },
    );
  let edge = await start(0, 0);
  const publicPort = portOf(edge.publicAddress);
  const tunnelPort = portOf(edge.tunnelAddress);
  const connectors: Connector[] = [];
  return {
    get edge() {
      return edge;
    },
    publicPort,
    tunnelPort,
    lines,
    connect: async (options = {}) => {
      const connectorId = newConnectorId();
      const connections = options.connections ?? 4;
      const connector = await startConnector(
        {
          identity: {
            accountTag: tunnel.accountTag,
            tunnelId: tunnel.id,
            tunnelSecret: options.secret ?? tunnelSecret,
          },
          connectorId,
          findAddresses: () =>
            Promise.resolve(
              Array.from({ length: connections }, (_, i) => {
                const host = "127.0.0.1";
                return {
                  id: `${i}`,
                  host,
                  port: options.via ?? tunnelPort,
                  region: `region${(i % 2) + 1}`,
                  family: 4,
                } as const;
              }),
            ),
          target: ({ host, port }) => ({ host, port, ca: authority.cert, proxy: options.proxy }),
          transports: options.transports ?? [http2],
          routes: new LiveRoutes(options.rules ?? singleRule({ kind: "hello_world" }), {
            clock: systemClock,
            tags: [["ID", connectorId]],
            readFile: (file) => readFileSync(file, "utf8"),
            log,
          }),
          haConnections: connections,
          maxConnections: undefined,
          retries: 5,
          transportTries: 1,
          gracePeriodMs: 10_000,
          rpcTimeoutMs: 5_000,
          metrics: { host: "127.0.0.1", port: 0 },
          version: "0.0.0-test",
          platform: "linux",
          arch: "x64",
        },
        { clock: systemClock, random: systemRandom, log },
      );
      connectors.push(connector);
      return connector;
    },
    stopEdge: (graceMs) => edge.close(graceMs),
    restartEdge: async () => {
      await edge.close(0);
      edge = await start(publicPort, tunnelPort);
    },
    [Symbol.asyncDispose]: async () => {
      for (const connector of connectors) connector.stopNow();
      await Promise.all(connectors.map((connector) => connector.finished));
      await edge.close(0);
      store.close();
    },
  };
}

function portOf(address: string): number {
  return Number(address.slice(address.lastIndexOf(":") + 1));
}
