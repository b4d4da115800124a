import type { Command } from "./command.ts";
import {
  LB_MEMBER_FLAGS,
  LB_MONITOR_FLAGS,
  LB_SET_FLAGS,
  LB_WEBHOOK_FLAGS,
  ROUTE_TCP_FLAGS,
  TRAFFIC_FLAGS,
} from "./edge-traffic-flags.ts";

const route: Command = {
  name: "route",
  summary: "Lead public ports to tunnels",
  children: [
    {
      name: "tcp",
      summary: "Lead a public TCP port to a service behind a tunnel",
      usage: "PORT TUNNEL HOSTNAME|SERVICE",
      description:
        "Leads a public TCP port of the running edge to a service behind a tunnel: the one that the tunnel's rules have for HOSTNAME, or, where the rules are kept here, SERVICE itself.",
      examples: [
        "culvert edge route tcp 5432 db db.example.com",
        "culvert edge route tcp 2222 web tcp://localhost:22 --proxy-protocol v2",
      ],
      flags: ROUTE_TCP_FLAGS,
      load: async () => ({ run: (await import("./edge-route.ts")).tcp }),
      children: [
        {
          name: "list",
          summary: "List public TCP ports",
          examples: ["culvert edge route tcp list --json"],
          flags: TRAFFIC_FLAGS,
          load: async () => ({ run: (await import("./edge-route.ts")).list }),
        },
        {
          name: "delete",
          summary: "Close a public TCP port, and cut its connections",
          usage: "PORT",
          examples: ["culvert edge route tcp delete 5432"],
          flags: TRAFFIC_FLAGS,
          load: async () => ({ run: (await import("./edge-route.ts")).remove }),
        },
      ],
    },
  ],
};

const lb: Command = {
  name: "lb",
  summary: "Spread hostnames over pools of tunnels",
  children: [
    {
      name: "list",
      summary: "List load balancers and pools",
      examples: ["culvert edge lb list --json"],
      flags: TRAFFIC_FLAGS,
      load: async () => ({ run: (await import("./edge-lb.ts")).list }),
    },
    {
      name: "set",
      summary: "Make a load balancer, or change its pools and how it chooses",
      usage: "HOSTNAME [POOL…]",
      examples: [
        "culvert edge lb set app.example.com main backup --steering hash_cookie",
        "culvert edge lb set app.example.com --steering failover",
      ],
      flags: LB_SET_FLAGS,
      load: async () => ({ run: (await import("./edge-lb.ts")).set }),
    },
    {
      name: "delete",
      summary: "Delete a load balancer and its hostname",
      usage: "HOSTNAME",
      examples: ["culvert edge lb delete app.example.com"],
      flags: TRAFFIC_FLAGS,
      load: async () => ({ run: (await import("./edge-lb.ts")).remove }),
    },
    {
      name: "member",
      summary: "Add and remove tunnels of a pool",
      children: [
        {
          name: "add",
          summary: "Add a tunnel to a pool, or change it there; makes the pool",
          usage: "POOL TUNNEL",
          examples: ["culvert edge lb member add main web-1 --weight 2"],
          flags: LB_MEMBER_FLAGS,
          load: async () => ({ run: (await import("./edge-lb.ts")).addMember }),
        },
        {
          name: "remove",
          summary: "Remove a tunnel from a pool",
          usage: "POOL TUNNEL",
          examples: ["culvert edge lb member remove main web-1"],
          flags: TRAFFIC_FLAGS,
          load: async () => ({ run: (await import("./edge-lb.ts")).removeMember }),
        },
      ],
    },
    {
      name: "pool",
      summary: "Delete pools",
      children: [
        {
          name: "delete",
          summary: "Delete a pool that no load balancer uses",
          usage: "POOL",
          examples: ["culvert edge lb pool delete main"],
          flags: TRAFFIC_FLAGS,
          load: async () => ({ run: (await import("./edge-lb.ts")).removePool }),
        },
      ],
    },
    {
      name: "monitor",
      summary: "Check the tunnels of a pool by HTTP requests through them",
      usage: "POOL",
      examples: [
        "culvert edge lb monitor main --path /healthz --interval 10s --expect 200",
        "culvert edge lb monitor main --off",
      ],
      flags: LB_MONITOR_FLAGS,
      load: async () => ({ run: (await import("./edge-lb.ts")).monitor }),
    },
    {
      name: "webhook",
      summary: "Tell an address of a pool's tunnels that change their state; prints the secret of its signatures",
      usage: "POOL [URL]",
      examples: [
        "culvert edge lb webhook main https://hooks.example.com/culvert",
        "culvert edge lb webhook main --off",
      ],
      flags: LB_WEBHOOK_FLAGS,
      load: async () => ({ run: (await import("./edge-lb.ts")).webhook }),
    },
  ],
};

/** Commands of an edge's owner about where traffic goes. */
export const EDGE_TRAFFIC_COMMANDS: readonly Command[] = [route, lb];
