import type { Target } from "../port.ts";

/** Every routed hostname in memory: a look-up costs the same for one as for thousands. */
export class HostnameIndex {
  #targets = new Map<string, Target>();

  /** Exact, else the longest `*.suffix`, else `*`. */
  lookUp(hostname: string): Target | undefined {
    const exact = this.#targets.get(hostname);
    if (exact !== undefined) return exact;
    for (let dot = hostname.indexOf("."); dot >= 0; dot = hostname.indexOf(".", dot + 1)) {
      const wildcard = this.#targets.get(`*${hostname.slice(dot)}`);
      if (wildcard !== undefined) return wildcard;
    }
    return this.#targets.get("*");
  }

  set(hostname: string, target: Target): void {
    this.#targets.set(hostname, target);
  }

  delete(hostname: string): void {
    this.#targets.delete(hostname);
  }

  replaceAll(targets: Map<string, Target>): void {
    this.#targets = targets;
  }
}
