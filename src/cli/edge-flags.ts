import type { Flag } from "../config/flags.ts";
import { TRACE_FLAGS } from "../config/trace-flags.ts";

export const STATE_DIR_FLAG = {
  name: "state-dir",
  env: ["CULVERT_STATE_DIR"],
  type: "string",
  value: "DIR",
  help: "Where the edge keeps its keys and tunnels; default, on Linux: /var/lib/culvert for root, else ~/.local/state/culvert",
} as const satisfies Flag;

const JSON_FLAG = { name: "json", type: "bool", help: "Print JSON" } as const satisfies Flag;

/** Where a running edge answers its management API, when nobody says. */
export const API_LISTEN_DEFAULT = "127.0.0.1:7845";

export const EDGE_STATE_FLAGS = [STATE_DIR_FLAG] as const satisfies readonly Flag[];
export const EDGE_TOKEN_FLAGS = [STATE_DIR_FLAG, JSON_FLAG] as const satisfies readonly Flag[];

export const EDGE_TUNNEL_LIST_FLAGS = [
  STATE_DIR_FLAG,
  JSON_FLAG,
  { name: "all", aliases: ["a"], type: "bool", help: "Quick tunnels, too" },
] as const satisfies readonly Flag[];

export const EDGE_TUNNEL_DELETE_FLAGS = [
  STATE_DIR_FLAG,
  { name: "force", aliases: ["f"], type: "bool", help: "Also when it is connected: its connectors are cut off" },
] as const satisfies readonly Flag[];

export const EDGE_STATUS_FLAGS = [
  STATE_DIR_FLAG,
  JSON_FLAG,
  { name: "check", type: "bool", help: "Read everything, to see that it is sound" },
] as const satisfies readonly Flag[];

export const EDGE_TOP_FLAGS = [
  STATE_DIR_FLAG,
  {
    name: "interval",
    type: "duration",
    default: "1s",
    value: "TIME",
    help: "Time between two looks, from 200ms to 1m",
  },
  { name: "once", type: "bool", help: "Print it once, as into a pipe" },
] as const satisfies readonly Flag[];

export const EDGE_TOKEN_CREATE_FLAGS = [
  STATE_DIR_FLAG,
  {
    name: "scope",
    type: "list",
    notEmpty: "given",
    value: "SCOPE",
    help: "What it may do: admin (default), tunnels:read, tunnels:write, routes:write, networks:read, networks:write, tokens:write, audit:read",
  },
  {
    name: "expires-in",
    type: "string",
    notEmpty: "given",
    value: "TIME",
    help: "How long it is good, such as 12h or 90d; default: for ever",
  },
] as const satisfies readonly Flag[];

export const EDGE_INIT_FLAGS = [
  STATE_DIR_FLAG,
  {
    name: "domain",
    env: ["CULVERT_DOMAIN"],
    type: "string",
    value: "NAME",
    help: "Name of the edge itself, which edge run then goes by",
  },
  {
    name: "origincert",
    env: ["TUNNEL_ORIGIN_CERT"],
    type: "string",
    value: "FILE",
    help: "Where to write cert.pem; default: ~/.cloudflared/cert.pem",
  },
  {
    name: "api-url",
    env: ["TUNNEL_API_URL"],
    type: "string",
    value: "URL",
    help: "Where the edge's API is for whoever uses cert.pem; default: on this machine",
  },
  { name: "force", type: "bool", help: "Replace a cert.pem that is there" },
] as const satisfies readonly Flag[];

export const ADVERTISE_FLAG = {
  name: "advertise",
  env: ["CULVERT_ADVERTISE"],
  type: "list",
  value: "HOST:PORT",
  help: "Address that tokens tell connectors to dial; default: the domain, else the listen address",
} as const satisfies Flag;

export const LOG_FLAGS = [
  {
    name: "loglevel",
    env: ["CULVERT_LOGLEVEL"],
    type: "string",
    default: "info",
    value: "LEVEL",
    help: "debug, info, warn, error or fatal",
  },
  {
    name: "output",
    env: ["CULVERT_LOG_OUTPUT"],
    type: "string",
    default: "default",
    value: "FORMAT",
    help: "Format of log lines: default or json",
  },
] as const satisfies readonly Flag[];

/** What visitors of an edge meet. */
export const PUBLIC_FLAGS = [
  {
    name: "https-listen",
    env: ["CULVERT_HTTPS_LISTEN"],
    type: "string",
    value: "HOST:PORT",
    help: "Where visitors come over HTTPS; default: 0.0.0.0:8443 once there are certificates, else off",
  },
  {
    name: "tls-cert",
    env: ["CULVERT_TLS_CERT"],
    type: "list",
    value: "FILE",
    help: "Certificate chain for visitors (PEM); give several with a --tls-key each",
  },
  {
    name: "tls-key",
    env: ["CULVERT_TLS_KEY"],
    type: "list",
    value: "FILE",
    help: "Private key of the --tls-cert in the same place",
  },
  {
    name: "tls-dir",
    env: ["CULVERT_TLS_DIR"],
    type: "list",
    value: "DIR",
    help: "Folder of certificates: NAME.pem or .crt with NAME.key, or certbot's live folder",
  },
  {
    name: "tls-internal",
    env: ["CULVERT_TLS_INTERNAL"],
    type: "bool",
    help: "Make certificates for --domain and every hostname by the edge's own authority, ca.pem in the state directory",
  },
  {
    name: "https-redirect",
    env: ["CULVERT_HTTPS_REDIRECT"],
    type: "bool",
    default: "true",
    help: "Send plain HTTP to HTTPS where that is on, ACME challenges excepted",
  },
  {
    name: "https-redirect-port",
    env: ["CULVERT_HTTPS_REDIRECT_PORT"],
    type: "int",
    value: "N",
    help: "Port that visitors know HTTPS by; default: the one it listens on",
  },
  {
    name: "hsts",
    env: ["CULVERT_HSTS"],
    type: "string",
    value: "MAXAGE",
    help: "Tell browsers to stay with HTTPS, such as 180d or 31536000;includeSubDomains",
  },
  {
    name: "limit",
    env: ["CULVERT_LIMIT"],
    type: "list",
    value: "NAME=VALUE",
    help: "Bound what visitors may do, such as rate-per-ip=100 or body-size=100MiB; names: docs/edge.md",
  },
  {
    name: "error-pages",
    env: ["CULVERT_ERROR_PAGES"],
    type: "string",
    value: "DIR",
    help: "Folder of own error pages: 404.html, 5xx.html, error.html",
  },
  {
    name: "access-log",
    env: ["CULVERT_ACCESS_LOG"],
    type: "string",
    value: "FILE",
    help: "Write a line for each request; - = standard output",
  },
  {
    name: "access-log-format",
    env: ["CULVERT_ACCESS_LOG_FORMAT"],
    type: "string",
    default: "json",
    value: "FORMAT",
    help: "json or combined",
  },
  {
    name: "access-log-query",
    env: ["CULVERT_ACCESS_LOG_QUERY"],
    type: "bool",
    help: "Write queries too, without the values of parameters that look like secrets",
  },
  {
    name: "metrics",
    env: ["CULVERT_METRICS"],
    type: "string",
    value: "HOST:PORT",
    help: "Serve /metrics, /ready and /healthcheck here; default: off",
  },
  {
    name: "metrics-auth",
    env: ["CULVERT_METRICS_AUTH"],
    type: "string",
    secret: true,
    notEmpty: "anywhere",
    value: "USER:PASSWORD",
    help: "What metrics ask for; /ready and /healthcheck stay open",
  },
] as const satisfies readonly Flag[];

const INSPECT_FLAGS = [
  {
    name: "inspect",
    env: ["CULVERT_INSPECT"],
    type: "list",
    value: "TUNNEL",
    help: "Keep the last requests to this tunnel, with bodies, and show them on a page of this machine; for development",
  },
  {
    name: "inspect-listen",
    env: ["CULVERT_INSPECT_LISTEN"],
    type: "string",
    default: "127.0.0.1:4040",
    value: "HOST:PORT",
    help: "Where that page is, on loopback",
  },
  {
    name: "inspect-keep",
    env: ["CULVERT_INSPECT_KEEP"],
    type: "int",
    default: "100",
    value: "N",
    help: "How many requests are kept, 1 to 10000",
  },
] as const satisfies readonly Flag[];

export const EDGE_RUN_FLAGS = [
  STATE_DIR_FLAG,
  {
    name: "http-listen",
    env: ["CULVERT_HTTP_LISTEN"],
    type: "string",
    default: "0.0.0.0:8080",
    value: "HOST:PORT",
    help: "Where visitors come",
  },
  {
    name: "tunnel-listen",
    env: ["CULVERT_TUNNEL_LISTEN"],
    type: "string",
    default: "0.0.0.0:7844",
    value: "HOST:PORT",
    help: "Where connectors come: TCP for HTTP/2, and UDP for QUIC",
  },
  {
    name: "quic",
    env: ["CULVERT_QUIC"],
    type: "bool",
    default: "true",
    help: "Take QUIC beside HTTP/2; --quic=false leaves the UDP port alone",
  },
  {
    name: "location",
    env: ["CULVERT_LOCATION"],
    type: "string",
    default: "edge01",
    value: "NAME",
    help: "Name of this place, shown by connectors and in ray ids",
  },
  {
    name: "domain",
    env: ["CULVERT_DOMAIN"],
    type: "string",
    value: "NAME",
    help: "Name of the edge itself, put into its certificate and into tokens",
  },
  {
    name: "quick-tunnels",
    env: ["CULVERT_QUICK_TUNNELS"],
    type: "bool",
    help: "Give a random hostname below --domain to anybody who runs culvert tunnel --url with --quick-service",
  },
  {
    name: "release-dir",
    env: ["CULVERT_RELEASE_DIR"],
    type: "string",
    value: "DIR",
    help: "Releases that the edge's own site hands out at /dl/, beside /install.sh (default releases in the state directory)",
  },
  {
    name: "release-key",
    env: ["CULVERT_RELEASE_KEY"],
    type: "list",
    value: "KEY",
    help: "Minisign public key, or a .pub file, that installers from this edge trust beside those built in; repeatable",
  },
  ADVERTISE_FLAG,
  {
    name: "once-per-connector",
    env: ["CULVERT_ONCE_PER_CONNECTOR"],
    type: "bool",
    help: "Take one connection of each connector, so that it spreads over several edges",
  },
  {
    name: "trusted-proxy",
    env: ["CULVERT_TRUSTED_PROXY"],
    type: "list",
    value: "CIDR",
    help: "Peers whose X-Forwarded-For and -Proto are believed",
  },
  {
    name: "grace-period",
    env: ["CULVERT_GRACE_PERIOD"],
    type: "duration",
    default: "30s",
    value: "TIME",
    help: "How long running requests may go on after SIGTERM; at most 3m",
  },
  {
    name: "tcp-listen",
    env: ["CULVERT_TCP_LISTEN"],
    type: "string",
    value: "HOST",
    help: "Address of the ports that culvert edge route tcp opens; default: that of --http-listen",
  },
  {
    name: "alert-after",
    env: ["CULVERT_ALERT_AFTER"],
    type: "duration",
    default: "5m",
    value: "TIME",
    help: "Tell of tunnels and connectors that have been unhealthy for this long",
  },
  {
    name: "alert-webhook",
    env: ["CULVERT_ALERT_WEBHOOK"],
    type: "string",
    value: "URL",
    secret: true,
    help: "Post these alerts here, beside the log",
  },
  {
    name: "api-listen",
    env: ["CULVERT_API_LISTEN"],
    type: "string",
    default: API_LISTEN_DEFAULT,
    value: "HOST:PORT",
    help: "Where the management API is; TLS by the edge's own authority unless it is on loopback; off = nowhere",
  },
  {
    name: "management-hostname",
    env: ["CULVERT_MANAGEMENT_HOSTNAME"],
    type: "string",
    value: "NAME",
    help: "Name, or URL, under which connectors are looked into (culvert tail); default: management. in front of --domain",
  },
  ...INSPECT_FLAGS,
  ...TRACE_FLAGS,
  ...PUBLIC_FLAGS,
  ...LOG_FLAGS,
] as const satisfies readonly Flag[];

export const UP_FLAGS = [
  {
    name: "url",
    type: "string",
    value: "URL",
    help: "Service to show, such as http://localhost:3000; default: a built-in page",
  },
  { name: "hello-world", type: "bool", help: "Show the built-in page" },
  { name: "port", type: "int", default: "0", value: "N", help: "Port of the public URL; 0 = any free one" },
  {
    name: "hostname",
    type: "list",
    value: "NAME",
    help: "Hostname of the public URL; default: hello.localhost or app.localhost",
  },
  { name: "json", type: "bool", help: "Print what is up as one line of JSON" },
  { name: "check", type: "bool", help: "Fetch the public URL once, and go on" },
  { name: "once", type: "bool", help: "Fetch the public URL once, print it, and end" },
  { name: "state-dir", type: "string", value: "DIR", help: "Keep keys and tunnel here; default: in memory" },
  {
    name: "tls-internal",
    type: "bool",
    help: "Serve HTTPS too, by an authority of its own: trust ca.pem in --state-dir",
  },
  {
    name: "inspect",
    type: "bool",
    help: "Show the last requests with headers and bodies on a page of this machine, where they can be replayed",
  },
  { name: "inspect-port", type: "int", default: "0", value: "N", help: "Port of that page; 0 = any free one" },
  ...LOG_FLAGS,
] as const satisfies readonly Flag[];
