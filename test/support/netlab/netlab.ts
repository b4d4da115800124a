import { tryCommand } from "./commands.ts";
import { Namespaces } from "./namespaces.ts";
import { type Shape, Shaper } from "./shaper.ts";

/** Where connectors live, each behind a NAT of its own. */
export type Site = 1 | 2;
export const SITES: readonly Site[] = [1, 2];

/** Addresses of the benchmark range (RFC 2544), inside the namespaces only. */
export const EDGE_ADDRESS = { 1: "198.18.1.2", 2: "198.18.2.2" } as const;
const VISITOR_ADDRESS = "198.18.3.2";

/** Outside ports of a NAT; a rebinding moves to the other range. */
const NAT_PORTS = ["20000-29999", "30000-39999"] as const;

/**
 * Hosts of a small internet, each a network namespace, without any way out:
 *
 * ```
 * edge1 ──┐
 * edge2 ──┼── core ──┬── gate1 (NAT) ── site1: connector and origin
 * visitor ┘          └── gate2 (NAT) ── site2: connector and origin
 * ```
 *
 * Faults are put into `core` (cut, loss, delay) and into the gates (UDP blocked, NAT).
 */
export class Netlab implements AsyncDisposable {
  readonly #spaces: Namespaces;
  readonly #shaper: Shaper;
  readonly #ports: Record<Site, number> = { 1: 0, 2: 0 };

  constructor() {
    const spaces = new Namespaces();
    try {
      build(spaces);
    } catch (error) {
      spaces[Symbol.dispose]();
      throw error;
    }
    this.#spaces = spaces;
    this.#shaper = new Shaper(spaces);
    for (const site of SITES) this.#nat(site);
  }

  /** What delays and loses packets here: the kernel (`tc netem`), or a relay of the lab's. */
  get shapedBy(): string {
    return this.#shaper.kind;
  }

  inside(host: string, argv: readonly string[]): readonly string[] {
    return this.#spaces.inside(host, argv);
  }

  /** Drops every packet from and to these sites without a word, until `restore`. */
  cut(sites: readonly Site[]): void {
    for (const site of sites) {
      this.#drop("core", ["iifname", `gate${site}`]);
      this.#drop("core", ["oifname", `gate${site}`]);
    }
  }

  blockUdp(sites: readonly Site[]): void {
    for (const site of sites) this.#drop(`gate${site}`, ["meta", "l4proto", "udp"]);
  }

  /** Drops packets of one flow of a site: the one that goes out from this port of the connector. */
  cutFlow(site: Site, protocol: "tcp" | "udp", port: number): void {
    this.#drop(`gate${site}`, ["iifname", "inside", protocol, "sport", String(port)]);
    this.#drop(`gate${site}`, ["oifname", "inside", protocol, "dport", String(port)]);
  }

  /** Ends a connection of a site as a router does that forgot it: with RST at both ends. */
  resetFlow(site: Site, port: number): void {
    this.#spaces.run(`site${site}`, "ss", "-K", "-t", "sport", "=", `:${port}`);
  }

  /** Local ports of a site's flows to an edge, as the kernel lists them. */
  flows(site: Site, protocol: "tcp" | "udp", edgePort: number): readonly number[] {
    const state = protocol === "tcp" ? ["-t", "state", "established"] : ["-u", "-a"];
    const text = this.#spaces.run(`site${site}`, "ss", "-Hn", ...state);
    // With one state asked for there is no column of states.
    return text.split("\n").flatMap((line) => {
      const [local = "", remote = ""] = line
        .trim()
        .split(/\s+/)
        .slice(protocol === "tcp" ? 2 : 3);
      const port = Number(local.slice(local.lastIndexOf(":") + 1));
      const unconnected = protocol === "udp" && remote.endsWith(":*");
      return remote.endsWith(`:${edgePort}`) || unconnected ? [port] : [];
    });
  }

  /** Ends cuts and blocks. */
  restore(): void {
    for (const host of ["core", "gate1", "gate2"])
      this.#spaces.run(host, "nft", "flush", "chain", "inet", "lab", "pass");
  }

  /** Loses and delays what goes from and to these sites, each way by half of `roundTripMs`; undefined ends that. */
  async shape(sites: readonly Site[], shape: Shape | undefined): Promise<void> {
    await this.#shaper.set(
      sites.map((site) => `gate${site}`),
      shape,
    );
  }

  /** The NAT forgets its flows, and gives what comes next other ports outside. */
  rebind(site: Site): void {
    this.#ports[site] = 1 - this.#ports[site];
    this.#nat(site);
    // It answers with an error when there was nothing to forget.
    this.#spaces.tryRun(`gate${site}`, "conntrack", "-F");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#shaper[Symbol.asyncDispose]();
    this.#spaces[Symbol.dispose]();
  }

  #drop(host: string, match: readonly string[]): void {
    this.#spaces.run(host, "nft", "add", "rule", "inet", "lab", "pass", ...match, "drop");
  }

  #nat(site: Site): void {
    const gate = `gate${site}`;
    const ports = NAT_PORTS[this.#ports[site]] ?? NAT_PORTS[0];
    this.#spaces.run(gate, "nft", "flush", "chain", "ip", "lab", "nat");
    const masquerade = ["meta", "l4proto", "{ tcp, udp }", "masquerade", "to", `:${ports}`];
    this.#spaces.run(gate, "nft", "add", "rule", "ip", "lab", "nat", "oifname", "outside", ...masquerade);
  }
}

function build(spaces: Namespaces): void {
  for (const host of ["core", "edge1", "edge2", "visitor", "gate1", "gate2", "site1", "site2"]) spaces.add(host);
  const leaf = (host: string, address: string): void => {
    const router = address.replace(/\.2$/, ".1");
    spaces.cable({ in: "core", device: host, address: router }, { in: host, device: "core", address });
    spaces.run(host, "ip", "route", "add", "default", "via", router);
  };
  leaf("edge1", EDGE_ADDRESS[1]);
  leaf("edge2", EDGE_ADDRESS[2]);
  leaf("visitor", VISITOR_ADDRESS);
  for (const site of SITES) {
    const gate = `gate${site}`;
    const [router, outside] = [`198.18.1${site}.1`, `198.18.1${site}.2`];
    const [inside, host] = [`198.18.2${site}.1`, `198.18.2${site}.2`];
    spaces.cable({ in: "core", device: gate, address: router }, { in: gate, device: "outside", address: outside });
    spaces.run(gate, "ip", "route", "add", "default", "via", router);
    spaces.cable({ in: gate, device: "inside", address: inside }, { in: `site${site}`, device: "gate", address: host });
    spaces.run(`site${site}`, "ip", "route", "add", "default", "via", inside);
    spaces.run(gate, "nft", "add", "table", "ip", "lab");
    spaces.run(gate, "nft", "add", "chain", "ip", "lab", "nat", "{ type nat hook postrouting priority 100; }");
    // A socket that waits in the queue of an origin that ends goes to the one that takes over.
    spaces.tryRun(`site${site}`, "sysctl", "-q", "-w", "net.ipv4.tcp_migrate_req=1");
  }
  for (const router of ["core", "gate1", "gate2"]) {
    spaces.run(router, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0");
    spaces.run(router, "nft", "add", "table", "inet", "lab");
    spaces.run(router, "nft", "add", "chain", "inet", "lab", "pass", "{ type filter hook forward priority 0; }");
  }
}

/** The congestion control of the lab's hosts, which is the kernel's default. */
export function congestionControl(): string {
  return tryCommand("sysctl", "-n", "net.ipv4.tcp_congestion_control").text.trim();
}
