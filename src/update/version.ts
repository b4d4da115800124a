/** A version as https://semver.org has it, without build metadata. */
export interface Version {
  readonly numbers: readonly [number, number, number];
  /** `["rc", 1]` of `1.2.3-rc.1`; empty for a release. */
  readonly prerelease: readonly (string | number)[];
}

const PATTERN = /^(\d{1,9})\.(\d{1,9})\.(\d{1,9})(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?$/;

/** Reads `1.2.3` or `1.2.3-rc.1`; undefined for anything else, or for more than 64 characters. */
export function parseVersion(text: string): Version | undefined {
  const match = text.length > 64 ? null : PATTERN.exec(text);
  if (match === null) return undefined;
  const prerelease = (match[4]?.split(".") ?? []).map((part) => (/^\d+$/.test(part) ? Number(part) : part));
  return { numbers: [Number(match[1]), Number(match[2]), Number(match[3])], prerelease };
}

/** Below, equal to, or above zero, as for sorting (semver: section 11). */
export function compareVersions(a: Version, b: Version): number {
  for (const [i, number] of a.numbers.entries()) {
    const difference = number - (b.numbers[i] ?? 0);
    if (difference !== 0) return difference;
  }
  // A release is above its own pre-releases.
  if (a.prerelease.length === 0 || b.prerelease.length === 0) return b.prerelease.length - a.prerelease.length;
  for (const [i, left] of a.prerelease.entries()) {
    const right = b.prerelease[i];
    if (right === undefined) return 1;
    if (left === right) continue;
    if (typeof left === typeof right) return left < right ? -1 : 1;
    return typeof left === "number" ? -1 : 1;
  }
  return a.prerelease.length - b.prerelease.length;
}
