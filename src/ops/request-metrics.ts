import type { ErrorCode } from "../core/errors.ts";
import type { ByteTally, EndedRequest, RequestKind } from "../proxy/observer.ts";
import { headerValue } from "../wire/headers.ts";
import type { Exemplar, MetricFamily, Sample } from "./exposition.ts";
import { Histogram } from "./histogram.ts";

/** Rules that have series of their own, the first ones: those behind are counted together, as `other`. */
export const MAX_SHOWN_RULES = 100;
/** Seconds until the head of an answer. */
const LATENCY_BOUNDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30] as const;
/** Milliseconds, as cloudflared has them. */
const CONNECT_BOUNDS = [1, 10, 25, 50, 100, 500, 1000, 5000] as const;
/** A bucket's exemplar is replaced when it is older than this, in ms: fresh enough, and next to free. */
const EXEMPLAR_LIFE_MS = 10_000;
/** Longest ray id that may stand in an exemplar, whose labels have 128 characters together. */
const MAX_RAY_CHARS = 64;

const CLASSES = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"] as const;
const ERROR_KINDS = ["dial", "tls", "timeout", "reset", "malformed", "busy", "other"] as const;
type OriginErrorKind = (typeof ERROR_KINDS)[number];

const KIND_OF: { readonly [Code in ErrorCode]?: OriginErrorKind } = {
  "origin.dial": "dial",
  "origin.tls": "tls",
  "origin.timeout": "timeout",
  "origin.slow": "timeout",
  "origin.reset": "reset",
  "origin.truncated": "reset",
  "origin.malformed": "malformed",
  "origin.busy": "busy",
};

interface RuleCounts {
  readonly classes: number[];
  readonly bytes: { readonly [Kind in RequestKind]: ByteTally };
  readonly errors: Map<OriginErrorKind, number>;
  readonly latency: Histogram;
  /** By bucket of it, until when its exemplar stays, by the monotonic clock. */
  readonly exemplarUntilMs: number[];
}

/** What visitors' streams add up to. Counting a request is a handful of additions; the rest happens when somebody asks. */
export class RequestMetrics {
  /** Of streams that no rule is about. Counted, as all bytes are, as they pass: long streams show while they run. */
  readonly bytes: { readonly tcp: ByteTally } = { tcp: { toOrigin: 0, toVisitor: 0 } };
  readonly #wallMs: () => number;
  readonly #open = { http: 0, websocket: 0 };
  /** By status; those that there were. */
  readonly #byCode: number[] = [];
  readonly #rules: (RuleCounts | undefined)[] = [];
  readonly #connectLatency = new Histogram(CONNECT_BOUNDS);
  #total = 0;
  #failed = 0;
  #aborted = 0;
  #overBudget = 0;
  #flows = 0;
  #activeFlows = 0;
  #flowsRefused = 0;
  #connectErrors = 0;

  constructor(wallMs: () => number) {
    this.#wallMs = wallMs;
  }

  requestStarted(kind: RequestKind): void {
    this.#total += 1;
    this.#open[kind] += 1;
  }

  requestEnded(request: EndedRequest): void {
    const { status } = request;
    this.#open[request.kind] -= 1;
    if (status !== undefined) this.#byCode[status] = (this.#byCode[status] ?? 0) + 1;
    if (request.outcome === "aborted") this.#aborted += 1;
    const counts = this.#countsOf(request.rule);
    const index = status === undefined ? 0 : Math.min(Math.floor(status / 100), 5);
    counts.classes[index] = (counts.classes[index] ?? 0) + 1;
    if (request.answeredAfterMs === undefined) return;
    const seconds = request.answeredAfterMs / 1000;
    const bucket = counts.latency.observe(seconds);
    if (request.endedAtMs < (counts.exemplarUntilMs[bucket] ?? Number.NEGATIVE_INFINITY)) return;
    const exemplar = exemplarOf(request, seconds, this.#wallMs() / 1000);
    if (exemplar === undefined) return;
    counts.latency.exemplify(bucket, exemplar);
    counts.exemplarUntilMs[bucket] = request.endedAtMs + EXEMPLAR_LIFE_MS;
  }

  tallyOf(kind: RequestKind, rule: number): ByteTally {
    return this.#countsOf(rule).bytes[kind];
  }

  requestFailed(code: ErrorCode, rule: number): void {
    this.#failed += 1;
    const kind = KIND_OF[code] ?? "other";
    const { errors } = this.#countsOf(rule);
    errors.set(kind, (errors.get(kind) ?? 0) + 1);
  }

  streamOverBudget(): void {
    this.#overBudget += 1;
  }

  flowStarted(): void {
    this.#flows += 1;
    this.#activeFlows += 1;
  }

  flowConnected(ms: number): void {
    this.#connectLatency.observe(ms);
  }

  flowFailed(): void {
    this.#connectErrors += 1;
  }

  flowRefused(): void {
    this.#flowsRefused += 1;
  }

  flowEnded(): void {
    this.#activeFlows -= 1;
  }

  /** Requests and streams now open. */
  get open(): number {
    return this.#open.http + this.#open.websocket + this.#activeFlows;
  }

  *families(): Iterable<MetricFamily> {
    const counter = (name: string, help: string, ...values: readonly number[]): MetricFamily => ({
      ...{ name, help, type: "counter" },
      samples: values.map((value) => ({ value })),
    });
    const gauge = (name: string, help: string, value: number): MetricFamily => ({
      ...{ name, help, type: "gauge", samples: [{ value }] },
    });
    yield counter(
      "cloudflared_tunnel_total_requests",
      "Amount of requests proxied through all the tunnels",
      this.#total,
    );
    yield gauge(
      "cloudflared_tunnel_concurrent_requests_per_tunnel",
      "Concurrent requests proxied through each tunnel",
      this.#open.http + this.#open.websocket,
    );
    yield {
      name: "cloudflared_tunnel_response_by_code",
      help: "Count of responses by HTTP status code",
      type: "counter",
      samples: Object.entries(this.#byCode).map(([code, value]) => ({ labels: { status_code: code }, value })),
    };
    yield counter("cloudflared_tunnel_request_errors", "Count of error proxying to origin", this.#failed);
    yield gauge(
      "cloudflared_tcp_active_sessions",
      "Concurrent count of TCP sessions that are being proxied to any origin",
      this.#activeFlows,
    );
    yield counter(
      "cloudflared_tcp_total_sessions",
      "Total count of TCP sessions that have been proxied to any origin",
      this.#flows,
    );
    yield {
      name: "cloudflared_proxy_connect_latency",
      help: "Time it takes to establish and acknowledge connections in milliseconds",
      type: "histogram",
      samples: this.#connectLatency.samples(),
    };
    yield counter(
      "cloudflared_proxy_connect_streams_errors",
      "Total count of failure to establish and acknowledge connections",
      this.#connectErrors,
    );
    yield {
      name: "flow_client_registrations_rate_limited_total",
      help: "Count registrations dropped due to high number of concurrent flows being handled",
      type: "counter",
      samples: [{ labels: { flow_type: "tcp" }, value: this.#flowsRefused }],
    };
    yield {
      name: "culvert_requests_total",
      help: "Requests by the number of the rule that took them, from 0, and the class of the answer; none = no whole answer went out",
      type: "counter",
      samples: this.#eachRule(({ classes }, rule) =>
        classes.map((value, index) => ({ labels: { rule, class: CLASSES[index] ?? "none" }, value })),
      ),
    };
    yield {
      name: "culvert_request_latency_seconds",
      help: "Time from a request to the head of its answer, by the number of the rule",
      type: "histogram",
      samples: this.#eachRule(({ latency }, rule) => [...latency.samples({ rule })]),
    };
    yield {
      name: "culvert_stream_bytes_total",
      help: "Bytes of bodies and streams, without heads, by the number of the rule, kind of stream and direction",
      type: "counter",
      samples: [
        ...this.#eachRule(({ bytes }, rule) =>
          Object.entries(bytes).flatMap(([kind, tally]) => byteSamples(rule, kind, tally)),
        ),
        ...byteSamples("none", "tcp", this.bytes.tcp),
      ],
    };
    yield {
      name: "culvert_streams_open",
      help: "Visitors' streams that are being served: requests, WebSockets, and native TCP",
      type: "gauge",
      samples: Object.entries({ ...this.#open, tcp: this.#activeFlows }).map(([kind, value]) => ({
        labels: { kind },
        value,
      })),
    };
    yield {
      name: "culvert_origin_errors_total",
      help: "Requests that a service did not answer, by the number of the rule and what went wrong",
      type: "counter",
      samples: this.#eachRule(({ errors }, rule) =>
        [...errors].map(([kind, value]) => ({ labels: { rule, kind }, value })),
      ),
    };
    yield counter(
      "culvert_requests_aborted_total",
      "Requests that the visitor, or the tunnel, gave up before the answer was through",
      this.#aborted,
    );
    yield counter(
      "culvert_tunnel_streams_over_budget_total",
      "Streams failed because more lay unread than their transport may keep",
      this.#overBudget,
    );
  }

  /** Rules that took a request so far; the one behind the last shown stands for all further ones. */
  *#eachRule(read: (counts: RuleCounts, rule: string) => Iterable<Sample>): Iterable<Sample> {
    for (const [index, counts] of this.#rules.entries()) {
      if (counts === undefined) continue;
      yield* read(counts, index === NO_RULE ? "none" : index > MAX_SHOWN_RULES ? "other" : String(index - 1));
    }
  }

  #countsOf(rule: number | undefined): RuleCounts {
    const index = rule === undefined ? NO_RULE : Math.min(rule, MAX_SHOWN_RULES) + 1;
    let counts = this.#rules[index];
    if (counts === undefined) {
      counts = {
        classes: CLASSES.map(() => 0),
        bytes: { http: { toOrigin: 0, toVisitor: 0 }, websocket: { toOrigin: 0, toVisitor: 0 } },
        errors: new Map(ERROR_KINDS.map((kind) => [kind, 0])),
        latency: new Histogram(LATENCY_BOUNDS),
        exemplarUntilMs: [],
      };
      this.#rules[index] = counts;
    }
    return counts;
  }
}

/** Where requests are counted that no rule took. */
const NO_RULE = 0;

function byteSamples(rule: string, kind: string, { toOrigin, toVisitor }: ByteTally): readonly Sample[] {
  return [
    { labels: { rule, kind, direction: "to_origin" }, value: toOrigin },
    { labels: { rule, kind, direction: "to_visitor" }, value: toVisitor },
  ];
}

function exemplarOf(request: EndedRequest, value: number, atSeconds: number): Exemplar | undefined {
  const ray = headerValue(request.request.headers, "cf-ray");
  // The edge writes it; what does not look like one is nobody's business here.
  if (ray === undefined || ray.length > MAX_RAY_CHARS || !/^[\w-]+$/.test(ray)) return undefined;
  return { labels: { ray_id: ray }, value, atSeconds };
}
