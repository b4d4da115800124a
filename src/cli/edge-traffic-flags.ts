import type { Flag } from "../config/flags.ts";
import { STATE_DIR_FLAG } from "./edge-flags.ts";

const JSON_FLAG = { name: "json", type: "bool", help: "Print JSON" } as const satisfies Flag;
const OFF_FLAG = { name: "off", type: "bool", help: "Take it away" } as const satisfies Flag;
const OVERWRITE_FLAG = {
  name: "overwrite",
  type: "bool",
  help: "Take the hostname from whatever it leads to now",
} as const satisfies Flag;

/** What `culvert edge route tcp list`, `culvert edge lb list` and the like know. */
export const TRAFFIC_FLAGS = [STATE_DIR_FLAG, JSON_FLAG] as const satisfies readonly Flag[];

export const ROUTE_TCP_FLAGS = [
  ...TRAFFIC_FLAGS,
  {
    name: "proxy-protocol",
    type: "string",
    value: "VERSION",
    help: "Tell the service who connects, by a PROXY protocol header in front: v1 or v2",
  },
] as const satisfies readonly Flag[];

const STEERING_FLAG = {
  name: "steering",
  type: "string",
  value: "NAME",
  help: "failover, random, round_robin, least_outstanding, hash_ip or hash_cookie; default: least_outstanding",
} as const satisfies Flag;

export const LB_SET_FLAGS = [...TRAFFIC_FLAGS, STEERING_FLAG, OVERWRITE_FLAG] as const satisfies readonly Flag[];

export const LB_MEMBER_FLAGS = [
  ...TRAFFIC_FLAGS,
  { name: "weight", type: "string", value: "N", help: "Share of the traffic beside the others; default: 1" },
  { name: "disabled", type: "bool", help: "Keep it in the pool without traffic" },
] as const satisfies readonly Flag[];

export const LB_MONITOR_FLAGS = [
  ...TRAFFIC_FLAGS,
  { name: "path", type: "string", default: "/", value: "PATH", help: "What to ask for" },
  { name: "host", type: "string", value: "NAME", help: "Host to ask for; default: the load balancer's hostname" },
  { name: "interval", type: "duration", default: "30s", value: "TIME", help: "Between two checks" },
  { name: "timeout", type: "duration", default: "5s", value: "TIME", help: "How long an answer may take" },
  { name: "expect", type: "string", default: "200-399", value: "FROM-TO", help: "Statuses that are healthy" },
  { name: "unhealthy-after", type: "int", default: "3", value: "N", help: "Failed checks in a row that take it out" },
  { name: "healthy-after", type: "int", default: "2", value: "N", help: "Passed checks in a row that bring it back" },
  OFF_FLAG,
] as const satisfies readonly Flag[];

export const LB_WEBHOOK_FLAGS = [...TRAFFIC_FLAGS, OFF_FLAG] as const satisfies readonly Flag[];
