import type { Flag } from "./flags.ts";

/** A row: name, type, then what differs from a hidden flag that the config file may set too. */
type Row = readonly [name: string, type: Flag["type"], rest?: Partial<Flag>];

/** cloudflared takes these and does nothing, or nothing that this program has. */
const NEVER: readonly Row[] = [
  ["is-autoupdated", "bool"],
  ["write-stream-timeout", "duration", { env: ["TUNNEL_STREAM_WRITE_TIMEOUT"] }],
  ["quic-disable-pmtu-discovery", "bool", { env: ["TUNNEL_DISABLE_QUIC_PMTU"] }],
  ["quic-connection-level-flow-control-limit", "int", { env: ["TUNNEL_QUIC_CONN_LEVEL_FLOW_CONTROL_LIMIT"] }],
  ["quic-stream-level-flow-control-limit", "int", { env: ["TUNNEL_QUIC_STREAM_LEVEL_FLOW_CONTROL_LIMIT"] }],
  ["service-op-ip", "string", { env: ["TUNNEL_SERVICE_OP_IP"] }],
  ["api-key", "string", { env: ["TUNNEL_API_KEY"], secret: true }],
  ["api-email", "string", { env: ["TUNNEL_API_EMAIL"] }],
  ["api-ca-key", "string", { env: ["TUNNEL_API_CA_KEY"], secret: true }],
  ["metrics-update-freq", "duration", { env: ["TUNNEL_METRICS_UPDATE_FREQ"] }],
  ["heartbeat-interval", "duration"],
  ["heartbeat-count", "int"],
  ["compression-quality", "int", { env: ["TUNNEL_COMPRESSION_LEVEL"] }],
  ["use-reconnect-token", "bool", { env: ["TUNNEL_USE_RECONNECT_TOKEN"] }],
  ["dial-edge-timeout", "duration", { env: ["DIAL_EDGE_TIMEOUT"] }],
  ["ui", "bool"],
  ["id", "string", { env: ["TUNNEL_ID"] }],
  ["proxy-address", "string", { env: ["TUNNEL_PROXY_ADDRESS"] }],
  ["proxy-port", "int", { env: ["TUNNEL_PROXY_PORT"] }],
  ["proxy-connection-timeout", "duration"],
  ["proxy-expect-continue-timeout", "duration"],
  ["proxy-dns-port", "int"],
  ["proxy-dns-address", "string"],
  ["proxy-dns-upstream", "list"],
  ["proxy-dns-max-upstream-conns", "int"],
  ["proxy-dns-bootstrap", "list"],
  ["ssh-server", "bool", { env: ["TUNNEL_SSH_SERVER"] }],
  ["local-ssh-port", "string", { env: ["LOCAL_SSH_PORT"] }],
  ["ssh-idle-timeout", "duration", { env: ["SSH_IDLE_TIMEOUT"] }],
  ["ssh-max-timeout", "duration", { env: ["SSH_MAX_TIMEOUT"] }],
  ["bucket-name", "string", { env: ["BUCKET_ID"] }],
  ["region-name", "string", { env: ["REGION_ID"] }],
  ["secret-id", "string", { env: ["SECRET_ID"], secret: true }],
  ["access-key-id", "string", { env: ["ACCESS_CLIENT_ID"], secret: true }],
  ["session-token", "string", { env: ["SESSION_TOKEN_ID"], secret: true }],
  ["s3-url-host", "string", { env: ["S3_URL"] }],
  ["host-key-path", "string", { env: ["HOST_KEY_PATH"] }],
];

/** cloudflared acts on these and this release does not, which whoever sets one has to know. */
const LATER: readonly Row[] = [
  ["name", "string", { aliases: ["n"], env: ["TUNNEL_NAME"] }],
  ["hostname", "string", { env: ["TUNNEL_HOSTNAME"] }],
  ["lb-pool", "string", { env: ["TUNNEL_LB_POOL"] }],
  ["overwrite-dns", "bool", { aliases: ["f"], env: ["TUNNEL_FORCE_PROVISIONING_DNS"], file: false }],
  ["trace-output", "string", { env: ["TUNNEL_TRACE_OUTPUT"] }],
  ["stdin-control", "bool", { env: ["STDIN_CONTROL"] }],
  ["proxy-dns", "bool"],
];

const RUN_LATER: readonly Row[] = [
  ["features", "list", { aliases: ["F"] }],
  ["icmpv4-src", "string", { env: ["TUNNEL_ICMPV4_SRC"], file: false }],
  ["icmpv6-src", "string", { env: ["TUNNEL_ICMPV6_SRC"], file: false }],
  ["dns-resolver-addrs", "list", { env: ["TUNNEL_DNS_RESOLVER_ADDRS"], file: false }],
];

/** cloudflared's flags of `tunnel` that have no effect here (surface: sections 2.1 to 2.5). */
export const TUNNEL_COMPAT_FLAGS: readonly Flag[] = [...toFlags(NEVER, "never"), ...toFlags(LATER, "later")];

/** The same of `tunnel run` alone (surface: section 3.1). */
export const RUN_COMPAT_FLAGS: readonly Flag[] = toFlags(RUN_LATER, "later");

function toFlags(rows: readonly Row[], inert: "never" | "later"): readonly Flag[] {
  const help = inert === "never" ? "Accepted, without effect" : "Not acted on by this release";
  return rows.map(([name, type, rest]) => ({ name, type, file: true, hidden: true, inert, help, ...rest }));
}
