/**
 * Every flag there is, in one table: arguments, environment, config file and help all come from it. Names, aliases,
 * variables and defaults are cloudflared's (surface: section 2).
 */
export interface Flag {
  readonly name: string;
  readonly aliases?: readonly string[];
  /** Variables that set it, the first that is set wins. */
  readonly env?: readonly string[];
  readonly type: "bool" | "int" | "duration" | "string" | "list";
  /** As it would be written on the command line; absent = not set. */
  readonly default?: string;
  /** May stand in the config file under its name. */
  readonly file?: boolean;
  readonly hidden?: boolean;
  /** Accepted for compatibility, without effect: `never` matters here; `later` is worth a warning when it is set. */
  readonly inert?: "never" | "later";
  /** Never shown: a credential. */
  readonly secret?: boolean;
  /** What the value is, in capitals, for help. */
  readonly value?: string;
  readonly help: string;
}

/** Accepted before and behind `tunnel` and its subcommands. */
export const TUNNEL_FLAGS = [
  { name: "config", type: "string", value: "FILE", help: "Configuration file in YAML" },
  {
    name: "edge",
    env: ["TUNNEL_EDGE"],
    type: "list",
    file: true,
    value: "HOST:PORT",
    help: "Address of the edge; repeat it for more connections",
  },
  {
    name: "edge-proxy",
    env: ["TUNNEL_EDGE_PROXY"],
    type: "string",
    file: true,
    secret: true,
    value: "URL",
    help: "Proxy on the way to the edge: http://[user:password@]host:port or socks5://…; default: $HTTPS_PROXY, $ALL_PROXY",
  },
  {
    name: "cacert",
    env: ["TUNNEL_CACERT"],
    type: "string",
    file: true,
    value: "FILE",
    help: "Certificate authorities to trust for the edge, in PEM",
  },
  {
    name: "protocol",
    aliases: ["p"],
    env: ["TUNNEL_TRANSPORT_PROTOCOL"],
    type: "string",
    default: "auto",
    file: true,
    value: "NAME",
    help: "Transport to the edge: quic, http2, or auto = QUIC where it gets through",
  },
  {
    name: "metrics",
    env: ["TUNNEL_METRICS"],
    type: "string",
    file: true,
    value: "HOST:PORT",
    help: "Where to serve metrics and readiness; default: the first free port from 20241 to 20245 on localhost",
  },
  {
    name: "loglevel",
    env: ["TUNNEL_LOGLEVEL"],
    type: "string",
    default: "info",
    file: true,
    value: "LEVEL",
    help: "debug, info, warn, error or fatal",
  },
  {
    name: "output",
    env: ["TUNNEL_MANAGEMENT_OUTPUT", "TUNNEL_LOG_OUTPUT"],
    type: "string",
    default: "default",
    value: "FORMAT",
    help: "Format of log lines: default or json",
  },
  {
    name: "grace-period",
    env: ["TUNNEL_GRACE_PERIOD"],
    type: "duration",
    default: "30s",
    file: true,
    value: "TIME",
    help: "How long running requests may go on after SIGTERM; at most 3m",
  },
  {
    name: "retries",
    env: ["TUNNEL_RETRIES"],
    type: "int",
    default: "5",
    file: true,
    value: "N",
    help: "How often the wait between connection attempts doubles; attempts never end",
  },
  {
    name: "ha-connections",
    type: "int",
    default: "4",
    file: true,
    value: "N",
    help: "Connections to the edge, at most one for each of its addresses",
  },
  {
    name: "rpc-timeout",
    type: "duration",
    default: "5s",
    file: true,
    hidden: true,
    help: "Time the edge has for one answer",
  },
  {
    name: "pidfile",
    env: ["TUNNEL_PIDFILE"],
    type: "string",
    file: true,
    value: "FILE",
    help: "Written once the first connection is registered",
  },
  {
    name: "tag",
    env: ["TUNNEL_TAG"],
    type: "list",
    file: true,
    value: "KEY=VALUE",
    help: "Adds a header Cf-Warp-Tag-KEY to each request",
  },
  {
    name: "post-quantum",
    aliases: ["pq"],
    env: ["TUNNEL_POST_QUANTUM"],
    type: "bool",
    file: true,
    hidden: true,
    help: "Only post-quantum key exchange; needs QUIC",
  },
  {
    name: "region",
    env: ["TUNNEL_REGION"],
    type: "string",
    file: true,
    hidden: true,
    help: "Region of Cloudflare's edge; without effect next to --edge",
  },
  {
    name: "edge-ip-version",
    env: ["TUNNEL_EDGE_IP_VERSION"],
    type: "string",
    default: "auto",
    file: true,
    hidden: true,
    help: "4, 6 or auto; without effect next to --edge",
  },
  {
    name: "edge-bind-address",
    env: ["TUNNEL_EDGE_BIND_ADDRESS"],
    type: "string",
    file: true,
    hidden: true,
    value: "IP",
    help: "Address of this machine to connect to the edge from",
  },
  {
    name: "max-edge-addr-retries",
    type: "int",
    default: "1",
    file: true,
    hidden: true,
    value: "N",
    help: "Failures of a connection after which it tries another transport",
  },
] as const satisfies readonly Flag[];

/** Of `tunnel run` alone. */
export const RUN_FLAGS = [
  {
    name: "token",
    env: ["TUNNEL_TOKEN"],
    type: "string",
    file: true,
    secret: true,
    value: "TOKEN",
    help: "Token of the tunnel",
  },
  {
    name: "token-file",
    env: ["TUNNEL_TOKEN_FILE"],
    type: "string",
    file: true,
    value: "FILE",
    help: "File that holds the token",
  },
  {
    name: "credentials-contents",
    env: ["TUNNEL_CRED_CONTENTS"],
    type: "string",
    file: true,
    secret: true,
    hidden: true,
    help: "Credentials as a text",
  },
  {
    name: "max-active-flows",
    env: ["TUNNEL_MAX_ACTIVE_FLOWS"],
    type: "int",
    hidden: true,
    value: "N",
    help: "Private network streams at once, whatever warp-routing says; 0 = no bound",
  },
] as const satisfies readonly Flag[];

/** The credentials, and the one service of a tunnel without rules (surface: section 2.4); known wherever TUNNEL_FLAGS are. */
export const ORIGIN_FLAGS = [
  {
    name: "credentials-file",
    aliases: ["cred-file"],
    env: ["TUNNEL_CRED_FILE"],
    type: "string",
    file: true,
    value: "FILE",
    help: "Credentials of the tunnel, in JSON",
  },
  {
    name: "url",
    env: ["TUNNEL_URL"],
    type: "string",
    file: true,
    value: "URL",
    help: "The one service of this tunnel, such as http://localhost:8080",
  },
  {
    name: "hello-world",
    env: ["TUNNEL_HELLO_WORLD"],
    type: "bool",
    file: true,
    help: "Serve a built-in page instead of a service",
  },
  {
    name: "http-host-header",
    env: ["TUNNEL_HTTP_HOST_HEADER"],
    type: "string",
    file: true,
    value: "HOST",
    help: "Host header that the service gets",
  },
  {
    name: "origin-server-name",
    env: ["TUNNEL_ORIGIN_SERVER_NAME"],
    type: "string",
    file: true,
    value: "NAME",
    help: "Name in the service's certificate",
  },
  {
    name: "origin-ca-pool",
    env: ["TUNNEL_ORIGIN_CA_POOL"],
    type: "string",
    file: true,
    value: "FILE",
    help: "Authorities to trust for the service, in PEM",
  },
  {
    name: "no-tls-verify",
    env: ["NO_TLS_VERIFY"],
    type: "bool",
    file: true,
    help: "Accept any certificate of the service",
  },
  {
    name: "proxy-connect-timeout",
    type: "duration",
    default: "30s",
    file: true,
    value: "TIME",
    help: "Time for a connection to the service",
  },
  {
    name: "proxy-tls-timeout",
    type: "duration",
    default: "10s",
    file: true,
    value: "TIME",
    help: "Time for its TLS handshake",
  },
  {
    name: "proxy-tcp-keepalive",
    type: "duration",
    default: "30s",
    file: true,
    value: "TIME",
    help: "Idle time before the system probes the service",
  },
  {
    name: "proxy-keepalive-connections",
    type: "int",
    default: "100",
    file: true,
    value: "N",
    help: "Idle connections kept to the service",
  },
  {
    name: "proxy-keepalive-timeout",
    type: "duration",
    default: "90s",
    file: true,
    value: "TIME",
    help: "How long they are kept",
  },
  {
    name: "unix-socket",
    env: ["TUNNEL_UNIX_SOCKET"],
    type: "string",
    file: true,
    hidden: true,
    value: "PATH",
    help: "The one service, behind a Unix socket",
  },
  {
    name: "bastion",
    env: ["TUNNEL_BASTION"],
    type: "bool",
    file: true,
    hidden: true,
    help: "Serve as a jump host",
  },
  {
    name: "socks5",
    env: ["TUNNEL_SOCKS"],
    type: "bool",
    file: true,
    hidden: true,
    help: "Speak SOCKS5 before the service",
  },
  {
    name: "proxy-no-happy-eyeballs",
    type: "bool",
    file: true,
    hidden: true,
    help: "Do not try IPv4 and IPv6 together",
  },
  {
    name: "no-chunked-encoding",
    env: ["TUNNEL_NO_CHUNKED_ENCODING"],
    type: "bool",
    file: true,
    hidden: true,
    help: "Send the service a length instead of chunks",
  },
  {
    name: "management-hostname",
    env: ["TUNNEL_MANAGEMENT_HOSTNAME"],
    type: "string",
    default: "management.argotunnel.com",
    file: true,
    hidden: true,
    value: "NAME",
    help: "Requests for this name are for the connector itself (culvert tail); empty = none are",
  },
  {
    name: "management-diagnostics",
    env: ["TUNNEL_MANAGEMENT_DIAGNOSTICS"],
    type: "bool",
    default: "true",
    file: true,
    hidden: true,
    help: "Show metrics and profiles under the management hostname, too",
  },
  {
    name: "label",
    type: "string",
    file: true,
    hidden: true,
    value: "TEXT",
    help: "Name of this connector where it is looked into, instead of the machine's",
  },
  {
    name: "http2-origin",
    env: ["TUNNEL_ORIGIN_ENABLE_HTTP2"],
    type: "bool",
    file: true,
    hidden: true,
    help: "Speak HTTP/2 with the service",
  },
] as const satisfies readonly Flag[];

/** Top-level keys of a config file that are no flags. */
export const FILE_ONLY_KEYS = ["tunnel", "ingress", "originRequest", "warp-routing"] as const;

/** How commands reach the management API (protocol: section 10); known wherever TUNNEL_FLAGS are. */
export const API_FLAGS = [
  {
    name: "origincert",
    env: ["TUNNEL_ORIGIN_CERT"],
    type: "string",
    file: true,
    value: "FILE",
    help: "cert.pem with the token for the API, as login or culvert edge init writes it",
  },
  {
    name: "api-url",
    env: ["TUNNEL_API_URL"],
    type: "string",
    file: true,
    value: "URL",
    help: "The API to ask; default: the one that cert.pem names, else Cloudflare's",
  },
  {
    name: "max-fetch-size",
    env: ["TUNNEL_MAX_FETCH_SIZE"],
    type: "int",
    file: true,
    hidden: true,
    value: "N",
    help: "Entries of one page of a list",
  },
  {
    name: "quick-service",
    type: "string",
    file: true,
    hidden: true,
    value: "URL",
    help: "Service that gives out quick tunnels; default: Cloudflare's",
  },
] as const satisfies readonly Flag[];
