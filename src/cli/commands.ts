import { RUN_LEVEL_FLAGS, TUNNEL_LEVEL_FLAGS } from "../config/tunnel-flags.ts";
import type { Command } from "./command.ts";
import { ADVERTISE_FLAG, EDGE_RUN_FLAGS, STATE_DIR_FLAG, UP_FLAGS } from "./edge-flags.ts";

const JSON_FLAG = { name: "json", type: "bool", help: "Print JSON" } as const;

const ingress: Command = {
  name: "ingress",
  summary: "Check the ingress rules of a config file",
  children: [
    {
      name: "validate",
      summary: "Check the rules of a config file",
      examples: ["culvert tunnel --config config.yml ingress validate"],
      load: async () => ({ run: (await import("./tunnel-ingress.ts")).validate }),
    },
    {
      name: "rule",
      summary: "Say which rule takes a URL",
      usage: "URL",
      examples: ["culvert tunnel --config config.yml ingress rule https://app.example.com/login"],
      load: async () => ({ run: (await import("./tunnel-ingress.ts")).rule }),
    },
  ],
};

const tunnel: Command = {
  name: "tunnel",
  summary: "Run a connector and look after its configuration",
  flags: TUNNEL_LEVEL_FLAGS,
  children: [
    {
      name: "run",
      summary: "Connect a local service to an edge",
      usage: "[TUNNEL]",
      description: "Connects local services to an edge, and serves them until it is stopped.",
      examples: [
        "culvert tunnel run --token TOKEN --url http://localhost:8080",
        "culvert tunnel --config config.yml run --token-file /etc/culvert/token",
        "culvert tunnel --edge edge.example.com:7844 --cacert ca.pem run --token TOKEN --hello-world",
      ],
      flags: RUN_LEVEL_FLAGS,
      load: async () => await import("./tunnel-run.ts"),
    },
    ingress,
  ],
};

const edge: Command = {
  name: "edge",
  summary: "Run an edge of one's own and manage its tunnels",
  children: [
    {
      name: "run",
      summary: "Serve visitors and connectors",
      description:
        "Serves visitors over HTTP and takes connectors, ours and cloudflared. The first start makes what it needs.",
      examples: [
        "culvert edge run --state-dir /var/lib/culvert --domain edge.example.com",
        "culvert edge run --state-dir ./state --http-listen 127.0.0.1:8080 --tunnel-listen 127.0.0.1:7844",
      ],
      flags: EDGE_RUN_FLAGS,
      load: async () => await import("./edge-run.ts"),
    },
    {
      name: "tunnel",
      summary: "Add and list tunnels, also while the edge runs; show their connectors",
      children: [
        {
          name: "add",
          summary: "Add a tunnel or hostnames to it; prints its token",
          usage: "NAME HOSTNAME…",
          examples: ["culvert edge tunnel add web app.example.com '*.dev.example.com' --state-dir /var/lib/culvert"],
          flags: [STATE_DIR_FLAG, ADVERTISE_FLAG],
          load: async () => ({ run: (await import("./edge-tunnel.ts")).add }),
        },
        {
          name: "list",
          summary: "List tunnels and their hostnames",
          examples: ["culvert edge tunnel list --state-dir /var/lib/culvert"],
          flags: [STATE_DIR_FLAG, JSON_FLAG],
          load: async () => ({ run: (await import("./edge-tunnel.ts")).list }),
        },
        {
          name: "info",
          summary: "Show the connectors of a tunnel that are connected now",
          usage: "NAME",
          description: "Shows the connectors of a tunnel, given by name or id, that are connected to the running edge.",
          examples: [
            "culvert edge tunnel info web --state-dir /var/lib/culvert",
            "culvert edge tunnel info 2f1c7a80-5d0e-4f5c-9d55-0c7a6c2f4b11 --json --state-dir /var/lib/culvert",
          ],
          flags: [STATE_DIR_FLAG, JSON_FLAG],
          load: async () => ({ run: (await import("./edge-tunnel.ts")).info }),
        },
      ],
    },
  ],
};

/** Every command there is. */
export const ROOT: Command = {
  name: "culvert",
  summary: "Cloudflare Tunnel, whole and self-hostable",
  description: "Cloudflare Tunnel, whole and self-hostable: the connector and the edge in one program.",
  examples: ["culvert up --url http://localhost:3000", "culvert tunnel run --token TOKEN --url http://localhost:8080"],
  // As with cloudflared, flags of `tunnel` may also stand in front of it.
  flags: TUNNEL_LEVEL_FLAGS.map((flag) => ({ ...flag, hidden: true })),
  children: [
    {
      name: "up",
      summary: "Try it: an edge and a connector on this machine",
      description:
        "Starts an edge and a connector on this machine and shows the public URL. No account, no network, no files.",
      examples: ["culvert up", "culvert up --url http://localhost:3000 --port 8000"],
      flags: UP_FLAGS,
      load: async () => await import("./up.ts"),
    },
    tunnel,
    edge,
    {
      name: "version",
      summary: "Print the version",
      flags: [{ name: "short", aliases: ["s"], type: "bool", help: "Only the number" }],
      load: async () => await import("./version.ts"),
    },
  ],
};
