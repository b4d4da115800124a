import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { CONNECTORS, type ConnectorKind, culvertConnector, startConnector } from "../support/lab.ts";
import { pollUntil } from "../support/poll-until.ts";
import { startPushingEdge } from "../support/pushing-edge.ts";
import { makeTempDir } from "../support/temp-dir.ts";

/** Rules that both programs read alike, with settings of every type. */
const CONFIG = `
metrics-update-freq: 90s
warp-routing: { enabled: true, connectTimeout: 3s }
originRequest:
  connectTimeout: 20s
  noTLSVerify: true
ingress:
  - hostname: a.example.com
    path: ^/api
    service: http://localhost:8080
    originRequest:
      connectTimeout: 1500ms
      tlsTimeout: 1m30s
      keepAliveConnections: 3
      httpHostHeader: inner.example
      originServerName: tls.example
      http2Origin: true
      disableChunkedEncoding: true
      access: { required: true, teamName: team, audTag: [one, two] }
  - hostname: "*.b.example.com"
    service: tcp://localhost:22
    originRequest:
      proxyType: socks
      ipRules: [{ prefix: 10.0.0.0/8, ports: [80, 443], allow: true }]
  - hostname: fed.example.com
    service: unix:/run/app.sock
    originRequest:
      noHappyEyeballs: true
      access: { required: false, teamName: team, audTag: [one] }
  - hostname: hello.example.com
    service: hello_world
  - service: http_status:404
`;
const FLAGS = ["--no-autoupdate", "--loglevel", "warn", "--transport-loglevel", "error", "--edge-ip-version", "4"];
const VARIABLES = { TUNNEL_RETRIES: "7" };

interface Told {
  readonly features: readonly string[];
  readonly report: Record<string, unknown>;
}

/** What a connector tells an edge of itself. */
async function told(kind: ConnectorKind): Promise<Told> {
  await using edge = await startPushingEdge({ remotelyManaged: false });
  using dir = makeTempDir();
  const config = join(dir.path, "config.yml");
  writeFileSync(config, CONFIG);
  const { token, tunnelPort, caPath } = edge;
  // The other's command line has it already.
  const flags = ["--config", config, ...FLAGS.slice(kind.ours ? 0 : 1)];
  await using _connector = startConnector(kind, { token, tunnelPort, caPath, flags, env: VARIABLES });
  const report = await pollUntil(() => edge.reported[0], { what: `${kind.name} reports`, deadlineMs: 15_000 });
  return { features: [...edge.features].sort(), report: report as Told["report"] };
}

for (const theirs of CONNECTORS.filter(({ ours }) => !ours)) {
  test.skipIf(theirs.missing !== undefined)(
    `an edge is told the same of local rules as by ${theirs.name}`,
    async () => {
      const expected = await told(theirs);
      const got = await told(culvertConnector(theirs.protocol));
      const { "warp-routing": theirNetwork, ...theirReport } = expected.report;
      const { "warp-routing": ourNetwork, ...ourReport } = got.report;
      expect(ourReport).toEqual(theirReport);
      expect(Object.keys(ourReport["__configuration_flags"] as object).length).toBeGreaterThan(5);
      // Newer cloudflared opens the network to everybody and does not say so; here, and in older ones, it takes a word.
      expect(ourNetwork).toEqual({ enabled: true, ...(theirNetwork as object) });
      // What is announced is what an edge may use: nothing that only the other can do, and our own under our own name.
      const usual = got.features.filter((name) => !name.startsWith("culvert_"));
      expect(expected.features).toEqual(expect.arrayContaining(usual));
      expect(usual).toEqual(expect.arrayContaining(["allow_remote_config", "serialized_headers", "support_quic_eof"]));
    },
    30_000,
  );
}
