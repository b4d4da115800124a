import { describe, expect, test } from "bun:test";
import { formatLocations, renderTunnelInfo } from "../../../src/cli/active-connectors.ts";
import { countByLocation } from "../../../src/edge/control/connectors.ts";
import type { ActiveConnector } from "../../../src/edge/control/port.ts";

const TUNNEL = {
  id: "610a53bd-ed0c-4afe-92b5-ca0238153410",
  name: "mytunnel",
  createdAtMs: Date.parse("2021-03-26T19:29:34.290Z"),
};

function connector(id: string, runAt: string, at: readonly string[], more: Partial<ActiveConnector> = {}) {
  return {
    id,
    features: [],
    version: "2021.3.3",
    arch: "darwin_amd64",
    run_at: runAt,
    conns: at.map((place, i) => ({
      id: `${i}`,
      colo_name: place.replace("-", ""),
      conn_index: i,
      origin_ip: "104.13.170.35",
      opened_at: runAt,
      protocol: "quic",
      is_pending_reconnect: place.startsWith("-"),
    })),
    ...more,
  };
}

const FIRST = connector("71490dec-190f-4652-a70a-cd001fe6fdcf", "2021-03-26T19:29:47.123Z", [
  ...["MCI", "DFW", "DFW", "MCI"],
]);
const SECOND = connector("a0737d55-51f5-4fe0-8b53-c25989453c43", "2021-03-26T19:29:58Z", ["DFW", "-MCI"]);
const LEAVING = connector("14e2e624-0d32-4a21-a88c-64acf9484dac", "2021-03-26T19:30:00Z", ["-DFW"]);

const HEAD = [
  "NAME:     mytunnel",
  "ID:       610a53bd-ed0c-4afe-92b5-ca0238153410",
  "CREATED:  2021-03-26 19:29:34.29 +0000 UTC",
  "",
];

describe("tunnel info", () => {
  test("looks as cloudflared's, and leaves out connections that wait to come back", () => {
    expect(renderTunnelInfo(TUNNEL, [FIRST, SECOND, LEAVING])).toEqual([
      ...HEAD,
      "CONNECTOR ID                         CREATED              ARCHITECTURE VERSION  ORIGIN IP     EDGE         ",
      "71490dec-190f-4652-a70a-cd001fe6fdcf 2021-03-26T19:29:47Z darwin_amd64 2021.3.3 104.13.170.35 2xDFW, 2xMCI ",
      "a0737d55-51f5-4fe0-8b53-c25989453c43 2021-03-26T19:29:58Z darwin_amd64 2021.3.3 104.13.170.35 1xDFW        ",
    ]);
  });

  test("says so when there is no connector, or none that takes requests", () => {
    expect(renderTunnelInfo(TUNNEL, [])).toEqual([
      "Your tunnel 610a53bd-ed0c-4afe-92b5-ca0238153410 does not have any active connection.",
    ]);
    expect(renderTunnelInfo(TUNNEL, [LEAVING])).toEqual([...HEAD, "This tunnel has no active connectors."]);
  });

  test.each([
    { at: "2021-03-26T19:29:34.291Z", want: "2021-03-26 19:29:34.291 +0000 UTC" },
    { at: "2021-03-26T19:30:00.000Z", want: "2021-03-26 19:30:00 +0000 UTC" },
    { at: "2021-10-10T10:10:10.100Z", want: "2021-10-10 10:10:10.1 +0000 UTC" },
  ])("writes $at as Go does", ({ at, want }) => {
    expect(renderTunnelInfo({ ...TUNNEL, createdAtMs: Date.parse(at) }, [FIRST])[2]).toBe(`CREATED:  ${want}`);
  });

  test("the name that somebody gave the tunnel does not steer the terminal", () => {
    const [name] = renderTunnelInfo({ ...TUNNEL, name: "x\u001b[31m\n" }, [FIRST]);
    expect(name).toBe("NAME:     x\\u001b[31m\\u000a");
  });

  test("what a connector says of itself does not steer the terminal", () => {
    const sly = connector(FIRST.id, FIRST.run_at, ["LAB"], { version: "1\u001b[2J\n2", arch: "a\u009b1m\u202eb" });
    const row = renderTunnelInfo(TUNNEL, [sly]).at(-1);
    expect(row).toContain(" a\\u009b1m\\u202eb 1\\u001b[2J\\u000a2 ");
    expect(row).not.toMatch(/\p{C}/u);
  });
});

test("locations are counted, in the order of their names", () => {
  expect(formatLocations(countByLocation(FIRST.conns))).toBe("2xDFW, 2xMCI");
  expect(formatLocations(countByLocation(LEAVING.conns))).toBe("");
});
