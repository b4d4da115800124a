/** Labels of one sample, in the order they are written. */
export type Labels = { readonly [name: string]: string };

/** One observation behind a bucket of a histogram, so that a slow bucket leads to a request (OpenMetrics: exemplars). */
export interface Exemplar {
  readonly labels: Labels;
  readonly value: number;
  /** Seconds since the Unix epoch. */
  readonly atSeconds: number;
}

export interface Sample {
  /** `_bucket`, `_sum`, `_count` of a histogram; absent = the family's own name. */
  readonly suffix?: string;
  readonly labels?: Labels;
  readonly value: number;
  readonly exemplar?: Exemplar | undefined;
}

/** Everything under one name. */
export interface MetricFamily {
  readonly name: string;
  readonly help: string;
  readonly type: "counter" | "gauge" | "histogram";
  readonly samples: Iterable<Sample>;
}

export type ExpositionFormat = "text" | "openmetrics";

export const EXPOSITION_TYPES: { readonly [Format in ExpositionFormat]: string } = {
  text: "text/plain; version=0.0.4; charset=utf-8",
  openmetrics: "application/openmetrics-text; version=1.0.0; charset=utf-8",
};

/** What whoever asks can read, by its `Accept`: OpenMetrics where it is named, since exemplars exist only there. */
export function chooseFormat(accept: string | undefined): ExpositionFormat {
  return accept?.includes("application/openmetrics-text") === true ? "openmetrics" : "text";
}

/**
 * Metrics as text. A series has the same name in both formats: OpenMetrics wants counters to end in `_total`, and many
 * of cloudflared's do not, so these are of type `unknown` there instead of getting another name.
 */
export function renderMetrics(families: Iterable<MetricFamily>, format: ExpositionFormat): string {
  const out: string[] = [];
  for (const family of families) renderFamily(out, family, format);
  return `${out.join("\n")}\n${format === "openmetrics" ? "# EOF\n" : ""}`;
}

const TOTAL = "_total";

function renderFamily(out: string[], family: MetricFamily, format: ExpositionFormat): void {
  const { name, help } = family;
  const open = format === "openmetrics";
  const total = family.type === "counter" && name.endsWith(TOTAL);
  const title = open && total ? name.slice(0, -TOTAL.length) : name;
  const type = open && family.type === "counter" && !total ? "unknown" : family.type;
  out.push(`# HELP ${title} ${help.replaceAll("\\", "\\\\").replaceAll("\n", "\\n")}`, `# TYPE ${title} ${type}`);
  for (const { suffix = "", labels, value, exemplar } of family.samples) {
    const shown = labels === undefined ? "" : labelText(labels, open);
    const more = open && exemplar !== undefined ? exemplarText(exemplar) : "";
    out.push(`${name}${suffix}${shown} ${numberText(value)}${more}`);
  }
}

function labelText(labels: Labels, open: boolean): string {
  const parts: string[] = [];
  for (const name of Object.keys(labels)) {
    const value = labels[name] ?? "";
    // OpenMetrics writes bounds as floats.
    parts.push(`${name}="${open && name === "le" && /^\d+$/.test(value) ? `${value}.0` : escapeLabel(value)}"`);
  }
  return `{${parts.join(",")}}`;
}

function exemplarText({ labels, value, atSeconds }: Exemplar): string {
  return ` # ${labelText(labels, false)} ${numberText(value)} ${atSeconds.toFixed(3)}`;
}

function escapeLabel(value: string): string {
  return /["\\\n]/.test(value) ? value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n") : value;
}

function numberText(value: number): string {
  if (Number.isFinite(value)) return String(value);
  return Number.isNaN(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf";
}
