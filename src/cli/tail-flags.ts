import type { Flag } from "../config/flags.ts";

/** Flags of `culvert tail`, under cloudflared's names (surface: section 6). */
export const TAIL_FLAGS = [
  {
    name: "connector-id",
    env: ["TUNNEL_MANAGEMENT_CONNECTOR"],
    type: "string",
    value: "UUID",
    help: "Follow this connector, where a tunnel has several",
  },
  {
    name: "event",
    env: ["TUNNEL_MANAGEMENT_FILTER_EVENTS"],
    type: "list",
    value: "KIND",
    help: "Only lines about this: cloudflared (the connector itself), http, tcp or udp; may be repeated",
  },
  {
    name: "level",
    env: ["TUNNEL_MANAGEMENT_FILTER_LEVEL"],
    type: "string",
    default: "debug",
    value: "LEVEL",
    help: "Only lines of this level and above: debug, info, warn or error",
  },
  {
    name: "sample",
    env: ["TUNNEL_MANAGEMENT_FILTER_SAMPLE"],
    type: "string",
    default: "1",
    value: "SHARE",
    help: "Only this share of the lines, above 0 and up to 1",
  },
  {
    name: "token",
    env: ["TUNNEL_MANAGEMENT_TOKEN"],
    type: "string",
    secret: true,
    value: "TOKEN",
    help: "Access token for the tunnel; default: one of the API that cert.pem is for",
  },
  {
    name: "management-hostname",
    env: ["TUNNEL_MANAGEMENT_HOSTNAME"],
    type: "string",
    value: "NAME",
    help: "Where the edge lets connectors be looked into, such as management.example.com or https://localhost:8443; default: what the token says, else Cloudflare's",
  },
  {
    name: "ca-file",
    type: "string",
    value: "FILE",
    help: "Certificate authorities to trust there, in PEM",
  },
  {
    name: "proxy",
    type: "string",
    secret: true,
    value: "URL",
    help: "Proxy on the way there: http://[user:password@]host:port or socks5://…; default: $HTTPS_PROXY, $ALL_PROXY",
  },
  {
    name: "output",
    env: ["TUNNEL_MANAGEMENT_OUTPUT", "TUNNEL_LOG_OUTPUT"],
    type: "string",
    default: "default",
    value: "FORMAT",
    help: "default, or json: one object a line",
  },
  {
    name: "color",
    type: "string",
    default: "auto",
    value: "WHEN",
    help: "Colours: auto, always or never; auto = on a terminal, unless NO_COLOR is set",
  },
  { name: "trace", type: "string", hidden: true, value: "ID", help: "Sent as cf-trace-id" },
] as const satisfies readonly Flag[];
