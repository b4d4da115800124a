import type { Flag } from "../config/flags.ts";

/** Flags of the commands that ask the management API (surface: section 4). */

const OUTPUT = {
  name: "output",
  aliases: ["o"],
  type: "string",
  value: "FORMAT",
  help: "Print json or yaml instead of a table",
} as const satisfies Flag;

const CREDENTIALS_FILE = {
  name: "credentials-file",
  aliases: ["cred-file"],
  env: ["TUNNEL_CRED_FILE"],
  type: "string",
  value: "FILE",
} as const;

const SHOW_RECENTLY_DISCONNECTED = {
  name: "show-recently-disconnected",
  aliases: ["rd"],
  type: "bool",
  help: "Count connections that have just gone, too",
} as const satisfies Flag;

const INVERT_SORT = {
  name: "invert-sort",
  env: ["TUNNEL_LIST_INVERT_SORT", "TUNNEL_INFO_INVERT_SORT"],
  type: "bool",
  help: "Sort the other way round",
} as const satisfies Flag;

const VNET = {
  name: "vnet",
  aliases: ["vn"],
  type: "string",
  value: "NAME",
  help: "Virtual network, by name or id; default: the default one",
} as const satisfies Flag;

export const LOGIN_FLAGS = [
  {
    name: "api-token",
    type: "string",
    secret: true,
    value: "TOKEN",
    help: "Log in to the edge at --api-url with this",
  },
  {
    name: "loginURL",
    type: "string",
    default: "https://dash.cloudflare.com/argotunnel",
    hidden: true,
    help: "Page to open",
  },
  {
    name: "callbackURL",
    type: "string",
    default: "https://login.cloudflareaccess.org/",
    hidden: true,
    help: "Service that holds the answer",
  },
  { name: "fedramp", aliases: ["f"], type: "bool", help: "Log in to Cloudflare for the US government" },
] as const satisfies readonly Flag[];

export const CREATE_FLAGS = [
  OUTPUT,
  { ...CREDENTIALS_FILE, help: "Where to write the credentials; default: ID.json beside cert.pem" },
  {
    name: "secret",
    aliases: ["s"],
    env: ["TUNNEL_CREATE_SECRET"],
    type: "string",
    secret: true,
    value: "BASE64",
    help: "Secret of the tunnel, at least 32 bytes; default: a random one",
  },
] as const satisfies readonly Flag[];

export const LIST_FLAGS = [
  OUTPUT,
  { name: "show-deleted", aliases: ["d"], type: "bool", help: "List deleted tunnels too" },
  { name: "name", aliases: ["n"], type: "string", value: "NAME", help: "Only the tunnel of this name" },
  { name: "name-prefix", aliases: ["np"], type: "string", value: "TEXT", help: "Only names that begin so" },
  {
    name: "exclude-name-prefix",
    aliases: ["enp"],
    type: "string",
    value: "TEXT",
    help: "Only names that do not begin so",
  },
  { name: "when", aliases: ["w"], type: "string", value: "TIME", help: "Only tunnels that were there then (RFC 3339)" },
  { name: "id", aliases: ["i"], type: "string", value: "UUID", help: "Only the tunnel of this id" },
  SHOW_RECENTLY_DISCONNECTED,
  {
    name: "sort-by",
    env: ["TUNNEL_LIST_SORT_BY"],
    type: "string",
    default: "name",
    value: "FIELD",
    help: "name, id, createdAt, deletedAt or numConnections",
  },
  INVERT_SORT,
] as const satisfies readonly Flag[];

export const INFO_FLAGS = [
  OUTPUT,
  SHOW_RECENTLY_DISCONNECTED,
  {
    name: "sort-by",
    env: ["TUNNEL_INFO_SORT_BY"],
    type: "string",
    default: "createdAt",
    value: "FIELD",
    help: "id, createdAt, numConnections or version",
  },
  INVERT_SORT,
] as const satisfies readonly Flag[];

export const DELETE_FLAGS = [
  { ...CREDENTIALS_FILE, help: "Credentials to delete with the tunnel; default: ID.json beside cert.pem" },
  {
    name: "force",
    aliases: ["f"],
    env: ["TUNNEL_RUN_FORCE_OVERWRITE"],
    type: "bool",
    help: "Also when it is connected or has routes: both end",
  },
] as const satisfies readonly Flag[];

export const CLEANUP_FLAGS = [
  {
    name: "connector-id",
    aliases: ["c"],
    env: ["TUNNEL_CLEANUP_CONNECTOR"],
    type: "string",
    value: "UUID",
    help: "Only the connections of this connector",
  },
] as const satisfies readonly Flag[];

export const TOKEN_FLAGS = [
  { ...CREDENTIALS_FILE, help: "Write credentials to this file instead of printing the token" },
] as const satisfies readonly Flag[];

export const ROUTE_DNS_FLAGS = [
  {
    name: "overwrite-dns",
    aliases: ["f"],
    env: ["TUNNEL_FORCE_PROVISIONING_DNS"],
    type: "bool",
    help: "Take the hostname from wherever it leads now",
  },
] as const satisfies readonly Flag[];

export const ROUTE_IP_FLAGS = [VNET] as const satisfies readonly Flag[];

export const ROUTE_LIST_FLAGS = [
  OUTPUT,
  { name: "filter-is-deleted", type: "bool", help: "Only deleted routes" },
  { name: "filter-tunnel-id", type: "string", value: "UUID", help: "Only routes of this tunnel" },
  {
    name: "filter-network-is-subset-of",
    aliases: ["nsub"],
    type: "string",
    value: "CIDR",
    help: "Only networks inside this one",
  },
  {
    name: "filter-network-is-superset-of",
    aliases: ["nsup"],
    type: "string",
    value: "CIDR",
    help: "Only networks around this one",
  },
  { name: "filter-comment-is", type: "string", value: "TEXT", help: "Only routes with this comment" },
  { name: "filter-vnet-id", type: "string", value: "UUID", help: "Only routes of this virtual network" },
] as const satisfies readonly Flag[];

export const VNET_ADD_FLAGS = [
  { name: "default", aliases: ["d"], type: "bool", help: "Make it the default one" },
] as const satisfies readonly Flag[];

export const VNET_LIST_FLAGS = [
  OUTPUT,
  { name: "id", type: "string", value: "UUID", help: "Only the network of this id" },
  { name: "name", type: "string", value: "NAME", help: "Only the network of this name" },
  { name: "is-default", type: "bool", help: "Only the default one" },
  { name: "show-deleted", type: "bool", help: "List deleted networks too" },
] as const satisfies readonly Flag[];

export const VNET_DELETE_FLAGS = [
  { name: "force", aliases: ["f"], type: "bool", help: "Also when it has routes: they are deleted too" },
] as const satisfies readonly Flag[];

export const VNET_UPDATE_FLAGS = [
  { name: "name", aliases: ["n"], type: "string", value: "NAME", help: "New name" },
  { name: "comment", aliases: ["c"], type: "string", value: "TEXT", help: "New comment" },
  { name: "default", aliases: ["d"], type: "bool", help: "Make it the default one" },
] as const satisfies readonly Flag[];
