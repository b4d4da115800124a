import type { Flag } from "../config/flags.ts";

export const DOCTOR_FLAGS: readonly Flag[] = [
  { name: "json", type: "bool", help: "Print the report as JSON" },
  {
    name: "no-register",
    type: "bool",
    help: "Do not try the tunnel's secret, which makes one more connector for a moment",
  },
];

export const DIAG_FLAGS: readonly Flag[] = [
  { name: "no-diag-logs", type: "bool", help: "Leave out the log" },
  { name: "no-diag-metrics", type: "bool", help: "Leave out the metrics" },
  { name: "no-diag-system", type: "bool", help: "Leave out facts about the system" },
  { name: "no-diag-runtime", type: "bool", help: "Leave out the profile" },
  { name: "no-diag-network", type: "bool", help: "Leave out the network" },
  { name: "diag-container-id", type: "string", value: "ID", help: "Take the log of this container, from docker logs" },
  { name: "diag-pod-id", type: "string", value: "NAME", help: "Take the log of this pod, from kubectl logs" },
];
