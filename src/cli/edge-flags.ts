import type { Flag } from "../config/flags.ts";

export const STATE_DIR_FLAG = {
  name: "state-dir",
  env: ["CULVERT_STATE_DIR"],
  type: "string",
  value: "DIR",
  help: "Where the edge keeps its keys and tunnels",
} as const satisfies Flag;

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
    help: "How long running requests may go on after SIGTERM",
  },
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
  ...LOG_FLAGS,
] as const satisfies readonly Flag[];
