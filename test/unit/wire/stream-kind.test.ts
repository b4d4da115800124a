import { describe, expect, test } from "bun:test";
import {
  classifyStream,
  formatResponseMeta,
  META_CLOUDFLARED,
  META_FLOW_LIMITED,
  META_ORIGIN,
  parseResponseMeta,
} from "../../../src/wire/stream-kind.ts";

const UPGRADE = "cf-cloudflared-proxy-connection-upgrade";
const SOURCE = "cf-cloudflared-proxy-src";

describe("classifyStream", () => {
  test.each([
    { headers: [UPGRADE, "update-configuration", SOURCE, "x"], want: "configuration" },
    { headers: [UPGRADE, "websocket", SOURCE, "x"], want: "websocket" },
    { headers: [SOURCE, "x"], want: "tcp" },
    { headers: [UPGRADE, "control-stream", SOURCE, "x"], want: "tcp" },
    { headers: [UPGRADE, "control-stream", SOURCE, ""], want: "control" },
    { headers: [UPGRADE.toUpperCase(), "control-stream"], want: "control" },
    { headers: [UPGRADE, "WebSocket"], want: "http" },
    { headers: [UPGRADE, "something"], want: "http" },
    { headers: [], want: "http" },
  ] as const)("$headers is $want", ({ headers, want }) => {
    expect(classifyStream(headers)).toBe(want);
  });
});

describe("parseResponseMeta", () => {
  test.each([
    { text: META_ORIGIN, want: { source: "origin", flowRateLimited: false } },
    { text: META_CLOUDFLARED, want: { source: "cloudflared", flowRateLimited: false } },
    { text: META_FLOW_LIMITED, want: { source: "cloudflared", flowRateLimited: true } },
  ] as const)("$text in both directions", ({ text, want }) => {
    expect(parseResponseMeta(text)).toEqual(want);
    expect(formatResponseMeta(want)).toBe(text);
  });

  test.each([
    { text: '{ "src" : "origin" }', want: { source: "origin", flowRateLimited: false } },
    { text: '{"flow_rate_limited":true,"src":"cloudflared"}', want: { source: "cloudflared", flowRateLimited: true } },
    { text: undefined, want: { source: "cloudflared", flowRateLimited: false } },
    { text: "{", want: { source: "cloudflared", flowRateLimited: false } },
    { text: "null", want: { source: "cloudflared", flowRateLimited: false } },
    { text: `{"src":"origin","pad":"${"x".repeat(5000)}"}`, want: { source: "cloudflared", flowRateLimited: false } },
  ] as const)("reads $text", ({ text, want }) => {
    expect(parseResponseMeta(text)).toEqual(want);
  });
});
