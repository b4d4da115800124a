import { type MinisignPublicKey, parseMinisignPublicKey } from "../wire/minisign.ts";

declare const CULVERT_UPDATE_KEYS: string | undefined;

/**
 * The keys that releases of this binary are signed with, as the build was given them: two at once while one takes over
 * from the other. None when run from source.
 */
export function builtInKeys(): readonly MinisignPublicKey[] {
  const lines = typeof CULVERT_UPDATE_KEYS === "string" ? CULVERT_UPDATE_KEYS : "";
  return lines
    .split(" ")
    .map(parseMinisignPublicKey)
    .flatMap((parsed) => (parsed.ok ? [parsed.value] : []));
}
