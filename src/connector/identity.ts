import type { ConnectorId, TunnelId } from "../core/ids.ts";

/** Which tunnel a connector serves, and what proves that it may (protocol: section 3.6). */
export interface TunnelIdentity {
  readonly accountTag: string;
  readonly tunnelId: TunnelId;
  /** Raw bytes; never logged. */
  readonly tunnelSecret: Uint8Array;
}

/** What a connector says about itself when it registers. */
export interface ConnectorInfo {
  readonly connectorId: ConnectorId;
  readonly version: string;
  /** `GOOS_GOARCH`, such as `linux_amd64`. */
  readonly arch: string;
  readonly features: readonly string[];
}

const GO_PLATFORMS: Readonly<Record<string, string>> = { win32: "windows", sunos: "solaris" };
const GO_ARCHITECTURES: Readonly<Record<string, string>> = { x64: "amd64", ia32: "386", arm64: "arm64" };

/** This machine in Go's words, which is what an edge knows. */
export function goArch(platform: string, arch: string): string {
  return `${GO_PLATFORMS[platform] ?? platform}_${GO_ARCHITECTURES[arch] ?? arch}`;
}
