import type { Flag } from "./flags.ts";

/** Of connectors and edges. */
export const TRACE_FLAGS = [
  {
    name: "otlp-endpoint",
    env: ["CULVERT_OTLP_ENDPOINT"],
    type: "string",
    file: true,
    value: "URL",
    help: "Send traces of requests to this OpenTelemetry collector, by OTLP over HTTP: http://localhost:4318; default: none",
  },
  {
    name: "otlp-header",
    env: ["CULVERT_OTLP_HEADER"],
    type: "list",
    file: true,
    secret: true,
    value: "NAME=VALUE",
    help: "Header for the collector, such as Authorization=Bearer TOKEN",
  },
  {
    name: "trace-sample",
    env: ["CULVERT_TRACE_SAMPLE"],
    type: "string",
    default: "1",
    file: true,
    value: "RATIO",
    help: "Part of the requests that are traced, 0 to 1; one that comes with a trace is traced if that is recorded",
  },
] as const satisfies readonly Flag[];
