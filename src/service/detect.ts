import type { InitKind } from "./init.ts";

export interface DetectFacts {
  readonly platform: string;
  exists(path: string): boolean;
}

/** The init system that this machine runs, as cloudflared decides it (surface: section 8); undefined = none known. */
export function detectInit({ platform, exists }: DetectFacts): InitKind | undefined {
  switch (platform) {
    case "linux":
      // The only sure sign that systemd is running (sd_booted(3)).
      if (exists("/run/systemd/system")) return "systemd";
      if (["/sbin", "/usr/sbin", "/usr/bin"].some((dir) => exists(`${dir}/openrc-run`))) return "openrc";
      return exists("/etc/init.d") ? "sysv" : undefined;
    case "darwin":
      return "launchd";
    case "freebsd":
      return "freebsd";
    case "win32":
      return "windows";
    default:
      return undefined;
  }
}
