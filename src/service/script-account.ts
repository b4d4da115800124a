import type { Layout, ServiceSpec } from "./layout.ts";
import type { Step } from "./steps.ts";

const ACCOUNT = "culvert";
const EDGE_ACCOUNT = "culvert-edge";

/** The account of a service where the init system makes none itself; services of one role share it. */
export function accountOf(spec: ServiceSpec): string {
  return spec.user ?? (spec.role === "edge" ? EDGE_ACCOUNT : ACCOUNT);
}

/** The account that a script names, unless it is the service's own. */
export function namedAccount(spec: ServiceSpec, script: string | undefined, pattern: RegExp): string | undefined {
  const user = pattern.exec(script ?? "")?.[1];
  return user === accountOf({ ...spec, user: undefined }) ? undefined : user;
}

/** The account, and the folder that an edge keeps its state in. */
export function prepareAccount(spec: ServiceSpec, { stateDir }: Layout): readonly Step[] {
  const owner = accountOf(spec);
  return [
    ...(spec.user === undefined ? [{ kind: "account", name: owner } as const] : []),
    ...(spec.role === "edge"
      ? [
          { kind: "dir", path: stateDir, mode: 0o700, owner } as const,
          // An edge that root made before.
          { kind: "run", argv: ["chown", "-R", owner, stateDir] } as const,
        ]
      : []),
  ];
}
