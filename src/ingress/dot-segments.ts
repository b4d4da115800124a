// Which paths servers may make of one target whose segments are dots (RFC 3986 section 5.2.4). They disagree on whether
// percents are decoded first, whether a backslash is a slash, whether `//` counts as one, and whether `..;x` is `..`.

/** A segment `.` or `..`, alone or with parameters behind `;`, in a decoded path. */
const DOT_SEGMENT = /(?:^|[/\\])\.\.?(?=$|[/\\;])/;

/** True when a decoded path may mean different places to different servers. */
export function isDisputed(path: string): boolean {
  return path.includes("\\") || (path.includes(".") && DOT_SEGMENT.test(path));
}

/**
 * Every decoded path that a server could take this raw path (without query) for; some may be equal to each other.
 * `decode` undoes percents. Their number is fixed, whatever the path.
 */
export function dotSegmentReadings(raw: string, decode: (path: string) => string): ReadonlySet<string> {
  const first = new Set<string>();
  for (const isDot of [dotsOf, dotsOfWithParameters]) {
    for (const merge of [asIs, mergeSlashes]) {
      first.add(resolve(merge(slashes(decode(raw))), isDot));
      // Resolved before decoding, as URL parsers do: `%2f` hides a slash from it.
      first.add(slashes(decode(resolve(merge(slashes(raw)), (segment) => isDot(decode(segment))))));
    }
  }
  // And once more, by a server behind a proxy that did the first.
  const readings = new Set(first);
  for (const path of first) {
    for (const isDot of [dotsOf, dotsOfWithParameters]) {
      for (const merge of [asIs, mergeSlashes]) readings.add(resolve(merge(path), isDot));
    }
  }
  return readings;
}

/** Levels a segment goes: 0 stays, 1 leaves; undefined for an ordinary one. */
type DotKind = (segment: string) => 0 | 1 | undefined;

function dotsOf(segment: string): 0 | 1 | undefined {
  return segment === ".." ? 1 : segment === "." ? 0 : undefined;
}

function dotsOfWithParameters(segment: string): 0 | 1 | undefined {
  const end = segment.indexOf(";");
  return dotsOf(end < 0 ? segment : segment.slice(0, end));
}

function resolve(path: string, isDot: DotKind): string {
  const kept: string[] = [];
  const segments = path.split("/");
  for (const [i, segment] of segments.entries()) {
    const levels = isDot(segment);
    if (levels === undefined) kept.push(segment);
    else {
      // The empty segment in front of the first slash stays.
      if (levels === 1 && kept.length > 1) kept.pop();
      if (i === segments.length - 1) kept.push("");
    }
  }
  return kept.join("/");
}

function asIs(path: string): string {
  return path;
}

function slashes(path: string): string {
  return path.replaceAll("\\", "/");
}

function mergeSlashes(path: string): string {
  return path.replace(/\/{2,}/g, "/");
}
