import { TUNNEL_FLAGS } from "../config/flags.ts";
import { RUN_LEVEL_FLAGS, TUNNEL_LEVEL_FLAGS } from "../config/tunnel-flags.ts";
import type { Command } from "./command.ts";
import { DIAG_FLAGS, DOCTOR_FLAGS } from "./doctor-flags.ts";

/** The other flags are those of the run that is looked at. */
export const DOCTOR_COMMAND: Command = {
  name: "doctor",
  summary: "Say why a tunnel does not work, and what to do",
  usage: "[TUNNEL]",
  description:
    "Checks everything a tunnel needs on this machine: clock, DNS, the way to the edge, TLS, token, rules, origins, limits, service. Give it the flags of tunnel run. It goes only where the connector would go. docs/doctor.md explains each finding.",
  examples: [
    "culvert doctor --token TOKEN",
    "culvert doctor --config /etc/culvert/config.yml",
    "culvert doctor --token-file token --url http://localhost:8080 --json",
  ],
  flags: [...DOCTOR_FLAGS, ...TUNNEL_LEVEL_FLAGS, ...RUN_LEVEL_FLAGS],
  load: async () => await import("./doctor.ts"),
};

/** Subcommands of `tunnel` that look at a connector of this machine. */
export const LOCAL_COMMANDS: readonly Command[] = [
  {
    name: "ready",
    summary: "Say by the exit code whether the connector here is connected",
    description:
      "Asks the metrics server of a connector on this machine whether it has a connection; exit code 0 = it has. For health checks of containers.",
    examples: ["culvert tunnel --metrics localhost:2000 ready"],
    reads: TUNNEL_FLAGS.filter(({ name }) => name === "metrics"),
    load: async () => await import("./tunnel-ready.ts"),
  },
  {
    name: "diag",
    summary: "Collect what is known about the connector here in a zip file",
    description:
      "Collects state, configuration, metrics, profiles and network of a connector on this machine in a zip file that can be shown to others: no secret is in it. A password (--metrics-auth) is only sent to an address given with --metrics.",
    examples: ["culvert tunnel diag", "culvert tunnel diag --metrics 127.0.0.1:20241 --no-diag-logs"],
    flags: DIAG_FLAGS,
    reads: TUNNEL_FLAGS.filter(({ name }) => name === "metrics" || name === "metrics-auth"),
    load: async () => await import("./tunnel-diag.ts"),
  },
];
