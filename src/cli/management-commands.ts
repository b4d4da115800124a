import { API_FLAGS, type Flag, TUNNEL_FLAGS } from "../config/flags.ts";
import type { Command } from "./command.ts";
import {
  CLEANUP_FLAGS,
  CREATE_FLAGS,
  DELETE_FLAGS,
  INFO_FLAGS,
  LIST_FLAGS,
  LOGIN_FLAGS,
  ROUTE_DNS_FLAGS,
  ROUTE_IP_FLAGS,
  ROUTE_LIST_FLAGS,
  TOKEN_FLAGS,
  VNET_ADD_FLAGS,
  VNET_DELETE_FLAGS,
  VNET_LIST_FLAGS,
  VNET_UPDATE_FLAGS,
} from "./management-flags.ts";

/** What every command that asks the management API goes by. */
export const MANAGEMENT_READS: readonly Flag[] = [
  ...TUNNEL_FLAGS.filter(({ name }) => name === "config"),
  ...API_FLAGS.filter(({ name }) => name !== "quick-service"),
];

const LOGIN_READS: readonly Flag[] = [
  ...API_FLAGS.filter(({ name }) => name === "origincert" || name === "api-url"),
  ...TUNNEL_FLAGS.filter(({ name }) => name === "cacert"),
];

const showRoutes = {
  summary: "List networks and the tunnels they lead to",
  examples: ["culvert tunnel route ip show", "culvert tunnel route ip show --output json"],
  flags: ROUTE_LIST_FLAGS,
  load: async () => ({ run: (await import("./tunnel-route.ts")).ipList }),
} as const;

const routeIp: Command = {
  name: "ip",
  summary: "Lead IP networks to tunnels",
  children: [
    {
      name: "add",
      summary: "Lead a network to a tunnel",
      usage: "CIDR TUNNEL [COMMENT]",
      examples: ['culvert tunnel route ip add 10.1.0.0/16 office "second floor"'],
      flags: ROUTE_IP_FLAGS,
      load: async () => ({ run: (await import("./tunnel-route.ts")).ipAdd }),
    },
    { name: "show", ...showRoutes },
    { name: "list", hidden: true, ...showRoutes },
    {
      name: "delete",
      summary: "Delete a route",
      usage: "ID|CIDR",
      examples: ["culvert tunnel route ip delete 10.1.0.0/16"],
      flags: ROUTE_IP_FLAGS,
      load: async () => ({ run: (await import("./tunnel-route.ts")).ipDelete }),
    },
    {
      name: "get",
      summary: "Say which route an address takes",
      usage: "IP",
      examples: ["culvert tunnel route ip get 10.1.2.3"],
      flags: ROUTE_IP_FLAGS,
      load: async () => ({ run: (await import("./tunnel-route.ts")).ipGet }),
    },
  ],
};

const route: Command = {
  name: "route",
  summary: "Lead hostnames and networks to tunnels",
  children: [
    {
      name: "dns",
      summary: "Lead a hostname to a tunnel",
      usage: "TUNNEL HOSTNAME",
      examples: ["culvert tunnel route dns web app.example.com", "culvert tunnel route dns -f web '*.dev.example.com'"],
      flags: ROUTE_DNS_FLAGS,
      load: async () => ({ run: (await import("./tunnel-route.ts")).dns }),
    },
    {
      name: "lb",
      summary: "Put a tunnel into a pool of a load balancer",
      usage: "TUNNEL HOSTNAME POOL",
      examples: ["culvert tunnel route lb web-eu app.example.com europe"],
      load: async () => ({ run: (await import("./tunnel-route.ts")).lb }),
    },
    routeIp,
  ],
};

const vnet: Command = {
  name: "vnet",
  summary: "Manage virtual networks, which keep equal IP networks apart",
  children: [
    {
      name: "add",
      summary: "Make a virtual network",
      usage: "NAME [COMMENT]",
      examples: ["culvert tunnel vnet add staging"],
      flags: VNET_ADD_FLAGS,
      load: async () => ({ run: (await import("./tunnel-vnet.ts")).add }),
    },
    {
      name: "list",
      summary: "List virtual networks",
      examples: ["culvert tunnel vnet list --output json"],
      flags: VNET_LIST_FLAGS,
      load: async () => ({ run: (await import("./tunnel-vnet.ts")).list }),
    },
    {
      name: "delete",
      summary: "Delete a virtual network",
      usage: "NAME|ID",
      examples: ["culvert tunnel vnet delete --force staging"],
      flags: VNET_DELETE_FLAGS,
      load: async () => ({ run: (await import("./tunnel-vnet.ts")).remove }),
    },
    {
      name: "update",
      summary: "Change a virtual network",
      usage: "NAME|ID",
      examples: ["culvert tunnel vnet update staging --name test"],
      flags: VNET_UPDATE_FLAGS,
      load: async () => ({ run: (await import("./tunnel-vnet.ts")).update }),
    },
  ],
};

export const LOGIN_COMMAND: Command = {
  name: "login",
  summary: "Get cert.pem, the right to manage an account's tunnels",
  description:
    "Gets cert.pem, which the commands that manage tunnels need: from Cloudflare with a browser, or with --api-url from an edge of your own.",
  examples: ["culvert tunnel login", "culvert tunnel login --api-url https://edge.example.com:7845"],
  flags: LOGIN_FLAGS,
  reads: LOGIN_READS,
  load: async () => ({ run: (await import("./tunnel-login.ts")).login }),
};

const asking: readonly Command[] = [
  {
    name: "create",
    summary: "Make a tunnel",
    usage: "NAME",
    description: "Makes a tunnel and writes its credentials beside cert.pem, where tunnel run finds them.",
    examples: ["culvert tunnel create web", "culvert tunnel create web --output json"],
    flags: CREATE_FLAGS,
    load: async () => ({ run: (await import("./tunnel-create.ts")).create }),
  },
  route,
  vnet,
  {
    name: "list",
    summary: "List tunnels",
    examples: ["culvert tunnel list", "culvert tunnel list --sort-by createdAt --output json"],
    flags: LIST_FLAGS,
    load: async () => ({ run: (await import("./tunnel-list.ts")).list }),
  },
  {
    name: "info",
    summary: "Show the connectors of a tunnel",
    usage: "TUNNEL",
    examples: ["culvert tunnel info web", "culvert tunnel info web --output yaml"],
    flags: INFO_FLAGS,
    load: async () => ({ run: (await import("./tunnel-list.ts")).info }),
  },
  {
    name: "delete",
    summary: "Delete tunnels",
    usage: "TUNNEL…",
    examples: ["culvert tunnel delete web", "culvert tunnel delete --force old-web older-web"],
    flags: DELETE_FLAGS,
    load: async () => ({ run: (await import("./tunnel-delete.ts")).remove }),
  },
  {
    name: "cleanup",
    summary: "Drop connections that are only left over",
    usage: "TUNNEL…",
    examples: ["culvert tunnel cleanup web"],
    flags: CLEANUP_FLAGS,
    load: async () => ({ run: (await import("./tunnel-delete.ts")).cleanup }),
  },
  {
    name: "token",
    summary: "Print the token that runs a tunnel",
    usage: "TUNNEL",
    examples: ["culvert tunnel token web", "culvert tunnel token --credentials-file web.json web"],
    flags: TOKEN_FLAGS,
    load: async () => ({ run: (await import("./tunnel-create.ts")).token }),
  },
];

/** The commands of `tunnel` that ask the management API: Cloudflare's, or that of an edge of one's own. */
export const MANAGEMENT_COMMANDS: readonly Command[] = [LOGIN_COMMAND, ...asking.map(withReads)];

function withReads(command: Command): Command {
  const { children, load } = command;
  return {
    ...command,
    ...(load === undefined ? {} : { reads: MANAGEMENT_READS }),
    ...(children === undefined ? {} : { children: children.map(withReads) }),
  };
}
