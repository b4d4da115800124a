import { RUN_COMPAT_FLAGS, TUNNEL_COMPAT_FLAGS } from "./compat-flags.ts";
import { API_FLAGS, type Flag, ORIGIN_FLAGS, RUN_FLAGS, TUNNEL_FLAGS } from "./flags.ts";
import { TRACE_FLAGS } from "./trace-flags.ts";

/** Every flag that `tunnel` declares; the program itself takes them too. */
export const TUNNEL_LEVEL_FLAGS: readonly Flag[] = [
  ...TUNNEL_FLAGS,
  ...TRACE_FLAGS,
  ...ORIGIN_FLAGS,
  ...API_FLAGS,
  ...TUNNEL_COMPAT_FLAGS,
];

/** Every flag that only `tunnel run` declares. */
export const RUN_LEVEL_FLAGS: readonly Flag[] = [...RUN_FLAGS, ...RUN_COMPAT_FLAGS];

/** Every flag that configures a run, whatever level it stands at. */
export const ALL_RUN_FLAGS: readonly Flag[] = [...TUNNEL_LEVEL_FLAGS, ...RUN_LEVEL_FLAGS];
