import type { Flag } from "../config/flags.ts";

const LOG_LEVEL = {
  name: "log-level",
  aliases: ["loglevel"],
  type: "string",
  value: "LEVEL",
  help: "debug, info, warn, error or fatal; default: info where it listens, else warn",
} as const satisfies Flag;

/** How applications are reached; of every command that reaches one. */
export const ACCESS_DIAL_FLAGS = [
  {
    name: "ca-file",
    aliases: ["cacert"],
    env: ["CULVERT_ACCESS_CA_FILE"],
    type: "string",
    value: "FILE",
    help: "Certificate authorities to trust for the application, in PEM",
  },
  {
    name: "proxy",
    env: ["CULVERT_ACCESS_PROXY"],
    type: "string",
    secret: true,
    value: "URL",
    help: "Proxy on the way out: http://[user:password@]host:port or socks5://…; default: $HTTPS_PROXY, $ALL_PROXY",
  },
  {
    name: "connect-to",
    aliases: ["connect"],
    type: "string",
    hidden: true,
    value: "HOST:PORT",
    help: "Dial this address instead of the hostname's; SNI:PORT:HOST sends another SNI and verifies no certificate",
  },
] as const satisfies readonly Flag[];

/** What streams carry; for all entries of a file as well. */
const STREAM_FLAGS = [
  {
    name: "header",
    aliases: ["H"],
    type: "list",
    secret: true,
    value: "NAME:VALUE",
    help: "Header to send when a stream is opened; may be repeated",
  },
  {
    name: "service-token-id",
    aliases: ["id"],
    env: ["TUNNEL_SERVICE_TOKEN_ID"],
    type: "string",
    value: "ID",
    help: "Service token of Access: its client ID",
  },
  {
    name: "service-token-secret",
    aliases: ["secret"],
    env: ["TUNNEL_SERVICE_TOKEN_SECRET"],
    type: "string",
    secret: true,
    value: "SECRET",
    help: "Service token of Access: its client secret",
  },
  LOG_LEVEL,
  { name: "logfile", type: "string", value: "FILE", help: "Write log lines to this file as well" },
  { name: "log-directory", type: "string", hidden: true, inert: "later", help: "Without effect; use --logfile" },
  { name: "debug-stream", type: "int", hidden: true, inert: "later", help: "Without effect" },
] as const satisfies readonly Flag[];

/** Of `access tcp`, `ssh`, `rdp` and `smb` (surface: section 5). */
export const ACCESS_TCP_FLAGS = [
  {
    name: "hostname",
    aliases: ["tunnel-host", "T"],
    env: ["TUNNEL_SERVICE_HOSTNAME"],
    type: "string",
    value: "HOST",
    help: "Hostname of the application, or its URL: http:// and ws:// mean clear text",
  },
  {
    name: "url",
    aliases: ["listener", "L"],
    env: ["TUNNEL_SERVICE_URL"],
    type: "string",
    value: "HOST:PORT",
    help: "Listen here, a stream for each connection; without it, standard input and output are joined with one stream",
  },
  {
    name: "destination",
    env: ["TUNNEL_SERVICE_DESTINATION"],
    type: "string",
    value: "HOST:PORT",
    help: "Where a bastion goes on to",
  },
  ...STREAM_FLAGS,
  ...ACCESS_DIAL_FLAGS,
] as const satisfies readonly Flag[];

/** Of `access forward`. */
export const ACCESS_FORWARD_FLAGS = [
  { name: "config", type: "string", value: "FILE", help: "The list of forwards, in YAML" },
  ...STREAM_FLAGS,
  ...ACCESS_DIAL_FLAGS,
] as const satisfies readonly Flag[];

const APP = { name: "app", type: "string", value: "URL", help: "URL of the application" } as const satisfies Flag;

/** Of `access login`. */
export const ACCESS_LOGIN_FLAGS = [
  APP,
  { name: "quiet", aliases: ["q"], type: "bool", help: "Do not print the token" },
  { name: "no-verbose", type: "bool", help: "Print the token and nothing else" },
  { name: "auto-close", type: "bool", help: "Let the browser's window close itself after the login" },
  ...ACCESS_DIAL_FLAGS,
] as const satisfies readonly Flag[];

/** Of `access token`. */
export const ACCESS_TOKEN_FLAGS = [APP, ...ACCESS_DIAL_FLAGS] as const satisfies readonly Flag[];

/** Of `access curl`, in front of the URL; what stands behind it is curl's. */
export const ACCESS_CURL_FLAGS = [
  { name: "allow-request", aliases: ["ar"], type: "bool", help: "Send the request even without a token" },
  ...ACCESS_DIAL_FLAGS,
] as const satisfies readonly Flag[];

/** Of `access ssh-config`. */
export const ACCESS_SSH_CONFIG_FLAGS = [
  { name: "hostname", type: "string", value: "HOST", help: "Hostname of the application" },
  { name: "short-lived-cert", type: "bool", help: "With certificates that access ssh-gen fetches" },
] as const satisfies readonly Flag[];

/** Of `access ssh-gen`. */
export const ACCESS_SSH_GEN_FLAGS = [
  { name: "hostname", type: "string", value: "HOST", help: "Hostname of the application" },
  ...ACCESS_DIAL_FLAGS,
] as const satisfies readonly Flag[];

/** Of `access` itself. */
export const ACCESS_FLAGS = [
  { name: "fedramp", type: "bool", hidden: true, help: "Log in at the FedRAMP service" },
] as const satisfies readonly Flag[];
