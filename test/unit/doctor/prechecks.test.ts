import { expect, test } from "bun:test";
import { nameRegion } from "../../../src/connector/edges.ts";
import { createLogger } from "../../../src/core/log.ts";
import type { EdgeProbes } from "../../../src/doctor/edge-probe.ts";
import { judge, logPrechecks } from "../../../src/doctor/prechecks.ts";

const ADDRESS = { id: "a", host: "192.0.2.1", port: 7844, region: "region1", family: 4 } as const;
const UDP_IS_DROPPED: EdgeProbes = {
  tcp: [
    {
      ...{ address: ADDRESS, end: "reached", connectMs: 1, localIp: undefined, detail: "" },
      certificate: { subject: "e", issuer: "e", names: [], distrust: undefined, fromMs: 0, toMs: 1 },
    },
  ],
  udp: [{ address: ADDRESS, end: "silent", detail: "no answer" }],
};
const OWN = { kind: "static", edges: [{ host: "edge.example", port: 7844 }] } as const;

function logged(format: "default" | "json"): readonly string[] {
  const lines: string[] = [];
  const log = createLogger({ level: "info", format, wallMs: () => 0, write: (line) => void lines.push(line) });
  const checks = judge([ADDRESS], UDP_IS_DROPPED, {
    nameRegion: (region) => nameRegion(OWN, region),
    withoutQuic: undefined,
  });
  logPrechecks(checks, log, format === "default");
  return lines.flatMap((text) => text.trimEnd().split("\n"));
}

test("what fails is a warning, with what to do; the rest is none", () => {
  const rows = logged("default").map((line) => line.replace(/^\S+ /, "").replace(/ {2,}/g, " | ").split(" run_id=")[0]);
  expect(rows.slice(0, -1)).toEqual([
    "INF Connectivity prechecks",
    "INF | COMPONENT | TARGET | STATUS | DETAILS",
    "INF | DNS Resolution | edge.example:7844 | PASS | 192.0.2.1:7844",
    "WRN | UDP Connectivity | 192.0.2.1:7844 | FAIL | no answer",
    "INF | TCP Connectivity | 192.0.2.1:7844 | PASS | TLS handshake completed",
    "WRN Allow outbound UDP to port 7844, or use --protocol http2.",
    "WRN culvert doctor says more.",
  ]);
  const records = logged("json").map((line) => JSON.parse(line) as { level: string; status?: string });
  expect(records.map(({ level, status }) => [level, status])).toEqual([
    ["info", "pass"],
    ["warn", "fail"],
    ["info", "pass"],
    ["info", undefined],
  ]);
});

test("a region is called by its edges' addresses where somebody gave them, and by its name at Cloudflare's", () => {
  const edges = ["a", "b", "c", "a"].map((host) => ({ host, port: 1 }));
  expect(["region1", "region2"].map((region) => nameRegion({ kind: "static", edges }, region))).toEqual([
    "a:1, c:1",
    "b:1, a:1",
  ]);
  expect(nameRegion({ kind: "cloudflare", region: undefined, ipVersion: "auto" }, "region1")).toBe("region1");
});
