import type { Values } from "./values.ts";

/** Where traces go. */
export interface TracingConfig {
  /** With the path of traces. */
  readonly url: string;
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly sampleRatio: number;
}

const TRACES_PATH = "/v1/traces";

/** Undefined = nobody asked for traces. What is wrong goes to `problems`, without what may be secret. */
export function readTracing(values: Values, problem: (message: string) => void): TracingConfig | undefined {
  const endpoint = values.string("otlp-endpoint");
  const ratio = values.string("trace-sample") ?? "";
  const headers = values.list("otlp-header").flatMap((text): [string, string][] => {
    const parts = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+)=([\x20-\x7e]*)$/.exec(text);
    if (parts === null) problem("otlp-header must be NAME=VALUE in printable ASCII");
    return parts === null ? [] : [[parts[1] as string, parts[2] as string]];
  });
  const isRatio = /^(0|1|[01]?\.[0-9]{1,15}|[01]\.)$/.test(ratio) && Number(ratio) <= 1;
  if (!isRatio) problem(`trace-sample must be from 0 to 1, not "${ratio}"`);
  if (endpoint === undefined) return undefined;
  const url = URL.parse(endpoint);
  if (url === null || !/^https?:$/.test(url.protocol) || url.search !== "" || url.hash !== "") {
    problem("otlp-endpoint must be a URL such as http://localhost:4318");
    return undefined;
  }
  if (url.username !== "" || url.password !== "") {
    problem("otlp-endpoint must not hold a user or password: use otlp-header");
    return undefined;
  }
  const path = url.pathname.replace(/\/+$/, "");
  url.pathname = path.endsWith(TRACES_PATH) ? path : `${path}${TRACES_PATH}`;
  return { url: url.href, headers, sampleRatio: Number(ratio) };
}
