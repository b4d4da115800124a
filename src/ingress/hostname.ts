/** Which hosts a rule takes. */
export type HostPattern =
  | { readonly kind: "any" }
  | { readonly kind: "exact"; readonly host: string }
  /** `suffix` with its leading dot. */
  | { readonly kind: "suffix"; readonly suffix: string };

export const ANY_HOST: HostPattern = { kind: "any" };

/** Reads a rule's hostname, or says what is wrong with it (surface: section 10.2). */
export function parseHostPattern(text: string): HostPattern | { readonly error: string } {
  if (text === "" || text === "*") return ANY_HOST;
  if (/:[0-9]*$/.test(text)) return { error: `Hostname "${text}" cannot contain a port` };
  if (text.lastIndexOf("*") > 0 || (text.startsWith("*") && !text.startsWith("*."))) {
    return { error: `Hostname "${text}" may have its wildcard only in front, as "*.example.com"` };
  }
  if (text.startsWith("*.")) {
    const suffix = normaliseHost(text.slice(2));
    return suffix === undefined
      ? { error: `Hostname "${text}" is not valid` }
      : { kind: "suffix", suffix: `.${suffix}` };
  }
  const host = normaliseHost(text);
  return host === undefined ? { error: `Hostname "${text}" is not valid` } : { kind: "exact", host };
}

/** True when a request's Host (with or without port) is one of the pattern's. */
export function matchHost(pattern: HostPattern, hostname: string): boolean {
  switch (pattern.kind) {
    case "any":
      return true;
    case "exact":
      return hostname === pattern.host;
    case "suffix":
      return hostname.endsWith(pattern.suffix) && hostname.length > pattern.suffix.length;
  }
}

/** A request's Host as patterns are compared with it: no port, no trailing dot, lower case. */
export function requestHostname(host: string): string {
  const end = host.startsWith("[") ? host.indexOf("]") + 1 : host.indexOf(":");
  const bare = end > 0 ? host.slice(0, end) : host;
  const lower = bare.toLowerCase();
  return lower.endsWith(".") ? lower.slice(0, -1) : lower;
}

/** Lower case, Unicode names in punycode; undefined for what cannot be a host. */
function normaliseHost(text: string): string | undefined {
  if (/[\s/?#@\\]/.test(text)) return undefined;
  const hostname = URL.parse(`http://${text}/`)?.hostname;
  if (hostname === undefined || hostname === "") return undefined;
  // The URL parser knows addresses in strange spellings; a rule's name stands for itself.
  const own = text.toLowerCase().replace(/\.$/, "");
  return /^[\x20-\x7e]*$/.test(own) ? own : hostname.replace(/\.$/, "");
}
