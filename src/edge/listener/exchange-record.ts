import type { ConnectorId, TunnelId } from "../../core/ids.ts";
import { type Asker, askerOf, type Verdict } from "../policy/admission.ts";
import { visitorAddress } from "./request-policy.ts";
import type { AccessEntry, StatusClass, VisitorDeps, VisitorTrace } from "./visitor-deps.ts";

/** What is told of a request as it came. */
type Asked = Pick<AccessEntry, "method" | "host" | "target" | "headers" | "protocol">;

/** What one request is counted for while it runs, and what is said of it when it is over. */
export class ExchangeRecord {
  readonly ray: string;
  /** The visitor's address; of a trusted proxy's visitor the one it vouches for. */
  readonly ip: string;
  bytesIn = 0;
  bytesOut = 0;
  tunnelId: TunnelId | undefined;
  answeredBy: AccessEntry["answeredBy"];
  retries = 0;
  readonly #request: Asked;
  readonly #deps: VisitorDeps;
  readonly #startedAtMs: number;
  readonly trace: VisitorTrace | undefined;
  #status: number | undefined;
  #firstByteAtMs: number | undefined;
  /** Set while the request is counted for them. */
  #asker: Asker | undefined;
  #countedTunnel: TunnelId | undefined;

  /** `ip`: the peer's. */
  constructor(request: Asked, ip: string, deps: VisitorDeps) {
    this.#request = request;
    this.#deps = deps;
    this.ip = visitorAddress(request.headers, ip, deps.policy);
    this.ray = deps.nextRay();
    this.#startedAtMs = deps.clock.nowMs();
    this.trace = deps.tracing?.begin(request.headers);
  }

  /** Status of the answer's head, once that is sent. */
  get status(): number | undefined {
    return this.#status;
  }

  /** Whether its address may have another request. */
  admit(): Verdict {
    const asker = askerOf(this.ip);
    const verdict = this.#deps.admission.admitAsker(asker, this.#startedAtMs);
    if (verdict.kind === "admitted") this.#asker = asker;
    else this.#deps.counters.refused[verdict.limit] += 1;
    return verdict;
  }

  /** Whether the tunnel may have another request. */
  admitTo(tunnelId: TunnelId): Verdict {
    const verdict = this.#deps.admission.admitTunnel(tunnelId, this.#startedAtMs);
    if (verdict.kind === "admitted") this.#countedTunnel = tunnelId;
    else this.#deps.counters.refused[verdict.limit] += 1;
    return verdict;
  }

  answered(status: number): void {
    this.#status = status;
    this.#firstByteAtMs = this.#deps.clock.nowMs();
  }

  /** Called once, when the request is over one way or another. */
  close(error: string | undefined, connectorId: ConnectorId | undefined): void {
    const { admission, clock, counters, onAccess, scheme } = this.#deps;
    if (this.#asker !== undefined) admission.releaseAsker(this.#asker);
    if (this.#countedTunnel !== undefined) admission.releaseTunnel(this.#countedTunnel);
    this.#asker = undefined;
    this.#countedTunnel = undefined;
    counters.bytesIn += this.bytesIn;
    counters.bytesOut += this.bytesOut;
    counters.answers[statusClass(this.#status)] += 1;
    const { method, host, target, headers, protocol } = this.#request;
    const entry: AccessEntry = {
      ray: this.ray,
      ip: this.ip,
      scheme,
      protocol,
      method,
      host,
      target,
      headers,
      status: this.#status,
      bytesIn: this.bytesIn,
      bytesOut: this.bytesOut,
      firstByteMs: this.#firstByteAtMs === undefined ? undefined : this.#firstByteAtMs - this.#startedAtMs,
      durationMs: clock.nowMs() - this.#startedAtMs,
      error,
      retries: this.retries,
      tunnelId: this.tunnelId,
      connectorId,
      answeredBy: this.answeredBy,
    };
    this.trace?.ended(entry);
    onAccess(entry);
  }
}

function statusClass(status: number | undefined): StatusClass {
  return status === undefined ? 0 : (Math.min(5, Math.floor(status / 100)) as StatusClass);
}
