import { expect, test } from "bun:test";
import { zoneOf } from "../../../../src/edge/store/zones.ts";

const zones = ["", "example.com", "dev.example.com", "ample.com"].map((name) => ({ id: name, accountTag: "a", name }));

test.each([
  ["example.com", "example.com"],
  ["a.example.com", "example.com"],
  ["*.example.com", "example.com"],
  ["x.dev.example.com", "dev.example.com"],
  ["ample.com", "ample.com"],
  ["example.net", ""],
  ["*", ""],
])("%s is of the zone %j", (hostname, zone) => {
  expect(zoneOf(hostname, zones)?.name).toBe(zone);
  expect(zoneOf(hostname, zones.slice(1))?.name).toBe(zone === "" ? undefined : zone);
});
