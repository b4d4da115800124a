import { type Cluster, type Protocol, TUNNEL_PORT } from "./cluster.ts";
import type { Netlab, Site } from "./netlab.ts";
import {
  BACK_WITHIN_2_S,
  type Goal,
  NEW_ONES_WITHIN_1_S,
  NO_GET_FAILED,
  NO_WRONG_BYTES,
  NOTHING_FAILED,
  ONLY_IN_FLIGHT,
} from "./outcome.ts";

/** What a scenario may do, while visitors ask. */
export interface Stage {
  readonly lab: Netlab;
  readonly cluster: Cluster;
  readonly protocol: Protocol;
  /** Keep faults short that have no length of their own. */
  readonly brief: boolean;
  pause(ms: number): Promise<void>;
  /** The fault begins now. */
  fault(): void;
  /** Its cause is gone now. */
  back(): void;
}

export interface Scenario {
  readonly name: string;
  readonly what: string;
  /** Where the fault makes sense. @default both */
  readonly only?: "http2" | "quic";
  /** Part of `--quick`, with these protocols. */
  readonly quick?: readonly Protocol[];
  /** How many times the usual requests a second. @default 1 */
  readonly load?: number;
  readonly goals: readonly Goal[];
  run(stage: Stage): Promise<void>;
}

/** Between the end of a process and its new start, in ms: long enough to see what is missing without it. */
const DOWN_MS = 2_000;
const DRAIN_DEADLINE_MS = 40_000;

export const SCENARIOS: readonly Scenario[] = [
  {
    name: "kill-connector",
    what: "kill -9 of one connector of two; started again 2 s later",
    quick: ["http2"],
    goals: [ONLY_IN_FLIGHT, NEW_ONES_WITHIN_1_S, NO_WRONG_BYTES],
    run: async ({ cluster, fault, back, pause }) => {
      fault();
      await cluster.connector(1).kill();
      await pause(DOWN_MS);
      cluster.startConnector(1);
      back();
    },
  },
  {
    name: "kill-edge",
    what: "kill -9 of one edge of two; started again 2 s later",
    goals: [ONLY_IN_FLIGHT, NEW_ONES_WITHIN_1_S, NO_WRONG_BYTES],
    run: async ({ cluster, fault, back, pause }) => {
      fault();
      await cluster.edge(1).kill();
      await pause(DOWN_MS);
      await cluster.startEdge(1);
      back();
    },
  },
  {
    name: "kill-origin",
    what: "kill -9 of the origin of one connector; started again 2 s later",
    goals: [NO_WRONG_BYTES],
    run: async ({ cluster, fault, back, pause }) => {
      fault();
      await cluster.origin(1).kill();
      await pause(DOWN_MS);
      await cluster.startOrigin(1);
      back();
    },
  },
  {
    name: "term-connector",
    what: "SIGTERM of one connector of two; started again when it has ended",
    quick: ["http2", "quic"],
    goals: [NOTHING_FAILED, NO_WRONG_BYTES],
    run: async ({ cluster, fault, back }) => {
      fault();
      cluster.connector(1).signal("SIGTERM");
      await cluster.connector(1).exitCode(DRAIN_DEADLINE_MS);
      cluster.startConnector(1);
      back();
    },
  },
  {
    name: "term-edge",
    what: "SIGTERM of one edge of two; started again 2 s after it has ended",
    goals: [NOTHING_FAILED, NO_WRONG_BYTES],
    run: async ({ cluster, fault, back, pause }) => {
      fault();
      cluster.edge(1).signal("SIGTERM");
      await cluster.edge(1).exitCode(DRAIN_DEADLINE_MS);
      await pause(DOWN_MS);
      await cluster.startEdge(1);
      back();
    },
  },
  {
    name: "term-origin",
    what: "SIGTERM of an origin after its successor has begun on the same port",
    goals: [NOTHING_FAILED, NO_WRONG_BYTES],
    run: async ({ cluster, fault, back }) => {
      const old = cluster.origin(1);
      await cluster.startOrigin(1);
      fault();
      old.signal("SIGTERM");
      await old.exitCode(DRAIN_DEADLINE_MS);
      back();
    },
  },
  {
    name: "edge-restart",
    what: "SIGTERM of one edge under four times the load, started again at once",
    load: 4,
    goals: [NOTHING_FAILED, NO_WRONG_BYTES],
    run: async ({ cluster, fault, back }) => {
      fault();
      cluster.edge(1).signal("SIGTERM");
      await cluster.edge(1).exitCode(DRAIN_DEADLINE_MS);
      await cluster.startEdge(1);
      back();
    },
  },
  {
    name: "reset-connection",
    what: "one connection of four of one connector reset (RST)",
    only: "http2",
    goals: [NO_GET_FAILED, NO_WRONG_BYTES],
    run: async ({ lab, fault, back }) => {
      const port = firstFlow(lab, "tcp");
      fault();
      lab.resetFlow(1, port);
      back();
      await Promise.resolve();
    },
  },
  {
    name: "silent-connection",
    what: "one connection of four of one connector swallowed for 30 s, nobody told",
    goals: [NO_GET_FAILED, NO_WRONG_BYTES],
    run: async ({ lab, protocol, fault, back, pause }) => {
      const kind = protocol === "quic" ? "udp" : "tcp";
      const port = firstFlow(lab, kind);
      fault();
      lab.cutFlow(1, kind, port);
      await pause(30_000);
      lab.restore();
      back();
    },
  },
  linkCut("cut-1s", 1, [1], ["http2", "quic"]),
  linkCut("cut-10s", 10, [1]),
  linkCut("cut-60s", 60, [1]),
  linkCut("cut-all-1s", 1, [1, 2]),
  linkCut("cut-all-10s", 10, [1, 2]),
  badLine("loss-1", 1, ["http2"]),
  badLine("loss-5", 5),
  {
    name: "udp-blocked",
    what: "UDP of one connector dropped for 15 s (7 s with --quick)",
    quick: ["quic"],
    goals: [NO_WRONG_BYTES],
    run: async ({ lab, brief, fault, back, pause }) => {
      fault();
      lab.blockUdp([1]);
      await pause(brief ? 7_000 : 15_000);
      lab.restore();
      back();
    },
  },
  {
    name: "nat-rebinding",
    what: "the NAT before one connector forgets its flows and uses other ports",
    quick: ["quic"],
    goals: [NO_GET_FAILED, NO_WRONG_BYTES],
    run: async ({ lab, fault, back }) => {
      fault();
      lab.rebind(1);
      back();
      await Promise.resolve();
    },
  },
];

function firstFlow(lab: Netlab, protocol: "tcp" | "udp"): number {
  const [port] = lab.flows(1, protocol, TUNNEL_PORT);
  if (port === undefined) throw new Error(`The connector has no ${protocol} flow to an edge`);
  return port;
}

function linkCut(name: string, seconds: number, sites: readonly Site[], quick: readonly Protocol[] = []): Scenario {
  const whose = sites.length === 1 ? "one connector of two" : "both connectors";
  return {
    name,
    what: `link of ${whose} cut for ${seconds} s`,
    quick,
    goals: [BACK_WITHIN_2_S, NO_WRONG_BYTES],
    run: async ({ lab, fault, back, pause }) => {
      fault();
      lab.cut(sites);
      await pause(seconds * 1_000);
      lab.restore();
      back();
    },
  };
}

function badLine(name: string, lossPercent: number, quick: readonly Protocol[] = []): Scenario {
  return {
    name,
    what: `${lossPercent} % of packets lost each way and 50 ms more round trip, both connectors, for 10 s (4 s with --quick)`,
    quick,
    goals: [NOTHING_FAILED, NO_WRONG_BYTES],
    run: async ({ lab, brief, fault, back, pause }) => {
      fault();
      await lab.shape([1, 2], { roundTripMs: 50, lossPercent });
      await pause(brief ? 4_000 : 10_000);
      await lab.shape([1, 2], undefined);
      back();
    },
  };
}
