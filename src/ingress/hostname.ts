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
  if (hasPort(text)) return { error: `Hostname "${text}" cannot contain a port` };
  if (text.lastIndexOf("*") > 0 || (text.startsWith("*") && !text.startsWith("*."))) {
    return { error: `Hostname "${text}" may have its wildcard only in front, as "*.example.com"` };
  }
  const wildcard = text.startsWith("*.");
  const host = normaliseHost(wildcard ? text.slice(2) : text);
  if (host === undefined) return { error: `Hostname "${text}" is not valid` };
  return wildcard ? { kind: "suffix", suffix: `.${host}` } : { kind: "exact", host };
}

/** True when `hostname`, as {@link requestHostname} gives it, is one of the pattern's. */
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

/** A request's Host as patterns are compared with it: no port, no trailing dot, lower case, Unicode in punycode. */
export function requestHostname(host: string): string {
  const end = host.startsWith("[") ? host.indexOf("]") + 1 : host.indexOf(":");
  const bare = end > 0 ? host.slice(0, end) : host;
  const lower = bare.toLowerCase();
  const rootless = lower.endsWith(".") ? lower.slice(0, -1) : lower;
  return /^[\x21-\x7e]*$/.test(rootless) ? rootless : (normaliseHost(rootless) ?? rootless);
}

function hasPort(text: string): boolean {
  if (text.startsWith("[")) return /\]:[0-9]*$/.test(text);
  return text.indexOf(":") === text.lastIndexOf(":") && /:[0-9]*$/.test(text);
}

/**
 * Lower case, Unicode names in punycode, IPv6 addresses in brackets and their shortest form; undefined for what cannot
 * be a host.
 */
function normaliseHost(text: string): string | undefined {
  const bare = text.replace(/\.$/, "");
  const literal = bare.includes(":") && !bare.startsWith("[") ? `[${bare}]` : bare;
  // The URL parser would decode percents and take these for the ends of a host.
  if (/[\s/?#@\\%]/.test(literal) || /^\.|\.\./.test(literal)) return undefined;
  const hostname = URL.parse(`http://${literal}/`)?.hostname;
  if (hostname === undefined || hostname === "") return undefined;
  if (literal.startsWith("[")) return hostname;
  // It also knows IPv4 addresses in strange spellings; a rule's name stands for itself.
  return /^[\x21-\x7e]*$/.test(literal) ? literal.toLowerCase() : hostname;
}
