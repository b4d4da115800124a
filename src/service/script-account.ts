import type { Layout, ServiceSpec } from "./layout.ts";
import type { Step } from "./steps.ts";

const ACCOUNT = "culvert";
const EDGE_ACCOUNT = "culvert-edge";

/** The account of a service where the init system makes none itself; services of one role share it. */
export function accountOf(spec: ServiceSpec): string {
  return spec.user ?? (spec.role === "edge" ? EDGE_ACCOUNT : ACCOUNT);
}

/** Account and folders, then what the init system needs. */
export function startedByScript(spec: ServiceSpec, { stateDir }: Layout, steps: readonly Step[]): readonly Step[] {
  const owner = accountOf(spec);
  return [
    ...(spec.user === undefined ? [{ kind: "account", name: owner } as const] : []),
    ...(spec.role === "edge" ? [{ kind: "dir", path: stateDir, mode: 0o700, owner } as const] : []),
    ...steps,
  ];
}
