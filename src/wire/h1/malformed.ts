/** Why a message was refused; stable, for metrics, logs and tests. */
export type MalformedReason = keyof typeof STATUS;

/** A refused message. The connection it came on cannot be used further. */
export interface Malformed {
  readonly kind: "malformed";
  readonly reason: MalformedReason;
  /** Status to answer a request with. Without meaning for responses, where the answer to the visitor is 502. */
  readonly status: number;
}

const STATUS = {
  "start-line": 400,
  version: 505,
  "http2-preface": 505,
  method: 400,
  "method-unsupported": 501,
  target: 400,
  "target-too-long": 414,
  "head-too-large": 431,
  "too-many-fields": 431,
  "bare-lf": 400,
  "bare-cr": 400,
  "obs-fold": 400,
  "field-name": 400,
  "field-value": 400,
  "host-missing": 400,
  "host-repeated": 400,
  "host-invalid": 400,
  "host-mismatch": 400,
  "content-length-repeated": 400,
  "content-length-invalid": 400,
  "content-length-too-large": 413,
  "transfer-encoding-repeated": 400,
  "transfer-encoding-invalid": 400,
  "transfer-encoding-unsupported": 501,
  "transfer-encoding-in-1.0": 400,
  "length-and-encoding": 400,
  expectation: 417,
  "informational-body": 502,
  "too-many-informational": 502,
  "unexpected-upgrade": 502,
  "chunk-size": 400,
  "chunk-extension": 400,
  "chunk-extension-too-large": 413,
  "chunk-end": 400,
  "trailers-too-large": 431,
  "truncated-head": 400,
  "truncated-body": 400,
  "pipeline-overflow": 400,
} as const;

export function malformed(reason: MalformedReason): Malformed {
  return { kind: "malformed", reason, status: STATUS[reason] };
}
