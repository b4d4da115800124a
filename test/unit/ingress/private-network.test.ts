import { describe, expect, test } from "bun:test";
import { DEFAULT_PRIVATE_NETWORK } from "../../../src/ingress/private-network.ts";
import { parseIngress } from "../../../src/ingress/rules.ts";

const ingress = [{ service: "http_status:404" }];

function parse(warpRouting: unknown, durations: "text" | "seconds" = "text") {
  const { rules, issues } = parseIngress({ ingress, "warp-routing": warpRouting }, { durations });
  return {
    network: rules?.privateNetwork,
    refused: rules === undefined,
    issues: issues.map((issue) => `${issue.severity} ${issue.path}: ${issue.message}`),
  };
}

describe("warp-routing", () => {
  test.each([undefined, null, {}, { enabled: false }, { connectTimeout: "5s" }, { enabled: null }])(
    "is closed with %j",
    (raw) => {
      expect(parse(raw)).toEqual({ network: undefined, refused: false, issues: [] });
    },
  );

  test("opens with enabled, and the rest has defaults", () => {
    expect(parse({ enabled: true }).network).toEqual(DEFAULT_PRIVATE_NETWORK);
    const ipRules = [{ prefix: "10.0.0.0/8", ports: [22], allow: true }];
    const all = { enabled: true, connectTimeout: "7s", tcpKeepAlive: "0s", maxActiveFlows: 3, ipRules };
    expect(parse(all).network).toEqual({ connectTimeout: 7_000, tcpKeepAlive: 0, maxActiveFlows: 3, ipRules });
    expect(parse({ enabled: true, connectTimeout: 7 }, "seconds").network?.connectTimeout).toBe(7_000);
  });

  test("holds without rules too", () => {
    expect(parseIngress({ "warp-routing": { enabled: true } }).rules?.privateNetwork).toEqual(DEFAULT_PRIVATE_NETWORK);
  });

  test.each<[unknown, string]>([
    [true, "error warp-routing: Must be a map of settings"],
    [[], "error warp-routing: Must be a map of settings"],
    [{ enabled: "true" }, 'error warp-routing.enabled: "enabled" must be true or false'],
    [
      { enabled: true, maxActiveFlows: -1 },
      'error warp-routing.maxActiveFlows: "maxActiveFlows" must be a whole number from 0 to 2147483647',
    ],
    [{ ipRules: {} }, 'error warp-routing.ipRules: "ipRules" must be a list'],
    [
      { connectTimeout: 5 },
      'error warp-routing.connectTimeout: "connectTimeout" must be a duration such as 30s, not "5"',
    ],
  ])("%j is refused", (raw, issue) => {
    expect(parse(raw)).toEqual({ network: undefined, refused: true, issues: [issue] });
  });

  test("an unknown key is a warning", () => {
    const { issues, network } = parse({ enabled: true, conectTimeout: "5s" });
    expect(issues).toEqual(['warning warp-routing.conectTimeout: Unknown key "conectTimeout"']);
    expect(network).toEqual(DEFAULT_PRIVATE_NETWORK);
  });
});
