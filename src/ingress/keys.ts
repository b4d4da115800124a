import { ACCESS_KEYS, NO_ACCESS } from "./access-settings.ts";
import { IP_RULE_KEYS } from "./ip-rules.ts";
import { DEFAULT_ORIGIN_SETTINGS } from "./origin-request.ts";
import { PATH_REWRITE_KEYS } from "./path-rewrite.ts";
import { PRIVATE_NETWORK_KEYS } from "./private-network.ts";
import { RULE_KEYS } from "./rules.ts";
import { BACKEND_KEYS, BALANCE_KEYS, HEALTH_KEYS } from "./services.ts";

/** Every key that rules and settings know, by the map that it stands in. */
export const INGRESS_KEYS: Readonly<Record<string, readonly string[]>> = {
  ingress: RULE_KEYS,
  originRequest: Object.keys(DEFAULT_ORIGIN_SETTINGS),
  access: ACCESS_KEYS,
  ipRules: IP_RULE_KEYS,
  pathRewrite: PATH_REWRITE_KEYS,
  services: BACKEND_KEYS,
  balance: BALANCE_KEYS,
  healthCheck: HEALTH_KEYS,
  "warp-routing": PRIVATE_NETWORK_KEYS,
};

const DEFAULTS = Object.entries({ ...DEFAULT_ORIGIN_SETTINGS, ...NO_ACCESS });

/** The keys, in whichever map, whose value is a text. */
export const TEXT_KEYS: ReadonlySet<string> = new Set([
  ...["hostname", "path", "service", "prefix", "stickyCookie"],
  ...PATH_REWRITE_KEYS,
  ...DEFAULTS.filter(([, value]) => typeof value === "string").map(([key]) => key),
]);

/** Those whose value is a list of texts, or may hold some. */
export const TEXT_LIST_KEYS: ReadonlySet<string> = new Set(["audTag", "services"]);

/** Those whose value is true or false. */
export const FLAG_KEYS: ReadonlySet<string> = new Set([
  ...["allow", "enabled"],
  ...DEFAULTS.filter(([, value]) => typeof value === "boolean").map(([key]) => key),
]);
