import { API_FLAGS, type Flag } from "../config/flags.ts";
import { RUN_LEVEL_FLAGS, TUNNEL_LEVEL_FLAGS } from "../config/tunnel-flags.ts";
import {
  ACCESS_CURL_FLAGS,
  ACCESS_FLAGS,
  ACCESS_FORWARD_FLAGS,
  ACCESS_LOGIN_FLAGS,
  ACCESS_SSH_CONFIG_FLAGS,
  ACCESS_SSH_GEN_FLAGS,
  ACCESS_TCP_FLAGS,
  ACCESS_TOKEN_FLAGS,
} from "./access-flags.ts";
import { BUNDLE_FLAGS } from "./bundle-flags.ts";
import type { Command } from "./command.ts";
import { DOCTOR_COMMAND, LOCAL_COMMANDS } from "./doctor-commands.ts";
import {
  ADVERTISE_FLAG,
  EDGE_INIT_FLAGS,
  EDGE_RUN_FLAGS,
  EDGE_STATE_FLAGS,
  EDGE_STATUS_FLAGS,
  EDGE_TOKEN_CREATE_FLAGS,
  EDGE_TOKEN_FLAGS,
  EDGE_TOP_FLAGS,
  EDGE_TUNNEL_DELETE_FLAGS,
  EDGE_TUNNEL_LIST_FLAGS,
  STATE_DIR_FLAG,
  UP_FLAGS,
} from "./edge-flags.ts";
import { EDGE_TRAFFIC_COMMANDS } from "./edge-traffic-commands.ts";
import { EXPLAIN_FLAGS, VALIDATE_FLAGS } from "./ingress-flags.ts";
import { LOGIN_COMMAND, MANAGEMENT_COMMANDS, MANAGEMENT_READS } from "./management-commands.ts";
import {
  SERVICE_INSTALL_FLAGS,
  SERVICE_LOGS_FLAGS,
  SERVICE_RESTART_FLAGS,
  SERVICE_RUN_FLAGS,
  SERVICE_STATUS_FLAGS,
  SERVICE_UNINSTALL_FLAGS,
} from "./service-flags.ts";
import { TAIL_FLAGS } from "./tail-flags.ts";
import { UPDATE_FLAGS } from "./update-flags.ts";
import { VERSION_FLAGS } from "./version.ts";

const JSON_FLAG = { name: "json", type: "bool", help: "Print JSON" } as const;

/** Flags of `tunnel` by name, for commands that go by no more than those. */
function ofTunnel(...names: readonly string[]): readonly Flag[] {
  return TUNNEL_LEVEL_FLAGS.filter(({ name }) => names.includes(name));
}

const ingress: Command = {
  name: "ingress",
  summary: "Check the ingress rules of a config file",
  children: [
    {
      name: "validate",
      summary: "Check the rules of a config file",
      examples: [
        "culvert tunnel --config config.yml ingress validate",
        `culvert tunnel ingress validate --json '{"ingress":[{"service":"http://localhost:8080"}]}'`,
      ],
      flags: VALIDATE_FLAGS,
      reads: ofTunnel("config", "url"),
      load: async () => ({ run: (await import("./tunnel-ingress.ts")).validate }),
    },
    {
      name: "rule",
      summary: "Say which rule takes a URL",
      usage: "URL",
      examples: ["culvert tunnel --config config.yml ingress rule https://app.example.com/login"],
      reads: ofTunnel("config"),
      load: async () => ({ run: (await import("./tunnel-ingress.ts")).rule }),
    },
    {
      name: "explain",
      summary: "Say which rule takes a URL, why no earlier one does, and what its service gets",
      usage: "URL",
      examples: [
        "culvert tunnel --config config.yml ingress explain https://app.example.com/login",
        "culvert tunnel --config config.yml ingress explain --json app.example.com/login",
      ],
      flags: EXPLAIN_FLAGS,
      reads: ofTunnel("config", "tag"),
      load: async () => await import("./ingress-explain.ts"),
    },
  ],
};

const tunnel: Command = {
  name: "tunnel",
  summary: "Run a connector, and manage tunnels",
  cloudflared: true,
  description:
    "Runs a connector and manages tunnels. Without a command, --url shows a service under a random hostname (a quick tunnel), and --name makes a tunnel and runs it.",
  examples: [
    "culvert tunnel --url http://localhost:8080",
    "culvert tunnel --url http://localhost:8080 --quick-service https://edge.example.com",
    "culvert tunnel --name web --hostname app.example.com --url http://localhost:8080",
  ],
  flags: TUNNEL_LEVEL_FLAGS,
  load: async () => await import("./tunnel-adhoc.ts"),
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
      reads: TUNNEL_LEVEL_FLAGS,
      load: async () => await import("./tunnel-run.ts"),
    },
    ...MANAGEMENT_COMMANDS,
    ...LOCAL_COMMANDS,
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
      name: "init",
      summary: "Make an edge's state, and the cert.pem that manages it",
      description:
        "Makes what an edge keeps, and the cert.pem with which culvert tunnel and cloudflared manage its tunnels.",
      examples: [
        "culvert edge init --domain edge.example.com",
        "culvert edge init --state-dir ./state --origincert ./cert.pem",
      ],
      flags: EDGE_INIT_FLAGS,
      load: async () => ({ run: (await import("./edge-init.ts")).init }),
    },
    {
      name: "status",
      summary: "Say whether the edge runs, and what it serves",
      examples: ["culvert edge status", "culvert edge status --check --json"],
      flags: EDGE_STATUS_FLAGS,
      load: async () => ({ run: (await import("./edge-status.ts")).status }),
    },
    {
      name: "top",
      summary: "Show what the edge does, live: tunnels, requests, latency, errors",
      examples: ["culvert edge top", "culvert edge top --once --interval 5s"],
      flags: EDGE_TOP_FLAGS,
      load: async () => await import("./edge-top.ts"),
    },
    {
      name: "token",
      summary: "Make and revoke tokens for the management API",
      children: [
        {
          name: "create",
          summary: "Make an API token; prints it",
          usage: "NAME",
          examples: ["culvert edge token create ci --scope tunnels:write,routes:write --expires-in 90d"],
          flags: EDGE_TOKEN_CREATE_FLAGS,
          load: async () => ({ run: (await import("./edge-token.ts")).create }),
        },
        {
          name: "list",
          summary: "List API tokens",
          examples: ["culvert edge token list --json"],
          flags: EDGE_TOKEN_FLAGS,
          load: async () => ({ run: (await import("./edge-token.ts")).list }),
        },
        {
          name: "revoke",
          summary: "Revoke an API token",
          usage: "NAME|ID",
          examples: ["culvert edge token revoke ci"],
          flags: EDGE_TOKEN_FLAGS,
          load: async () => ({ run: (await import("./edge-token.ts")).revoke }),
        },
      ],
    },
    {
      name: "backup",
      summary: "Write everything the edge keeps into one file, also while it runs",
      usage: "FILE",
      examples: ["culvert edge backup /backups/edge-monday"],
      flags: EDGE_STATE_FLAGS,
      load: async () => ({ run: (await import("./edge-backup.ts")).backup }),
    },
    {
      name: "restore",
      summary: "Make an edge of a backup; what was there goes aside",
      usage: "FILE",
      examples: ["culvert edge restore /backups/edge-monday"],
      flags: EDGE_STATE_FLAGS,
      load: async () => ({ run: (await import("./edge-backup.ts")).restore }),
    },
    {
      name: "tunnel",
      summary: "Add, list and delete tunnels, also while the edge runs; show their connectors",
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
          examples: [
            "culvert edge tunnel list --state-dir /var/lib/culvert",
            "culvert edge tunnel list --all --state-dir /var/lib/culvert",
          ],
          flags: EDGE_TUNNEL_LIST_FLAGS,
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
        {
          name: "delete",
          summary: "Delete tunnels, quick tunnels too, and their hostnames",
          usage: "TUNNEL…",
          description:
            "Deletes tunnels, given by name or id, also quick tunnels, with the hostnames that lead to them. A running edge hangs up on their connectors.",
          examples: ["culvert edge tunnel delete calm-otter-7k2m9x --force --state-dir /var/lib/culvert"],
          flags: EDGE_TUNNEL_DELETE_FLAGS,
          load: async () => ({ run: (await import("./edge-tunnel-delete.ts")).remove }),
        },
      ],
    },
    ...EDGE_TRAFFIC_COMMANDS,
  ],
};

/** One command under four names, as cloudflared has it. */
function stream(name: string, what: string, examples: readonly string[]): Command {
  return {
    name,
    summary: `Reach ${what} through a tunnel`,
    usage: "[HOST:PORT]",
    description: `Reaches ${what} through a tunnel: on a local port with --url, else on standard input and output.`,
    examples,
    flags: ACCESS_TCP_FLAGS,
    reads: ACCESS_FLAGS,
    load: async () => await import("./access-tcp.ts"),
  };
}

const access: Command = {
  name: "access",
  summary: "Reach services behind a tunnel from this machine",
  cloudflared: true,
  flags: ACCESS_FLAGS,
  children: [
    stream("tcp", "a TCP service", ["culvert access tcp --hostname db.example.com --url 127.0.0.1:5432"]),
    stream("ssh", "an SSH server", [
      "culvert access ssh --hostname ssh.example.com",
      "culvert access ssh --hostname bastion.example.com --destination 10.0.0.5:22",
    ]),
    stream("rdp", "a remote desktop", ["culvert access rdp --hostname pc.example.com --url 127.0.0.1:3389"]),
    stream("smb", "a file server", ["culvert access smb --hostname files.example.com --url 127.0.0.1:8445"]),
    {
      name: "forward",
      summary: "Forward several local ports in one process",
      description:
        "Forwards the local ports that a file lists, each entry with hostname, url (HOST:PORT here), destination, headers, serviceTokenID and serviceTokenSecret. The forwarders of cloudflared's service file are read as well.",
      examples: ["culvert access forward --config forwards.yml"],
      flags: ACCESS_FORWARD_FLAGS,
      reads: ACCESS_FLAGS,
      load: async () => await import("./access-forward.ts"),
    },
    {
      name: "login",
      summary: "Log in to an application behind Access",
      usage: "URL",
      examples: ["culvert access login https://app.example.com"],
      flags: ACCESS_LOGIN_FLAGS,
      reads: ACCESS_FLAGS,
      load: async () => ({ run: (await import("./access-login.ts")).login }),
    },
    {
      name: "token",
      summary: "Print the stored token of an application",
      usage: "[URL]",
      examples: ["culvert access token --app https://app.example.com"],
      flags: ACCESS_TOKEN_FLAGS,
      reads: ACCESS_FLAGS,
      load: async () => ({ run: (await import("./access-login.ts")).token }),
    },
    {
      name: "curl",
      summary: "Run curl with the token of an application",
      usage: "URL [CURL-ARGUMENTS]",
      description: "Runs curl with the token of an application. What stands behind the URL is passed to curl as it is.",
      examples: [
        "culvert access curl https://app.example.com/api --silent --head",
        "culvert access curl --allow-request https://app.example.com/api -- -d @body.json",
      ],
      passThrough: true,
      flags: ACCESS_CURL_FLAGS,
      reads: ACCESS_FLAGS,
      load: async () => ({ run: (await import("./access-login.ts")).curl }),
    },
    {
      name: "ssh-config",
      summary: "Print what belongs into ~/.ssh/config",
      examples: ["culvert access ssh-config --hostname ssh.example.com"],
      flags: ACCESS_SSH_CONFIG_FLAGS,
      load: async () => ({ run: (await import("./access-ssh.ts")).config }),
    },
    {
      name: "ssh-gen",
      summary: "Get a short-lived SSH certificate from Access",
      description:
        "Gets a short-lived certificate for an SSH key from the organisation whose Access protects the application. Key and certificate are kept in ~/.cloudflared, where the lines of 'ssh-config --short-lived-cert' have ssh look for them.",
      examples: ["culvert access ssh-gen --hostname ssh.example.com"],
      flags: ACCESS_SSH_GEN_FLAGS,
      reads: ACCESS_FLAGS,
      load: async () => ({ run: (await import("./access-ssh.ts")).gen }),
    },
  ],
};

const service: Command = {
  name: "service",
  summary: "Install a tunnel or an edge as a service of this machine",
  children: [
    {
      name: "install",
      summary: "Install and start the service; again = mend or change it",
      cloudflared: true,
      usage: "[TOKEN]",
      description:
        "Installs a tunnel, or with --edge an edge, as a service that starts with the machine: for systemd, OpenRC, System V, launchd, FreeBSD's rc or Windows. The token is kept in a file that only the service can read. With --edge the flags of 'culvert edge run' are taken too. Without root, systemd and launchd run it for this account alone.",
      examples: [
        "culvert service install TOKEN",
        "culvert service install --token-file token.txt --name web",
        "culvert service install --config config.yml --dry-run",
        "culvert service install --migrate",
        "culvert service install --edge --domain edge.example.com --http-listen 0.0.0.0:80",
      ],
      flags: SERVICE_INSTALL_FLAGS,
      load: async () => await import("./service-install.ts"),
    },
    {
      name: "uninstall",
      summary: "Stop the service and remove it; configuration and secrets stay",
      cloudflared: true,
      examples: ["culvert service uninstall", "culvert service uninstall --name web --purge"],
      flags: SERVICE_UNINSTALL_FLAGS,
      load: async () => await import("./service-uninstall.ts"),
    },
    {
      name: "status",
      summary: "Say whether the service runs and is connected; exit code 0, 3 = stopped, 4 = not installed",
      examples: ["culvert service status", "culvert service status --edge --json"],
      flags: SERVICE_STATUS_FLAGS,
      load: async () => ({ run: (await import("./service-status.ts")).status }),
    },
    {
      name: "restart",
      summary: "Start the service anew",
      examples: ["culvert service restart"],
      flags: SERVICE_RESTART_FLAGS,
      load: async () => ({ run: (await import("./service-status.ts")).restart }),
    },
    {
      name: "run",
      summary: "What Windows' service manager starts",
      hidden: true,
      flags: SERVICE_RUN_FLAGS,
      load: async () => await import("./service-run.ts"),
    },
    {
      name: "logs",
      summary: "Show what the service logged",
      examples: ["culvert service logs --follow", "culvert service logs --name web --lines 20"],
      flags: SERVICE_LOGS_FLAGS,
      load: async () => ({ run: (await import("./service-status.ts")).logs }),
    },
  ],
};

const tail: Command = {
  name: "tail",
  summary: "Follow a connector's log from anywhere",
  cloudflared: true,
  usage: "[TUNNEL]",
  description:
    "Prints the log lines of a tunnel's connector as they are written, whatever the connector's own --loglevel is. Against Cloudflare's edge or one of one's own. One actor at a time follows a connector's log.",
  examples: ["culvert tail web", "culvert tail --event http --level warn web", "culvert tail --output json web"],
  flags: [...API_FLAGS.filter(({ name }) => name === "origincert" || name === "api-url"), ...TAIL_FLAGS],
  reads: MANAGEMENT_READS,
  load: async () => await import("./tail.ts"),
  children: [
    {
      name: "token",
      summary: "Print a token to follow a tunnel's log with",
      usage: "TUNNEL",
      hidden: true,
      reads: MANAGEMENT_READS,
      load: async () => ({ run: (await import("./tail.ts")).token }),
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
    access,
    DOCTOR_COMMAND,
    tail,
    { ...LOGIN_COMMAND, hidden: true, cloudflared: true },
    service,
    // cloudflared's other name for it.
    { ...access, name: "forward", hidden: true },
    {
      name: "update",
      cloudflared: true,
      summary:
        "Replace this program by a newer version, or go back; exit code 11 = done, 0 = nothing to do, 10 = failed",
      description:
        "Replaces this program by another version of itself, once it is verified and has been seen to start. Nothing is looked for unless you name a place. The version before is kept beside it. What runs goes on as it is until it is restarted.",
      examples: [
        "culvert update --from https://downloads.example.com/culvert",
        "culvert update --check --from /mnt/releases",
        "culvert update --from ./culvert-0.2.0-linux-x64 --update-key release.pub",
        "culvert update --rollback",
      ],
      flags: UPDATE_FLAGS,
      load: async () => await import("./update.ts"),
    },
    {
      name: "bundle",
      summary: "Write one archive that installs culvert on machines without a network",
      description:
        "Writes one archive with binaries, their signed sums, install.sh and an example configuration. On the other machine 'install.sh --offline' needs nothing else.",
      examples: [
        "culvert bundle --from https://edge.example.com/dl",
        "culvert bundle --from ./dist --target linux-arm64 --target linux-x64 --output pi.tar.gz",
        "culvert bundle",
      ],
      flags: BUNDLE_FLAGS,
      load: async () => await import("./bundle.ts"),
    },
    {
      name: "version",
      summary: "Print the version",
      cloudflared: true,
      flags: VERSION_FLAGS,
      load: async () => await import("./version.ts"),
    },
  ],
};
